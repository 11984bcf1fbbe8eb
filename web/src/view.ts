// Paints the page from one `View`. It decides nothing and remembers only what it painted last.

import { words } from 'words';
import type { Code } from './api.ts';
import { path, QUIET_ZONE } from './qr.ts';
import type { Message } from './words/words.ts';

export interface View {
  readonly code: Code | null;
  /** Milliseconds on the server's clock. */
  readonly now: number;
  /** Names the message for the tests and for what is read out. */
  readonly key: string;
  readonly message: Message | null;
  /** Milliseconds to the next try, 0 while one is under way, or null when none is planned. */
  readonly next: number | null;
  readonly canSignOut: boolean;
}

/** Each status has a shape of its own: circle and tick, triangle and mark, octagon and cross, square and question. */
const SHAPES: { readonly [look: string]: string } = {
  green: 'M12 2a10 10 0 1 0 0 20a10 10 0 1 0 0-20M7.5 12.5l3.2 3.2l6-6.7',
  yellow: 'M12 3L1.5 21h21zM12 10v5M12 18v.01',
  red: 'M8 2h8l6 6v8l-6 6h-8l-6-6v-8zM9 9l6 6M15 9l-6 6',
  unknown: 'M3 3h18v18h-18zM9.5 10a2.5 2.5 0 1 1 3.8 2.1q-1.3.7-1.3 1.9M12 17v.01',
  expired: 'M12 2a10 10 0 1 0 0 20a10 10 0 1 0 0-20M12 6.5v5.5l3.5 2.5',
};

const element = (id: string): HTMLElement => document.getElementById(id)!;

function put(id: string, text: string): void {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}

function draw(id: string, d: string): void {
  element(id).setAttribute('d', d);
}

/** A time of day; with its date when that is not today. */
function time(ms: number, now: number): string {
  const at = new Date(ms);
  const clock = at.toLocaleTimeString(words.lang, {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
  });
  return at.toDateString() === new Date(now).toDateString() ? clock : `${at.toLocaleDateString(words.lang)} ${clock}`;
}

function statusWord(code: Code): 'green' | 'yellow' | 'red' | 'unknown' {
  const { status } = code;
  return status === 'green' || status === 'yellow' || status === 'red' ? status : 'unknown';
}

let painted = '';

function paintCard(code: Code, now: number): string {
  const endMs = code.exp * 1000;
  const expired = now >= endMs;
  const status = statusWord(code);
  const heading = expired ? words.expired : words.status[status];
  const test = code.env === 'test';

  // Anything that is not known to be real is shown as a test, never in a status colour.
  element('card').dataset.look = expired ? 'expired' : code.env ? 'test' : status;
  element('test').hidden = !code.env;
  element('live').hidden = expired;
  element('left').hidden = expired;
  put('word', heading);
  draw('shape', SHAPES[expired ? 'expired' : status]!);
  if (painted !== code.code) {
    painted = code.code;
    const side = code.qr.size + 2 * QUIET_ZONE;
    element('qr').setAttribute('viewBox', `0 0 ${side} ${side}`);
    draw('bits', path(code.qr.size, code.qr.bits));
  }
  put('clock', time(now, now));
  const left = Math.max(0, Math.ceil((endMs - now) / 1000));
  put('left', `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`);
  put('before', expired ? words.expiredAt(time(endMs, now)) : words.left);
  put('after', expired ? '' : '· ' + words.until(time(endMs, now)));
  return (test ? `TEST, ${words.test}. ` : '') + (expired ? words.expiredAt(time(endMs, now)) : heading);
}

export function paint(view: View): void {
  const { code, message, next } = view;
  element('card').hidden = !code;
  const said = code ? [paintCard(code, view.now)] : [];

  const box = element('message');
  box.hidden = !message;
  box.dataset.key = view.key;
  if (message) {
    put('heading', message.heading);
    put('detail', message.detail);
    put('next', next === null ? '' : next > 0 ? words.nextTry(Math.ceil(next / 1000)) : words.trying);
    const button = element('act');
    button.hidden = !message.button;
    if (message.button) put('act', message.button);
    said.push(message.heading, message.detail);
  }
  // The countdowns are no news: this text stays the same from second to second, and is read out when it changes.
  put('say', said.join('. '));
  const focused = document.activeElement;
  element('out').hidden = !view.canSignOut;
  // The focus must not fall off the page with the button that had it.
  if (focused && focused.closest('[hidden]'))
    (message && message.button ? element('act') : document.querySelector('h1')!).focus();
}
