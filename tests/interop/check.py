"""A stranger's stack reads our codes.

    check.py BASE_URL         asks a demo server for a code in all its forms
    check.py --files FOLDER   reads the forms that `cargo test --test code` left in target/tmp/interop

zxing-cpp decodes the picture and the painted bits, base45 the text, cwt and pycose verify the signature with the key
of the JWK set, whose key id is recomputed as RFC 9679 says. Exit status 0 if all of it holds, 1 with the reason if not.
"""

import argparse
import base64
import hashlib
import io
import json
import pathlib
import re
import sys
import urllib.request
import xml.etree.ElementTree as ElementTree

import base45
import cbor2
import cwt
import numpy
import zxingcpp
from PIL import Image
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import CoseMessage, Sign1Message

STATUSES = ["unknown", "green", "yellow", "red"]
STATUS_CLAIM = -65537
SIZE = 49
QUIET = 4
BODY_BYTES_MAX = 760


def check(condition, reason):
    """Not `assert`, which python -O removes."""
    if not condition:
        raise SystemExit(f"check.py: {reason}")


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Forms:
    """One code in the forms a server gives it."""

    def __init__(self, get, jwks):
        self.body = get("json")
        self.none = get("none.json")
        self.text = get("txt").decode("ascii")
        self.png = get("png")
        self.svg = get("svg")
        self.jwks = json.loads(jwks)


def from_files(folder):
    jwks = (folder / "jwks.json").read_bytes()
    for name in ["prod", "test"]:
        yield name, Forms(lambda form: (folder / f"{name}.{form}").read_bytes(), jwks)


def from_server(base_url):
    def call(path, body=None, session=None):
        request = urllib.request.Request(base_url.rstrip("/") + path, data=body)
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if session is not None:
            request.add_header("Authorization", f"Bearer {session}")
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read()

    session = json.loads(call("/person/app/session", b'{"demo_resident":1}'))
    check(isinstance(session.get("expires_at"), int), "the session has no expires_at")
    queries = {"json": "", "none.json": "?qr=none", "txt": "?format=text", "png": "?format=png", "svg": "?format=svg"}

    def get(form):
        return call("/person/app/refreshQRCode" + queries[form], session=session["session"])

    # The window may turn between two calls; all forms must then be asked for again.
    for _ in range(3):
        before = get("json")
        forms = Forms(get, call("/.well-known/jwks.json"))
        if before == forms.body == get("json"):
            break
    else:
        raise SystemExit("check.py: the same window gave different bodies")
    yield "demo", forms


def check_body(forms):
    body, none = json.loads(forms.body), json.loads(forms.none)
    check(len(forms.body) <= BODY_BYTES_MAX, f"the body has {len(forms.body)} bytes")
    members = ["code", "status", "iat", "exp", "refresh_at"] + (["env"] if "env" in body else [])
    check(list(body) == members + ["qr"], f"the body has the members {list(body)}")
    check(list(none) == members, f"without its matrix the body has the members {list(none)}")
    check(all(none[name] == body[name] for name in members), "without its matrix the body says something else")
    check(body["code"] == forms.text.removesuffix("\n"), "the text form is another code")
    check(body["status"] in STATUSES, f"the status is {body['status']}")
    check(body["iat"] < body["refresh_at"] < body["exp"], "the times are out of order")
    check(body.get("env", "test") == "test", "env is not test")
    check(body["qr"]["size"] == SIZE, f"the matrix has {body['qr']['size']} modules on a side")
    return body


def decoded(picture, what):
    found = zxingcpp.read_barcodes(picture, formats=zxingcpp.BarcodeFormat.QRCode)
    check(len(found) == 1, f"{len(found)} symbols are found in {what}")
    check(found[0].ec_level == "M", f"{what} has level {found[0].ec_level}")
    return found[0].text


