//! `onecode verify`: says what codes are worth, by the keys of a data folder or of a file.
//!
//! It reads codes from its argument or standard input, a line each, and answers in as many. It never repeats a code.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;

use rayon::prelude::*;

use super::{Done, Ended, Fatal, Place, parse_time, rfc3339};
use crate::code::keyring::{Env, Keyring};
use crate::code::trust::{Trust, TrustedKey};
use crate::code::verify::{LEEWAY_S, TEXT_BYTES_MAX, Verdict, verify};
use crate::limits::CONFIG_FILE_BYTES_MAX;
use crate::registry::import::read_line;
use crate::sys::regular_file::read_bounded;

#[derive(clap::Args)]
#[command(after_help = super::with_exit_statuses(
    "With 0 every code is valid or valid_in_grace; with 1 one is not, or there is none."
))]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Trust the keys of this file, a JWK set as a server gives it at /.well-known/jwks.json, and not those of a folder;
    /// with keys of other regions, EU certificates (HC1:) are read as its table says
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "data", "keys_dir"])]
    trust: Option<PathBuf>,
    /// Trust the signer whom this certificate (X.509, PEM or DER) names for EU certificates of any issuer, besides the
    /// keys of --trust
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "data", "keys_dir"])]
    cert: Option<PathBuf>,
    /// The time to check for, instead of now
    #[arg(long, value_name = "RFC3339", value_parser = parse_time)]
    at: Option<u64>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// A code; with - or without it, codes are read from standard input, one a line
    code: Option<String>,
}

pub fn run(args: &Args) -> Done {
    let (trust, out) = (trusted(args)?, io::stdout().lock());
    let checked = match args.code.as_deref() {
        Some(code) if code != "-" => check(&trust, args.at, args.json, code.as_bytes(), out),
        _ => check(&trust, args.at, args.json, io::stdin(), out),
    };
    let (codes, refused) = checked.map_err(Fatal::File.at("input or output"))?;
    if codes == 0 {
        eprintln!("onecode: there was no code to verify");
    }
    Ok(codes > 0 && refused == 0)
}

fn trusted(args: &Args) -> Result<Trust, Ended> {
    let read =
        |path: &PathBuf| read_bounded(File::open(path), CONFIG_FILE_BYTES_MAX).map_err(Fatal::File.at(path.display()));
    let cannot = |path: &PathBuf| format!("{} cannot be trusted", path.display());
    let mut trust = match &args.trust {
        Some(path) => Trust::from_jwks(&read(path)?).map_err(Fatal::Configuration.at(cannot(path)))?,
        None if args.cert.is_some() => Trust::default(),
        None => {
            let config = args.place.load(&[])?;
            super::check_keys_kept(&config)?;
            Keyring::open(&config.keys_dir)?.trusted(&config.issuer)
        }
    };
    if let Some(path) = &args.cert {
        let signer = TrustedKey::of_certificate(&read(path)?);
        trust.signer = Some(signer.map_err(Fatal::Configuration.at(cannot(path)))?);
    }
    Ok(trust)
}

/// One verdict for each line, empty ones too: on all cores, and in order. Returns how many codes there were, and of how
/// many the answer is no.
fn check(trust: &Trust, at: Option<u64>, json: bool, input: impl Read, mut out: impl Write) -> io::Result<(u64, u64)> {
    let mut input = BufReader::with_capacity(READ_BYTES, input);
    let (mut lines, mut codes, mut refused) = (Vec::new(), 0, 0);
    loop {
        // As many lines as there are: who waits for one answer gets it.
        lines.clear();
        while lines.is_empty() || lines.len() < LINES_MAX && input.buffer().contains(&b'\n') {
            let mut line = Vec::new();
            if !read_line(&mut input, TEXT_BYTES_MAX as u64, &mut line)? {
                break;
            }
            lines.push(line);
        }
        if lines.is_empty() {
            return Ok((codes, refused));
        }
        let answer = |line: &Vec<u8>| {
            let verdict = verify(trust, line, at.unwrap_or_else(|| super::now().unix_s()), LEEWAY_S);
            let text = if json { serde_json::to_string(&verdict)? } else { in_words(&verdict) };
            Ok((text + "\n", u64::from(!verdict.outcome.counts())))
        };
        let answers = lines.par_iter().map(answer).collect::<io::Result<(Vec<String>, Vec<u64>)>>()?;
        codes += lines.len() as u64;
        refused += answers.1.iter().sum::<u64>();
        out.write_all(answers.0.concat().as_bytes())?;
        out.flush()?;
    }
}

