//! `onecode sizing`: what a city needs, on paper, before anything is bought.
//!
//! What one opening or return costs was measured on one core of this project's bench (`benches/results/tls.md`); the
//! other figures are the design's bounds. A core is planned at half of what it can do.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::{Done, Fatal};

/// What `sizing` takes. By default the case of Xi'an: 13 million people, 33,000 openings a second.
#[derive(clap::Args)]
#[command(after_help = super::with_exit_statuses("Examples:\n  onecode sizing\n  onecode sizing --people 10000000 --openings-per-minute 600000 --json"))]
pub struct Args {
    /// People in the registry
    #[arg(long, value_name = "N", default_value_t = 13_000_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    people: u64,
    /// Openings of the page in the busiest minute
    #[arg(long, value_name = "N", default_value_t = 1_980_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    openings_per_minute: u64,
    /// Bytes of a first visit's page on the wire
    #[arg(long, value_name = "N", default_value_t = 14_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    page_bytes: u64,
    /// Bytes of a refresh on the wire
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    refresh_bytes: u64,
    /// Speed of one network interface, in Gbit/s
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    nic_gbit: u64,
    /// Cores of one machine
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    cores_per_node: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write a picture of the bandwidth, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What one design needs at the peak.
#[derive(Serialize)]
struct Need {
    design: &'static str,
    requests_per_s: u64,
    bits_per_s: u64,
    interfaces: u64,
    cores: u64,
    memory_bytes: u64,
    /// With one more than needed, so that one can fail.
    nodes: u64,
}

/// TLS with a post-quantum key exchange: what the server sends before its first answer, certificate included.
const HANDSHAKE_BYTES: u64 = 2_500;
/// The answer to a sign-in.
const SESSION_BYTES: u64 = 600;
/// The page of the old design, in 2021: scripts and pictures, uncompressed and never cached.
const OLD_PAGE_BYTES: u64 = 500_000;
/// CPU of an opening: handshake, page, session, refresh; and of a handshake with one answer by nginx.
const OPENING_US: u64 = 256;
const OLD_OPENING_US: u64 = 296;
/// What each further resident takes in the registry, and an open connection in process and kernel.
const RESIDENT_BYTES: u64 = 91;
const CONNECTION_BYTES: u64 = 16_384;
/// A page stays open for a window on average, and its connection as long as it may be idle.
const CONNECTION_S: u64 = 15;
/// A link and a core are planned at these shares, in percent.
const LINK_PERCENT: u64 = 80;
const CORE_PERCENT: u64 = 50;

/// Of bytes, CPU time and requests of an opening, and bytes of memory for a resident.
fn need(args: &Args, design: &'static str, [bytes, us, requests, resident_bytes]: [u64; 4]) -> Need {
    let openings_per_s = args.openings_per_minute.div_ceil(60);
    let bits_per_s = openings_per_s.saturating_mul(8 * bytes);
    let cores = (openings_per_s * us * 100).div_ceil(1_000_000 * CORE_PERCENT);
    let interfaces = bits_per_s.div_ceil(args.nic_gbit * 1_000_000_000 / 100 * LINK_PERCENT);
    Need {
        design,
        requests_per_s: openings_per_s * requests,
        bits_per_s,
        interfaces,
        cores,
        memory_bytes: args.people * resident_bytes + openings_per_s * CONNECTION_S * CONNECTION_BYTES,
        nodes: cores.div_ceil(args.cores_per_node).max(interfaces) + 1,
    }
}

/// Prints what is needed.
pub fn run(args: &Args) -> Done {
    let own_bytes = HANDSHAKE_BYTES + args.page_bytes + SESSION_BYTES + args.refresh_bytes;
    let old_bytes = HANDSHAKE_BYTES + OLD_PAGE_BYTES + args.refresh_bytes;
    let needs = [
        need(args, "one page of 500 kB for each opening", [old_bytes, OLD_OPENING_US, 2, 0]),
        need(args, "onecode", [own_bytes, OPENING_US, 3, RESIDENT_BYTES]),
    ];
    if let Some(path) = &args.svg {
        std::fs::write(path, picture(&needs)).map_err(Fatal::File.at(path.display()))?;
    }
    if args.json {
        super::print(format!("{}\n", serde_json::json!({ "people": args.people, "needs": needs })).as_bytes())?;
        return Ok(true);
    }
    let mut text = format!("{} people, {} openings in the busiest minute\n", args.people, args.openings_per_minute);
    for need in &needs {
        let Need { design, requests_per_s, bits_per_s, interfaces, cores, memory_bytes, nodes } = need;
        let (gbit, gib) = (*bits_per_s as f64 / 1e9, *memory_bytes as f64 / f64::from(1 << 30));
        let _ = write!(
            text,
            "{design}:\n  {requests_per_s} requests/s, {gbit:.1} Gbit/s over {interfaces} × {} Gbit/s\n  \
             {cores} cores at {CORE_PERCENT} %, {gib:.1} GiB, {nodes} machines with one to spare\n",
            args.nic_gbit
        );
    }
    super::print(text.as_bytes())?;
    Ok(true)
}

/// The bandwidth of both as bars.
fn picture(needs: &[Need]) -> String {
    let most = needs.iter().map(|need| need.bits_per_s).max().unwrap_or(1).max(1);
    let mut svg = String::from(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="640" height="120" font-family="sans-serif" font-size="14">"#,
    );
    for (at, need) in needs.iter().enumerate() {
        let (top, width) = (10 + 50 * at, need.bits_per_s * 400 / most + 1);
        let (design, gbit) = (need.design, need.bits_per_s as f64 / 1e9);
        let _ = write!(
            svg,
            r##"<text x="8" y="{}">{design}</text><rect x="8" y="{}" width="{width}" height="18" fill="#0072b2"/><text x="{}" y="{}">{gbit:.1} Gbit/s</text>"##,
            top + 12,
            top + 18,
            width + 16,
            top + 32,
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Result<Args, clap::Error> {
        Cli::try_parse_from(["sizing"].iter().chain(words)).map(|cli| cli.args)
    }

    #[test]
    fn the_day_of_the_outage_filled_132_gigabits_and_the_same_people_need_five() {
        let args = args(&[]).unwrap();
        let old = need(&args, "old", [OLD_PAGE_BYTES, OLD_OPENING_US, 2, 0]);
        assert_eq!((old.requests_per_s, old.bits_per_s, old.interfaces), (66_000, 132_000_000_000, 7));
        let own_bytes = HANDSHAKE_BYTES + 14_000 + SESSION_BYTES + 1_024;
        let own = need(&args, "own", [own_bytes, OPENING_US, 3, RESIDENT_BYTES]);
        assert_eq!((own.requests_per_s, own.bits_per_s, own.interfaces), (99_000, 4_784_736_000, 1));
        assert_eq!((own.cores, own.nodes), (17, 2));
        assert!((1 << 30..10 << 30).contains(&own.memory_bytes), "{}", own.memory_bytes);
    }

    #[test]
    fn what_is_no_city_is_refused() {
        for words in [["--people", "0"], ["--people", "99999999999"], ["--nic-gbit", "0"], ["--cores-per-node", "-1"]] {
            assert!(args(&words).is_err(), "{words:?}");
        }
        let most = ["--people", "10000000000", "--openings-per-minute", "1000000000", "--page-bytes", "1000000000"];
        let of_most = [u64::from(u32::MAX), OPENING_US, 3, RESIDENT_BYTES];
        assert!(need(&args(&most).unwrap(), "most", of_most).nodes > 1);
    }

    #[test]
    fn it_is_told_as_a_picture_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sizing.svg");
        assert_eq!(run(&args(&["--json", "--svg", path.to_str().unwrap()]).unwrap()).ok(), Some(true));
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.starts_with("<svg ") && svg.contains("132.9 Gbit/s") && svg.contains("4.8 Gbit/s"), "{svg}");
        assert!(run(&args(&["--svg", "/nowhere/sizing.svg"]).unwrap()).is_err());
    }
}
