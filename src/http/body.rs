//! The request body: `Content-Length` bytes or chunks, taken as they come.
//!
//! Owns the chunked grammar of RFC 9112 §7.1 (6.1a, 7.1a): data is handed out as it comes, the lines around it are looked
//! at when they have ended. Never reads past the body, so pipelined bytes stay with the caller; never keeps trailers, so
//! the rules on merging them (7.1.2a, 7.1.2b) apply to nothing. A body that ends with its connection is the shard's (6.3d).

use super::grammar::{CR, HTAB, LF, SP, is_text, text_end, token_end};
use super::head::Framing;
use crate::limits::CHUNK_OVERHEAD_BYTES_MAX;

/// How far a request body has been read.
#[derive(Clone, Debug)]
pub struct Body {
    step: Step,
    /// Of a body or chunk: bytes still to come.
    left: u64,
    /// Body bytes handed out.
    taken: u64,
    /// What has come of a line of the framing.
    line: Vec<u8>,
    /// Bytes of chunk extensions, of trailers, and of sizes with more digits than a size can need, of lines that ended.
    overhead: usize,
}

refusals! {
    /// Why a body was refused. The connection closes after the answer, and the body is not fed again.
    BodyError
    TooLarge 413 "body-too-large" "The body is over 4096 bytes.";
    ChunkSize 400 "bad-chunk-size" "A chunk size is not hexadecimal digits, or beyond 64 bits.";
    ChunkExtension 400 "bad-chunk-extension" "A chunk extension is against its grammar.";
    LineEnd 400 "bad-chunk-line-end" "A line, or the data of a chunk, does not end in CRLF.";
    Trailer 400 "bad-trailer" "A trailer is not a field line.";
    ChunkOverhead 400 "chunk-overhead" "Chunk extensions and trailers are over 1024 bytes.";
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// `Content-Length` bytes.
    Sized,
    /// The line before a chunk.
    Size,
    Data,
    /// The empty line behind it.
    DataEnd,
    /// A trailer, or the empty line behind all.
    Trailer,
    Done,
}

