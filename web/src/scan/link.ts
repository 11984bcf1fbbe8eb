// Whether the server is asked. It leaves a failing network at once and comes back only when that has been good for a
// while, so that a door at the edge of a cell does not flap; the person at the door may overrule it.

export type Choice = 'auto' | 'online' | 'offline';

/** A server that has not answered a scan by then is not waited for; with 'online' chosen by hand it is. */
export const ANSWER_MS = 200;
export const ANSWER_MS_CHOSEN = 4_000;
/** A probe counts as good up to this: well inside what a scan is given. */
export const GOOD_MS = 150;
/** So many failures in a row lead offline, so many good probes in a row back. */
const BAD_MAX = 2;
const GOOD_MIN = 3;
/** Between probes while offline. */
export const PROBE_MS = 4_000;

export class Link {
  choice: Choice = 'auto';
  private up = true;
  private bad = 0;
  private good = 0;

  /** Whether a scan is to be sent to the server. */
  get asks(): boolean {
    return this.choice === 'online' || (this.choice === 'auto' && this.up);
  }

  get answerMs(): number {
    return this.choice === 'online' ? ANSWER_MS_CHOSEN : ANSWER_MS;
  }

  /** Whether probes are wanted to find the way back. */
  get probes(): boolean {
    return !this.up;
  }

  /** A scan was answered in time, or not. */
  asked(inTime: boolean): void {
    this.bad = inTime ? 0 : this.bad + 1;
    if (this.bad >= BAD_MAX) this.lost();
  }

  /** A probe took so long, or nobody answered (`Infinity`). */
  probed(ms: number): void {
    this.good = ms <= GOOD_MS ? this.good + 1 : 0;
    if (this.good >= GOOD_MIN) {
      this.up = true;
      this.bad = 0;
    }
  }

  /** The device says that it has no network, or the server asks to be left alone. */
  lost(): void {
    this.up = false;
    this.good = 0;
  }
}
