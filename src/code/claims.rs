//! What a code says, and its issuing: claims → CWT → COSE_Sign1 → Base45 → `OC1:…`.
//!
//! A code is a pure function of its request and the keyring. For each signing key the bytes that never change are laid
//! out once; issuing patches four fields, signs and encodes, into fixed arrays and without a CBOR library.
//!
//! The layout, for an issuer of n bytes (133 bytes for `CN-610100`):
//!
//! | offset | content |
//! |---|---|
//! | 0 | `d2 84`: tag 18, array of 4 |
//! | 2 | `4d a2 01 27 04 48` kid: protected header, alg -8 and the key id |
//! | 16 | `a0`: empty unprotected header |
//! | 17 | `58` length `a5`: payload, map of 5 |
//! | 20 | `01` iss · `04 1a` exp · `06 1a` iat · `07 50` cti · `3a 00 01 00 00` status |
//! | 58 + n | `58 40` and the Ed25519 signature |

use aes::Aes128;
use aes::cipher::{Block, BlockDecrypt, BlockEncrypt, KeyInit};

use super::base45;
use super::keyring::{Env, Keyring, SigningKey};
use super::qr::{Painter, SYMBOL_CHARS_MAX, Symbol};
use crate::limits::ISSUER_BYTES_MAX;
use crate::sys::ed25519::{SIGNATURE_BYTES, Signer};
use crate::words::{ResidentNumber, Status};

/// The region of a server that is not told another: Xi'an, as GB/T 2260 numbers it.
pub const DEFAULT_ISSUER: &str = "CN-610100";
/// What every text of ours begins with.
pub const PREFIX: &[u8; 4] = b"OC1:";
/// The longest code: what its symbol holds.
pub const CODE_CHARS_MAX: usize = SYMBOL_CHARS_MAX;

/// RFC 9052 §4.4: an array of 4, the context; then the protected header, no external data, the payload.
const SIGNED_HEAD: &[u8; 12] = b"\x84\x6aSignature1";
/// The payload behind the issuer's name, with zeros in the variable fields.
const FIELDS: [u8; 36] = *b"\x04\x1a\0\0\0\0\x06\x1a\0\0\0\0\x07\x50\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x3a\0\x01\0\0\0";
/// Where a code begins in a template, and where the byte is that tells it from what is signed.
const CODE: usize = SIGNED_HEAD.len() - 2;
const UNPROTECTED: usize = SIGNED_HEAD.len() + 14;
/// A template's bytes before the issuer's name, and all without it.
const NAME: usize = UNPROTECTED + 6;
const TEMPLATE_BYTES: usize = NAME + FIELDS.len() + 2 + SIGNATURE_BYTES;
const TEMPLATE_BYTES_MAX: usize = TEMPLATE_BYTES + ISSUER_BYTES_MAX;

const _: () = assert!(PREFIX.len() + base45::encoded_len(TEMPLATE_BYTES_MAX - CODE) <= CODE_CHARS_MAX);

/// Where the variable fields stand, counted from the first byte of exp's key.
const EXP: usize = 2;
const IAT: usize = 8;
const CTI: usize = 14;
const STATUS: usize = 35;

/// What a code is to say.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct CodeRequest {
    pub resident: ResidentNumber,
    /// The version of the status: another version makes another `cti`.
    pub version: u64,
    pub status: Status,
    /// The window's start, in Unix seconds; from 65,536 on, since a smaller number has a shorter form in CBOR.
    pub iat: u32,
    /// The end of its life, in Unix seconds; from 65,536 on.
    pub exp: u32,
    pub test: bool,
}

/// A code, in place: its text, and the same as the data of its symbol.
#[derive(Clone, Copy)]
pub struct CodeBuffer {
    /// Invariant: the first `length` bytes are ASCII.
    text: [u8; CODE_CHARS_MAX],
    length: usize,
    /// The data of its symbol.
    pub symbol: Symbol,
}

#[allow(missing_docs, reason = "where the name says it")]
impl CodeBuffer {
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("the prefix and Base45 are ASCII")
    }
}

/// A buffer with no code in it.
impl Default for CodeBuffer {
    fn default() -> CodeBuffer {
        CodeBuffer { text: [0; CODE_CHARS_MAX], length: 0, symbol: Symbol::blank() }
    }
}

/// Signs codes in the name of one region.
pub struct Issuer {
    /// The key of `cti`, scheduled once.
    cti: Aes128,
    /// Invariant: each has a template, the newest first.
    prod: Vec<Template>,
    test: Vec<Template>,
}

