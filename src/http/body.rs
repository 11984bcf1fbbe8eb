//! The request body: `Content-Length` bytes or chunks, taken as they come.
//!
//! Owns the chunked grammar of RFC 9112 §7.1 (6.1a, 7.1a) as a machine of one byte a step between the data. Never
//! reads past the body, so pipelined bytes stay with the caller; never keeps trailers, so the two rules on merging
//! them (7.1.2a, 7.1.2b) have nothing to apply to. The shard makes one [`Body`] a request from the head's framing and
//! feeds it until it is done. A body that ends with its connection instead is the shard's to close (6.3d).

use super::grammar::{CR, HTAB, LF, SP, is_text, is_token};
use super::head::Framing;
use crate::limits::CHUNK_OVERHEAD_BYTES_MAX;

/// How far a request body has been read.
#[derive(Clone, Debug)]
pub struct Body {
    step: Step,
    /// Of a body or chunk: bytes still to come. While a chunk size is read: its value so far.
    left: u64,
    /// Digits of the chunk size being read.
    digits: usize,
    /// Body bytes handed out.
    taken: u64,
    /// Bytes of chunk extensions, of trailers, and of sizes with more digits than a size can need.
    overhead: usize,
}

/// What one call of [`Body::decode`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes of the input that belong to the body; the next request starts after them once `done`.
    pub consumed: usize,
    /// Whether the body is complete.
    pub done: bool,
}

