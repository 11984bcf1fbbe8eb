// The EU Digital COVID Certificate, `HC1:`, read leniently: issuers differ in how they write it. No name leaves this file.

import {
  bytesOf,
  decode,
  Float,
  isInteger,
  listOf,
  malformed,
  mapOf,
  Pairs,
  signed,
  Tagged,
  textOf,
  type Cbor,
} from './cbor.ts';
import type { Code } from './verify.ts';

export const PREFIX = 'HC1:';

/** Of a certificate without its compression, of a map, and of a certificate. */
const BYTES_MAX = 65_536;
const PAIRS_MAX = 64;
const STATEMENTS_MAX = 8;

export const STATUSES = ['unknown', 'green', 'yellow', 'red'] as const;
export type Status = (typeof STATUSES)[number];
export const KINDS = ['vaccination', 'test', 'recovery'] as const;
export type Kind = (typeof KINDS)[number];

/** A row of the table that makes a status of a statement; ages in hours. */
export interface Rule {
  readonly kind: Kind;
  readonly fields: { readonly [name: string]: string };
  readonly fromHours: number;
  readonly toHours: number;
  readonly status: Status;
}

/** One vaccination, test or recovery. */
export interface Statement {
  readonly kind: Kind;
  readonly fields: ReadonlyMap<string, string>;
}

/** The status of the first row that holds for any statement; without one it is unknown. */
export function statusOf(table: readonly Rule[], statements: readonly Statement[], atS: number): Status {
  const holds = (rule: Rule) => statements.some((stated) => ruleHolds(rule, stated, atS));
  return table.find(holds)?.status ?? 'unknown';
}

function ruleHolds(rule: Rule, stated: Statement, atS: number): boolean {
  const { fields } = stated;
  if (rule.kind !== stated.kind || Object.keys(rule.fields).some((name) => fields.get(name) !== rule.fields[name])) {
    return false;
  }
  const ages = ['dt', 'sc', 'fr'].map((name) => atS - unixS(fields.get(name)));
  const age = ages.find((each) => each >= 0);
  return age !== undefined && age >= rule.fromHours * 3_600 && age < rule.toHours * 3_600;
}

/** Unix seconds of a date with a time and an offset, or else of the beginning of its day in UTC; NaN where it is none. */
export function unixS(text = ''): number {
  const [, date, time, offset] =
    /^(\d{4}-\d\d-\d\d)(?:T(\d\d(?::?\d\d(?::?\d\d(?:[.,]\d+)?)?)?)(Z|[+-]\d\d(?::?\d\d)?))?/.exec(text) ?? [];
  const day = Date.parse(`${date}T00:00:00Z`) / 1000;
  // A day that its month does not have rolls over elsewhere.
  if (!(day >= 0) || new Date(day * 1000).toISOString().slice(0, 10) !== date) return NaN;
  if (time === undefined || !offset) return day;
  const [hours = 0, minutes = 0, seconds = 0] = (time.replace(/[.,].*/, '').match(/\d\d/g) ?? []).map(Number);
  const [offsetHours = 0, offsetMinutes = 0] = (offset.match(/\d\d/g) ?? []).map(Number);
  if (hours > 23 || minutes > 59 || seconds > 59 || offsetHours > 23 || offsetMinutes > 59) return day;
  const ahead = (offset[0] === '-' ? -1 : 1) * (offsetHours * 3_600 + offsetMinutes * 60);
  return day + hours * 3_600 + minutes * 60 + seconds - ahead;
}