impl Body {
    /// The body that follows a head with this framing.
    pub fn new(framing: Framing) -> Body {
        let (step, left) = match framing {
            Framing::None | Framing::Length(0) => (Step::Done, 0),
            Framing::Length(bytes) => (Step::Sized, bytes),
            Framing::Chunked => (Step::Size, 0),
        };
        Body { step, left, taken: 0, line: Vec::new(), overhead: 0 }
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// Takes what of `input` belongs to the body, appends its content to `out`, and says how many bytes that were;
    /// the next request starts behind them. `bytes_max` bounds the content of the whole body: a longer declared length
    /// is refused before the first byte, so a call without input, made before `100 Continue` is sent, already knows.
    /// Errors: what is wrong, at the same byte however the input is cut.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, bytes_max: u64) -> Result<usize, BodyError> {
        let mut at = 0;
        if self.step == Step::Sized && self.left > bytes_max.saturating_sub(self.taken) {
            return Err(BodyError::TooLarge);
        }
        while !self.is_done() && at < input.len() {
            if matches!(self.step, Step::Sized | Step::Data) {
                let rest = &input[at..];
                let count = usize::try_from(self.left).map_or(rest.len(), |left| left.min(rest.len()));
                out.extend_from_slice(&rest[..count]);
                at += count;
                self.taken += count as u64;
                self.left -= count as u64;
                if self.left == 0 {
                    self.step = if self.step == Step::Sized { Step::Done } else { Step::DataEnd };
                }
            } else {
                self.take(input[at], bytes_max)?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn take(&mut self, byte: u8, bytes_max: u64) -> Result<(), BodyError> {
        match (byte, self.line.last()) {
            (LF, Some(&CR)) => {
                self.overhead += self.line_overhead();
                let line = std::mem::take(&mut self.line);
                self.step = self.next(&line[..line.len() - 1], bytes_max)?;
                return Ok(());
            }
            (LF, _) | (_, Some(&CR)) => return Err(BodyError::LineEnd),
            _ if self.step == Step::DataEnd && byte != CR => return Err(BodyError::LineEnd),
            _ => self.line.push(byte),
        }
        // RFC 9112 §7.1.1: a recipient ought to limit the total length of chunk extensions.
        let overhead = self.overhead + self.line_overhead();
        if overhead > CHUNK_OVERHEAD_BYTES_MAX { Err(BodyError::ChunkOverhead) } else { Ok(()) }
    }

    fn line_overhead(&self) -> usize {
        let size = if self.step == Step::Size { digits(&self.line[..self.line.len().min(16)]) } else { 0 };
        self.line.len() - size - usize::from(self.line.ends_with(&[CR]))
    }

    /// What comes behind a line.
    fn next(&mut self, line: &[u8], bytes_max: u64) -> Result<Step, BodyError> {
        match self.step {
            Step::Size => {
                let (size, extensions) = line.split_at(digits(line));
                if !matches!(extensions, [] | [b';' | SP | HTAB, ..]) {
                    return Err(BodyError::ChunkSize);
                }
                // RFC 9112 §7.1 (7.1b): large sizes overflow nothing and lose no digit.
                let size = str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
                self.left = size.ok_or(BodyError::ChunkSize)?;
                match self.left {
                    _ if !are_extensions(extensions) => Err(BodyError::ChunkExtension),
                    0 => Ok(Step::Trailer),
                    size if size > bytes_max.saturating_sub(self.taken) => Err(BodyError::TooLarge),
                    _ => Ok(Step::Data),
                }
            }
            Step::Trailer if line.is_empty() => Ok(Step::Done),
            // RFC 9112 §7.1.2 (7.1.2b): trailers are field lines, parsed as such and dropped; the same rules as in a head.
            Step::Trailer => {
                let value = token(line).and_then(|rest| rest.strip_prefix(b":"));
                value.filter(|value| text_end(value, 0) == value.len()).map(|_| Step::Trailer).ok_or(BodyError::Trailer)
            }
            _ => Ok(Step::Size),
        }
    }
}

fn digits(line: &[u8]) -> usize {
    line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count()
}

/// RFC 9112 §7.1.1 (7.1.1a): extensions are parsed and ignored. Whitespace around `;` and `=` is bad whitespace, which
/// a recipient MUST parse (RFC 9110 §5.6.3); anywhere else, before the CRLF too, it is an error.
fn are_extensions(mut line: &[u8]) -> bool {
    while !line.is_empty() {
        let Some(rest) = behind_space(line).strip_prefix(b";").and_then(|rest| token(behind_space(rest))) else {
            return false;
        };
        let value = behind_space(rest).strip_prefix(b"=").map(behind_space);
        let Some(rest) = value.map_or(Some(rest), |value| token(value).or_else(|| quoted(value))) else { return false };
        line = rest;
    }
    true
}

fn behind_space(line: &[u8]) -> &[u8] {
    &line[line.iter().take_while(|byte| matches!(**byte, SP | HTAB)).count()..]
}

/// What is behind a token.
fn token(line: &[u8]) -> Option<&[u8]> {
    line.split_at_checked(token_end(line, 0)).filter(|(token, _)| !token.is_empty()).map(|(_, rest)| rest)
}

/// What is behind a quoted string (RFC 9110 §5.6.4).
fn quoted(line: &[u8]) -> Option<&[u8]> {
    let mut line = line.strip_prefix(b"\"")?;
    loop {
        line = match line {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] if is_text(*byte) => rest,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is made of `input` in the pieces that `cuts` make: the content and what is left over, or the error.
    fn run(
        framing: Framing,
        input: &[u8],
        cuts: &[usize],
        bytes_max: u64,
    ) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let (mut body, mut out, mut at) = (Body::new(framing), Vec::new(), 0);
        for &cut in cuts.iter().chain([&input.len()]) {
            at += body.decode(&input[at..cut], &mut out, bytes_max)?;
            assert!(body.is_done() || at == cut, "all is taken until the body is done");
            if body.is_done() {
                break;
            }
        }
        Ok((out, at, body.is_done()))
    }

    /// The one result of every way of splitting.
    fn decode(framing: Framing, input: &[u8], bytes_max: u64) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let whole = run(framing, input, &[], bytes_max);
        for cut in 0..=input.len() {
            assert_eq!(run(framing, input, &[cut], bytes_max), whole, "cut at {cut}");
        }
        assert_eq!(run(framing, input, &(0..input.len()).collect::<Vec<_>>(), bytes_max), whole, "byte by byte");
        whole
    }

    fn chunked(input: &str) -> Result<(Vec<u8>, usize, bool), BodyError> {
        decode(Framing::Chunked, input.as_bytes(), 64)
    }

    #[test]
    fn rfc9112_6_1_a_chunked_is_parsed() {
        let done = |content: &str, input: &str| Ok((content.as_bytes().to_vec(), input.len(), true));
        for (content, input) in [
            ("", "0\r\n\r\n"),
            ("", "000\r\n\r\n"),
            ("hello", "5\r\nhello\r\n0\r\n\r\n"),
            ("hello world", "5\r\nhello\r\n06\r\n world\r\n0\r\n\r\n"),
            ("0123456789abcdef", "00000000000000010\r\n0123456789abcdef\r\n0\r\n\r\n"),
            ("0123456789", "A\r\n0123456789\r\n0\r\n\r\n"),
            ("\r\n\r\n", "4\r\n\r\n\r\n\r\n0\r\n\r\n"),
        ] {
            assert_eq!(chunked(input), done(content, input), "{input:?}");
        }
    }

    #[test]
    fn rfc9112_7_1_a_what_follows_the_body_is_left_alone() {
        assert_eq!(chunked("1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n"), Ok((b"x".to_vec(), 11, true)));
        assert_eq!(decode(Framing::Length(3), b"abcGET", 64), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(decode(Framing::None, b"GET", 64), Ok((Vec::new(), 0, true)));
        assert_eq!(decode(Framing::Length(0), b"GET", 64), Ok((Vec::new(), 0, true)));
    }

    #[test]
    fn rfc9112_6_3_d_a_body_cut_short_is_never_done() {
        let input = "5;a=\"b\"\r\nhello\r\n0\r\nA: b\r\n\r\n";
        for end in 0..input.len() {
            assert_eq!(chunked(&input[..end]).map(|(_, _, done)| done), Ok(false), "{:?}", &input[..end]);
        }
        assert_eq!(decode(Framing::Length(3), b"ab", 64), Ok((b"ab".to_vec(), 2, false)));
    }

    #[test]
    fn rfc9112_7_1_b_huge_sizes_do_not_overflow() {
        assert_eq!(chunked("ffffffffffffffff\r\n"), Err(BodyError::TooLarge));
        assert_eq!(chunked("10000000000000000\r\n"), Err(BodyError::ChunkSize));
        assert_eq!(chunked("10000000000000001\r\nx\r\n0\r\n\r\n"), Err(BodyError::ChunkSize));
        assert_eq!(chunked("41\r\n"), Err(BodyError::TooLarge));
        assert_eq!(chunked("40\r\n").map(|(_, _, done)| done), Ok(false));
        assert_eq!(chunked("1\r\nx\r\n40\r\n"), Err(BodyError::TooLarge));
        assert_eq!(decode(Framing::Length(65), b"", 64), Err(BodyError::TooLarge));
        assert_eq!(decode(Framing::Length(u64::MAX), b"x", u64::MAX - 1), Err(BodyError::TooLarge));
        assert_eq!(decode(Framing::Chunked, b"1\r\nx\r\nffffffffffffffff\r\n", u64::MAX), Err(BodyError::TooLarge));
    }

    #[test]
    fn rfc9112_7_1_1_a_unknown_extensions_are_ignored() {
        for extension in [
            ";a",
            ";a=b",
            ";a=\"b\"",
            " ; a = b",
            "\t;a",
            ";a;b=c ;d=\"\\\"; x\"",
            ";a=\"\"",
            ";a =b",
            ";a=\"\t\\\t\u{e9}\"",
        ] {
            let input = format!("1{extension}\r\nx\r\n0{extension}\r\n\r\n");
            assert_eq!(chunked(&input), Ok((b"x".to_vec(), input.len(), true)), "{extension:?}");
        }
    }

    #[test]
    fn malformed_extensions_are_refused() {
        for (extension, error) in [
            (" ", BodyError::ChunkExtension),
            ("\t", BodyError::ChunkExtension),
            (";", BodyError::ChunkExtension),
            (";a ", BodyError::ChunkExtension),
            (";a=", BodyError::ChunkExtension),
            (";a=b ", BodyError::ChunkExtension),
            (";a=\"b", BodyError::ChunkExtension),
            (";a=\"b\"c", BodyError::ChunkExtension),
            (";a=\"\r\n\"", BodyError::ChunkExtension),
            (";a=\"\n\"", BodyError::LineEnd),
            (";a\n", BodyError::LineEnd),
            (";;a", BodyError::ChunkExtension),
            (";=b", BodyError::ChunkExtension),
            (" x", BodyError::ChunkExtension),
            (";a\0", BodyError::ChunkExtension),
            (";a\rb", BodyError::LineEnd),
        ] {
            assert_eq!(chunked(&format!("1{extension}\r\nx\r\n0\r\n\r\n")), Err(error), "{extension:?}");
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for (input, error) in [
            ("\r\n", BodyError::ChunkSize),
            ("\n", BodyError::LineEnd),
            ("x\r\n", BodyError::ChunkSize),
            ("-1\r\n", BodyError::ChunkSize),
            ("+1\r\n", BodyError::ChunkSize),
            ("0x1\r\nx\r\n0\r\n\r\n", BodyError::ChunkSize),
            (" 1\r\nx\r\n0\r\n\r\n", BodyError::ChunkSize),
            ("1_0\r\n", BodyError::ChunkSize),
            ("1\nx\r\n0\r\n\r\n", BodyError::LineEnd),
            ("1\rx", BodyError::LineEnd),
            ("1\r\nxx", BodyError::LineEnd),
            ("1\r\nx\n", BodyError::LineEnd),
            ("1\r\nx\rx", BodyError::LineEnd),
            ("1\r\nx0\r\n\r\n", BodyError::LineEnd),
            ("1\r\nx\r\n\r\n", BodyError::ChunkSize),
            ("0\n\n", BodyError::LineEnd),
            ("0\r\n\n", BodyError::LineEnd),
            ("0\r\n\rx", BodyError::LineEnd),
            (";a\r\n", BodyError::ChunkSize),
        ] {
            assert_eq!(chunked(input), Err(error), "{input:?}");
        }
    }

    #[test]
    fn rfc9112_7_1_2_a_b_trailers_are_checked_and_dropped() {
        let input = "0\r\nA: b\r\nContent-Length: 5\r\nC:\r\n\r\n";
        assert_eq!(chunked(input), Ok((Vec::new(), input.len(), true)));
        for (trailer, error) in [
            ("A : b", BodyError::Trailer),
            (" A: b", BodyError::Trailer),
            ("A", BodyError::Trailer),
            (":b", BodyError::Trailer),
            ("A: b\n", BodyError::LineEnd),
            ("A: b\rc", BodyError::LineEnd),
            ("A: \0", BodyError::Trailer),
            ("A: b\r\n c", BodyError::Trailer),
        ] {
            assert_eq!(chunked(&format!("0\r\n{trailer}\r\n\r\n")), Err(error), "{trailer:?}");
        }
    }

    #[test]
    fn extensions_trailers_and_idle_digits_share_one_bound() {
        let half = "a".repeat(CHUNK_OVERHEAD_BYTES_MAX / 2);
        // `;` and a name in the first half; a name and `:` in the second.
        let fits = format!("1;{}\r\nx\r\n0\r\n{}:\r\n\r\n", &half[1..], &half[1..]);
        assert_eq!(run(Framing::Chunked, fits.as_bytes(), &[], 64).map(|(_, _, done)| done), Ok(true));
        let exceeds = format!("1;{half}\r\nx\r\n0;{half}\r\n\r\n");
        assert_eq!(run(Framing::Chunked, exceeds.as_bytes(), &[], 64), Err(BodyError::ChunkOverhead));
        let wide = "0000000000000001\r\nx\r\n".repeat(80) + "0\r\n\r\n";
        assert_eq!(
            run(Framing::Chunked, wide.as_bytes(), &[], 80).map(|(_, _, done)| done),
            Ok(true),
            "sixteen are free"
        );
        let digits = "0".repeat(CHUNK_OVERHEAD_BYTES_MAX + 17);
        assert_eq!(run(Framing::Chunked, digits.as_bytes(), &[], 64), Err(BodyError::ChunkOverhead));
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_result_for_every_split(input in "[0-9a-f;=\" \r\n:A\\\\]{0,40}") {
            let _ = decode(Framing::Chunked, input.as_bytes(), 64);
        }

        #[test]
        fn what_is_chunked_comes_back(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..6)) {
            let mut input = Vec::new();
            for part in &parts {
                input.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                input.extend_from_slice(part);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(decode(Framing::Chunked, &input, 1_000), Ok((parts.concat(), input.len(), true)));
        }
    }
}