impl Issuer {
    /// Prepares every usable key of `keyring` to sign as `issuer`.
    /// Errors: the name cannot stand in a code, or an environment has no key that is not revoked.
    pub fn new(keyring: &Keyring, issuer: &str) -> Result<Issuer, String> {
        // RFC 8392 §2 makes a text with a colon a URI; a region code is none, and nothing else needs quoting anywhere.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !(1..=ISSUER_BYTES_MAX).contains(&issuer.len()) || !issuer.bytes().all(allowed) {
            return Err(format!(
                "an issuer is 1 to {ISSUER_BYTES_MAX} letters, digits, '-', '.' or '_', such as {DEFAULT_ISSUER}"
            ));
        }
        let templates = |env: Env| {
            let usable = |key: &&SigningKey| key.env == env && key.revoked.is_none();
            let mut keys: Vec<_> = keyring.signing_keys.iter().filter(usable).collect();
            keys.sort_by_key(|key| std::cmp::Reverse(key.age()));
            if keys.is_empty() {
                return Err(format!("no {env} key is left to sign with: run `onecode keys generate`"));
            }
            Ok(keys.into_iter().map(|key| Template::new(key, issuer)).collect())
        };
        Ok(Issuer {
            cti: Aes128::new(keyring.cti_key.expose().into()),
            prod: templates(Env::Prod)?,
            test: templates(Env::Test)?,
        })
    }

    /// The signature of the code that `request` asks for, which is nearly all the time that a code takes.
    pub fn sign(&self, request: &CodeRequest) -> [u8; SIGNATURE_BYTES] {
        let template = self.template(request);
        template.signer.sign(&self.fill(template, request)[..NAME + template.issuer_bytes + FIELDS.len()])
    }

    /// Writes the code that `request` asks for, whose signature is [`sign`](Self::sign)'s of the same request.
    pub fn write(&self, request: &CodeRequest, signature: &[u8; SIGNATURE_BYTES], out: &mut CodeBuffer) {
        let template = self.template(request);
        let (mut code, end) = (Template::code_of(self.fill(template, request)), CODE + template.code_bytes());
        code[end - SIGNATURE_BYTES..end].copy_from_slice(signature);
        *out = template.begun;
        let text = &mut out.text[template.begun.length..];
        out.length += out.symbol.push_base45(&code[CODE + constant_bytes(template.issuer_bytes)..end], text);
        out.symbol.close();
    }

    fn template(&self, request: &CodeRequest) -> &Template {
        let templates = if request.test { &self.test } else { &self.prod };
        // As Keyring::active; with a clock set back before every key the oldest signs, rather than nobody.
        let begun = templates.iter().find(|template| template.not_before <= u64::from(request.iat));
        begun.unwrap_or(&templates[templates.len() - 1])
    }

    /// What is to be signed.
    fn fill(&self, template: &Template, request: &CodeRequest) -> [u8; TEMPLATE_BYTES_MAX] {
        let mut bytes = template.bytes;
        let fields = &mut bytes[NAME + template.issuer_bytes..];
        fields[EXP..EXP + 4].copy_from_slice(&request.exp.to_be_bytes());
        fields[IAT..IAT + 4].copy_from_slice(&request.iat.to_be_bytes());
        fields[CTI..CTI + 16].copy_from_slice(&self.seal_cti(request));
        fields[STATUS] = request.status as u8;
        bytes
    }

    /// Whose code it is, by its `cti`. Only of a code whose signature was verified: the block itself proves nothing.
    pub fn open_cti(&self, cti: &[u8; 16]) -> OpenedCti {
        let mut block = Block::<Aes128>::from(*cti);
        self.cti.decrypt_block(&mut block);
        let words = u128::from_be_bytes(block.into());
        let (resident, iat) = (ResidentNumber((words >> 64) as u64), (words >> 32) as u32);
        OpenedCti { resident, iat, version_low: words as u32 }
    }

    fn seal_cti(&self, request: &CodeRequest) -> [u8; 16] {
        let version_low = request.version as u32;
        let words = u128::from(request.resident.0) << 64 | u128::from(request.iat) << 32 | u128::from(version_low);
        let mut block = Block::<Aes128>::from(words.to_be_bytes());
        self.cti.encrypt_block(&mut block);
        block.into()
    }
}

/// One key's constant bytes.
struct Template {
    signer: Signer,
    not_before: u64,
    issuer_bytes: usize,
    /// What is signed, and behind it the signature's head and room for it; with gaps for the variable fields. The code
    /// is the same from [`CODE`] on but for three bytes.
    bytes: [u8; TEMPLATE_BYTES_MAX],
    /// Text and symbol of the constant bytes at the start, as far as they fill pairs of groups of Base45.
    begun: CodeBuffer,
}

