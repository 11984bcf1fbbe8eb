//! Which path is what, on which listener, with which methods.

use crate::http::head::Method;

/// Which listener a shard serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Residents, scanners, the world.
    Public,
    /// Operators.
    Admin,
}

/// What a path is; also how answers are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Route {
    /// `/person/app/session`
    Session,
    /// `/person/app/refreshQRCode`
    Refresh,
    /// `/.well-known/jwks.json`
    Jwks,
    /// `/`, `/assets/*` and the other files of the pages.
    Page,
    /// `/healthz`
    Health,
    /// `/readyz`
    Ready,
    /// `/metrics`, on the admin listener.
    Metrics,
    /// `/status.json`, on the admin listener.
    Status,
    /// Nothing of ours.
    Unknown,
    /// What could not be read far enough to have a path.
    Unread,
}

impl Route {
    /// How many there are.
    pub const COUNT: usize = 10;
    /// All of them, in the order of their counts.
    pub const ALL: [Route; Route::COUNT] = [
        Route::Session,
        Route::Refresh,
        Route::Jwks,
        Route::Page,
        Route::Health,
        Route::Ready,
        Route::Metrics,
        Route::Status,
        Route::Unknown,
        Route::Unread,
    ];

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
            _ => Route::Unknown,
        }
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Route::Session => "session",
            Route::Refresh => "refresh",
            Route::Jwks => "jwks",
            Route::Page => "page",
            Route::Health => "health",
            Route::Ready => "ready",
            Route::Metrics => "metrics",
            Route::Status => "status",
            Route::Unknown => "unknown",
            Route::Unread => "unread",
        }
    }

    /// The value of `Allow` (RFC 9110 §10.2.1).
    pub fn allow(self) -> &'static str {
        match self {
            Route::Session => "POST, DELETE, OPTIONS",
            Route::Refresh => "GET, HEAD, POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// Whether the route has the method.
    pub fn allows(self, method: Method) -> bool {
        match self {
            Route::Session => matches!(method, Method::Post | Method::Delete | Method::Options),
            Route::Refresh => matches!(method, Method::Get | Method::Head | Method::Post | Method::Options),
            _ => matches!(method, Method::Get | Method::Head | Method::Options),
        }
    }
}
