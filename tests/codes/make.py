#!/usr/bin/env python3
"""Makes cases.json: texts, a time and a list of keys, and what each is worth. Every verifier of ours is held against it.

It shares nothing with the Rust code: CBOR is written by hand here (some of it wrong on purpose), signatures are those of
`cryptography` (tests/interop/requirements.txt). Keys are new each time: python3 tests/codes/make.py > tests/codes/cases.json
"""
import base64
import datetime
import json
import struct
import zlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
NOW = 1_780_000_000
HOUR = 3_600


class Raw(bytes):
    """CBOR that is already encoded."""


class Tag:
    def __init__(self, number, item):
        self.number, self.item = number, item


class Pairs(list):
    """A map whose keys stand in this order, perhaps twice."""


def head(major, n):
    for info, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 24:
            return bytes([major << 5 | n])
        if n < 1 << 8 * width:
            return bytes([major << 5 | info]) + n.to_bytes(width, "big")


def cbor(x):
    if isinstance(x, Raw):
        return bytes(x)
    if x is None:
        return b"\xf6"
    if isinstance(x, int):
        return head(0, x) if x >= 0 else head(1, -1 - x)
    if isinstance(x, bytes):
        return head(2, len(x)) + x
    if isinstance(x, str):
        return head(3, len(x.encode())) + x.encode()
    if isinstance(x, Tag):
        return head(6, x.number) + cbor(x.item)
    if isinstance(x, Pairs):
        return head(5, len(x)) + b"".join(cbor(k) + cbor(v) for k, v in x)
    if isinstance(x, dict):
        return cbor(Pairs(x.items()))
    return head(4, len(x)) + b"".join(map(cbor, x))


def long_map(d):
    return Raw(b"\xbf" + b"".join(cbor(k) + cbor(v) for k, v in d.items()) + b"\xff")


def chunks(data):
    return Raw(b"\x5f" + cbor(data[:5]) + cbor(data[5:]) + b"\xff")


