//! Every refusal there is: its status, the stable last word of its `type` (RFC 9457), and one sentence for a person.
//!
//! The type of a problem is `urn:onecode:problem:` and its word. A word, once published, keeps its meaning.

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

/// No such path.
pub const UNKNOWN_ROUTE: Problem = problem(404, "unknown-route", "There is nothing at this path.");
/// The path has other methods; `Allow` names them.
pub const METHOD_NOT_ALLOWED: Problem = problem(405, "method-not-allowed", "This path does not have this method.");
/// A method that HTTP does not know, or one for proxies.
pub const METHOD_UNKNOWN: Problem = problem(501, "method-not-implemented", "No path here has this method.");
/// `https` in the target of a request that came in the clear (RFC 9110 §7.4).
pub const SCHEME_WRONG: Problem =
    problem(421, "scheme-misdirected", "The target names another scheme than this connection.");
/// Neither cookie nor bearer token.
pub const SESSION_MISSING: Problem = problem(401, "session-missing", "Sign in first.");
/// Not a session of ours.
pub const SESSION_INVALID: Problem = problem(401, "session-invalid", "This session is not valid. Sign in again.");
/// Past its time.
pub const SESSION_EXPIRED: Problem = problem(401, "session-expired", "This session has expired. Sign in again.");
/// Ended by its owner or for all.
pub const SESSION_ENDED: Problem = problem(401, "session-ended", "This session has been ended. Sign in again.");
/// A session or assertion for somebody who is not in the registry.
pub const UNKNOWN_RESIDENT: Problem = problem(404, "unknown-resident", "This person is not in the registry.");
/// The body is not the JSON that the route takes.
pub const BODY_MALFORMED: Problem = problem(400, "body-malformed", "The body is not what this path takes.");
/// A range outside the body (RFC 9110 §14.1.2).
pub const RANGE_UNSATISFIABLE: Problem = problem(416, "range-unsatisfiable", "The range lies outside the file.");
/// A value of the query that means nothing here.
pub const QUERY_UNKNOWN: Problem = problem(400, "query-unknown", "The query has a value that this path does not know.");
/// No `auth.jwks_file`.
pub const SIGN_IN_NOT_CONFIGURED: Problem =
    problem(503, "sign-in-not-configured", "Sign-in is not configured on this server.");
/// Another shard's queue is full.
pub const BUSY: Problem = problem(503, "queue-full", "The server is busy. Try again shortly.");
/// As many assertions are remembered as may be at once.
pub const ASSERTIONS_FULL: Problem =
    problem(503, "assertions-full", "Too many people are signing in. Try again shortly.");
/// The same assertion came before.
pub const ASSERTION_REPLAYED: Problem = problem(401, "assertion-replayed", "This sign-in has been used already.");
/// Why, the admin listener says.
pub const NOT_READY: Problem = problem(503, "not-ready", "This server takes no requests now.");
/// The process is ending.
pub const DRAINING: Problem = problem(503, "draining", "This server is shutting down.");
/// A head or a body that did not arrive in its time.
pub const TIMED_OUT: Problem =
    Problem { status: 408, word: "request-timeout", detail: "The request did not arrive in time.", fault: Fault::Slow };
/// `Host` on the admin listener.
pub const HOST_REFUSED: Problem =
    problem(403, "host-refused", "The admin listener answers only to addresses, localhost and admin.host_names.");
/// Another origin on the admin listener.
pub const ORIGIN_REFUSED: Problem = problem(403, "origin-refused", "Pages of other origins may not call this.");

impl Problem {
    /// For a head that could not be read.
    pub fn from_head(error: HeadError) -> Problem {
        let detail = "The request is not HTTP as this server reads it.";
        Problem { status: error.status(), word: error.reason(), detail, fault: Fault::Malformed }
    }

    /// For a body that could not be read.
    pub fn from_body(error: BodyError) -> Problem {
        let (detail, fault) = match error {
            BodyError::TooLarge => ("The body is larger than this path takes.", Fault::None),
            _ => ("The body is not framed as HTTP says.", Fault::Malformed),
        };
        Problem { status: error.status(), word: error.reason(), detail, fault }
    }
}
