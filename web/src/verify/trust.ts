// The keys a verifier trusts, as src/code/trust.rs: looked up inside their issuer only.

import { base64url, hex } from './cbor.ts';
import { KINDS, STATUSES, type Kind, type Rule, type Status } from './dcc.ts';
import { keyOf, NUMBERS, p256Spki, rsaSpki, type Alg, type PublicKey } from './keys.ts';
import type { Claims } from './verify.ts';

export type Profile = 'oc1' | 'hc1';
export type Env = 'prod' | 'test';

/** One key of one issuer, as it is listed. Times bound the `iat` of what it may have signed, both ends included. */
export interface Entry {
  readonly iss: string;
  readonly kid: Uint8Array;
  readonly alg: Alg;
  readonly key: Uint8Array;
  readonly nbf: number;
  readonly exp: number | null;
  readonly env: Env;
  readonly profile: Profile;
}

export interface TrustedKey {
  readonly entry: Entry;
  readonly key: PublicKey;
}

export class Trust {
  dcc: readonly Rule[] = [];
  /** A time that a server has told, in Unix seconds; a clock that is not so far is wrong. */
  heard = 0;
  /** From when on, in Unix seconds, the list is too old to be relied on. */
  staleFrom = Infinity;
  /** How many listed keys this browser cannot use: their codes are of an unknown issuer here. */
  unusable = 0;
  private readonly keys = new Map<string, TrustedKey[]>();

  static async of(entries: readonly Entry[]): Promise<Trust> {
    const trust = new Trust();
    const usable = await Promise.all(entries.map((entry) => keyOf(entry.alg, entry.key)));
    entries.forEach((entry, index) => {
      const key = usable[index];
      if (!key) return trust.unusable++;
      const place = placeOf(entry.profile, entry.iss, entry.kid);
      return trust.keys.set(place, [...(trust.keys.get(place) ?? []), { entry, key }]);
    });
    return trust;
  }

  candidates(profile: Profile, iss: string, kid: Uint8Array): readonly TrustedKey[] {
    return this.keys.get(placeOf(profile, iss, kid)) ?? [];
  }
}

const placeOf = (profile: Profile, iss: string, kid: Uint8Array): string => `${profile} ${hex(kid)} ${iss}`;

/** Whether a key made `signature` over `signed`, under the algorithm number in the code, for a code of these claims. */
export async function made(
  { entry, key }: TrustedKey,
  signature: Uint8Array,
  signed: Uint8Array,
  alg: number,
  claims: Claims,
): Promise<boolean> {
  const inTime = claims.iat >= entry.nbf && claims.iat <= (entry.exp ?? Infinity);
  return NUMBERS[entry.alg].includes(alg) && inTime && key.verify(signature, signed);
}

interface Jwk {
  readonly [name: string]: unknown;
}

/** Reads a JWK set as served at `/.well-known/jwks.json`, with a member `dcc` for foreign certificates. Throws in words. */
export async function fromJwks(json: string): Promise<Trust> {
  const set = JSON.parse(json) as { keys?: readonly Jwk[]; dcc?: readonly Jwk[] } | null;
  if (!set || !Array.isArray(set.keys)) throw new Error('it is not a JWK set');
  const entries = set.keys.map(entryOf).filter((entry) => entry !== null);
  if (!entries.length) throw new Error('it has no key that codes are signed with');
  const trust = await Trust.of(entries);
  trust.dcc = (set.dcc ?? []).map(ruleOf);
  return trust;
}

function entryOf(jwk: Jwk, index: number): Entry | null {
  const part = (name: string): Uint8Array => {
    const bytes = typeof jwk[name] === 'string' ? base64url(jwk[name]) : null;
    if (!bytes) throw new Error(`key ${index}: its \`${name}\` is no base64url`);
    return bytes;
  };
  const { kty, crv, alg: name } = jwk;
  const isEd25519 = kty === 'OKP' && crv === 'Ed25519';
  const isP256 = kty === 'EC' && crv === 'P-256' && (name === undefined || name === 'ES256');
  if (!isEd25519 && !isP256 && !(kty === 'RSA' && name === 'PS256')) return null;
  if (typeof jwk.iss !== 'string') throw new Error(`key ${index}: it has no \`iss\``);
  return {
    iss: jwk.iss,
    kid: part('kid'),
    alg: isEd25519 ? 'Ed25519' : isP256 ? 'ES256' : 'PS256',
    key: isEd25519 ? part('x') : isP256 ? p256Spki(part('x'), part('y')) : rsaSpki(part('n'), part('e')),
    nbf: Number(jwk.nbf ?? 0),
    exp: jwk.exp === undefined || jwk.exp === null ? null : Number(jwk.exp),
    env: jwk.env === 'test' ? 'test' : 'prod',
    profile: isEd25519 ? 'oc1' : 'hc1',
  };
}

function ruleOf(rule: Jwk, index: number): Rule {
  const { kind, fields = {}, from_hours: fromHours, to_hours: toHours, status } = rule;
  const known = KINDS.includes(kind as Kind) && STATUSES.includes(status as Status);
  if (!known || typeof fromHours !== 'number' || typeof toHours !== 'number') {
    throw new Error(`its table dcc: row ${index} is not whole`);
  }
  return { kind: kind as Kind, fields: fields as Rule['fields'], fromHours, toHours, status: status as Status };
}
