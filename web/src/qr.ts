// The QR symbol: bits to one SVG path. Runs of dark modules become one rectangle each.

/** The light margin that ISO/IEC 18004 asks for, in modules. */
export const QUIET_ZONE = 4;

/** The path of the dark modules, in module units, the quiet zone counted. `bits` is row-major, msb first, unpadded. */
export function path(size: number, bits: string): string {
  const bytes = atob(bits);
  const dark = (index: number): boolean => ((bytes.charCodeAt(index >> 3) >> (7 - (index & 7))) & 1) === 1;
  let drawn = '';
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      if (!dark(row * size + column)) continue;
      const start = column;
      while (column < size && dark(row * size + column)) column++;
      const width = column - start;
      drawn += `M${start + QUIET_ZONE} ${row + QUIET_ZONE}h${width}v1h-${width}z`;
    }
  }
  return drawn;
}