impl Template {
    fn new(key: &SigningKey, issuer: &str) -> Template {
        // At most 53 and 14, so each length is one byte and the name's head is one as well.
        let length = u8::try_from(issuer.len()).expect("a checked name has at most 14 bytes");
        let content = [
            &SIGNED_HEAD[..],
            &[0x4d, 0xa2, 0x01, 0x27, 0x04, 0x48],
            &key.kid.0,
            &[0x40, 0x58, length + 39, 0xa5, 0x01, 0x60 + length],
            issuer.as_bytes(),
            &FIELDS,
            &[0x58, 0x40],
        ]
        .concat();
        let mut bytes = [0; TEMPLATE_BYTES_MAX];
        bytes[..content.len()].copy_from_slice(&content);
        let (signer, begun) = (key.signer(), CodeBuffer::default());
        let mut template = Template { signer, not_before: key.not_before, issuer_bytes: issuer.len(), bytes, begun };
        let code = Template::code_of(bytes);
        let chars = PREFIX.len() + base45::encoded_len(template.code_bytes());
        let begun = &mut template.begun;
        begun.symbol = Symbol::begin(chars);
        begun.symbol.push_text(PREFIX).expect("the prefix is alphanumeric");
        begun.text[..PREFIX.len()].copy_from_slice(PREFIX);
        let constant = &code[CODE..][..constant_bytes(issuer.len())];
        begun.length = PREFIX.len() + begun.symbol.push_base45(constant, &mut begun.text[PREFIX.len()..]);
        Painter::default().settle(&mut begun.symbol, chars);
        template
    }

    const fn code_bytes(&self) -> usize {
        TEMPLATE_BYTES - CODE + self.issuer_bytes
    }

    /// The code of what is to be signed: its tag and array, and an empty unprotected header.
    fn code_of(mut bytes: [u8; TEMPLATE_BYTES_MAX]) -> [u8; TEMPLATE_BYTES_MAX] {
        bytes[CODE..CODE + 2].copy_from_slice(&[0xd2, 0x84]);
        bytes[UNPROTECTED] = 0xa0;
        bytes
    }
}

/// A code's constant bytes at the start, up to exp's value, rounded down so that an even number of characters stands
/// for them: a symbol takes its characters in pairs.
const fn constant_bytes(issuer_bytes: usize) -> usize {
    (NAME - CODE + issuer_bytes + EXP) & !3
}

