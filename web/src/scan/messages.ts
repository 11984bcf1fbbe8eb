// What page and worker say to each other.

import type { Status } from '../verify/dcc.ts';
import type { Env } from '../verify/trust.ts';
import type { Outcome } from '../verify/verify.ts';

export type Question =
  | { readonly op: 'decode'; readonly width: number; readonly height: number; readonly data: ArrayBuffer }
  /** `atMs`: the time as well as it is known. `heardS`: a time that a server has told, in Unix seconds. */
  | { readonly op: 'verify'; readonly text: string; readonly atMs: number; readonly heardS: number }
  /** The list of keys is to be asked for now. */
  | { readonly op: 'refresh' };

/** The verdict of this device. */
export interface Offline {
  readonly outcome: Outcome;
  /** Nothing can be said: there is no list of keys. */
  readonly noKeys: boolean;
  readonly cti: string;
  readonly status?: Status;
  readonly exp?: number;
  readonly env?: Env;
}

/** By what this device decides. Times in Unix milliseconds. */
export interface TrustState {
  /** When the server last said that the list is the newest; 0 while there is none. */
  readonly confirmed: number;
  /** From when on the list is called old, and too old. */
  readonly softExpiry: number;
  readonly hardExpiry: number;
  /** How many of its keys this browser cannot use. */
  readonly unusable: number;
  /** Why what the server last gave was not taken. */
  readonly refused: string;
}

export type Said =
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: string }
  | { readonly trust: TrustState };