/** Reads what stood behind prefix and Base45. */
export async function read(compressed: Uint8Array): Promise<Code> {
  const bytes = await inflate(compressed);
  let outer = decode(bytes, false);
  // A CWT (RFC 8392 §6) and a COSE_Sign1 (RFC 9052 §2); both tags may be left out.
  for (const tag of [61, 18]) if (outer instanceof Tagged && outer.tag === tag) outer = outer.item;
  const [first, unprotected, payload, signature, ...more] = listOf(outer);
  if (more.length) malformed('not one COSE_Sign1');
  const protectedHeader = bytesOf(first);
  let alg: number | undefined;
  let kid: Uint8Array | undefined;
  const headers = [readable(unprotected)];
  // What is protected comes last, and so counts where both have it.
  if (protectedHeader.length) headers.push(readable(decode(protectedHeader, false)));
  for (const header of headers) {
    if (header.get(1) !== undefined) alg = signed(header.get(1));
    // It names parameters that must be understood, and none is (RFC 9052 §3.1).
    if (header.get(2) !== undefined) malformed('a critical parameter');
    if (header.get(4) !== undefined) kid = bytesOf(header.get(4));
  }
  if (alg === undefined || !kid) return malformed('no algorithm, or no key id');
  const body = bytesOf(payload);
  return {
    profile: 'hc1',
    protectedHeader,
    payload: body,
    signature: bytesOf(signature),
    alg,
    kid,
    ...readClaims(body),
  };
}

async function inflate(compressed: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([compressed as Uint8Array<ArrayBuffer>])
    .stream()
    .pipeThrough(new DecompressionStream('deflate'));
  const reader = stream.getReader();
  const all = new Uint8Array(BYTES_MAX);
  for (let length = 0; ;) {
    const part = await reader.read().catch(() => malformed('not compressed, or cut'));
    if (part.done) return all.subarray(0, length);
    if (length + part.value.length > BYTES_MAX) {
      void reader.cancel().catch(() => undefined);
      return malformed('more than a certificate may have');
    }
    all.set(part.value, length);
    length += part.value.length;
  }
}

/** Issuer, times and statements. A certificate that names no issuer is that of its first statement's country. */
function readClaims(payload: Uint8Array): Pick<Code, 'claims' | 'statements'> {
  const claims = readable(decode(payload, false));
  const time = (key: number) => (claims.get(key) === undefined ? undefined : seconds(claims.get(key)));
  const [exp, nbf, iat] = [time(4), time(5), time(6)];
  const certificate = claims.get(-260) === undefined ? undefined : readable(claims.get(-260)).get(1);
  if (iat === undefined || exp === undefined || certificate === undefined) return malformed('a claim is missing');
  const statements = readStatements(readable(certificate));
  const named = claims.get(1) === undefined ? undefined : textOf(untagged(claims.get(1)!));
  const iss = named ?? statements[0]?.fields.get('co');
  if (iss === undefined) return malformed('no issuer');
  return {
    claims: { iss, iat, exp, ...(nbf !== undefined && { nbf }), cti: new Uint8Array(16), status: 'unknown' },
    statements,
  };
}

function readStatements(certificate: Pairs): Statement[] {
  const statements: Statement[] = [];
  for (const [key, value] of certificate.list) {
    const at = typeof key === 'string' && key.length === 1 ? 'vtr'.indexOf(key) : -1;
    // Some issuers write null where there is none.
    if (at < 0 || !Array.isArray(value)) continue;
    for (const stated of (value as readonly Cbor[]).slice(0, STATEMENTS_MAX - statements.length)) {
      statements.push({ kind: KINDS[at]!, fields: fieldsOf(readable(stated)) });
    }
  }
  return statements;
}

function fieldsOf(stated: Pairs): Map<string, string> {
  const fields = new Map<string, string>();
  for (const [key, value] of stated.list) {
    const plain = isInteger(value) ? String(value) : untagged(value);
    if (typeof key === 'string' && typeof plain === 'string') fields.set(key, plain);
  }
  return fields;
}

/** A map that is read: its keys are numbers or texts, not too many, and none is there twice. */
function readable(item: Cbor | undefined): Pairs {
  const map = mapOf(item);
  const keys = map.list.map(([key]) =>
    isInteger(key) || typeof key === 'string' ? key : malformed('a key of another kind'),
  );
  if (keys.length > PAIRS_MAX || new Set(keys).size < keys.length) malformed('a map with too many keys, or one twice');
  return map;
}

/** A NumericDate (RFC 8392 §2), tagged or not and with a fraction or without; before 1970 it is 0. */
function seconds(item: Cbor | undefined): number {
  const value = untagged(item!);
  return Math.max(0, value instanceof Float ? Math.trunc(value.value) || 0 : signed(value));
}

function untagged(item: Cbor): Cbor {
  while (item instanceof Tagged) item = item.item;
  return item;
}
