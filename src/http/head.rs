//! The request head: one pass over the bytes in place, from the request line to the empty line.
//!
//! Owns what a valid head is, how its body is framed, and whether the connection lives on. Never allocates, never
//! copies, never repairs: what the grammar does not allow is refused (`rfc9112` and `oracle` have the cases).
//!
//! Checks run strictly in the order of the bytes, and those that need the whole head run after its last one. So the
//! first fault found does not depend on how the bytes arrived, and a head that has not ended can be refused at once.

use super::field::Field;
use super::grammar::{self, CR, HTAB, LF, SP, members, target_end, text_end, token_end};
use crate::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, REQUEST_LINE_BYTES_MAX};
use strum::{EnumCount, EnumString};

pub use ::http::Version;

/// The request method (RFC 9110 §9, RFC 5789).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, EnumString)]
#[strum(serialize_all = "UPPERCASE")]
#[allow(missing_docs, reason = "each is the method of that name")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    /// A valid token that is none of the others. Methods are case-sensitive, so `get` is one of these.
    #[strum(disabled)]
    Other,
}

/// Where the body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Framing {
    /// No body: the next request starts right after the head.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks until the last one and its trailers.
    Chunked,
}

/// A valid request head, borrowed from the bytes it was parsed from.
///
/// Field values and the query stay out of what is logged: they hold sessions and tokens.
#[derive(Clone, Copy, Default, derive_more::Debug)]
#[debug("Head({method:?} {path} {version:?} {framing:?})")]
#[allow(missing_docs, reason = "the other names say it")]
pub struct Head<'b> {
    buffer: &'b [u8],
    pub method: Method,
    /// The path: ASCII, undecoded, starting with `/`; or `*` (OPTIONS for the whole server); or empty (CONNECT).
    pub path: &'b str,
    /// What follows the first `?`, undecoded.
    pub query: Option<&'b str>,
    /// Whether a target in absolute-form names https, or http. RFC 9110 §7.4: a scheme that is not that of the
    /// connection is to be answered with 421 by whoever knows the connection.
    pub is_https: Option<bool>,
    /// The version to answer in the manner of. A minor version above 1 is treated as 1.1 (RFC 9110 §2.5).
    pub version: Version,
    pub framing: Framing,
    /// Whether the client lets the connection live on after this request.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The head's length in bytes, with the empty line that ends it and one before the request line, if any.
    pub bytes: usize,
    /// Invariant: bit n is set exactly if field n came more than once.
    repeated: u32,
    /// The value of each field; one that starts at 0, where none can be, is that of no field.
    first: [Span; Field::COUNT],
}

#[derive(Clone, Copy, Default)]
struct Span {
    start: u16,
    end: u16,
}

const _: () = assert!(HEAD_BYTES_MAX <= u16::MAX as usize && REQUEST_LINE_BYTES_MAX <= HEAD_BYTES_MAX);
const _: () = assert!(Field::COUNT <= 32);

refusals! {
    /// Why a request head was refused. The connection closes after the answer.
    HeadError
    LineEnd 400 "bad-line-end" "There is a bare CR or a bare LF.";
    Method 400 "bad-method" "The method is not a token followed by one space.";
    Target 400 "bad-target" "The request-target is none of the four forms, is not for this method, or has a byte no URI has.";
    Version 400 "bad-version" "What follows the target is not `HTTP/d.d`.";
    VersionUnsupported 505 "version-not-supported" "The major version is not 1.";
    LeadingWhitespace 400 "leading-whitespace" "A field line starts with whitespace: folded, or before the first field.";
    FieldName 400 "bad-field-name" "A field name is not a token right before its colon.";
    FieldValue 400 "bad-field-value" "A field value has a control character.";
    RepeatedField 400 "repeated-field" "A field that may come once came twice.";
    Host 400 "bad-host" "Host is missing, repeated or invalid.";
    ContentLength 400 "bad-content-length" "Content-Length is not one number.";
    LengthAndEncoding 400 "length-and-encoding" "Content-Length stands beside Transfer-Encoding.";
    TransferEncoding 400 "bad-transfer-encoding" "Transfer-Encoding does not end in one `chunked`.";
    TransferEncodingVersion 400 "transfer-encoding-in-http10" "HTTP/1.0 has no Transfer-Encoding.";
    TransferCodingUnsupported 501 "transfer-coding-not-implemented" "This server decodes no transfer coding but `chunked`.";
    Expectation 417 "expectation-failed" "There is an expectation other than 100-continue.";
    // RFC 9112 §3 (3a)
    RequestLineTooLong 414 "request-line-too-long" "The request line is over 2048 bytes.";
    HeadTooLong 431 "head-too-long" "The head is over 8192 bytes.";
    TooManyFields 431 "too-many-fields" "The head has more than 64 fields.";
}

