// The server's clock, read from `Date`.
//
// `Date` tells whole seconds: a value D that left the server between our sending and our receiving bounds the
// difference between the two clocks to D − received … D + 1 s − sent. Each answer narrows these bounds; an answer
// outside them (a clock was set, or drifted) starts them anew.

const loadedWall = Date.now();
const loadedMono = performance.now();

/**
 * Milliseconds on this device. Of its two clocks the one that has gone further counts: `performance.now()` may stand
 * still while the device sleeps, the wall clock may be set back. So a code can be shown expired too early, and then
 * is fetched anew, but never too late.
 */
export function local(): number {
  return loadedWall + Math.max(performance.now() - loadedMono, Date.now() - loadedWall);
}

let low = -Infinity;
let high = Infinity;
let offset = 0;

/** Takes the `Date` of an answer whose request was sent, and whose head arrived, at these local times. */
export function heard(date: string | null, sent: number, received: number): void {
  const second = Date.parse(date || '');
  if (!(second > 0)) return;
  const answerLow = second - received;
  const answerHigh = second + 1000 - sent;
  low = Math.max(low, answerLow);
  high = Math.min(high, answerHigh);
  if (low > high) {
    low = answerLow;
    high = answerHigh;
  }
  offset = (low + high) / 2;
}

/** Milliseconds since 1970 on the server's clock, as well as this device knows. */
export function now(): number {
  return local() + offset;
}

/** What to add to the wall clock to have the server's: kept with the code, for a start without network. */
export function wallOffset(): number {
  return now() - Date.now();
}

/** Starts from a kept difference until an answer brings a better one. */
export function startFrom(kept: number): void {
  offset = kept;
}
