// Verification: a text and a list of trusted keys in, a verdict out, as src/code/verify.rs, by the same table of cases
// (tests/codes/cases.json). The order of results is malformed, unknown_issuer, bad_signature, expired or
// not_yet_valid; nothing of a code is reported before its signature is known to be good.

import * as base45 from './base45.ts';
import {
  bytesOf,
  decode,
  listOf,
  Malformed,
  malformed,
  mapOf,
  Pairs,
  sigStructure,
  signed,
  Tagged,
  textOf,
  unsigned,
} from './cbor.ts';
import * as dcc from './dcc.ts';
import { STATUSES, type Statement, type Status } from './dcc.ts';
import { made, type Env, type Profile, type Trust, type TrustedKey } from './trust.ts';

export const PREFIX = 'OC1:';
/** As src/limits.rs and src/code/verify.rs. */
export const LEEWAY_S = 60;
export const TEXT_CHARS_MAX = 4_096;

export const OUTCOMES = [
  'valid',
  'valid_in_grace',
  'expired',
  'not_yet_valid',
  'revoked',
  'bad_signature',
  'unknown_issuer',
  'clock_suspect',
  'stale_trust',
  'malformed',
  'unknown_resident',
] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** What a code with a good signature says; times in Unix seconds. */
export interface Claims {
  readonly iss: string;
  readonly iat: number;
  readonly exp: number;
  readonly nbf?: number;
  /** The token id; zeros where the form has none. */
  readonly cti: Uint8Array;
  readonly status: Status;
}

/** A well-formed code whose signature nobody has checked. */
export interface Code {
  readonly profile: Profile;
  readonly protectedHeader: Uint8Array;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
  readonly alg: number;
  readonly kid: Uint8Array;
  readonly claims: Claims;
  readonly statements: readonly Statement[];
}

export interface Verdict {
  readonly outcome: Outcome;
  /** Present exactly when the signature is good. */
  readonly claims?: Claims;
  readonly env?: Env;
}

/** Says what `text` is worth at a time, in Unix seconds, when clocks may differ by `leewayS`. Nothing is trimmed. */
export async function verify(trust: Trust, text: string, atS: number, leewayS = LEEWAY_S): Promise<Verdict> {
  let code;
  try {
    code = await read(text);
  } catch (error) {
    if (error instanceof Malformed) return { outcome: 'malformed' };
    throw error;
  }
  const { profile, claims, kid } = code;
  const candidates = trust.candidates(profile, claims.iss, kid);
  const signer = await signerOf(code, candidates);
  if (!signer) return { outcome: candidates.length ? 'bad_signature' : 'unknown_issuer' };
  const status = profile === 'oc1' ? claims.status : dcc.statusOf(trust.dcc, code.statements, atS);
  return { outcome: inTime(trust, claims, atS, leewayS), claims: { ...claims, status }, env: signer.entry.env };
}

function inTime(trust: Trust, claims: Claims, atS: number, leewayS: number): Outcome {
  const begin = Math.max(claims.nbf ?? 0, claims.iat);
  // RFC 7519 §4.1.4, to which RFC 8392 refers: not on or after exp.
  if (atS >= claims.exp + leewayS) return 'expired';
  // That a clock is fast cannot be known here, that it is slow can.
  if (atS + leewayS < begin) return atS + leewayS < trust.heard ? 'clock_suspect' : 'not_yet_valid';
  return atS >= trust.staleFrom ? 'stale_trust' : 'valid';
}

async function signerOf(code: Code, candidates: readonly TrustedKey[]): Promise<TrustedKey | null> {
  const bytes = sigStructure(code.protectedHeader, code.payload);
  for (const key of candidates) if (await made(key, code.signature, bytes, code.alg, code.claims)) return key;
  return null;
}

async function read(text: string): Promise<Code> {
  if (text.length > TEXT_CHARS_MAX) return malformed('too long');
  const prefix = text.slice(0, 4);
  if (prefix !== PREFIX && prefix !== dcc.PREFIX) return malformed('another prefix');
  const bytes = base45.decode(text.slice(4)) ?? malformed('no Base45');
  return prefix === PREFIX ? readOurs(bytes) : dcc.read(bytes);
}

function readOurs(bytes: Uint8Array): Code {
  const outer = decode(bytes, true);
  // RFC 9052 §2: tag 18 is COSE_Sign1, an array of four. Ours has nothing unprotected.
  const parts = listOf(outer instanceof Tagged && outer.tag === 18 ? outer.item : undefined);
  const [protectedHeader, payload, signature] = [bytesOf(parts[0]), bytesOf(parts[2]), bytesOf(parts[3])];
  if (parts.length !== 4 || mapOf(parts[1]).list.length || signature.length !== 64) malformed('not of our profile');
  const header = mapOf(decode(protectedHeader, true));
  // `crit` names parameters that must be understood, and none is (RFC 9052 §3.1).
  if (header.get(2) !== undefined) malformed('a critical parameter');
  const [alg, kid] = [signed(header.get(1)), bytesOf(header.get(4))];
  const claims = readClaims(mapOf(decode(payload, true)));
  return { profile: 'oc1', protectedHeader, payload, signature, alg, kid, claims, statements: [] };
}

function readClaims(claims: Pairs): Claims {
  const cti = bytesOf(claims.get(7));
  if (cti.length !== 16) malformed('a cti of 16 bytes');
  const status = claims.get(-65_537);
  if (status === undefined) malformed('a claim is missing');
  const nbf = claims.get(5);
  return {
    iss: textOf(claims.get(1)),
    exp: unsigned(claims.get(4)),
    iat: unsigned(claims.get(6)),
    ...(nbf !== undefined && { nbf: unsigned(nbf) }),
    cti,
    // Any value that is not one of ours is unknown.
    status: (typeof status === 'number' && STATUSES[status]) || 'unknown',
  };
}