refusals! {
    /// Why a body was refused. The connection closes after the answer, and the body is not fed again.
    BodyError "request body"
    TooLarge 413 "body-too-large" "More bytes than the route takes.";
    ChunkSize 400 "bad-chunk-size" "A chunk size that is not hexadecimal digits, or beyond 64 bits.";
    ChunkExtension 400 "bad-chunk-extension" "A chunk extension against its grammar.";
    LineEnd 400 "bad-chunk-line-end" "A line, or the data of a chunk, that does not end in CRLF.";
    Trailer 400 "bad-trailer" "A trailer that is not a field line.";
    ChunkOverhead 400 "chunk-overhead" "More extensions and trailers than [`CHUNK_OVERHEAD_BYTES_MAX`].";
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// `Content-Length` bytes.
    Sized,
    SizeFirst,
    Size,
    /// Whitespace after a size, which only an extension may follow.
    SizeSpace,
    NameFirst,
    Name,
    NameSpace,
    ValueFirst,
    ValueToken,
    ValueQuoted,
    /// After a backslash in a quoted string.
    ValuePair,
    ValueEnd,
    ValueSpace,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerFirst,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

impl Body {
    /// The body that follows a head with this framing.
    pub fn new(framing: Framing) -> Body {
        let (step, left) = match framing {
            Framing::None | Framing::Length(0) => (Step::Done, 0),
            Framing::Length(bytes) => (Step::Sized, bytes),
            Framing::Chunked => (Step::SizeFirst, 0),
        };
        Body { step, left, digits: 0, taken: 0, overhead: 0 }
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// Takes what of `input` belongs to the body, and appends its content to `out`. `bytes_max` bounds the content of
    /// the whole body; a declared length beyond it is refused before the first byte, so a call without input, made
    /// before `100 Continue` is sent, already knows.
    ///
    /// # Errors
    /// What is wrong, at the first byte that proves it.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, bytes_max: u64) -> Result<Progress, BodyError> {
        let mut at = 0;
        if self.step == Step::Sized && self.taken + self.left.min(u64::MAX - self.taken) > bytes_max {
            return Err(BodyError::TooLarge);
        }
        while self.step != Step::Done && at < input.len() {
            match self.step {
                Step::Sized => {
                    at += self.take(&input[at..], out, Step::Done);
                }
                Step::Data => {
                    at += self.take(&input[at..], out, Step::DataCr);
                }
                _ => {
                    let byte = input[at];
                    at += 1;
                    self.charge(byte)?;
                    self.step = self.framing_step(byte, bytes_max)?;
                }
            }
        }
        Ok(Progress { consumed: at, done: self.is_done() })
    }

    /// Hands out what `input` has of the data at hand, and goes to `next` at its end.
    fn take(&mut self, input: &[u8], out: &mut Vec<u8>, next: Step) -> usize {
        let count = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
        out.extend_from_slice(&input[..count]);
        self.taken += count as u64;
        self.left -= count as u64;
        if self.left == 0 {
            self.step = next;
        }
        count
    }

    /// Counts a byte that a plain chunked body would not need.
    fn charge(&mut self, byte: u8) -> Result<(), BodyError> {
        let is_needed = match self.step {
            Step::SizeFirst | Step::SizeLf | Step::DataCr | Step::DataLf | Step::LastLf => true,
            Step::Size => byte == CR || self.digits < 16,
            Step::TrailerFirst => byte == CR,
            _ => false,
        };
        self.overhead += usize::from(!is_needed);
        // RFC 9112 §7.1.1: a recipient ought to limit the total length of chunk extensions.
        if self.overhead > CHUNK_OVERHEAD_BYTES_MAX { Err(BodyError::ChunkOverhead) } else { Ok(()) }
    }

    fn framing_step(&mut self, byte: u8, bytes_max: u64) -> Result<Step, BodyError> {
        match (self.step, byte) {
            (Step::Size, CR) => Ok(Step::SizeLf),
            (Step::Size, b';') => Ok(Step::NameFirst),
            (Step::Size, SP | HTAB) => Ok(Step::SizeSpace),
            (Step::SizeFirst | Step::Size, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(line_end_or(byte, BodyError::ChunkSize))?;
                // RFC 9112 §7.1 (7.1b): large sizes overflow nothing and lose no digit.
                let shifted = self.left.checked_mul(16).ok_or(BodyError::ChunkSize)?;
                self.left = shifted + u64::from(digit);
                self.digits += 1;
                Ok(Step::Size)
            }
            (Step::SizeLf, LF) if self.left == 0 => Ok(Step::TrailerFirst),
            (Step::SizeLf, LF) if self.left > bytes_max.saturating_sub(self.taken) => Err(BodyError::TooLarge),
            (Step::SizeLf, LF) => Ok(Step::Data),
            (Step::DataCr, CR) => Ok(Step::DataLf),
            (Step::DataLf, LF) => {
                self.digits = 0;
                Ok(Step::SizeFirst)
            }
            (Step::SizeLf | Step::DataCr | Step::DataLf | Step::TrailerLf | Step::LastLf, byte) if byte != LF => {
                Err(BodyError::LineEnd)
            }
            (Step::DataCr, _) => Err(BodyError::LineEnd),
            // RFC 9112 §7.1.2 (7.1.2b): trailers are field lines, parsed as such and dropped; the same rules as in a head.
            (Step::TrailerFirst, CR) => Ok(Step::LastLf),
            (Step::TrailerFirst, _) if is_token(byte) => Ok(Step::TrailerName),
            (Step::TrailerName, b':') => Ok(Step::TrailerValue),
            (Step::TrailerName, _) if is_token(byte) => Ok(Step::TrailerName),
            (Step::TrailerValue, CR) => Ok(Step::TrailerLf),
            (Step::TrailerValue, _) if is_text(byte) => Ok(Step::TrailerValue),
            (Step::TrailerLf, _) => Ok(Step::TrailerFirst),
            (Step::LastLf, _) => Ok(Step::Done),
            (Step::TrailerFirst | Step::TrailerName | Step::TrailerValue, _) => {
                Err(line_end_or(byte, BodyError::Trailer))
            }
            (step, _) => extension_step(step, byte).ok_or(line_end_or(byte, BodyError::ChunkExtension)),
        }
    }
}

/// RFC 9112 §7.1.1 (7.1.1a): extensions are parsed and ignored. Whitespace around `;` and `=` is bad whitespace, which
/// a recipient MUST parse (RFC 9110 §5.6.3); anywhere else, before the CRLF too, it is an error. A quoted string
/// holds neither CR nor LF, so no line can hide in one.
fn extension_step(step: Step, byte: u8) -> Option<Step> {
    match (step, byte) {
        (Step::NameFirst | Step::ValueFirst | Step::SizeSpace | Step::NameSpace | Step::ValueSpace, SP | HTAB) => {
            Some(step)
        }
        (Step::Name, SP | HTAB) => Some(Step::NameSpace),
        (Step::ValueToken | Step::ValueEnd, SP | HTAB) => Some(Step::ValueSpace),
        (Step::Name | Step::ValueToken | Step::ValueEnd, CR) => Some(Step::SizeLf),
        (Step::Name | Step::NameSpace, b'=') => Some(Step::ValueFirst),
        (Step::ValueFirst, b'"') => Some(Step::ValueQuoted),
        (Step::ValueQuoted, b'"') => Some(Step::ValueEnd),
        (Step::ValueQuoted, b'\\') => Some(Step::ValuePair),
        (Step::ValueQuoted | Step::ValuePair, _) => is_text(byte).then_some(Step::ValueQuoted),
        (Step::NameFirst | Step::Name, _) if is_token(byte) => Some(Step::Name),
        (Step::ValueFirst | Step::ValueToken, _) if is_token(byte) => Some(Step::ValueToken),
        (Step::NameFirst | Step::ValueFirst, _) => None,
        (_, b';') => Some(Step::NameFirst),
        _ => None,
    }
}

/// A bare LF by its own name, anything else as `error`.
fn line_end_or(byte: u8, error: BodyError) -> BodyError {
    if byte == LF { BodyError::LineEnd } else { error }
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
            let progress = body.decode(&input[at..cut], &mut out, bytes_max)?;
            at += progress.consumed;
            assert!(progress.done || at == cut, "all is taken until the body is done");
            if progress.done {
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
        // `;` and a name in the first half; name, `:`, CR and LF in the second.
        let fits = format!("1;{}\r\nx\r\n0\r\n{}:\r\n\r\n", &half[2..], &half[2..]);
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
