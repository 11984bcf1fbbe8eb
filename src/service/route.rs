//! Which path is what, on which listener, with which methods.

use strum::{EnumCount, IntoStaticStr, VariantArray};

use crate::admission::Class;
use crate::http::head::Method;

/// Which listener a shard serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Residents, scanners, the world.
    Public,
    /// Operators.
    Admin,
    /// Who came without TLS.
    Redirect,
}

/// What a path is; also how answers are counted, and named in metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, EnumCount, IntoStaticStr, VariantArray)]
#[repr(u8)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Route {
    Session,
    Refresh,
    Jwks,
    /// `/`, `/assets/*` and the other files of the pages.
    Page,
    Health,
    Ready,
    Metrics,
    Status,
    ScanVerify,
    ScanRecords,
    Residents,
    Lookup,
    TestData,
    Audit,
    /// Anything, on the plain listener beside TLS.
    Redirect,
    /// Nothing of ours.
    Unknown,
    /// What could not be read far enough to have a path.
    Unread,
}

impl Route {
    /// The route of a path. Pages are found by the caller, who has them.
    pub fn of(role: Role, path: &str) -> Route {
        match (role, path) {
            (Role::Public, "/person/app/refreshQRCode") => Route::Refresh,
            (Role::Public, "/person/app/session") => Route::Session,
            (Role::Public, "/.well-known/jwks.json") => Route::Jwks,
            (_, "/healthz") => Route::Health,
            (_, "/readyz") => Route::Ready,
            (Role::Admin, "/metrics") => Route::Metrics,
            (Role::Admin, "/status.json") => Route::Status,
            (Role::Public, "/scan/verify") => Route::ScanVerify,
            (Role::Public, "/scan/records") => Route::ScanRecords,
            (Role::Admin, "/admin/residents") => Route::Residents,
            (Role::Admin, "/admin/residents/lookup") => Route::Lookup,
            (Role::Admin, "/admin/test-data") => Route::TestData,
            (Role::Admin, "/admin/audit") => Route::Audit,
            _ => Route::Unknown,
        }
    }

    /// How early it is shed.
    pub fn class(self) -> Class {
        match self {
            Route::Session => Class::Session,
            Route::Refresh => Class::Refresh,
            Route::ScanVerify | Route::ScanRecords => Class::Verdict,
            Route::Health | Route::Ready => Class::Health,
            _ => Class::Page,
        }
    }

    /// Its methods, and the value of `Allow` that names them (RFC 9110 §10.2.1).
    pub fn methods(self) -> (&'static [Method], &'static str) {
        use Method::{Delete, Get, Head, Options, Post};
        match self {
            Route::Session => (&[Post, Delete, Options], "POST, DELETE, OPTIONS"),
            Route::Refresh => (&[Get, Head, Post, Options], "GET, HEAD, POST, OPTIONS"),
            Route::ScanVerify | Route::ScanRecords | Route::Residents | Route::Lookup => {
                (&[Post, Options], "POST, OPTIONS")
            }
            Route::TestData => (&[Delete, Options], "DELETE, OPTIONS"),
            _ => (&[Get, Head, Options], "GET, HEAD, OPTIONS"),
        }
    }
}
