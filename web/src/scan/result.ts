// What a door shows for a verdict: one look for each kind of answer. Only the status of a code that counts has a status
// colour; a doubt about this device, its lists or the network never looks like a no to the person at the door.

import type { Status } from '../verify/dcc.ts';
import type { Env } from '../verify/trust.ts';
import { OUTCOMES, type Outcome } from '../verify/verify.ts';

/** `no`: the code does not count. `ask`: this device cannot say. */
export type Look = 'green' | 'yellow' | 'red' | 'unknown' | 'no' | 'ask' | 'test';

export interface Judged {
  /** `no_keys`: there is no list of keys here. */
  readonly outcome: Outcome | 'no_keys';
  readonly status?: Status | undefined;
  readonly env?: Env | undefined;
  /** Unix seconds. */
  readonly exp?: number | undefined;
  readonly source: 'online' | 'offline';
}

const ASK: readonly string[] = ['unknown_issuer', 'clock_suspect', 'stale_trust', 'no_keys'];

export function lookOf({ outcome, status, env }: Judged): Look {
  if (ASK.includes(outcome)) return 'ask';
  if (outcome !== 'valid' && outcome !== 'valid_in_grace') return 'no';
  return env === 'test' ? 'test' : (status ?? 'unknown');
}

/** Which words belong to it: those of the status where the code counts, otherwise those of the outcome. */
export function keyOf(judged: Judged): Status | Exclude<Judged['outcome'], 'valid' | 'valid_in_grace'> {
  const { outcome, status } = judged;
  return outcome === 'valid' || outcome === 'valid_in_grace' ? (status ?? 'unknown') : outcome;
}

/** The answer of `POST /scan/verify`; null where it is none. */
export function answered(body: {
  readonly [name: string]: unknown;
}): (Judged & { readonly recorded: boolean }) | null {
  const { result, status, env, exp, recorded } = body;
  if (!OUTCOMES.includes(result as Outcome) || typeof recorded !== 'boolean') return null;
  return {
    outcome: result as Outcome,
    status: ['green', 'yellow', 'red'].includes(status as string) ? (status as Status) : 'unknown',
    env: env === 'test' ? 'test' : 'prod',
    ...(typeof exp === 'number' && { exp }),
    source: 'online',
    recorded,
  };
}
