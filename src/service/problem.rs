//! Every refusal there is: its status, the stable last word of its `type` (RFC 9457), and one sentence for a person.
//!
//! The type of a problem is `urn:onecode:problem:` and its word. A word, once published, keeps its meaning.

#![allow(missing_docs, reason = "the messages say it")]

use crate::http::body::BodyError;
use crate::http::head::HeadError;

/// A refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The last word of the `type`.
    pub word: &'static str,
    /// One sentence for a person.
    pub detail: &'static str,
    /// What the metrics count it as, when the connection ends with it.
    pub fault: Fault,
}

/// Whose fault a refusal is, as far as the connection's end is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// An ordinary answer.
    None,
    /// What came was not HTTP as we read it.
    Malformed,
    /// It came too slowly.
    Slow,
}

const fn problem(status: u16, word: &'static str, detail: &'static str) -> Problem {
    Problem { status, word, detail, fault: Fault::None }
}

pub const UNKNOWN_ROUTE: Problem = problem(404, "unknown-route", "There is nothing at this path.");
pub const METHOD_NOT_ALLOWED: Problem = problem(405, "method-not-allowed", "This path does not have this method.");
/// A method that HTTP does not know, or one for proxies.
pub const METHOD_UNKNOWN: Problem = problem(501, "method-not-implemented", "No path here has this method.");
/// `https` in the target of a request that came in the clear (RFC 9110 §7.4).
pub const SCHEME_WRONG: Problem =
    problem(421, "scheme-misdirected", "The target names another scheme than this connection.");
pub const SESSION_MISSING: Problem = problem(401, "session-missing", "Sign in first.");
pub const SESSION_INVALID: Problem = problem(401, "session-invalid", "This session is not valid. Sign in again.");
pub const SESSION_EXPIRED: Problem = problem(401, "session-expired", "This session has expired. Sign in again.");
pub const SESSION_ENDED: Problem = problem(401, "session-ended", "This session has been ended. Sign in again.");
pub const UNKNOWN_RESIDENT: Problem = problem(404, "unknown-resident", "This person is not in the registry.");
pub const BODY_MALFORMED: Problem = problem(400, "body-malformed", "The body is not what this path takes.");
/// A range outside the body (RFC 9110 §14.1.2).
pub const RANGE_UNSATISFIABLE: Problem = problem(416, "range-unsatisfiable", "The range lies outside the file.");
pub const QUERY_UNKNOWN: Problem = problem(400, "query-unknown", "The query has a value that this path does not know.");
/// No `auth.jwks_file`.
pub const SIGN_IN_NOT_CONFIGURED: Problem =
    problem(503, "sign-in-not-configured", "Sign-in is not configured on this server.");
pub const BUSY: Problem = problem(503, "queue-full", "The server is busy. Try again shortly.");
pub const ASSERTIONS_FULL: Problem =
    problem(503, "assertions-full", "Too many people are signing in. Try again shortly.");
pub const ASSERTION_REPLAYED: Problem = problem(401, "assertion-replayed", "This sign-in has been used already.");
/// Why, the admin listener says.
pub const NOT_READY: Problem = problem(503, "not-ready", "This server takes no requests now.");
pub const DRAINING: Problem = problem(503, "draining", "This server is shutting down.");
pub const HEAD_TIMED_OUT: Problem = timed_out("The head took longer than 5 s.");
pub const BODY_TIMED_OUT: Problem = timed_out("The body took longer than 5 s and came slower than 500 bytes/s.");

const fn timed_out(detail: &'static str) -> Problem {
    Problem { fault: Fault::Slow, ..problem(408, "request-timeout", detail) }
}
pub const HOST_REFUSED: Problem =
    problem(403, "host-refused", "The admin listener answers only to addresses, localhost and admin.host_names.");
pub const ORIGIN_REFUSED: Problem = problem(403, "origin-refused", "Pages of other origins may not call this.");

/// The journal has failed: no write is taken until the process starts again.
pub const JOURNAL_FAILED: Problem =
    problem(503, "journal-failed", "This server cannot write to its disk any more and takes no writes.");
/// `journal.disk_bytes_max` is reached: no write is taken until there is space.
pub const JOURNAL_FULL: Problem =
    problem(503, "journal-full", "The journal has all the disk it may have: raise journal.disk_bytes_max.");
/// The record was not on disk in time; it may be yet.
pub const JOURNAL_LATE: Problem =
    problem(503, "journal-late", "The write was not on disk in time. Send it again; twice is once.");
pub const REGISTRY_FULL: Problem =
    problem(503, "registry-full", "The registry is full: raise registry.capacity and restart.");
