//! Every refusal there is: its status, the stable last word of its `type` (RFC 9457), and one sentence for a person.
//!
//! The type of a problem is `urn:onecode:problem:` and its word. A word, once published, keeps its meaning.

#![allow(missing_docs, reason = "the messages say it")]

use super::counters::EndReason;
use crate::admission::Refuser;

/// A refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Problem {
    pub status: u16,
    /// The last word of the `type`.
    pub word: &'static str,
    pub detail: &'static str,
    /// What the metrics count the connection's end as, when it ends with this.
    pub end: EndReason,
}

/// `NAME status "word" "detail";`, each a constant, with the reason why the connection ends where it is not `Closed`.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident $status:literal $word:literal $detail:literal $($end:ident)?;)*) => { $(
        $(#[$doc])*
        pub const $name: Problem = Problem {
            status: $status,
            word: $word,
            detail: $detail,
            end: [$(EndReason::$end,)? EndReason::Closed][0],
        };
        )*
        #[cfg(test)]
        pub(super) const ALL: &[Problem] = &[$($name),*];
    };
}

problems! {
    UNKNOWN_ROUTE 404 "unknown-route" "There is nothing at this path.";
    METHOD_NOT_ALLOWED 405 "method-not-allowed" "This path does not have this method.";
    /// A method that HTTP does not know, or one for proxies.
    METHOD_UNKNOWN 501 "method-not-implemented" "No path here has this method.";
    /// `https` in the target of a request that came in the clear, or the other way round (RFC 9110 §7.4).
    SCHEME_WRONG 421 "scheme-misdirected" "The target names another scheme than this connection.";
    HOST_UNKNOWN 421 "host-misdirected" "No certificate of this server is for this host.";
    SESSION_MISSING 401 "session-missing" "Sign in first.";
    SESSION_INVALID 401 "session-invalid" "This session is not valid. Sign in again.";
    SESSION_EXPIRED 401 "session-expired" "This session has expired. Sign in again.";
    SESSION_ENDED 401 "session-ended" "This session has been ended. Sign in again.";
    UNKNOWN_RESIDENT 404 "unknown-resident" "This person is not in the registry.";
    BODY_MALFORMED 400 "body-malformed" "The body is not what this path takes.";
    /// A range outside the body (RFC 9110 §14.1.2).
    RANGE_UNSATISFIABLE 416 "range-unsatisfiable" "The range lies outside the file.";
    QUERY_UNKNOWN 400 "query-unknown" "The query has a value that this path does not know.";
    SIGN_IN_NOT_CONFIGURED 503 "sign-in-not-configured" "Sign-in is not configured on this server.";
    BYTES_GOVERNOR 503 "bytes-governor" "This server has sent all that it may for now. Try again later.";
    DELAY_GOVERNOR 503 "delay-governor" "More is asked of this server than it can do. Try again later.";
    SESSION_RATE 429 "session-rate" "This session has asked too often. Try again later.";
    DEVICE_RATE 429 "device-rate" "This device has asked too often. Try again later.";
    ADDRESS_RATE 429 "address-rate" "Your address has asked too often while the server is busy. Try again later.";
    BUSY 503 "queue-full" "The server is busy. Try again shortly.";
    ASSERTIONS_FULL 503 "assertions-full" "Too many people are signing in. Try again shortly.";
    ASSERTION_REPLAYED 401 "assertion-replayed" "This sign-in has been used already.";
    /// It is no JWT, is too long, repeats a member, or lacks a claim that is required.
    ASSERTION_MALFORMED 401 "assertion-malformed" "the assertion is not a JWT with the claims required";
    ASSERTION_ALGORITHM_REFUSED 401 "assertion-algorithm-refused"
        "the assertion is not signed by EdDSA, ES256 or RS256";
    ASSERTION_KEY_UNKNOWN 401 "assertion-key-unknown" "the assertion's key is not in auth.jwks_file";
    ASSERTION_FORGED 401 "assertion-forged" "the assertion's signature is wrong";
    ASSERTION_ISSUER_WRONG 401 "assertion-issuer-wrong" "the assertion is not by auth.issuer";
    ASSERTION_AUDIENCE_WRONG 401 "assertion-audience-wrong" "the assertion is not for auth.audience";
    ASSERTION_EXPIRED 401 "assertion-expired" "the assertion has expired, sign in again";
    /// `iat` is too far ahead, or `nbf` has not come.
    ASSERTION_NOT_YET_VALID 401 "assertion-not-yet-valid" "the assertion's time has not come";
    ASSERTION_LIFE_WRONG 401 "assertion-life-wrong" "the assertion's life is not within five minutes";
    /// `iat` is before this process started, so it is not known whether it was used before.
    ASSERTION_BEFORE_START 401 "assertion-before-start"
        "the assertion is older than this server's start, sign in again";
    ASSERTION_PERSON_MISSING 401 "assertion-person-missing" "the assertion names no person";
    /// Why, the admin listener says.
    NOT_READY 503 "not-ready" "This server takes no requests now.";
    DRAINING 503 "draining" "This server is shutting down.";
    HOST_REFUSED 403 "host-refused" "The admin listener answers only to addresses, localhost and admin.host_names.";
    ORIGIN_REFUSED 403 "origin-refused" "Pages of other origins may not call this.";
    JOURNAL_FAILED 503 "journal-failed" "This server cannot write to its disk any more and takes no writes.";
    JOURNAL_FULL 503 "journal-full" "The journal has all the disk it may have: raise journal.disk_bytes_max.";
    /// The record was not on disk in time; it may be yet.
    JOURNAL_LATE 503 "journal-late" "The write was not on disk in time. Send it again; twice is once.";
    REGISTRY_FULL 503 "registry-full" "The registry is full: raise registry.capacity and restart.";
    CONTENT_TYPE_WRONG 415 "content-type-wrong" "This path takes application/json or application/x-ndjson.";
    /// A line that is not the JSON this path takes: its members, their kinds, or what must come together.
    LINE_MALFORMED 400 "line-malformed" "The line is not what this path takes.";
    LINE_TOO_LONG 400 "line-too-long" "The line is longer than 4,096 bytes.";
    TEXT_REFUSED 400 "text-refused" "A text is longer than 255 bytes or holds an ID number, which may not be kept.";
    ID_NUMBER_MALFORMED 400 "id-number-malformed" "The ID number is not one.";
    RESIDENT_COLLISION 409 "resident-collision" "Another person in the registry has the same resident number.";
    VERSION_AHEAD 400 "version-ahead"
        "The version, Unix milliseconds, is more than a day ahead of this server's clock.";
    TIME_REFUSED 400 "time-refused"
        "The time, Unix milliseconds, is before 2020 or more than a day ahead of this server's clock.";
    TEST_MARK_DIFFERS 409 "test-mark-differs" "The resident is known with the other test mark.";
    TUBE_NOT_SUPPORTED 400 "tube-not-supported" "This server does not know residents by their sample tube yet.";
    TOKEN_MISSING 401 "token-missing" "This call needs a token.";
    TOKEN_INVALID 401 "token-invalid" "This token is not valid.";
    TOKEN_EXPIRED 401 "token-expired" "This token has expired.";
    SCOPE_MISSING 403 "scope-missing" "This token may not make this call.";
    HEAD_TIMED_OUT 408 "request-timeout" "The head took longer than 5 s." Slow;
    BODY_TIMED_OUT 408 "request-timeout" "The body took longer than 5 s and came slower than 500 bytes/s." Slow;
    BODY_TRUNCATED 400 "body-truncated" "The body ended before its framing said so." Malformed;
    CONNECTIONS_FULL 503 "connections-full" "This server has all the connections it may have." Refused;
    ADDRESS_CONNECTIONS_FULL 503 "address-connections-full" "Your address has half of all connections already." Refused;
}