def check_pictures(forms, body):
    bits = numpy.unpackbits(numpy.frombuffer(base64.b64decode(body["qr"]["bits"], validate=True), dtype=numpy.uint8))
    check(not bits[SIZE * SIZE :].any(), "bits behind the matrix are set")
    matrix = bits[: SIZE * SIZE].reshape(SIZE, SIZE)
    painted = numpy.kron(numpy.pad(1 - matrix, QUIET, constant_values=1), numpy.ones((6, 6), dtype=numpy.uint8))
    check(decoded((painted * 255).astype(numpy.uint8), "the painted bits") == body["code"], "the bits are another code")

    png = Image.open(io.BytesIO(forms.png)).convert("L")
    check(decoded(numpy.asarray(png), "the PNG") == body["code"], "the PNG is another code")

    svg = ElementTree.fromstring(forms.svg)
    paths = svg.findall("{http://www.w3.org/2000/svg}path")
    check(len(paths) == 1, f"the SVG has {len(paths)} paths")
    check(svg.get("viewBox") == f"0 0 {SIZE + 2 * QUIET} {SIZE + 2 * QUIET}", "the SVG has another viewBox")
    drawn = numpy.zeros_like(matrix)
    for x, y, run, back in re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", paths[0].get("d")):
        check(run == back, "a run of the SVG does not close")
        drawn[int(y) - QUIET, int(x) - QUIET : int(x) - QUIET + int(run)] = 1
    check((drawn == matrix).all(), "the SVG draws other modules")


def check_code(forms, body):
    check(body["code"].startswith("OC1:"), "the prefix is not OC1:")
    check(len(body["code"]) <= 221, f"the code has {len(body['code'])} characters")
    cose = base45.b45decode(body["code"][4:])

    message = CoseMessage.decode(cose)
    check(isinstance(message, Sign1Message), "it is not a COSE_Sign1")
    kid = cbor2.loads(cbor2.loads(cose).value[0])[4]
    jwks = [jwk for jwk in forms.jwks["keys"] if unpadded(jwk["kid"]) == kid]
    check(len(jwks) == 1, f"{len(jwks)} keys of the JWK set have the code's key id")
    jwk, x = jwks[0], unpadded(jwks[0]["x"])
    kind = [jwk[name] for name in ["kty", "crv", "alg", "use"]]
    check(kind == ["OKP", "Ed25519", "EdDSA", "sig"], f"the key is of the kind {kind}")
    check(jwk["env"] == body.get("env", "prod"), "the key and the body differ in env")
    check(jwk.get("nbf", 0) <= body["iat"] <= jwk.get("exp", 2**63), "the key may not have signed at that time")
    thumbprint = hashlib.sha256(cbor2.dumps({1: 1, -1: 6, -2: x}, canonical=True)).digest()
    check(kid == thumbprint[:8], "the key id is not the key's thumbprint")

    claims = cwt.decode(cose, cwt.COSEKey.new({1: 1, 2: kid, 3: -8, -1: 6, -2: x}))
    check(claims[1] == jwk["iss"], f"iss is {claims[1]}")
    check((claims[6], claims[4]) == (body["iat"], body["exp"]), "the times in the code are others")
    check(isinstance(claims[7], bytes) and len(claims[7]) == 16, "cti is not 16 bytes")
    check(STATUSES[claims[STATUS_CLAIM]] == body["status"], "the status in the code is another")
    check(set(claims) == {1, 4, 6, 7, STATUS_CLAIM}, f"the code has the claims {sorted(claims)}")

    message.key = OKPKey(crv=Ed25519, x=x)
    check(message.verify_signature(), "pycose refuses the signature")
    message.payload = message.payload[:-1] + bytes([message.payload[-1] ^ 1])
    check(not message.verify_signature(), "pycose accepts another status under the signature")


def main():
    parser = argparse.ArgumentParser(description="Read our codes with a stranger's libraries.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("base_url", nargs="?", metavar="BASE_URL", help="a demo server")
    source.add_argument("--files", type=pathlib.Path, metavar="FOLDER", help="forms written by cargo test --test code")
    arguments = parser.parse_args()
    sources = from_files(arguments.files) if arguments.files else from_server(arguments.base_url)
    for name, forms in sources:
        body = check_body(forms)
        check_pictures(forms, body)
        check_code(forms, body)
        sizes = f"{len(forms.body)} bytes, {len(body['code'])} characters"
        print(f"{name}: read by zxing-cpp, base45, cwt and pycose ({sizes})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
