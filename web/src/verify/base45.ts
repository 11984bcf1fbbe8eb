// Base45 (RFC 9285), strict as src/code/base45.rs is: one text for each byte string.

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:';

/** The bytes of a text, or null where it breaks a rule of RFC 9285. */
export function decode(text: string): Uint8Array | null {
  if (text.length % 3 === 1) return null;
  const bytes = new Uint8Array(Math.floor(text.length / 3) * 2 + (text.length % 3) / 2);
  for (let from = 0, to = 0; from < text.length; from += 3) {
    const whole = from + 3 <= text.length;
    let group = 0;
    for (let at = whole ? from + 2 : from + 1; at >= from; at--) {
      const value = ALPHABET.indexOf(text[at]!);
      if (value < 0) return null;
      group = group * 45 + value;
    }
    if (group > (whole ? 0xffff : 0xff)) return null;
    if (whole) bytes[to++] = group >> 8;
    bytes[to++] = group & 0xff;
  }
  return bytes;
}
