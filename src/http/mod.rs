//! HTTP/1.1 as bytes in and bytes out.
//!
//! Owns the grammar of a request (head and body) and the shape of an answer's head. Opens no socket, reads no clock,
//! keeps nothing between requests but two small resumable states ([`head::Scan`] and [`body::Body`]), and knows no
//! route. The shard calls it: `head::parse` until there is a head, `body::Body::decode` until the body is whole, then
//! the service writes its answer into a [`response::ResponseBuffer`].
//!
//! One strict grammar, no lenient switch. What is refused closes the connection, because after a framing error nobody
//! knows where the next request starts (RFC 9112 §6.3). The same bytes give the same result however they arrive:
//! whole, split anywhere, or one at a time.

#![forbid(unsafe_code)]

pub mod body;
pub mod date;
pub mod field;
mod grammar;
pub mod head;
pub mod negotiate;
pub mod response;
#[cfg(test)]
mod tests;