/// Parses the head at the start of `buffer`; `None` while it has not ended. Then it is called again with the same and
/// more bytes, and reads all of them again: never more than [`HEAD_BYTES_MAX`], so a sender of single bytes has us do for
/// a packet what a whole head in it would have us do.
/// Errors: what is wrong with the head, as soon as the bytes so far prove it.
pub fn parse(buffer: &[u8]) -> Result<Option<Head<'_>>, HeadError> {
    match parse_from_start(buffer) {
        Ok(head) => Ok(Some(head)),
        Err(Some(error)) => Err(error),
        Err(None) if buffer.len() >= HEAD_BYTES_MAX => Err(HeadError::HeadTooLong),
        Err(None) => Ok(None),
    }
}

/// Why parsing did not reach the end of the head; `None`: it has not come yet.
type Stop = Option<HeadError>;

fn parse_from_start(buffer: &[u8]) -> Result<Head<'_>, Stop> {
    // RFC 9112 §2.2: a server SHOULD ignore at least one empty line before the request line; one it is.
    let start = match buffer {
        [CR, LF, ..] => 2,
        [] | [CR] => return Err(None),
        [LF, ..] | [CR, ..] => return Err(HeadError::LineEnd.into()),
        _ => 0,
    };
    let line_max = start + REQUEST_LINE_BYTES_MAX;
    let line = &buffer[..buffer.len().min(line_max)];
    let (mut head, authority) = match request_line(line, start) {
        // RFC 9112 §3 (3a): a target longer than the server wishes to parse is answered with 414.
        Err(None) if buffer.len() >= line_max => return Err(HeadError::RequestLineTooLong.into()),
        other => other?,
    };
    head.buffer = &buffer[..buffer.len().min(HEAD_BYTES_MAX)];
    head.read_fields()?;
    head.check_host(authority)?;
    head.framing = head.read_framing()?;
    head.expect_continue = head.read_expectation()?;
    let says = |option: &[u8]| {
        let mut members = head.all(Field::Connection).flat_map(members);
        head.get(Field::Connection).is_some() && members.any(|member| member.eq_ignore_ascii_case(option))
    };
    // RFC 9112 §9.3, in its order: `close` ends it; 1.1 persists; 1.0 persists if asked to.
    // RFC 9112 §9.6 (9.6a): the caller closes after answering when this is false.
    head.keep_alive = !says(b"close") && (head.version == Version::HTTP_11 || says(b"keep-alive"));
    Ok(head)
}

/// The fault that `byte` is where it may not stand: a bare LF by its own name, anything else as `error`.
fn misplaced(byte: u8, error: HeadError) -> Stop {
    Some(if byte == LF { HeadError::LineEnd } else { error })
}

/// `method SP request-target SP HTTP-version CRLF` with single spaces (RFC 9112 §3), and the authority of the target.
fn request_line<'b>(line: &'b [u8], start: usize) -> Result<(Head<'b>, Option<Span>), Stop> {
    let method_end = token_end(line, start);
    match line.get(method_end) {
        None => return Err(None),
        Some(&SP) if method_end > start => {}
        Some(&byte) => return Err(misplaced(byte, HeadError::Method)),
    }
    let method = str::from_utf8(&line[start..method_end]).ok().and_then(|word| word.parse().ok());
    let method = method.unwrap_or(Method::Other);
    let raw = RawTarget::scan(line, method_end + 1)?;
    let (version, bytes) = read_version(line, raw.end + 1)?;
    let mut head = Head { buffer: line, method, version, bytes, ..Head::default() };
    let authority = raw.classify(&mut head)?;
    Ok((head, authority))
}

/// A request-target whose bytes are those of a URI, not yet sorted into its form.
struct RawTarget {
    start: usize,
    end: usize,
    question: Option<usize>,
    has_brackets: bool,
}