/// What one read asks for, and the most lines of it that are in hand.
const READ_BYTES: usize = 1 << 20;
const LINES_MAX: usize = 4_096;

fn in_words(verdict: &Verdict) -> String {
    let word = verdict.outcome.word();
    let Some(claims) = &verdict.claims else { return word.to_owned() };
    // What an issuer signed could still hold line ends or control characters; a line of output stays one line.
    let issuer = claims.iss.escape_debug();
    let (iat, exp) = (rfc3339(claims.iat), rfc3339(claims.exp));
    let test = if claims.env == Env::Test { " TEST" } else { "" };
    format!("{word} {} {issuer} from {iat} until {exp}{test}", claims.status)
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use super::*;
    use crate::code::claims::{CodeBuffer, CodeRequest, DEFAULT_ISSUER, Issuer};
    use crate::words::{ResidentNumber, Status};
    use clap::Parser;
    use std::fs;

    const IAT: u64 = 1_780_000_000;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn exit(words: &[&str]) -> ExitCode {
        let args = Cli::try_parse_from(["verify"].iter().chain(words)).map(|cli| cli.args);
        super::super::exit(run(&args.unwrap_or_else(|e| panic!("{e}"))))
    }

    fn keyring() -> Keyring {
        Keyring::generate(IAT, super::super::random)
    }

    fn code(keyring: &Keyring, test: bool) -> String {
        let (iat, exp) = (1_780_000_000, 1_780_000_120);
        let request = CodeRequest { resident: ResidentNumber(1), version: 1, status: Status::Green, iat, exp, test };
        let mut code = CodeBuffer::default();
        let issuer = Issuer::new(keyring, DEFAULT_ISSUER).unwrap();
        issuer.write(&request, &issuer.sign(&request), &mut code);
        code.as_str().to_owned()
    }

    fn said(keyring: &Keyring, input: &str, json: bool) -> (String, u64, u64) {
        let trust = keyring.trusted(DEFAULT_ISSUER);
        let mut out = Vec::new();
        let (codes, refused) = check(&trust, Some(IAT), json, input.as_bytes(), &mut out).unwrap();
        (String::from_utf8(out).unwrap(), codes, refused)
    }

    #[test]
    fn one_line_for_each_line() {
        let keyring = keyring();
        let (good, test) = (code(&keyring, false), code(&keyring, true));
        let long = "OC1:".to_owned() + &"0".repeat(3 * TEXT_BYTES_MAX);
        let input = format!("{good}\r\n\n{test}\n{long}\n {good}\n{good}");
        let (out, codes, refused) = said(&keyring, &input, true);
        let object =
            "{\"result\":\"valid\",\"status\":\"green\",\"iss\":\"CN-610100\",\"iat\":1780000000,\"exp\":1780000120";
        let malformed = "{\"result\":\"malformed\"}";
        let expected =
            format!("{object}}}\n{malformed}\n{object},\"env\":\"test\"}}\n{malformed}\n{malformed}\n{object}}}\n");
        assert_eq!((out, codes, refused), (expected, 6, 3));
        let (out, ..) = said(&keyring, &test, false);
        assert_eq!(out, "valid green CN-610100 from 2026-05-28T20:26:40Z until 2026-05-28T20:28:40Z TEST\n");
    }

    #[test]
    fn many_lines_keep_their_order() {
        let keyring = keyring();
        let good = code(&keyring, false);
        let input: String =
            (0..5_000).map(|n| if n % 7 == 0 { format!("{good}\n") } else { "x\n".repeat(n % 3) }).collect();
        let (out, codes, refused) = said(&keyring, &input, true);
        let expected: Vec<bool> = input.lines().map(|line| line == good).collect();
        assert_eq!(out.lines().map(|line| line.contains("\"valid\"")).collect::<Vec<_>>(), expected);
        assert_eq!((codes, refused), (expected.len() as u64, expected.iter().filter(|good| !**good).count() as u64));
    }

    #[test]
    fn who_waits_for_one_answer_gets_it() {
        let keyring = keyring();
        let (trust, good) = (keyring.trusted(DEFAULT_ISSUER), code(&keyring, false));
        let (questions, mut asked) = io::pipe().unwrap();
        let (mut heard, answers) = io::pipe().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || check(&trust, Some(IAT), true, questions, answers).unwrap());
            for _ in 0..9 {
                asked.write_all(format!("{good}\n").as_bytes()).unwrap();
                let mut line = [0; 40];
                heard.read_exact(&mut line[..1]).unwrap();
                while heard.read(&mut line).unwrap() == line.len() {}
            }
            drop(asked);
        });
    }

    #[test]
    fn nobody_to_hear_the_answers_ends_it() {
        struct Deaf;
        impl Write for Deaf {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let trust = keyring().trusted(DEFAULT_ISSUER);
        let endless = io::repeat(b'\n');
        assert_eq!(check(&trust, None, true, endless, Deaf).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_exit_status_tells() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap();
        let file = folder.path().join("jwks.json");
        let trust = file.to_str().unwrap();
        let keyring = keyring();
        let code = code(&keyring, false);
        assert_eq!(exit(&["--data", data, &code]), ExitCode::from(78));
        keyring.restore(&folder.path().join("keys")).unwrap();
        fs::write(&file, keyring.jwks_json(DEFAULT_ISSUER)).unwrap();
        let at = ["--at", "2026-05-29T04:27:00+08:00"];
        for place in [["--data", data], ["--trust", trust]] {
            assert_eq!(exit(&[&place[..], &at, &[&code]].concat()), ExitCode::SUCCESS);
            assert_eq!(exit(&[&place[..], &at, &[&code[1..]]].concat()), ExitCode::from(1));
            assert_eq!(exit(&[&place[..], &["--at", "2026-05-29T00:00:00Z", &code]].concat()), ExitCode::from(1));
        }
        let signer = rcgen::generate_simple_self_signed(vec!["signer".to_owned()]).unwrap();
        let cert = folder.path().join("signer");
        let cert = cert.to_str().unwrap();
        for certificate in [signer.cert.pem().as_bytes(), signer.cert.der()] {
            fs::write(cert, certificate).unwrap();
            assert_eq!(exit(&["--cert", cert, at[0], at[1], &code]), ExitCode::from(1), "unknown to it");
            assert_eq!(exit(&["--cert", cert, "--trust", trust, at[0], at[1], &code]), ExitCode::SUCCESS);
        }
        assert_eq!(exit(&["--cert", trust, &code]), ExitCode::from(78));
        fs::write(&file, "{}").unwrap();
        assert_eq!(exit(&["--trust", trust, &code]), ExitCode::from(78));
        assert_eq!(exit(&["--trust", "/nowhere", &code]), ExitCode::from(74));
        assert!(Cli::try_parse_from(["verify", "--trust", trust, "--data", data, &code]).is_err(), "one or the other");
        assert!(Cli::try_parse_from(["verify", "--trust", trust, "-"]).is_ok_and(|cli| cli.args.code.unwrap() == "-"));
        assert!(Cli::try_parse_from(["verify", "--data", data, "--at", "yesterday"]).is_err());
    }
}
