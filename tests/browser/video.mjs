// A camera's picture of a symbol, as a file that Chromium takes for its camera: tilted, blurred, in low light, with noise.

import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { fromWeb } from './source.mjs';

const [WIDTH, HEIGHT] = [1280, 720];
const QUIET = 4;

/** Dark modules of the symbol of a code as the server draws it: level M, its quiet zone counted. */
async function modules(text) {
  const { default: encodeQR } = await import(pathToFileURL(fromWeb.resolve('qr')));
  const rows = encodeQR(text, 'raw', { ecc: 'medium', encoding: 'alphanumeric', border: QUIET });
  return { side: rows.length, dark: (x, y) => rows[y]?.[x] ?? false };
}

/**
 * One picture's brightness. `side`: of the symbol, in pixels. `turn`: in the plane; `tilt`: out of it, both in radians.
 * `blur`: the radius in pixels. `white` and `black`: what they become, of 255. `noise`: its largest deviation.
 */
function picture(
  { side: modulesASide, dark },
  { side, turn = 0, tilt = 0, blur = 0, white = 235, black = 20, noise = 0 },
) {
  const sharp = new Float32Array(WIDTH * HEIGHT);
  const [sine, cosine] = [Math.sin(turn), Math.cos(turn)];
  for (let row = 0; row < HEIGHT; row++) {
    for (let column = 0; column < WIDTH; column++) {
      let light = 0;
      for (const [dx, dy] of [
        [0.25, 0.25],
        [0.75, 0.25],
        [0.25, 0.75],
        [0.75, 0.75],
      ]) {
        const [u, v] = [(column + dx - WIDTH / 2) / side, (row + dy - HEIGHT / 2) / side];
        // Back from the picture to the tilted plane, two sides away, then turned.
        const y = (2 * v) / (2 * Math.cos(tilt) - v * Math.sin(tilt));
        const x = u * (1 + (y * Math.sin(tilt)) / 2);
        const [x0, y0] = [x * cosine + y * sine + 0.5, y * cosine - x * sine + 0.5];
        const inside = x0 >= 0 && y0 >= 0 && x0 < 1 && y0 < 1;
        light += inside ? (dark(Math.floor(x0 * modulesASide), Math.floor(y0 * modulesASide)) ? 0 : 1) : 0.55;
      }
      sharp[row * WIDTH + column] = light / 4;
    }
  }
  const soft = blurred(blurred(sharp, blur, 1, WIDTH), blur, WIDTH, HEIGHT);
  // The same noise each time: a test that fails fails again.
  let seed = 7;
  return Uint8Array.from(soft, (light) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.max(0, Math.min(255, black + light * (white - black) + (seed / 2 ** 30 - 1) * noise));
  });
}

/** A mean over `2 * radius + 1` neighbours, weighted less towards the ends, along one direction. */
function blurred(field, radius, step, length) {
  if (!radius) return field;
  const out = new Float32Array(field.length);
  const reach = Math.ceil(radius * 2);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, at) => Math.exp(-((at - reach) ** 2) / (2 * radius ** 2)));
  const sum = weights.reduce((one, other) => one + other);
  for (let index = 0; index < field.length; index++) {
    const place = step === 1 ? index % length : Math.floor(index / step);
    let light = 0;
    for (let at = -reach; at <= reach; at++) {
      const other = Math.min(length - 1, Math.max(0, place + at));
      light += field[index + (other - place) * step] * weights[at + reach];
    }
    out[index] = light / sum;
  }
  return out;
}

/** Writes a film that shows these pictures of a text over and over, each for half a second (YUV4MPEG2). */
export async function film(path, text, pictures) {
  const symbol = await modules(text);
  const colour = Buffer.alloc((WIDTH * HEIGHT) / 2, 128);
  const frames = pictures.flatMap((how) => [Buffer.from('FRAME\n'), Buffer.from(picture(symbol, how)), colour]);
  writeFileSync(
    path,
    Buffer.concat([Buffer.from(`YUV4MPEG2 W${WIDTH} H${HEIGHT} F2:1 Ip A1:1 C420jpeg\n`), ...frames]),
  );
  return symbol.side - 2 * QUIET;
}