/// What the server put into a `cti`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct OpenedCti {
    pub resident: ResidentNumber,
    pub iat: u32,
    pub version_low: u32,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::code::keyring::tests::{counting_random, keyring};
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use coset::{CborSerializable, TaggedCborSerializable};

    const NOW: u32 = 1_780_000_000;
    const REQUEST: CodeRequest = CodeRequest {
        resident: ResidentNumber(0x0123_4567_89ab_cdef),
        version: 0x1_0000_0007,
        status: Status::Green,
        iat: NOW,
        exp: NOW + 120,
        test: false,
    };

    /// A code of one of many residents, under new keys.
    pub(in crate::code) fn some_code(resident: u64) -> CodeBuffer {
        let issuer = Issuer::new(&keyring(), DEFAULT_ISSUER).unwrap();
        issued(&issuer, &CodeRequest { resident: ResidentNumber(resident), ..REQUEST })
    }

    /// A code of each length that an issuer can have.
    pub(in crate::code) fn issued_by_every_length(resident: u64) -> Vec<CodeBuffer> {
        let keyring = keyring();
        let request = CodeRequest { resident: ResidentNumber(resident), test: resident % 2 == 1, ..REQUEST };
        let names = (1..=ISSUER_BYTES_MAX).map(|length| &"CN-610100.ABCDEFGHIJ"[..length]);
        names.map(|name| issued(&Issuer::new(&keyring, name).unwrap(), &request)).collect()
    }

    fn issued(issuer: &Issuer, request: &CodeRequest) -> CodeBuffer {
        let mut code = CodeBuffer::default();
        issuer.write(request, &issuer.sign(request), &mut code);
        code
    }

    /// The length of every code of this issuer.
    fn code_chars(issuer: &Issuer) -> usize {
        PREFIX.len() + base45::encoded_len(issuer.prod[0].code_bytes())
    }

    fn bytes(code: &CodeBuffer) -> Vec<u8> {
        let mut bytes = [0; TEMPLATE_BYTES_MAX];
        let length = base45::decode(&code.as_bytes()[PREFIX.len()..], &mut bytes).unwrap();
        bytes[..length].to_vec()
    }

    #[test]
    fn the_bytes_are_those_of_the_byte_map() {
        let keyring = keyring();
        let issuer = Issuer::new(&keyring, DEFAULT_ISSUER).unwrap();
        let code = issued(&issuer, &REQUEST);
        assert_eq!((code.as_str().len(), code_chars(&issuer)), (204, 204));
        assert!(code.as_str().starts_with("OC1:RRQT 9P60GO0"));
        let bytes = bytes(&code);
        assert_eq!(bytes.len(), 133);
        assert_eq!(bytes[..8], [0xd2, 0x84, 0x4d, 0xa2, 0x01, 0x27, 0x04, 0x48]);
        assert_eq!(bytes[8..16], keyring.active(u64::from(NOW), Env::Prod).unwrap().kid.0);
        assert_eq!(bytes[16..22], [0xa0, 0x58, 0x30, 0xa5, 0x01, 0x69]);
        assert_eq!(&bytes[22..31], b"CN-610100");
        assert_eq!(bytes[31..33], [0x04, 0x1a]);
        assert_eq!(bytes[33..37], (NOW + 120).to_be_bytes());
        assert_eq!(bytes[37..39], [0x06, 0x1a]);
        assert_eq!(bytes[39..43], NOW.to_be_bytes());
        assert_eq!(bytes[43..45], [0x07, 0x50]);
        assert_eq!(bytes[61..69], [0x3a, 0x00, 0x01, 0x00, 0x00, 0x01, 0x58, 0x40]);
    }

    #[test]
    fn a_strangers_library_reads_every_length_of_issuer() {
        let keyring = keyring();
        for (length, test) in (1..=ISSUER_BYTES_MAX).zip([true, false].into_iter().cycle()) {
            let name = &"CN-610100.ABCDEFGHIJ"[..length];
            let issuer = Issuer::new(&keyring, name).unwrap();
            let code = issued(&issuer, &CodeRequest { test, ..REQUEST });
            assert_eq!(code.as_str().len(), code_chars(&issuer));
            let sign1 = coset::CoseSign1::from_tagged_slice(&bytes(&code)).unwrap();
            let key = keyring.active(u64::from(NOW), if test { Env::Test } else { Env::Prod }).unwrap();
            assert_eq!(sign1.protected.header.key_id, key.kid.0);
            let public_key = UnparsedPublicKey::new(&ED25519, key.public_key());
            sign1.verify_signature(b"", |signature, signed| public_key.verify(signed, signature)).unwrap();
            let claims = coset::cwt::ClaimsSet::from_slice(&sign1.payload.unwrap()).unwrap();
            assert_eq!(claims.issuer.as_deref(), Some(name));
            assert_eq!(claims.issued_at, Some(coset::cwt::Timestamp::WholeSeconds(i64::from(NOW))));
            assert_eq!(claims.expiration_time, Some(coset::cwt::Timestamp::WholeSeconds(i64::from(NOW) + 120)));
            assert_eq!(claims.rest.len(), 1);
            let opened = issuer.open_cti(&claims.cwt_id.unwrap().try_into().unwrap());
            assert_eq!(opened, OpenedCti { resident: REQUEST.resident, iat: NOW, version_low: 7 });
        }
    }

    #[test]
    fn the_same_request_makes_the_same_code_after_a_restart() {
        let keyring = keyring();
        let again = Keyring::from_json(&keyring.to_json()).unwrap();
        let code = issued(&Issuer::new(&keyring, DEFAULT_ISSUER).unwrap(), &REQUEST);
        assert_eq!(code.as_str(), issued(&Issuer::new(&again, DEFAULT_ISSUER).unwrap(), &REQUEST).as_str());
    }

    #[test]
    fn each_part_of_the_request_changes_the_code() {
        let issuer = Issuer::new(&keyring(), DEFAULT_ISSUER).unwrap();
        let others = [
            REQUEST,
            CodeRequest { resident: ResidentNumber(1), ..REQUEST },
            CodeRequest { version: 8, ..REQUEST },
            CodeRequest { status: Status::Red, ..REQUEST },
            CodeRequest { iat: NOW + 45, ..REQUEST },
            CodeRequest { exp: NOW + 240, ..REQUEST },
            CodeRequest { test: true, ..REQUEST },
        ];
        let codes: std::collections::HashSet<_> =
            others.iter().map(|request| issued(&issuer, request).as_str().to_owned()).collect();
        assert_eq!(codes.len(), others.len());
        assert!(codes.iter().all(|code| code.len() == 204), "the length tells nothing");
    }

    #[test]
    fn the_newest_key_begun_by_iat_signs() {
        let mut keyring = keyring();
        let next = keyring.rotate_signing(u64::from(NOW), 45, counting_random);
        let issuer = Issuer::new(&keyring, DEFAULT_ISSUER).unwrap();
        assert_ne!(bytes(&issued(&issuer, &CodeRequest { iat: NOW + 44, ..REQUEST }))[8..16], next.0);
        assert_eq!(bytes(&issued(&issuer, &CodeRequest { iat: NOW + 45, ..REQUEST }))[8..16], next.0);
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        for name in ["", "CN-610100-ABCDE", "CN 610100", "CN\"", "a:b", "陕西"] {
            assert!(Issuer::new(&keyring(), name).is_err_and(|error| error.starts_with("an issuer is 1 to")), "{name}");
        }
    }
}
