//! COSE_Sign1 (RFC 9052 §4.2), strictly in the form that ours has; foreign ones are read by [`dcc`](super::dcc).

use std::borrow::Cow;

use minicbor::decode::Error;
use minicbor::encode::Encoder;

use super::cbor::{only_item, pairs};

/// One whose signature nobody has checked.
#[allow(missing_docs, reason = "where the name says it")]
pub struct Sign1<'a> {
    pub protected: Cow<'a, [u8]>,
    pub payload: Cow<'a, [u8]>,
    pub signature: Cow<'a, [u8]>,
    pub alg: i64,
    pub kid: Cow<'a, [u8]>,
}

impl<'a> Sign1<'a> {
    /// Reads tag 18 and an array of four (RFC 9052 §2), with nothing unprotected, and a signature of 64 bytes.
    /// Errors: those of [`only_item`], or it is none of this form.
    pub fn read(bytes: &'a [u8]) -> Result<Sign1<'a>, Error> {
        let mut outer = only_item(bytes)?;
        let framed = outer.tag()?.as_u64() == 18 && outer.array()? == Some(4);
        let protected = outer.bytes()?;
        let bare = outer.map()? == Some(0);
        let (payload, signature) = (outer.bytes()?, outer.bytes()?);
        if !framed || !bare || signature.len() != 64 {
            return Err(Error::message("not of our profile"));
        }
        let (alg, kid) = read_protected(protected)?;
        let (protected, payload, signature) = (protected.into(), payload.into(), signature.into());
        Ok(Sign1 { protected, payload, signature, alg, kid: kid.into() })
    }

    /// What is signed: its Sig_structure without external data (RFC 9052 §4.4).
    pub fn signed(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::with_capacity(self.protected.len() + self.payload.len() + 32));
        let parts = encoder
            .array(4)
            .and_then(|parts| parts.str("Signature1")?.bytes(&self.protected)?.bytes(b"")?.bytes(&self.payload));
        parts.expect("a vector takes all");
        encoder.into_writer()
    }
}

/// The algorithm and the key id of a protected header. Other parameters are passed over, but `crit` (2) names some that
/// must be understood, and none is (RFC 9052 §3.1).
fn read_protected(protected: &[u8]) -> Result<(i64, &[u8]), Error> {
    let (mut alg, mut kid) = (None, None);
    pairs(protected, |key, mut value| {
        match key {
            [0x01] => alg = Some(value.i64()?),
            [0x02] => return Err(Error::message("a critical parameter")),
            [0x04] => kid = Some(value.bytes()?),
            _ => {}
        }
        Ok(())
    })?;
    alg.zip(kid).ok_or(Error::message("no algorithm, or no key id"))
}