pub const CONTENT_TYPE_WRONG: Problem =
    problem(415, "content-type-wrong", "This path takes application/json or application/x-ndjson.");
pub const BODY_TRUNCATED: Problem =
    Problem { fault: Fault::Malformed, ..problem(400, "body-truncated", "The body ended before its framing said so.") };
/// A line that is not the JSON this path takes: its members, their kinds, or what must come together.
pub const LINE_MALFORMED: Problem = problem(400, "line-malformed", "The line is not what this path takes.");
pub const LINE_TOO_LONG: Problem = problem(400, "line-too-long", "The line is longer than 4,096 bytes.");
/// A reason or a place that the journal has no room for, or that holds an ID number.
pub const TEXT_REFUSED: Problem =
    problem(400, "text-refused", "A text is longer than 255 bytes or holds an ID number, which may not be kept.");
pub const ID_NUMBER_MALFORMED: Problem = problem(400, "id-number-malformed", "The ID number is not one.");
/// Two ID numbers with one resident number.
pub const RESIDENT_COLLISION: Problem =
    problem(409, "resident-collision", "Another person in the registry has the same resident number.");
/// A version too far ahead of the clock.
pub const VERSION_AHEAD: Problem =
    problem(400, "version-ahead", "The version, Unix milliseconds, is more than a day ahead of this server's clock.");
/// A person cannot become a test resident, nor the other way round.
pub const TEST_MARK_DIFFERS: Problem =
    problem(409, "test-mark-differs", "The resident is known with the other test mark.");
pub const TUBE_NOT_SUPPORTED: Problem =
    problem(400, "tube-not-supported", "This server does not know residents by their sample tube yet.");
pub const TOKEN_MISSING: Problem = problem(401, "token-missing", "This call needs a token.");
pub const TOKEN_INVALID: Problem = problem(401, "token-invalid", "This token is not valid.");
pub const TOKEN_EXPIRED: Problem = problem(401, "token-expired", "This token has expired.");
pub const SCOPE_MISSING: Problem = problem(403, "scope-missing", "This token may not make this call.");

impl Problem {
    /// For a head that could not be read.
    pub fn from_head(error: HeadError) -> Problem {
        let detail = match error {
            HeadError::RequestLineTooLong => "The request line is over 2048 bytes.",
            HeadError::HeadTooLong => "The head is over 8192 bytes.",
            HeadError::TooManyFields => "The head has more than 64 fields.",
            _ => "The request is not HTTP as this server reads it.",
        };
        Problem { status: error.status(), word: error.reason(), detail, fault: Fault::Malformed }
    }

    /// For a body that could not be read.
    pub fn from_body(error: BodyError) -> Problem {
        let (detail, fault) = match error {
            BodyError::TooLarge => ("The body is over 4096 bytes.", Fault::None),
            BodyError::ChunkOverhead => ("Chunk extensions and trailers are over 1024 bytes.", Fault::Malformed),
            _ => ("The body is not framed as HTTP says.", Fault::Malformed),
        };
        Problem { status: error.status(), word: error.reason(), detail, fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{
        BODY_BYTES_MAX, BODY_LEAST_BYTES_PER_S, BODY_MS_MAX, CHUNK_OVERHEAD_BYTES_MAX, HEAD_BYTES_MAX, HEAD_FIELDS_MAX,
        HEAD_MS_MAX, REQUEST_LINE_BYTES_MAX,
    };

    #[test]
    fn what_meets_a_limit_is_told_the_limit() {
        let told = [
            (Problem::from_head(HeadError::RequestLineTooLong), format!("{REQUEST_LINE_BYTES_MAX} bytes")),
            (Problem::from_head(HeadError::HeadTooLong), format!("{HEAD_BYTES_MAX} bytes")),
            (Problem::from_head(HeadError::TooManyFields), format!("{HEAD_FIELDS_MAX} fields")),
            (Problem::from_body(BodyError::TooLarge), format!("{BODY_BYTES_MAX} bytes")),
            (Problem::from_body(BodyError::ChunkOverhead), format!("{CHUNK_OVERHEAD_BYTES_MAX} bytes")),
            (HEAD_TIMED_OUT, format!("{} s", HEAD_MS_MAX / 1_000)),
            (BODY_TIMED_OUT, format!("{} s", BODY_MS_MAX / 1_000)),
            (BODY_TIMED_OUT, format!("{BODY_LEAST_BYTES_PER_S} bytes/s")),
        ];
        for (problem, limit) in told {
            assert!(problem.detail.contains(&limit), "{problem:?} does not name {limit}");
        }
    }
}
