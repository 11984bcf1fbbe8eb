// Codes and lists of keys, made here for the tests: CBOR is written by hand and shares nothing with what
// reads it, signatures are those of Node.

import { createHash, createPrivateKey, createPublicKey, randomBytes, sign } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:';
export const ISSUER = 'CN-610100';

class Tag {
  constructor(number, item) {
    Object.assign(this, { number, item });
  }
}

function head(major, number) {
  if (number < 24) return Buffer.from([(major << 5) | number]);
  const width = [1, 2, 4, 8].find((bytes) => number < 2 ** (8 * bytes));
  const bytes = Buffer.alloc(9);
  bytes.writeBigUInt64BE(BigInt(number), 1);
  bytes[8 - width] = (major << 5) | (24 + Math.log2(width));
  return bytes.subarray(8 - width);
}

/** Maps are `Map`s, in the order in which they are written. */
function cbor(item) {
  if (typeof item === 'number') return item < 0 ? head(1, -1 - item) : head(0, item);
  if (typeof item === 'string') return Buffer.concat([head(3, Buffer.byteLength(item)), Buffer.from(item)]);
  if (item instanceof Uint8Array) return Buffer.concat([head(2, item.length), item]);
  if (item instanceof Tag) return Buffer.concat([head(6, item.number), cbor(item.item)]);
  if (item instanceof Map) return Buffer.concat([head(5, item.size), ...[...item].flat().map(cbor)]);
  return Buffer.concat([head(4, item.length), ...item.map(cbor)]);
}

export function base45(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 2) {
    const pair = at + 1 < bytes.length;
    let group = pair ? bytes[at] * 256 + bytes[at + 1] : bytes[at];
    for (let left = pair ? 3 : 2; left; left--) {
      text += ALPHABET[group % 45];
      group = Math.floor(group / 45);
    }
  }
  return text;
}

/** An Ed25519 key; the same number is the same key. */
export function key(number) {
  const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, number)]);
  const secret = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
  const bytes = createPublicKey(secret).export({ format: 'der', type: 'spki' }).subarray(-32);
  const kid = createHash('sha256')
    .update(Buffer.concat([Buffer.from('a301012006215820', 'hex'), bytes]))
    .digest()
    .subarray(0, 8);
  return { bytes, kid, text: bytes.toString('base64url'), sign: (data) => sign(null, data, secret) };
}

function sign1(signer, protectedHeader, payload) {
  const signed = cbor(['Signature1', protectedHeader, Buffer.alloc(0), payload]);
  return cbor(new Tag(18, [protectedHeader, new Map(), payload, signer.sign(signed)]));
}

export const nowS = () => Math.floor(Date.now() / 1000);

/** A code of ours. */
export function code(
  signer,
  { iss = ISSUER, iat = nowS() - 10, exp = nowS() + 110, cti = randomBytes(16), status = 1 } = {},
) {
  const header = cbor(
    new Map([
      [1, -8],
      [4, signer.kid],
    ]),
  );
  const payload = cbor(
    new Map([
      [1, iss],
      [4, exp],
      [6, iat],
      [7, cti],
      [-65_537, status],
    ]),
  );
  return `OC1:${base45(sign1(signer, header, payload))}`;
}

export const jwks = (...signers) => ({
  keys: signers.map((signer) => ({
    kty: 'OKP',
    crv: 'Ed25519',
    alg: 'EdDSA',
    kid: signer.kid.toString('base64url'),
    x: signer.text,
    iss: ISSUER,
    ...signer.more,
  })),
});
