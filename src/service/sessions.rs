//! `/person/app/session`: signing in by the city's assertion, signing out.

use serde::Deserialize;

use super::problem::{self, Problem};
use super::session::{self, Session};
use super::{Ask, Handled, Outcome, Pending, Reply, Route, Service};
use crate::http::head::{Head, Method};
use crate::limits::ANSWER_MS_MAX;
use crate::registry::demo;
use crate::registry::id_number::IdNumber;
use crate::words::{Now, ResidentNumber};

/// The body of a sign-in: one of the two.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInBody {
    assertion: Option<String>,
    demo_resident: Option<u32>,
}

impl Service {
    pub(super) fn session(&mut self, head: &Head<'_>, body: &[u8], reply: &mut Reply<'_>) -> Handled {
        let secure = self.is_secure(head);
        match head.method {
            // A page of another origin could sign its visitor in as somebody else.
            Method::Post if self.is_refused_origin(head) => Err(problem::ORIGIN_REFUSED),
            Method::Post => self.sign_in(body, secure, reply),
            _ => self.sign_out(reply.now, head, secure),
        }
    }

    fn sign_in(&mut self, body: &[u8], secure: bool, reply: &mut Reply<'_>) -> Handled {
        match serde_json::from_slice(body).map_err(|_| problem::BODY_MALFORMED)? {
            SignInBody { assertion: Some(assertion), demo_resident: None } => {
                let verifier = self.parts.settings.verifier.as_ref().ok_or(problem::SIGN_IN_NOT_CONFIGURED)?;
                let sign_in = verifier.verify(&assertion, reply.now, self.parts.settings.started_unix_ms)?;
                let resident = self.known(&sign_in.id_number)?;
                let ask = Ask::UseAssertion { once: sign_in.once, expires_unix_s: sign_in.expires_unix_s };
                Ok(Outcome::Ask(
                    ask,
                    Pending::new(Route::Session, ANSWER_MS_MAX, move |service, answer, reply| {
                        answer.done()?;
                        service.signed_in(resident, secure, reply)
                    }),
                ))
            }
            SignInBody { assertion: None, demo_resident: Some(number) } => {
                let residents = self.parts.settings.demo_residents.ok_or(problem::BODY_MALFORMED)?;
                if number == 0 || number > residents {
                    return Err(problem::UNKNOWN_RESIDENT);
                }
                let (resident, _) = self.parts.settings.hash_key.number(&demo::id_number(number));
                self.signed_in(resident, secure, reply)
            }
            _ => Err(problem::BODY_MALFORMED),
        }
    }

    fn known(&self, id_number: &str) -> Result<ResidentNumber, Problem> {
        let id_number = IdNumber::parse(id_number.as_bytes()).map_err(|_| problem::UNKNOWN_RESIDENT)?;
        let (resident, check) = self.parts.settings.hash_key.number(&id_number);
        // Another person whose ID number hashes to the same resident number is not this resident.
        let known = self.parts.registry.read(resident).is_some_and(|record| record.check == check);
        if known { Ok(resident) } else { Err(problem::UNKNOWN_RESIDENT) }
    }

    fn signed_in(&self, resident: ResidentNumber, secure: bool, reply: &mut Reply<'_>) -> Handled {
        let record = self.parts.registry.read(resident).ok_or(problem::UNKNOWN_RESIDENT)?;
        let session_s = self.parts.settings.session_s;
        let expires_at = u32::try_from(reply.now.unix_s() + session_s).unwrap_or(u32::MAX);
        let session = Session { resident, number: record.session, expires_unix_s: expires_at };
        let token = session::mint(&self.parts.settings.session_key, &session);
        let cookie = cookie(&token, session_s, secure);
        let body = format!(r#"{{"session":"{token}","expires_at":{expires_at}}}"#);
        let fields = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Set-Cookie", &cookie)];
        // A page of another origin has its session in hand, and no cookie with us.
        let fields = if reply.origin.is_some() { &fields[..2] } else { &fields };
        reply.inline(200, fields, body.as_bytes());
        Ok(Outcome::Answered)
    }

    fn sign_out(&self, now: Now, head: &Head<'_>, secure: bool) -> Handled {
        let (record, up_to) = self.signed_in_record(now, head)?;
        let ask = Ask::EndSessions { resident: record.resident, up_to };
        Ok(Outcome::Ask(
            ask,
            Pending::new(Route::Session, ANSWER_MS_MAX, move |_, answer, reply| {
                answer.done()?;
                reply.inline(204, &[("Set-Cookie", &cookie("", 0, secure))], b"");
                Ok(Outcome::Answered)
            }),
        ))
    }
}

/// The session's cookie (RFC 6265): for our own pages only, out of reach of scripts.
fn cookie(token: &str, age_s: u64, secure: bool) -> String {
    let (name, mark) = if secure { ("__Host-oc", "; Secure") } else { ("oc", "") };
    format!("{name}={token}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{mark}")
}
