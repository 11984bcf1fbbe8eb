// The three calls of the page. Whatever happens comes back as one of three answers; nothing is thrown.

import { heard, local, now } from './clock.ts';

export interface Code {
  readonly code: string;
  readonly status: string;
  readonly exp: number;
  readonly refresh_at: number;
  readonly env?: string;
  readonly qr: { readonly size: number; readonly bits: string };
}

/** RFC 9457, with the two members by which a 401 says how to sign in. */
export interface Problem {
  readonly type?: string;
  readonly title?: string;
  readonly detail?: string;
  readonly login_url?: string;
  readonly demo?: boolean;
}

export type Answer =
  | { readonly kind: 'done'; readonly body: unknown }
  | { readonly kind: 'refused'; readonly status: number; readonly problem: Problem; readonly waitMs: number }
  | { readonly kind: 'unreachable' };

export const SESSION = '/person/app/session';
export const REFRESH = '/person/app/refreshQRCode';

/** How long an answer may take: beyond it the network counts as gone. */
const ANSWER_MS_MAX = 12_000;

export async function call(method: string, path: string, body?: object): Promise<Answer> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), ANSWER_MS_MAX);
  try {
    const sent = local();
    const response = await fetch(path, {
      method,
      cache: 'no-store',
      signal: abort.signal,
      ...(body && { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }),
    });
    const received = local();
    const text = await response.text();
    if (response.ok) {
      // A hotel's sign-in page also answers 200; only JSON is the service.
      const parsed: unknown = text ? JSON.parse(text) : null;
      heard(response.headers.get('Date'), sent, received);
      return { kind: 'done', body: parsed };
    }
    return { kind: 'refused', status: response.status, problem: problem(text), waitMs: wait(response.headers) };
  } catch {
    return { kind: 'unreachable' };
  } finally {
    clearTimeout(timer);
  }
}

function problem(text: string): Problem {
  try {
    const parsed: unknown = JSON.parse(text);
    return parsed && typeof parsed === 'object' ? parsed : {};
  } catch {
    return {};
  }
}

/** `Retry-After` in milliseconds: seconds, or a date, as balancers send it too (RFC 9110 section 10.2.3). */
function wait(headers: Headers): number {
  const value = headers.get('Retry-After') || '';
  const left = Date.parse(value) - (Date.parse(headers.get('Date') || '') || now());
  return Math.max(0, Number(value) * 1000 || left || 0);
}

/** Whether a body is a code that can be shown. */
export function isCode(body: unknown): body is Code {
  const code = body as Code | null;
  return (
    !!code &&
    typeof code.code === 'string' &&
    code.exp > 0 &&
    code.refresh_at > 0 &&
    !!code.qr &&
    typeof code.qr.bits === 'string' &&
    code.qr.bits.length * 6 >= code.qr.size ** 2
  );
}