impl Problem {
    /// For what admission refuses with an answer.
    pub fn from_refuser(refuser: Refuser) -> Problem {
        match refuser {
            Refuser::Bytes => BYTES_GOVERNOR,
            Refuser::Delay | Refuser::Deadline => DELAY_GOVERNOR,
            Refuser::SessionRate => SESSION_RATE,
            Refuser::DeviceRate => DEVICE_RATE,
            Refuser::AddressRate => ADDRESS_RATE,
        }
    }

    /// For a head or a body that could not be read, by what HTTP says of it.
    pub fn unreadable((status, word, detail): (u16, &'static str, &'static str)) -> Problem {
        let end = if matches!(status, 413 | 414 | 431) { EndReason::Large } else { EndReason::Malformed };
        Problem { status, word, detail, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::BodyError;
    use crate::http::head::HeadError;
    use crate::limits::{
        BODY_BYTES_MAX, BODY_LEAST_BYTES_PER_S, BODY_MS_MAX, CHUNK_OVERHEAD_BYTES_MAX, HEAD_BYTES_MAX, HEAD_FIELDS_MAX,
        HEAD_MS_MAX, REQUEST_LINE_BYTES_MAX,
    };

    #[test]
    fn what_meets_a_limit_is_told_the_limit() {
        let told = [
            (Problem::unreadable(HeadError::RequestLineTooLong.told()), format!("{REQUEST_LINE_BYTES_MAX} bytes")),
            (Problem::unreadable(HeadError::HeadTooLong.told()), format!("{HEAD_BYTES_MAX} bytes")),
            (Problem::unreadable(HeadError::TooManyFields.told()), format!("{HEAD_FIELDS_MAX} fields")),
            (Problem::unreadable(BodyError::TooLarge.told()), format!("{BODY_BYTES_MAX} bytes")),
            (Problem::unreadable(BodyError::ChunkOverhead.told()), format!("{CHUNK_OVERHEAD_BYTES_MAX} bytes")),
            (HEAD_TIMED_OUT, format!("{} s", HEAD_MS_MAX / 1_000)),
            (BODY_TIMED_OUT, format!("{} s", BODY_MS_MAX / 1_000)),
            (BODY_TIMED_OUT, format!("{BODY_LEAST_BYTES_PER_S} bytes/s")),
        ];
        for (problem, limit) in told {
            assert!(problem.detail.contains(&limit), "{problem:?} does not name {limit}");
        }
    }
}
