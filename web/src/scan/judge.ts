// The scanner's worker: reads symbols out of pictures, and decides without a network.

import decodeQR from 'qr/decode.js';
import { ed25519From } from '../verify/keys.ts';
import { hex } from '../verify/cbor.ts';
import { Trust } from '../verify/trust.ts';
import { verify } from '../verify/verify.ts';
import { Keeper } from './keeper.ts';
import type { Offline, Question, Said } from './messages.ts';

/** Where Ed25519 lies for browsers that lack it. */
declare const ED25519: string;

const worker = self as unknown as DedicatedWorkerGlobalScope & {
  verifyEd25519?: (signature: Uint8Array, signed: Uint8Array, key: Uint8Array) => Promise<boolean>;
};
const say = (said: Said): void => worker.postMessage(said);
const keeper = new Keeper((trust) => say({ trust }));

ed25519From(async () => {
  worker.importScripts(ED25519);
  return worker.verifyEd25519!;
});

/** What a picture may take beyond the first look, in milliseconds: the next one comes soon. */
const DECODE_MS = 60;

function decode({ width, height, data }: Extract<Question, { op: 'decode' }>): string | null {
  try {
    return decodeQR({ width, height, data: new Uint8ClampedArray(data) }, { timeLimit: DECODE_MS });
  } catch {
    return null;
  }
}

async function decide({ text, atMs, heardS }: Extract<Question, { op: 'verify' }>): Promise<Offline> {
  const trust = keeper.trust(heardS);
  const { outcome, claims, env } = await verify(trust ?? NOBODY, text, Math.floor(atMs / 1000));
  const noKeys = !trust && outcome === 'unknown_issuer';
  const cti = hex(claims?.cti ?? new Uint8Array(16));
  if (!claims) return { outcome, noKeys, cti };
  return { outcome, noKeys, cti, ...(env && { env }), status: claims.status, exp: claims.exp };
}

async function answer(question: Question): Promise<unknown> {
  if (question.op === 'decode') return decode(question);
  await loaded;
  return question.op === 'verify' ? decide(question) : keeper.refresh();
}

const NOBODY = new Trust();
const loaded = keeper.load();
worker.onmessage = ({ data }: MessageEvent<Question & { readonly id: number }>) => {
  const { id } = data;
  answer(data).then(
    (answer) => say({ id, answer }),
    (error) => say({ id, error: String(error) }),
  );
};
