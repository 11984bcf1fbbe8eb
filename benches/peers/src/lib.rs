//! What both peers have in common, because it is not what is compared: the command line, the residents behind the
//! demo's sessions, the times of a code, and its bytes before and after the signature.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Characters of a session, and of a line of `sessions.txt` without its end.
pub const SESSION_BYTES: usize = 48;
/// The code's bytes: claims between head and signature, as long as the server's for the same issuer.
const CODE_BYTES: usize = 133;

const WINDOW_S: u32 = 45;
const LIFE_S: u32 = 120;

/// The command line: `--port N --sessions FILE`.
pub struct Options {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// The demo's `sessions.txt`.
    pub sessions: Vec<u8>,
}

impl Options {
    /// Reads the command line and the file, or ends the process.
    pub fn from_arguments() -> Options {
        let mut options = Options { port: 0, sessions: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let (Some(name), value) = (arguments.next(), arguments.next().unwrap_or_default()) {
            match name.as_str() {
                "--port" => options.port = value.parse().unwrap_or_else(|_| end("--port wants a number")),
                "--sessions" => {
                    options.sessions = fs::read(&value).unwrap_or_else(|error| end(&format!("{value}: {error}")));
                }
                _ => end("usage: --port N --sessions FILE"),
            }
        }
        options
    }

    /// The sessions, by the number of their resident.
    pub fn sessions(&self) -> impl Iterator<Item = &[u8]> {
        self.sessions.chunks_exact(SESSION_BYTES + 1).map(|line| &line[..SESSION_BYTES])
    }
}

fn end(reason: &str) -> ! {
    eprintln!("peer: {reason}");
    std::process::exit(2)
}

/// The status of a resident, as the demo has it.
pub fn status(number: u32) -> (&'static str, u8) {
    match number % 20 {
        17 => ("yellow", 2),
        18 => ("red", 3),
        19 => ("unknown", 0),
        _ => ("green", 1),
    }
}

/// When a code begins, ends, and is to be fetched again, in Unix seconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The window's start.
    pub iat: u32,
    /// The end of its life.
    pub exp: u32,
    /// Spread over the next window.
    pub refresh_at: u32,
}

impl Times {
    /// The times of this resident's code now.
    pub fn now(number: u32) -> Times {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let iat = (now_s / u64::from(WINDOW_S)) as u32 * WINDOW_S;
        let spread = (u64::from(number ^ iat).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 % WINDOW_S;
        Times { iat, exp: iat + LIFE_S, refresh_at: iat + WINDOW_S + spread }
    }
}

/// The claims of a code in CBOR, between its COSE head and its signature.
pub fn claims(number: u32, status: u8, times: Times) -> Vec<u8> {
    let mut claims = Vec::with_capacity(CODE_BYTES);
    claims.extend_from_slice(b"\xd2\x84\x4d\xa2\x01\x27\x04\x48bench-id\xa0\x58\x30\xa5\x01\x69CN-610100");
    claims.extend_from_slice(b"\x04\x1a");
    claims.extend_from_slice(&times.exp.to_be_bytes());
    claims.extend_from_slice(b"\x06\x1a");
    claims.extend_from_slice(&times.iat.to_be_bytes());
    claims.extend_from_slice(b"\x07\x50");
    // Stands for the sealed resident number; 16 bytes that vary as that does.
    let mut block = (u128::from(number) << 64 | u128::from(times.iat)).wrapping_mul(0x2545_f491_4f6c_dd1d_9e37_79b9);
    block ^= block >> 61;
    claims.extend_from_slice(&block.to_be_bytes());
    claims.extend_from_slice(&[0x3a, 0x00, 0x01, 0x00, 0x00, status]);
    claims
}

const ALPHABET: &[u8; 45] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";

/// Base45 of `bytes` behind the prefix.
pub fn text(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(4 + bytes.len().div_ceil(2) * 3);
    text.extend_from_slice(b"OC1:");
    for pair in bytes.chunks(2) {
        let group = pair.iter().fold(0, |group, byte| group << 8 | usize::from(*byte));
        text.extend_from_slice(&[ALPHABET[group % 45], ALPHABET[group / 45 % 45]]);
        if pair.len() == 2 {
            text.push(ALPHABET[group / 2_025]);
        }
    }
    text
}

/// The modules of a symbol as bits, row by row, the first in the most significant bit.
pub fn bits(colors: &[qrcode::Color]) -> Vec<u8> {
    let bit = |(place, color): (usize, &qrcode::Color)| (*color == qrcode::Color::Dark).then_some(0x80 >> place);
    let byte = |modules: &[qrcode::Color]| modules.iter().enumerate().filter_map(bit).sum();
    colors.chunks(8).map(byte).collect()
}

/// The symbol of a code by the crate's low-level calls: version 8, level M and one mask, as the server has them.
pub fn fixed_symbol(code: &[u8]) -> Vec<qrcode::Color> {
    use qrcode::canvas::{Canvas, MaskPattern};
    use qrcode::{EcLevel, Version, bits::Bits, ec::construct_codewords};
    let (version, level) = (Version::Normal(8), EcLevel::M);
    let mut data = Bits::new(version);
    data.push_alphanumeric_data(code).expect("a code fits version 8");
    data.push_terminator(level).expect("a code fits version 8");
    let (data, correction) = construct_codewords(&data.into_bytes(), version, level).expect("version 8 has level M");
    let mut canvas = Canvas::new(version, level);
    canvas.draw_all_functional_patterns();
    canvas.draw_data(&data, &correction);
    canvas.apply_mask(MaskPattern::LargeCheckerboard);
    canvas.into_colors()
}

/// The token of an `Authorization` field.
pub fn bearer(headers: &axum::http::HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Serves one router on 127.0.0.1, on this thread alone, as axum's own examples do.
pub fn serve(port: u16, router: axum::Router) {
    use axum::serve::ListenerExt;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime can be built");
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => listener,
            Err(error) => end(&format!("port {port}: {error}")),
        };
        println!("peer: listening on 127.0.0.1:{port}");
        let listener = listener.tap_io(|stream| {
            // Without it small answers may wait for acknowledgements, which would not be its work.
            let _ = stream.set_nodelay(true);
        });
        if let Err(error) = axum::serve(listener, router).await {
            end(&error.to_string());
        }
    });
}