impl RawTarget {
    /// Reads up to the space after the target. Only what RFC 3986 allows passes, and no fragment.
    fn scan(line: &[u8], start: usize) -> Result<RawTarget, Stop> {
        let mut raw = RawTarget { start, end: start, question: None, has_brackets: false };
        loop {
            raw.end = target_end(line, raw.end);
            match &line[raw.end..] {
                [] | [b'%'] => return Err(None),
                [SP, ..] if raw.end > start => return Ok(raw),
                [b'?', ..] => {
                    raw.question.get_or_insert(raw.end);
                    raw.end += 1;
                }
                [b'[' | b']', ..] => {
                    raw.has_brackets = true;
                    raw.end += 1;
                }
                [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => raw.end += 3,
                [b'%', high] if high.is_ascii_hexdigit() => return Err(None),
                [byte, ..] => return Err(misplaced(*byte, HeadError::Target)),
            }
        }
    }

    /// Sorts the target into one of the four forms of RFC 9112 §3.2, and says where it names an authority.
    fn classify(&self, head: &mut Head<'_>) -> Result<Option<Span>, HeadError> {
        let text = str::from_utf8(&head.buffer[self.start..self.end]).map_err(|_| HeadError::Target)?;
        let when = |valid: bool, authority| if valid { Ok(authority) } else { Err(HeadError::Target) };
        if head.method == Method::Connect {
            // RFC 9112 §3.2.3: authority-form, host and port, and nothing else, is the target of CONNECT.
            let has_port = text.bytes().next_back().is_some_and(|byte| byte.is_ascii_digit()) && text.contains(':');
            let valid = has_port && grammar::is_authority(text.as_bytes());
            return when(valid, Some(Span::new(self.start, self.end)));
        }
        head.path = text;
        if text == "*" {
            // RFC 9112 §3.2.4: asterisk-form is for OPTIONS alone.
            return when(head.method == Method::Options, None);
        }
        if let Some(question) = self.question.map(|at| at - self.start) {
            (head.path, head.query) = (&text[..question], Some(&text[question + 1..]));
        }
        if head.path.starts_with('/') {
            // RFC 9112 §3.2.1: origin-form. Brackets belong to the IP literal of an authority, which this has not.
            return when(!self.has_brackets, None);
        }
        // RFC 9112 §3.2.2 (3.2.2b): absolute-form MUST be accepted, though only proxies are sent it.
        let (scheme, rest) = head.path.split_once("://").ok_or(HeadError::Target)?;
        head.is_https = Some(scheme.eq_ignore_ascii_case("https"));
        if head.is_https == Some(false) && !scheme.eq_ignore_ascii_case("http") {
            return Err(HeadError::Target);
        }
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host_start = self.start + head.path.len() - rest.len();
        // An empty path is `/`, or for OPTIONS without a query the whole server (RFC 9112 §3.2.1 and §3.2.4).
        head.path = match (path, head.method, head.query) {
            ("", Method::Options, None) => "*",
            ("", _, _) => "/",
            _ => path,
        };
        let is_bracketed = [path, head.query.unwrap_or_default()].iter().any(|part| part.contains(['[', ']']));
        let valid = grammar::is_authority(host.as_bytes()) && !is_bracketed;
        when(valid, Some(Span::new(host_start, host_start + host.len())))
    }
}

/// `HTTP/d.d CRLF` at `start`; the version, and where the first field line starts.
fn read_version(line: &[u8], start: usize) -> Result<(Version, usize), Stop> {
    let rest = &line[start..];
    if rest.starts_with(b"HTTP/1.1\r\n") {
        return Ok((Version::HTTP_11, start + 10));
    }
    // RFC 9112 §2.3: case-sensitive, one digit each. Anything else is invalid, HTTP/0.9 without a version too.
    let shape = b"HTTP/d.d\r\n";
    for (index, &expected) in shape.iter().enumerate() {
        let &byte = rest.get(index).ok_or(None)?;
        let fits = if expected == b'd' { byte.is_ascii_digit() } else { byte == expected };
        if !fits {
            let error = if expected == LF { HeadError::LineEnd } else { HeadError::Version };
            return Err(misplaced(byte, error));
        }
    }
    match (rest[5], rest[7]) {
        (b'1', b'0') => Ok((Version::HTTP_10, start + shape.len())),
        (b'1', _) => Ok((Version::HTTP_11, start + shape.len())),
        _ => Err(HeadError::VersionUnsupported.into()),
    }
}

impl<'b> Head<'b> {
    /// The value of a field, without whitespace around it; of several lines the first. For `Host` it is what the
    /// request is for: the authority of an absolute-form target stands in its place.
    pub fn get(&self, field: Field) -> Option<&'b [u8]> {
        let value = self.first[field as usize];
        (value.start != 0).then(|| value.of(self.buffer))
    }

