// The calls of the scanner page. Whatever happens comes back as an answer; nothing is thrown.

import { heard, local } from '../clock.ts';

export interface Answer {
  /** 0 where nobody answered. */
  readonly status: number;
  /** The body as text. */
  readonly text: string;
  /** How long it took. */
  readonly ms: number;
  /** `Retry-After`, in milliseconds. */
  readonly waitMs: number;
}

/** When a server last told its time, in Unix seconds. */
export let heardS = 0;

export function startHeardFrom(kept: number): void {
  heardS = kept;
}

const ANSWER_MS_MAX = 10_000;

export async function ask(method: 'GET' | 'POST', path: string, token?: string, body?: string): Promise<Answer> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), ANSWER_MS_MAX);
  const sent = local();
  try {
    const response = await fetch(path, {
      method,
      cache: 'no-store',
      // A device's certificate goes with it.
      credentials: 'same-origin',
      signal: abort.signal,
      headers: {
        ...(token && { Authorization: `Bearer ${token}` }),
        ...(body !== undefined && {
          'Content-Type': path.endsWith('/records') ? 'application/x-ndjson' : 'application/json',
        }),
      },
      ...(body !== undefined && { body }),
    });
    const received = local();
    const text = await response.text();
    const date = response.headers.get('Date');
    heard(date, sent, received);
    heardS = Math.max(heardS, Math.floor(Date.parse(date ?? '') / 1000) || 0);
    const waitMs = Math.max(0, Number(response.headers.get('Retry-After') ?? 0) * 1000 || 0);
    return { status: response.status, text, ms: local() - sent, waitMs };
  } catch {
    return { status: 0, text: '', ms: Infinity, waitMs: 0 };
  } finally {
    clearTimeout(timer);
  }
}

/** A JSON object, or an empty one. */
export function object(text: string): { readonly [name: string]: unknown } {
  try {
    const parsed: unknown = JSON.parse(text);
    return parsed && typeof parsed === 'object' ? (parsed as { readonly [name: string]: unknown }) : {};
  } catch {
    return {};
  }
}
