//! Which path is what, on which listener, with which methods.

use strum::{EnumCount, IntoStaticStr, VariantArray};

use crate::admission::Class;
use crate::http::head::Method::{self, Delete, Get, Head, Options, Post};

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

/// The methods of a path, and the value of `Allow` that names them (RFC 9110 §10.2.1).
type Methods = (&'static [Method], &'static str);

const READ: Methods = (&[Get, Head, Options], "GET, HEAD, OPTIONS");
const POST: Methods = (&[Post, Options], "POST, OPTIONS");
const DELETE: Methods = (&[Delete, Options], "DELETE, OPTIONS");
const SESSION: Methods = (&[Post, Delete, Options], "POST, DELETE, OPTIONS");
const REFRESH: Methods = (&[Get, Head, Post, Options], "GET, HEAD, POST, OPTIONS");

/// Makes [`Route`] of lines `NAME CLASS METHODS LISTENER PATH;`; the last two where it has one path.
macro_rules! routes {
    ($($(#[$doc:meta])* $name:ident $class:ident $methods:ident $($role:pat, $path:literal)?;)*) => {
        /// What a path is; also how answers are counted, and named in metrics.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, EnumCount, IntoStaticStr, VariantArray)]
        #[repr(u8)]
        #[strum(serialize_all = "snake_case")]
        #[allow(missing_docs, reason = "the names say it")]
        pub enum Route { $($(#[$doc])* $name,)* }

        impl Route {
            /// The route of a path. Pages are found by the caller, who has them.
            pub fn of(role: Role, path: &str) -> Route {
                match (role, path) {
                    $($(($role, $path) => Route::$name,)?)*
                    _ => Route::Unknown,
                }
            }

            /// How early it is shed.
            pub fn class(self) -> Class {
                match self { $(Route::$name => Class::$class,)* }
            }

            /// Its methods, and how they are named.
            pub fn methods(self) -> Methods {
                match self { $(Route::$name => $methods,)* }
            }
        }
    };
}

routes! {
    Session Session SESSION Role::Public, "/person/app/session";
    Refresh Refresh REFRESH Role::Public, "/person/app/refreshQRCode";
    Jwks Page READ Role::Public, "/.well-known/jwks.json";
    /// `/`, `/assets/*` and the other files of the pages.
    Page Page READ;
    Health Health READ _, "/healthz";
    Ready Health READ _, "/readyz";
    Metrics Page READ Role::Admin, "/metrics";
    Status Page READ Role::Admin, "/status.json";
    ScanVerify Verdict POST Role::Public, "/scan/verify";
    ScanRecords Verdict POST Role::Public, "/scan/records";
    Residents Page POST Role::Admin, "/admin/residents";
    Lookup Page POST Role::Admin, "/admin/residents/lookup";
    TestData Page DELETE Role::Admin, "/admin/test-data";
    Audit Page READ Role::Admin, "/admin/audit";
    /// Anything, on the plain listener beside TLS.
    Redirect Page READ;
    /// Nothing of ours.
    Unknown Page READ;
    /// What could not be read far enough to have a path.
    Unread Page READ;
}
