// CBOR (RFC 8949) to values, in two ways: strict for what is ours, as src/code/cbor.rs, where each value has one encoding
// only; lenient for what others have signed. Numbers beyond 2^53 lose their last bits, which nothing here compares.

/** What is thrown for bytes that are not what they should be; callers make `malformed` of it. */
export class Malformed extends Error {}

export const malformed = (why: string): never => {
  throw new Malformed(why);
};

/** A floating-point number, kept apart from the integers. */
export class Float {
  constructor(readonly value: number) {}
}

export class Tagged {
  constructor(
    readonly tag: number,
    readonly item: Cbor,
  ) {}
}

/** A map, in the order of its encoding. */
export class Pairs {
  constructor(readonly list: readonly (readonly [Cbor, Cbor])[]) {}

  get(key: number | string): Cbor | undefined {
    for (const [own, value] of this.list) if (own === key) return value;
    return undefined;
  }
}

export type Cbor = number | string | boolean | null | Uint8Array | Float | Tagged | Pairs | readonly Cbor[];

/** How deep items may nest; the lenient bound only keeps recursion off the stack. */
const DEPTH_MAX_STRICT = 8;
const DEPTH_MAX_LENIENT = 256;

/** The end of an item of no length. */
const BREAK = Symbol('break');

class Reader {
  at = 0;
  constructor(
    readonly bytes: Uint8Array,
    readonly strict: boolean,
  ) {}

  take(count: number): Uint8Array {
    if (count > this.bytes.length - this.at) malformed('it is cut');
    return this.bytes.subarray(this.at, (this.at += count));
  }

  /** The argument of a head, or null where the length is left open. */
  argument(info: number): number | null {
    if (info < 24) return info;
    if (info === 31 && !this.strict) return null;
    if (info > 27) malformed('a reserved or an indefinite length');
    const bytes = this.take(1 << (info - 24));
    const needless = info === 24 ? bytes[0]! < 24 : bytes.subarray(0, bytes.length / 2).every((byte) => !byte);
    if (this.strict && needless) malformed('a number that has a shorter form');
    return numberOf(bytes);
  }

  item(depth: number): Cbor {
    const item = this.itemOrBreak(depth);
    return item === BREAK ? malformed('a break') : item;
  }

  itemOrBreak(depth: number): Cbor | typeof BREAK {
    if (depth === 0) malformed('items nested too deep');
    const first = this.take(1)[0]!;
    const major = first >> 5;
    if (major === 7) return this.simple(first & 31);
    const argument = this.argument(first & 31);
    if (argument === null && major !== 2 && major !== 3 && major !== 4 && major !== 5)
      return malformed('no length where one must be');
    if (major === 0) return argument!;
    if (major === 1) return -1 - argument!;
    if (major === 2) return argument === null ? this.chunks(2) : this.take(argument);
    if (major === 3) return text(argument === null ? this.chunks(3) : this.take(argument));
    if (major === 4) return this.items(argument, depth);
    if (major === 5) return this.pairs(argument, depth);
    return new Tagged(argument!, this.item(depth - 1));
  }

  /** The parts of a string of no length, together. */
  chunks(major: number): Uint8Array {
    const all: number[] = [];
    for (;;) {
      const first = this.bytes[this.at];
      if (first === 0xff) break;
      if (first === undefined || first >> 5 !== major || (first & 31) === 31) malformed('a string of other items');
      for (const byte of this.take(this.argument(this.take(1)[0]! & 31)!)) all.push(byte);
    }
    this.at++;
    return Uint8Array.from(all);
  }

  items(count: number | null, depth: number): Cbor[] {
    const all: Cbor[] = [];
    while (count === null || all.length < count) {
      const item = this.itemOrBreak(depth - 1);
      if (item === BREAK) {
        if (count === null) break;
        malformed('a break');
      } else all.push(item);
    }
    return all;
  }

