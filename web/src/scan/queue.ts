// The scans that the server does not have yet. Each is on the disk of this device before its verdict is shown, and goes
// only when the server has said that it is on its own: sent again after any doubt, it counts once, by its id.

import { exchange, queued, type ScanRecord } from './idb.ts';
import { ask, object } from './net.ts';

const RECORDS = '/scan/records';
/** Records a request: a minute of a busy door. */
const BATCH_MAX = 200;
/** Behind a new record; others may come with it. */
const SOON_MS = 2_000;
const RETRY_MS_FIRST = 4_000;
const RETRY_MS_MAX = 120_000;
/** A verdict never waits longer for this device's disk. */
const KEEP_MS_MAX = 80;

/** A UUID of version 7 (RFC 9562 §5.7), in hexadecimal. */
export function uuid7(atMs: number): string {
  const random = crypto.getRandomValues(new Uint8Array(10));
  random[0] = (random[0]! & 0x0f) | 0x70;
  random[2] = (random[2]! & 0x3f) | 0x80;
  const hex = Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return Math.floor(atMs).toString(16).padStart(12, '0') + hex;
}

export class Queue {
  private readonly waiting = new Map<string, ScanRecord>();
  /** Records whose fate at the server is still open: an answer may come. */
  private readonly inDoubt = new Set<string>();
  /** This device's storage failed: what is waiting lives as long as this page. */
  volatile = false;
  private failures = 0;
  private timer = 0;
  private sending = false;

  constructor(
    /** Null while nothing is to be sent. */
    private readonly token: () => string | null,
    private readonly changed: () => void,
  ) {}

  async load(): Promise<void> {
    try {
      for (const record of await queued()) this.waiting.set(record.id, record);
    } catch {
      this.volatile = true;
    }
    this.changed();
    if (this.waiting.size) this.plan(Math.random() * RETRY_MS_FIRST);
  }

  get count(): number {
    return this.waiting.size - this.refused;
  }

  /** Those which the server will never take. */
  get refused(): number {
    return [...this.waiting.values()].filter((record) => record.refused).length;
  }

  /** Keeps a record; resolves when it is on the disk, or when a verdict can wait no longer. */
  async keep(record: ScanRecord, inDoubt: boolean): Promise<void> {
    this.waiting.set(record.id, record);
    if (inDoubt) this.inDoubt.add(record.id);
    const kept = exchange([], [record]).catch(() => {
      this.volatile = true;
    });
    await Promise.race([kept, new Promise((resolve) => setTimeout(resolve, KEEP_MS_MAX))]);
    this.changed();
    this.plan(SOON_MS);
  }

  /** What came of a record in doubt: the server has it, or wants it as it saw it, or nobody knows. */
  settle(id: string, answered: (Pick<ScanRecord, 'result' | 'test'> & { readonly recorded: boolean }) | null): void {
    this.inDoubt.delete(id);
    const record = this.waiting.get(id);
    if (!record || !answered) return this.plan(SOON_MS);
    const { recorded, result, test } = answered;
    const put = recorded ? [] : [{ ...record, result, test }];
    if (recorded) this.waiting.delete(id);
    for (const each of put) this.waiting.set(id, each);
    void exchange([id], put).catch(() => undefined);
    this.changed();
    this.plan(SOON_MS);
  }

  /** Sends soon; the network may have come back. */
  plan(delayMs: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.send(), delayMs * (1 + Math.random())) as unknown as number;
  }

  private async send(): Promise<void> {
    const batch = [...this.waiting.values()]
      .filter((each) => !each.refused && !this.inDoubt.has(each.id))
      .slice(0, BATCH_MAX);
    const token = this.token();
    if (this.sending || !batch.length || token === null) return;
    this.sending = true;
    const lines = batch.map(({ id, at, place, cti, result, test }) =>
      JSON.stringify({ id, at, place, cti, result, test }),
    );
    const answer = await ask('POST', RECORDS, token, lines.join('\n') + '\n');
    this.sending = false;
    const taken = answer.status === 200 ? await this.take(batch, answer.text) : 0;
    this.failures = taken ? 0 : this.failures + 1;
    this.changed();
    const backoff = Math.min(RETRY_MS_MAX, RETRY_MS_FIRST * 2 ** (this.failures - 1));
    if (this.count) this.plan(taken ? SOON_MS : Math.max(backoff, answer.waitMs));
  }

  /** A line of the answer for each record; one without a line stays. */
  private async take(batch: readonly ScanRecord[], text: string): Promise<number> {
    const gone: string[] = [];
    const put: ScanRecord[] = [];
    for (const line of text.split('\n')) {
      const { line: number, result, type } = object(line);
      const record = batch[Number(number) - 1];
      if (!record) continue;
      if (result === 'done' || result === 'ignored') gone.push(record.id);
      else if (result === 'error') put.push({ ...record, refused: String(type) });
    }
    for (const id of gone) this.waiting.delete(id);
    for (const record of put) this.waiting.set(record.id, record);
    await exchange(gone, put).catch(() => undefined);
    return gone.length + put.length;
  }
}
