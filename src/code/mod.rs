//! Codes: what is in them, how they are signed, drawn and checked, and the keys for it.
//!
//! Everything here is a function of its arguments: time is one, in Unix seconds, and randomness a function handed in.
//! The one file, the keyring, is touched only by the commands and at start, never by a request.
//!
//! The way of a refresh through this room: [`window`] gives the times, [`claims`] the signed text, [`qr`] the matrix,
//! [`payload`] the response body. The way of a check is [`verify`] alone.
#![forbid(unsafe_code)]

pub mod base45;
pub mod cbor;
pub mod claims;
pub mod cose;
pub mod dcc;
pub mod keyring;
pub mod payload;
pub mod qr;
pub mod sealed;
pub mod trust;
pub mod verify;
pub mod window;