  pairs(count: number | null, depth: number): Pairs {
    const all: [Cbor, Cbor][] = [];
    let previous = new Uint8Array();
    while (count === null || all.length < count) {
      const start = this.at;
      const key = this.itemOrBreak(depth - 1);
      if (key === BREAK) {
        if (count === null) break;
        return malformed('a break');
      }
      const encoded = this.bytes.slice(start, this.at);
      if (this.strict && all.length && order(encoded, previous) <= 0)
        malformed('a map key out of order or there twice');
      previous = encoded;
      all.push([key, this.item(depth - 1)]);
    }
    return new Pairs(all);
  }

  simple(info: number): Cbor | typeof BREAK {
    if (info === 20 || info === 21) return info === 21;
    if (info === 22) return null;
    if (this.strict) return malformed('an item of a kind that is never used');
    if (info === 31) return BREAK;
    if (info >= 28) return malformed('a reserved length');
    if (info < 25) {
      if (info === 24) this.take(1);
      return null;
    }
    const bytes = this.take(1 << (info - 24));
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    if (info === 25) return new Float(half(numberOf(bytes)));
    return new Float(info === 26 ? view.getFloat32(0) : view.getFloat64(0));
  }
}

function half(bits: number): number {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
  return (bits & 0x8000 ? -1 : 1) * (exponent === 31 ? (fraction ? NaN : Infinity) : size);
}

function order(one: Uint8Array, other: Uint8Array): number {
  for (let at = 0; at < one.length && at < other.length; at++) if (one[at] !== other[at]) return one[at]! - other[at]!;
  return one.length - other.length;
}

function text(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return malformed('a text that is not UTF-8');
  }
}

/** A number of these bytes, most significant first; beyond 2^53 it is rounded. */
export const numberOf = (bytes: ArrayLike<number>): number =>
  Array.from(bytes).reduce((sum, byte) => sum * 256 + byte, 0);

/** The one item that `bytes` are. Throws `Malformed` otherwise. */
export function decode(bytes: Uint8Array, strict: boolean): Cbor {
  const reader = new Reader(bytes, strict);
  const item = reader.item(strict ? DEPTH_MAX_STRICT : DEPTH_MAX_LENIENT);
  if (reader.at !== bytes.length) malformed('bytes behind it');
  return item;
}

export const isInteger = (item: Cbor | undefined): item is number => typeof item === 'number';

/** As `u64` and `i64` of Rust take them. */
export const unsigned = (item: Cbor | undefined): number =>
  isInteger(item) && item >= 0 ? item : malformed('not a number from 0');
export const signed = (item: Cbor | undefined): number =>
  isInteger(item) && item >= -(2 ** 63) && item < 2 ** 63 ? item : malformed('not an integer');
export const bytesOf = (item: Cbor | undefined): Uint8Array =>
  item instanceof Uint8Array ? item : malformed('not a byte string');
export const textOf = (item: Cbor | undefined): string => (typeof item === 'string' ? item : malformed('not a text'));
export const mapOf = (item: Cbor | undefined): Pairs => (item instanceof Pairs ? item : malformed('not a map'));
export const listOf = (item: Cbor | undefined): readonly Cbor[] => {
  if (Array.isArray(item)) return item;
  return malformed('not an array');
};

/** What is signed of a COSE_Sign1: its Sig_structure without external data (RFC 9052 §4.4). */
export function sigStructure(protectedHeader: Uint8Array, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const head = (length: number): number[] =>
    length < 24
      ? [0x40 + length]
      : length < 256
        ? [0x58, length]
        : length < 65_536
          ? [0x59, length >> 8, length & 255]
          : [0x5a, length >>> 24, (length >> 16) & 255, (length >> 8) & 255, length & 255];
  const context = Array.from('\x84\x6aSignature1', (character) => character.charCodeAt(0));
  return concat(context, head(protectedHeader.length), protectedHeader, [0x40], head(payload.length), payload);
}

export function concat(...parts: ArrayLike<number>[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** The bytes of a base64url text without padding, or null. */
export function base64url(text: string): Uint8Array<ArrayBuffer> | null {
  if (!/^[\w-]*$/.test(text)) return null;
  try {
    return Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (each) => each.charCodeAt(0));
  } catch {
    return null;
  }
}