def base45(data):
    out = ""
    for i in range(0, len(data), 2):
        n = int.from_bytes(data[i : i + 2], "big")
        for _ in range(3 if i + 1 < len(data) else 2):
            out += ALPHABET[n % 45]
            n //= 45
    return out


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(n, width=None):
    return b64(n.to_bytes(width or (n.bit_length() + 7) // 8, "big"))


OURS = ed25519.Ed25519PrivateKey.generate()
P256 = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
RSA = rsa.generate_private_key(65537, 2048)
OURS_KID, KID, OTHER_KID, RSA_KID = b"ourkey01", b"dcckey01", b"dcckey02", b"rsakey01"


def ed(data):
    return OURS.sign(data)


def es(key):
    def sign(data):
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def der(data):
    return P256[0].sign(data, ec.ECDSA(hashes.SHA256()))


def ps(data):
    return RSA.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


def sign1(sign, protected, payload, unprotected=None, tag=lambda x: Tag(18, x), wrap=lambda x: x):
    signature = sign(cbor(["Signature1", protected, b"", payload]))
    return cbor(tag([wrap(protected), unprotected or {}, wrap(payload), wrap(signature)]))


def hc1(data):
    return "HC1:" + base45(zlib.compress(data))


def day(hours):
    return (datetime.datetime.fromtimestamp(NOW, datetime.UTC) - datetime.timedelta(hours=hours)).isoformat()


VACCINATION = {"co": "XA", "dn": 2, "sd": 2, "dt": day(500)[:10], "ci": "URN:UVCI:01:XA:1"}
TEST = {"co": "XA", "tt": "LP6464-4", "tr": "260415000", "sc": day(20)}
RECOVERY = {"co": "XA", "fr": day(24 * 30)[:10]}
NAME = {"fnt": "DOE", "gnt": "JO"}


def health(kind="v", stated=None, **more):
    return {kind: [stated or VACCINATION], "dob": "1970-01-01", "nam": NAME, "ver": "1.3.0", **more}


def claims(hcert=None, iss="XA", exp=NOW + 1000, iat=NOW - 1000, **more):
    named = {1: iss} if iss else {}
    return {**named, 4: exp, 6: iat, **more, -260: {1: hcert or health()}}


ES = cbor({1: -7, 4: KID})


def dcc(payload=None, protected=ES, sign=None, encode=cbor, **options):
    body = encode(claims() if payload is None else payload)
    return hc1(sign1(sign or es(P256[0]), protected, bytes(body), **options))


def stated(kind, entry, **changes):
    return dcc(claims(health(kind, {**entry, **changes})))


def own(protected=cbor({1: -8, 4: OURS_KID}), exp=NOW + 60, iat=NOW - 60, status=1, iss="CN-610100"):
    payload = cbor({1: iss, 4: exp, 6: iat, 7: bytes(16), -65537: status})
    return "OC1:" + base45(sign1(ed, protected, payload))


def flipped(text):
    last = text[-4]
    return text[:-4] + ("1" if last != "1" else "2") + text[-3:]


def cases():
    good = sign1(es(P256[0]), ES, cbor(claims()))
    empty = health()
    del empty["v"]
    yield "ours", own(), "valid", "green"
    yield "ours, ended", own(exp=NOW - 61), "expired", "green"
    yield "ours, within the leeway", own(exp=NOW - 59), "valid", "green"
    yield "ours, too early", own(iat=NOW + 61, exp=NOW + 200), "not_yet_valid", "green"
    yield "ours, of an unknown issuer", own(iss="CN-500000"), "unknown_issuer"
    yield "ours, under the number of ES256", own(cbor({1: -7, 4: OURS_KID})), "bad_signature"
    yield "ours, cut", own()[:-3], "malformed"
    yield "ours, keys out of order", own(cbor(Pairs([(4, OURS_KID), (1, -8)]))), "malformed"
    yield "ours, of a foreign issuer", own(iss="XA"), "unknown_issuer"
    yield "nothing", "", "malformed"
    yield "no prefix", own()[4:], "malformed"
    yield "another prefix", "HC2:" + dcc()[4:], "malformed"

    yield "ES256", dcc(), "valid", "green"
    yield "ESP256", dcc(protected=cbor({1: -9, 4: KID})), "valid", "green"
    yield "PS256", dcc(protected=cbor({1: -37, 4: RSA_KID}), sign=ps), "valid", "green"
    yield "key id not protected", dcc(protected=cbor({1: -7}), unprotected={4: KID}), "valid", "green"
    yield "protected key id wins", dcc(unprotected={4: b"another1"}), "valid", "green"
    yield "protected key id wins, and is unknown", dcc(protected=cbor({1: -7, 4: b"another1"}), unprotected={4: KID}), "unknown_issuer"
    yield "no key id", dcc(protected=cbor({1: -7})), "malformed"
    yield "no algorithm", dcc(protected=cbor({4: KID})), "malformed"
    yield "a critical parameter", dcc(protected=cbor({1: -7, 2: [4], 4: KID})), "malformed"
    yield "no tag", dcc(tag=lambda x: x), "valid", "green"
    yield "a CWT", dcc(tag=lambda x: Tag(61, Tag(18, x))), "valid", "green"
    yield "a CWT of no tag", dcc(tag=lambda x: Tag(61, x)), "valid", "green"
    yield "the tag of COSE_Sign", dcc(tag=lambda x: Tag(98, x)), "malformed"
    yield "tags the wrong way round", dcc(tag=lambda x: Tag(18, Tag(61, x))), "malformed"
    yield "the second key of one id", dcc(sign=es(P256[1])), "valid", "green"
    yield "a key of nobody", dcc(sign=es(ec.generate_private_key(ec.SECP256R1()))), "bad_signature"
    yield "the key of another issuer", dcc(protected=cbor({1: -7, 4: OTHER_KID}), sign=es(P256[2])), "unknown_issuer"
    yield "another issuer's", dcc(claims(iss="XB"), protected=cbor({1: -7, 4: OTHER_KID}), sign=es(P256[2])), "valid", "green"
    yield "ES256 under the number of PS256", dcc(protected=cbor({1: -37, 4: KID})), "bad_signature"
    yield "the number of Ed25519", dcc(protected=cbor({1: -8, 4: KID})), "bad_signature"
    yield "a signature in DER", dcc(sign=der), "bad_signature"
    yield "an empty signature", dcc(sign=lambda data: b""), "bad_signature"
    yield "our prefix on theirs", "OC1:" + base45(good), "malformed"
    yield "their prefix on ours", hc1(sign1(ed, cbor({1: -8, 4: OURS_KID}), cbor(claims(iss="CN-610100")))), "unknown_issuer"

    yield "no issuer: the country", dcc(claims(iss=None)), "valid", "green"
    yield "no issuer and no statement", dcc(claims(empty, iss=None)), "malformed"
    yield "an issuer without a statement", dcc(claims(empty)), "valid", "unknown"
    yield "ended", dcc(claims(exp=NOW - 60)), "expired", "green"
    yield "within the leeway", dcc(claims(exp=NOW - 59)), "valid", "green"
    yield "too early", dcc(claims(iat=NOW + 61)), "not_yet_valid", "green"
    yield "too early by nbf", dcc(claims(**{}) | {5: NOW + 61}), "not_yet_valid", "green"
    yield "before the key", dcc(claims(iat=NOW - 200_000)), "bad_signature"
    yield "no end", dcc({k: v for k, v in claims().items() if k != 4}), "malformed"
    yield "no certificate", dcc({1: "XA", 4: NOW + 9, 6: NOW - 9}), "malformed"
    yield "times with a fraction", dcc(claims(exp=Raw(b"\xfb" + struct.pack(">d", NOW + 9.5)))), "valid", "green"
    yield "times with a tag", dcc(claims(iat=Tag(1, NOW - 9))), "valid", "green"

    yield "maps of no length", dcc(encode=lambda x: long_map({**x, -260: long_map({1: long_map(health())})})), "valid", "green"
    yield "strings of no length", dcc(wrap=chunks), "valid", "green"
    yield "numbers that have a shorter form", dcc(claims(exp=Raw(b"\x1b" + (NOW + 9).to_bytes(8, "big")))), "valid", "green"
    yield "another order", dcc(dict(reversed(claims().items()))), "valid", "green"
    yield "a claim twice", dcc(Pairs([*claims().items(), (4, NOW + 9_999)])), "malformed"
    yield "null for no test", dcc(claims(health(t=None, r=None))), "valid", "green"
    yield "a huge count", dcc(encode=lambda x: b"\xbb" + b"\xff" * 8 + cbor(x)[1:]), "malformed"
    yield "deep arrays", hc1(b"\x81" * 60_000), "malformed"
    yield "bytes behind", hc1(good + b"\0"), "malformed"
    yield "cut in the middle", hc1(good[:100]), "malformed"
    yield "not compressed", "HC1:" + base45(good), "malformed"
    yield "cut compression", "HC1:" + base45(zlib.compress(good)[:-9]), "malformed"
    yield "inflated to too much", "HC1:" + base45(zlib.compress(bytes(2_000_000))), "malformed"
    yield "altered", flipped(dcc()), "malformed"
    yield "lower case", "HC1:" + dcc()[4:].lower(), "malformed"

    yield "one dose of two", stated("v", VACCINATION, dn=1), "valid", "yellow"
    yield "three doses of two", stated("v", VACCINATION, dn=3), "valid", "unknown"
    yield "vaccinated yesterday", stated("v", VACCINATION, dt=day(24)[:10]), "valid", "unknown"
    yield "vaccinated long ago", stated("v", VACCINATION, dt=day(20_000)[:10]), "valid", "unknown"
    yield "vaccinated tomorrow", stated("v", VACCINATION, dt=day(-48)[:10]), "valid", "unknown"
    yield "vaccinated on no day", stated("v", VACCINATION, dt="soon"), "valid", "unknown"
    yield "a date with a tag", stated("v", VACCINATION, dt=Tag(0, day(500))), "valid", "green"
    yield "not detected", stated("t", TEST), "valid", "green"
    yield "not detected, too long ago", stated("t", TEST, sc=day(73)), "valid", "unknown"
    yield "another kind of test", stated("t", TEST, tt="LP217198-3"), "valid", "yellow"
    yield "detected", stated("t", TEST, tr="260373001"), "valid", "red"
    yield "recovered", stated("r", RECOVERY), "valid", "green"
    yield "the first row counts", dcc(claims(health("t", {**TEST, "tr": "260373001"}, v=[VACCINATION]))), "valid", "red"


TABLE = [
    {"kind": "test", "fields": {"tr": "260373001"}, "from_hours": 0, "to_hours": 240, "status": "red"},
    {"kind": "vaccination", "fields": {"dn": "2", "sd": "2"}, "from_hours": 336, "to_hours": 6_480, "status": "green"},
    {"kind": "vaccination", "fields": {"dn": "1", "sd": "2"}, "from_hours": 336, "to_hours": 6_480, "status": "yellow"},
    {"kind": "test", "fields": {"tt": "LP6464-4", "tr": "260415000"}, "from_hours": 0, "to_hours": 72, "status": "green"},
    {"kind": "test", "fields": {"tr": "260415000"}, "from_hours": 0, "to_hours": 24, "status": "yellow"},
    {"kind": "recovery", "from_hours": 264, "to_hours": 4_320, "status": "green"},
]


def jwk(public, iss, kid, **more):
    if isinstance(public, ed25519.Ed25519PublicKey):
        key = {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
    elif isinstance(public, rsa.RSAPublicKey):
        n = public.public_numbers()
        key = {"kty": "RSA", "alg": "PS256", "n": number(n.n), "e": number(n.e)}
    else:
        n = public.public_numbers()
        key = {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": number(n.x, 32), "y": number(n.y, 32)}
    return {**key, "iss": iss, "kid": b64(kid), **more}


keys = [
    jwk(OURS.public_key(), "CN-610100", OURS_KID),
    jwk(P256[0].public_key(), "XA", KID, nbf=NOW - 100_000),
    jwk(P256[1].public_key(), "XA", KID),
    jwk(P256[2].public_key(), "XB", OTHER_KID),
    jwk(RSA.public_key(), "XA", RSA_KID),
]
print(json.dumps({
    "about": "made by tests/codes/make.py: at the time `at`, by `trust`, each text has this result (and then this status)",
    "at": NOW,
    "trust": {"keys": keys, "dcc": TABLE},
    "cases": [dict(zip(("name", "text", "result", "status"), case)) for case in cases()],
}, indent=1))
