//! Ed25519 signing (RFC 8032 §5.1.6) by AWS-LC's own function rather than through its general interface.
//!
//! The general one, which aws-lc-rs calls, takes 80 bytes from the C heap for each signature; this one, none.

use aws_lc_sys::{ED25519_keypair_from_seed, ED25519_sign};
use zeroize::Zeroizing;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// A private key; erased when dropped.
pub struct Signer {
    /// The seed and the public key, as the function wants it. In a place of its own, so that moving leaves no copy.
    private_key: Box<Zeroizing<[u8; 64]>>,
}

impl Signer {
    /// The key of a seed; every 32 bytes are one (RFC 8032 §5.1.5).
    pub fn from_seed(seed: &[u8; 32]) -> Signer {
        let mut private_key = Box::new(Zeroizing::new([0; 64]));
        let mut public_key = [0; 32];
        // SAFETY: the three pointers are good for the 32, 64 and 32 bytes that curve25519.h says, and do not overlap.
        unsafe { ED25519_keypair_from_seed(public_key.as_mut_ptr(), private_key.as_mut_ptr(), seed.as_ptr()) };
        Signer { private_key }
    }

    /// The public key that checks its signatures.
    pub fn public_key(&self) -> [u8; 32] {
        *self.private_key.last_chunk().expect("the second half of 64 bytes")
    }

    /// Signs `message`. The same message always has the same signature.
    /// Panics when AWS-LC fails: its Ed25519 does so for want of memory alone, and this version asks for none.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        let (out, key) = (signature.as_mut_ptr(), self.private_key.as_ptr());
        // SAFETY: the pointers are good for 64 bytes, the message's length and 64 bytes, and do not overlap.
        let done = unsafe { ED25519_sign(out, message.as_ptr(), message.len(), key) };
        assert_eq!(done, 1, "AWS-LC cannot sign");
        signature
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

    fn from_hex<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    #[test]
    fn the_second_vector_of_the_rfc_is_met() {
        let seed = from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let signature: [u8; 64] = from_hex(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        );
        assert_eq!(Signer::from_seed(&seed).sign(&[0x72]), signature);
    }

    #[test]
    fn signatures_are_those_of_the_general_interface() {
        let mut random = fastrand::Rng::with_seed(5);
        for length in 0..300 {
            let seed: [u8; 32] = std::array::from_fn(|_| random.u8(..));
            let message: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
            let signer = Signer::from_seed(&seed);
            assert_eq!(signer.public_key(), pair.public_key().as_ref());
            let signature = signer.sign(&message);
            assert_eq!(signature, pair.sign(&message).as_ref());
            UnparsedPublicKey::new(&ED25519, pair.public_key()).verify(&message, &signature).unwrap();
        }
    }
}
