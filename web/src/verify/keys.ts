// Public keys and what they have signed: Ed25519, ES256 and PS256.

import { concat, hex } from './cbor.ts';

export type Alg = 'Ed25519' | 'ES256' | 'PS256';

/** The numbers that a code may name for a key's algorithm; the algorithm itself comes from the list, never from the code. */
export const NUMBERS: { readonly [alg in Alg]: readonly number[] } = {
  Ed25519: [-8, -19],
  ES256: [-7, -9],
  PS256: [-37],
};

export interface PublicKey {
  verify(signature: Uint8Array, signed: Uint8Array): Promise<boolean>;
}

type Bytes = Uint8Array<ArrayBuffer>;
type VerifyEd25519 = (signature: Uint8Array, signed: Uint8Array, key: Uint8Array) => Promise<boolean>;

/** RFC 5480 §2: id-ecPublicKey, prime256v1, and a BIT STRING of an uncompressed point. */
const P256_SPKI = '3059301306072a8648ce3d020106082a8648ce3d030107034200';

/** The y coordinates of the points of small order, little-endian, without the sign: under these anybody can sign. */
const SMALL_ORDER = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
];

let loadFallback: (() => Promise<VerifyEd25519>) | null = null;
let fallback: Promise<VerifyEd25519> | null = null;

/** How Ed25519 is had where WebCrypto lacks it. */
export function ed25519From(load: () => Promise<VerifyEd25519>): void {
  loadFallback = load;
}

async function ed25519(key: Bytes): Promise<PublicKey | null> {
  if (key.length !== 32 || SMALL_ORDER.includes(hex(concat(key.subarray(0, 31), [key[31]! & 0x7f])))) return null;
  try {
    return await imported('raw', key, { name: 'Ed25519' }, { name: 'Ed25519' });
  } catch {
    if (!loadFallback) return null;
    fallback ||= loadFallback();
    // The next key tries again what could not be loaded now.
    fallback.catch(() => (fallback = null));
    const verify = await fallback;
    return { verify: (signature, signed) => verify(signature, signed, key) };
  }
}

async function imported(
  format: 'raw' | 'spki',
  bytes: Bytes,
  kind: AlgorithmIdentifier | EcKeyImportParams | RsaHashedImportParams,
  how: AlgorithmIdentifier | EcdsaParams | RsaPssParams,
): Promise<PublicKey & { readonly key: CryptoKey }> {
  const key = await crypto.subtle.importKey(format, bytes, kind, true, ['verify']);
  const verify = (signature: Uint8Array, signed: Uint8Array): Promise<boolean> =>
    crypto.subtle.verify(how, key, signature as Bytes, signed as Bytes).catch(() => false);
  return { key, verify };
}

/** A public key: 32 bytes of Ed25519, or SubjectPublicKeyInfo in DER. Null where it cannot be used. */
export async function keyOf(alg: Alg, bytes: Uint8Array): Promise<PublicKey | null> {
  const own = bytes.slice();
  try {
    if (alg === 'Ed25519') return await ed25519(own);
    if (alg === 'ES256') {
      return await imported('spki', own, { name: 'ECDSA', namedCurve: 'P-256' }, { name: 'ECDSA', hash: 'SHA-256' });
    }
    const rsa = { name: 'RSA-PSS', hash: 'SHA-256' };
    const key = await imported('spki', own, rsa, { name: 'RSA-PSS', saltLength: 32 });
    const { modulusLength } = key.key.algorithm as unknown as { readonly modulusLength: number };
    return modulusLength >= 2_048 && modulusLength <= 8_192 ? key : null;
  } catch {
    return null;
  }
}

/** The SubjectPublicKeyInfo of a P-256 key by its coordinates. */
export function p256Spki(x: Uint8Array, y: Uint8Array): Uint8Array {
  return concat(
    P256_SPKI.match(/../g)!.map((pair) => parseInt(pair, 16)),
    [0x04],
    x,
    y,
  );
}

/** The SubjectPublicKeyInfo of an RSA key by its modulus and exponent (RFC 8017 appendix A.1). */
export function rsaSpki(n: Uint8Array, e: Uint8Array): Uint8Array {
  const der = (tag: number, content: ArrayLike<number>): Uint8Array => {
    const { length } = content;
    const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
    return concat([tag], size, content);
  };
  const integer = (bytes: Uint8Array): Uint8Array => der(0x02, bytes[0]! & 0x80 ? concat([0], bytes) : bytes);
  const rsaEncryption = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
  const key = der(0x30, concat(integer(n), integer(e)));
  return der(0x30, concat(rsaEncryption, der(0x03, concat([0], key))));
}