    /// The values of all lines of a field, in order.
    pub fn all(&self, field: Field) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let (mut first, mut later) = (self.get(field), &[][..]);
        if self.repeated >> field as u32 & 1 == 1 {
            // The rest of the line last read, and all lines after it.
            later = &self.buffer[usize::from(self.first[field as usize].end)..self.bytes];
        }
        std::iter::from_fn(move || {
            if let Some(first) = first.take() {
                return Some(first);
            }
            // The lines were checked when the head was parsed: each has its colon, and ends at the next CRLF.
            loop {
                later = later.get(text_end(later, 0) + 2..)?;
                let name_end = token_end(later, 0);
                if Field::of(&later[..name_end]) == Some(field) {
                    let line_end = text_end(later, name_end + 1);
                    return Some(later.get(name_end + 1..line_end)?.trim_ascii());
                }
            }
        })
    }

    /// Reads field lines from `bytes` on to the empty line, and moves `bytes` past it.
    fn read_fields(&mut self) -> Result<(), Stop> {
        let (window, mut at, mut count) = (self.buffer, self.bytes, 0);
        loop {
            match window.get(at) {
                None => return Err(None),
                Some(&CR) => match window.get(at + 1) {
                    None => return Err(None),
                    Some(&LF) => {
                        self.bytes = at + 2;
                        return Ok(());
                    }
                    Some(_) => return Err(HeadError::LineEnd.into()),
                },
                // RFC 9112 §2.2 (2.2e) before the first field, §5.2 (5.2b) after it: refused, never unfolded.
                Some(&(SP | HTAB)) => return Err(HeadError::LeadingWhitespace.into()),
                Some(_) if count == HEAD_FIELDS_MAX => return Err(HeadError::TooManyFields.into()),
                Some(_) => count += 1,
            }
            let name_end = token_end(window, at);
            match window.get(name_end) {
                None => return Err(None),
                Some(b':') if name_end > at => {}
                // RFC 9112 §5.1 (5.1a): whitespace before the colon is one of the things that end up here.
                Some(&byte) => return Err(misplaced(byte, HeadError::FieldName)),
            }
            let text_end = text_end(window, name_end + 1);
            match (window.get(text_end), window.get(text_end + 1)) {
                (Some(&CR), Some(&LF)) => {}
                (None, _) | (Some(&CR), None) => return Err(None),
                // RFC 9112 §2.2 (2.2c): a bare CR makes the element invalid.
                (Some(&CR), Some(_)) => return Err(HeadError::LineEnd.into()),
                (Some(&byte), _) => return Err(misplaced(byte, HeadError::FieldValue)),
            }
            if let Some(field) = Field::of(&window[at..name_end]) {
                self.note(field, Span::trimmed(window, name_end + 1, text_end))?;
            }
            at = text_end + 2;
        }
    }

    fn note(&mut self, field: Field, value: Span) -> Result<(), HeadError> {
        if self.get(field).is_none() {
            self.first[field as usize] = value;
        } else if field.is_list() {
            self.repeated |= 1 << field as u32;
        } else {
            return Err(match field {
                // RFC 9112 §3.2 (3.2a): more than one Host.
                Field::Host => HeadError::Host,
                // RFC 9112 §6.3 (6.3b): see `read_framing`.
                Field::ContentLength => HeadError::ContentLength,
                _ => HeadError::RepeatedField,
            });
        }
        Ok(())
    }

    /// RFC 9112 §3.2 (3.2a): an HTTP/1.1 request lacks no Host, and no request has an invalid one. An empty value is
    /// valid by its grammar, but means an http URI without a host, which is invalid (RFC 9110 §4.2.1); it is let pass
    /// only where the target names the host itself.
    fn check_host(&mut self, authority: Option<Span>) -> Result<(), HeadError> {
        match self.get(Field::Host) {
            None if self.version == Version::HTTP_11 => return Err(HeadError::Host),
            None => {}
            Some(b"") if authority.is_some() => {}
            Some(host) if !grammar::is_authority(host) => return Err(HeadError::Host),
            Some(_) => {}
        }
        if let Some(authority) = authority {
            // RFC 9112 §3.2.2 (3.2.2a): ignore the received Host and use the host of the target.
            self.first[Field::Host as usize] = authority;
        }
        Ok(())
    }

    /// Where the body ends (RFC 9112 §6.3). Every fault is a 400 (or 501) after which the connection closes.
    fn read_framing(&self) -> Result<Framing, HeadError> {
        let length = self.get(Field::ContentLength);
        if self.get(Field::TransferEncoding).is_some() {
            // RFC 9112 §6.1 (6.1i): faulty framing in HTTP/1.0. Refused rather than processed and closed.
            if self.version == Version::HTTP_10 {
                return Err(HeadError::TransferEncodingVersion);
            }
            // RFC 9112 §6.1 (6.1h): a server MAY reject; the attempt to smuggle is likelier than the honest mistake.
            if length.is_some() {
                return Err(HeadError::LengthAndEncoding);
            }
            return self.read_transfer_encoding();
        }
        match length {
            None => Ok(Framing::None),
            // RFC 9112 §6.3 (6.3b, 6.3c): invalid is 400 and close. A list of equal values may be taken as one or be
            // rejected (RFC 9110 §8.6); no client has a reason to send one and two readers can differ, so rejected.
            Some(digits) => grammar::decimal(digits).map(Framing::Length).ok_or(HeadError::ContentLength),
        }
    }

    /// RFC 9112 §6.1 (6.1a): `chunked` is understood. §6.3 (6.3a): it must be the last coding. §7.1: it takes no
    /// parameters and comes once. Another coding before it is one we do not implement: 501 (§6.1). An empty member,
    /// which RFC 9110 §5.6.1.2 would have ignored, is refused: readers who disagree here are how requests are smuggled.
    fn read_transfer_encoding(&self) -> Result<Framing, HeadError> {
        let (mut is_chunked, mut is_unknown) = (false, false);
        for line in self.all(Field::TransferEncoding) {
            for coding in line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                let name_end = token_end(coding, 0);
                let has_parameters = name_end < coding.len();
                let is_last = coding[..name_end].eq_ignore_ascii_case(b"chunked");
                if is_chunked || name_end == 0 || (is_last && has_parameters) {
                    return Err(HeadError::TransferEncoding);
                }
                is_chunked = is_last;
                is_unknown |= !is_last;
            }
        }
        match (is_chunked, is_unknown) {
            (true, false) => Ok(Framing::Chunked),
            (true, true) => Err(HeadError::TransferCodingUnsupported),
            (false, _) => Err(HeadError::TransferEncoding),
        }
    }

    /// RFC 9110 §10.1.1: 100-continue is the only expectation there is; 417 for others. It is ignored in HTTP/1.0,
    /// and means nothing without a body to wait for.
    fn read_expectation(&self) -> Result<bool, HeadError> {
        if self.get(Field::Expect).is_none() {
            return Ok(false);
        }
        if self.all(Field::Expect).flat_map(members).any(|member| !member.eq_ignore_ascii_case(b"100-continue")) {
            return Err(HeadError::Expectation);
        }
        let has_body = !matches!(self.framing, Framing::None | Framing::Length(0));
        Ok(has_body && self.version == Version::HTTP_11)
    }
}

impl Span {
    fn new(start: usize, end: usize) -> Span {
        Span { start: offset(start), end: offset(end) }
    }

    /// Without optional whitespace around it (RFC 9110 §5.6.3).
    fn trimmed(bytes: &[u8], start: usize, end: usize) -> Span {
        let value = bytes[start..end].trim_ascii_start();
        Span::new(end - value.len(), end - value.len() + value.trim_ascii_end().len())
    }

    fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[usize::from(self.start)..usize::from(self.end)]
    }
}

/// A place in a head as it is stored.
#[expect(clippy::cast_possible_truncation, reason = "no head is longer than HEAD_BYTES_MAX, which fits by assertion")]
fn offset(at: usize) -> u16 {
    debug_assert!(at <= HEAD_BYTES_MAX);
    at as u16
}
