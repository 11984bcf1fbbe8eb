//! HTTP/1.1 and TLS as bytes in and bytes out.
//!
//! Owns the grammar of a request (head and body) and the shape of an answer's head. Opens no socket, reads no clock,
//! keeps nothing between pieces of a request but one small resumable state ([`body::Body`]), and knows no route. The
//! shard calls `head::parse` and `body::Body::decode`; the service answers into a [`response::ResponseBuffer`].
//!
//! One strict grammar, no lenient switch. What is refused closes the connection, because after a framing error nobody
//! knows where the next request starts (RFC 9112 §6.3). The same bytes give the same result however they arrive:
//! whole, split anywhere, or one at a time.

#![forbid(unsafe_code)]

/// Makes an error of its reasons, `Variant status "word" "detail";` a line.
macro_rules! refusals {
    ($(#[$about:meta])* $error:ident $($variant:ident $status:literal $word:literal $detail:literal;)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $error { $(#[doc = $detail] $variant,)* }

        impl $error {
            /// The status to answer with, a short stable word for the problem's type, and a sentence for a person.
            pub const fn told(self) -> (u16, &'static str, &'static str) {
                match self { $($error::$variant => ($status, $word, $detail),)* }
            }
        }
    };
}

pub mod body;
pub mod date;
pub mod field;
mod grammar;
pub mod head;
pub mod negotiate;
pub mod proxy;
pub mod response;
#[cfg(test)]
mod tests;
pub mod tls;
