// Keeps the list of keys that the scanner decides by. It asks the server for a newer one at times that differ from door
// to door, and goes on with what it has.

import { fromJwks, type Trust } from '../verify/trust.ts';
import { get, set } from './idb.ts';
import type { TrustState } from './messages.ts';

const JWKS = '/.well-known/jwks.json';

/** A new key is known everywhere after this; a quarter more or less, so that doors do not ask together. */
const REFRESH_MS = 300_000;
/** A start with a list in hand asks at any time within this: a city's doors wake in one minute. */
const FIRST_REFRESH_MS = 60_000;
/** Behind a refresh that nobody answered. */
const RETRY_MS = 30_000;
const ANSWER_MS_MAX = 30_000;
/** Ten thousand keys. */
const JWKS_BYTES_MAX = 4 << 20;
/** How long the list is relied on, which says no end of its own; half of it on, it is called old. */
const LIFE_MS = 48 * 3_600_000;

interface Kept {
  readonly content: string;
  /** By the server's clock, in Unix milliseconds. */
  readonly confirmed: number;
}

export class Keeper {
  private trusted: Trust | null = null;
  private confirmed = 0;
  private refused = '';
  private timer = 0;

  constructor(private readonly tell: (state: TrustState) => void) {}

  async load(): Promise<void> {
    const kept = await get<Kept>('jwks');
    if (kept) await this.take(kept).catch(() => undefined);
    this.say();
    this.plan(this.trusted ? Math.random() * FIRST_REFRESH_MS : 0);
  }

  /** What to verify by, at a time in Unix seconds before which no right clock can be. */
  trust(heardS: number): Trust | null {
    const { trusted } = this;
    if (!trusted) return null;
    trusted.heard = heardS;
    trusted.staleFrom = (this.confirmed + LIFE_MS) / 1000;
    return trusted;
  }

  async refresh(): Promise<void> {
    clearTimeout(this.timer);
    const given = await fetched(JWKS, JWKS_BYTES_MAX);
    if (given) {
      try {
        await this.take(given);
        await set('jwks', given);
      } catch (error) {
        this.refused = error instanceof Error ? error.message : String(error);
      }
    }
    this.say();
    this.plan((given ? REFRESH_MS : RETRY_MS) * (0.75 + Math.random() / 2));
  }

  private plan(delayMs: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.refresh(), delayMs) as unknown as number;
  }

  private async take({ content, confirmed }: Kept): Promise<void> {
    this.trusted = await fromJwks(content);
    this.confirmed = confirmed;
    this.refused = '';
  }

  private say(): void {
    const { confirmed, refused } = this;
    const [softExpiry, hardExpiry] = [confirmed + LIFE_MS / 2, confirmed + LIFE_MS];
    this.tell({ confirmed, softExpiry, hardExpiry, unusable: this.trusted?.unusable ?? 0, refused });
  }
}

/** The body, by its ETag from the browser's own cache where it has not changed; null where nobody gave one. */
async function fetched(path: string, bytesMax: number): Promise<Kept | null> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), ANSWER_MS_MAX);
  try {
    const response = await fetch(path, { cache: 'no-cache', credentials: 'same-origin', signal: abort.signal });
    if (!response.ok || response.redirected) return null;
    const bytes = await response.arrayBuffer();
    if (bytes.byteLength > bytesMax) return null;
    const confirmed = Date.parse(response.headers.get('Date') ?? '') || Date.now();
    return { content: new TextDecoder().decode(bytes), confirmed };
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}
