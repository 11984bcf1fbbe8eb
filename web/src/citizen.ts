// The citizen page: signs in, keeps a fresh code on the screen, and says in words whatever is in the way.
//
// It asks the server for one thing at a time and plans the next try before it rests. It never tries again at once,
// never earlier than `Retry-After` said (a reload changes nothing about that), and never while nobody is looking.
// The last code outlives a reload and a lost network, until its own end.

import { words } from 'words';
import { call, isCode, REFRESH, SESSION, type Answer, type Code, type Problem } from './api.ts';
import { local, now, startFrom, wallOffset } from './clock.ts';
import * as store from './store.ts';
import { paint } from './view.ts';
import type { Message } from './words/words.ts';

/** Where the resident stands with the server. */
type Place = 'loading' | 'signingIn' | 'in' | 'signedOut' | 'failed' | 'notConfigured' | 'unknownResident' | 'ended';
/** What the last try ran into; the next one may go better by itself. */
type Trouble = 'network' | 'busy' | 'server';

/** The ceiling of the first wait after a failure; it doubles with each further one. */
const BACKOFF_MS_FIRST = 2_000;
const BACKOFF_MS_MAX = 60_000;
/** No two tries are closer than this, whoever asks. */
const GAP_MS_MIN = 1_000;
/** How long a `Retry-After` is remembered over a reload: a mistaken one must not lock a phone out. */
const HOLD_MS_MAX = 600_000;
/** How often somebody who is not in the register is looked up again. */
const UNKNOWN_MS = 60_000;

let code: Code | null = null;
let place: Place = 'loading';
let trouble: Trouble | null = null;
/** Why the sign-in failed, in the server's words. */
let reason = '';
let signOutFailed = false;
/** The body of a sign-in that waits for its answer. */
let pending: { readonly assertion: string } | { readonly demo_resident: number } | null = null;
/** A session was just made: if the next call is refused all the same, trying again would go round in circles. */
let justSignedIn = false;
/** The resident opened the page or pressed the button just now, so that leaving for the sign-in is no surprise. */
let asked = true;
let inFlight = false;
/** Counts sign-outs: an answer to a call from before is dropped. */
let era = 0;
let failures = 0;
let lastTry = -Infinity;
/** Local milliseconds before which the server wants to be left alone. */
let holdUntil = -Infinity;
let dueAt: number | null = null;
let timer = 0;

function schedule(delayMs: number): void {
  dueAt = local() + Math.max(delayMs, holdUntil - local(), lastTry + GAP_MS_MIN - local());
  wake();
}

/** Runs a due try; otherwise sets the timer for it. A hidden page waits until it is looked at again. */
function wake(): void {
  clearTimeout(timer);
  if (dueAt === null || document.hidden) return;
  const left = dueAt - local();
  if (left > 0) timer = setTimeout(wake, Math.min(left, BACKOFF_MS_MAX));
  else void step();
}

function expired(): boolean {
  return !code || now() >= code.exp * 1000;
}

async function step(): Promise<void> {
  if (inFlight) return;
  inFlight = true;
  dueAt = null;
  lastTry = local();
  show();
  const asOf = era;
  if (pending) {
    if (!code) place = 'signingIn';
    show();
    const answer = await call('POST', SESSION, pending);
    inFlight = false;
    if (asOf === era) signedIn(answer);
  } else {
    const answer = await call('GET', REFRESH);
    inFlight = false;
    if (asOf === era) refreshed(answer);
  }
  // The button may have been pressed while an answer from before a sign-out was still under way.
  if (asOf !== era) wake();
  show();
}

function refreshed(answer: Answer): void {
  if (answer.kind === 'done' && isCode(answer.body)) {
    code = answer.body;
    store.set('code', { code, offset: wallOffset() });
    place = 'in';
    trouble = null;
    justSignedIn = asked = signOutFailed = false;
    const waitMs = code.refresh_at * 1000 - now();
    failures = waitMs > 0 ? 0 : failures + 1;
    // Spread over the second, as the server names whole ones.
    schedule(waitMs > 0 ? waitMs + Math.random() * 1000 : backoff());
  } else if (answer.kind === 'refused' && answer.status === 401) {
    unauthorised(answer.problem);
  } else {
    otherwise(answer);
  }
}

function signedIn(answer: Answer): void {
  if (answer.kind === 'done') {
    if (pending && 'demo_resident' in pending) store.set('demo', pending.demo_resident);
    // The code on the screen may be somebody else's, on a phone that a family shares.
    forgetCode();
    pending = null;
    justSignedIn = true;
    lastTry = -Infinity;
    schedule(0);
  } else if (answer.kind === 'refused' && /not-configured/.test(answer.problem.type || '')) {
    settle('notConfigured');
  } else if (answer.kind === 'refused' && answer.status < 500 && answer.status !== 404 && answer.status !== 429) {
    settle('failed', answer.problem.detail || answer.problem.title || '');
  } else {
    otherwise(answer);
  }
}

/** A state in which the page waits for the resident. */
function settle(where: Place, why = ''): void {
  place = where;
  reason = why;
  trouble = pending = dueAt = null;
}

function otherwise(answer: Answer): void {
  if (answer.kind === 'unreachable') return retry('network', 0);
  if (answer.kind === 'done') return retry('server', 0);
  if (answer.status === 404 && /unknown-resident/.test(answer.problem.type || '')) {
    forgetCode();
    settle('unknownResident');
    return schedule(UNKNOWN_MS * (1 + Math.random()));
  }
  retry(answer.status === 429 || answer.status === 503 ? 'busy' : 'server', answer.waitMs);
}

function retry(what: Trouble, waitMs: number): void {
  trouble = what;
  failures++;
  if (waitMs > 0) {
    holdUntil = local() + waitMs;
    store.set('hold', Date.now() + waitMs);
  }
  schedule(Math.max(backoff(), waitMs && waitMs + Math.random() * 1000));
}

/** Exponential back-off with full jitter, above the smallest gap. */
function backoff(): number {
  return GAP_MS_MIN + Math.random() * Math.min(BACKOFF_MS_MAX, BACKOFF_MS_FIRST * 2 ** (failures - 1));
}

function unauthorised(problem: Problem): void {
  if (justSignedIn) return settle('failed', words.sessionNotKept);
  if (problem.demo) {
    pending = { demo_resident: wantedResident() || store.get<number>('demo') || 1 };
    lastTry = -Infinity;
    return schedule(0);
  }
  if (!problem.login_url) return settle('notConfigured');
  // Nobody is sent away from a code that still opens doors, nor while looking elsewhere.
  if (!expired() || !asked) return settle('ended');
  signInAt(problem.login_url);
}

function signInAt(loginUrl: string): void {
  const state = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('');
  try {
    const target = new URL(loginUrl, location.href);
    store.keepState(state);
    target.searchParams.set('state', state);
    target.searchParams.set('redirect_uri', `${location.origin}/`);
    place = 'signingIn';
    location.assign(target.href);
  } catch (error) {
    settle('failed', String(error));
  }
}

function wantedResident(): number {
  return Number(new URLSearchParams(location.hash.slice(1)).get('demo_resident')) || 0;
}

function forgetCode(): void {
  code = null;
  store.remove('code');
}

function forgetAll(): void {
  era++;
  forgetCode();
  signOutFailed = false;
  settle('signedOut');
}

async function signOut(): Promise<void> {
  const answer = await call('DELETE', SESSION);
  if (answer.kind === 'done' || (answer.kind === 'refused' && answer.status === 401)) {
    store.set('out', true);
    store.remove('demo');
    forgetAll();
  } else {
    signOutFailed = true;
  }
  show();
}

function begin(): void {
  store.remove('out');
  asked = true;
  justSignedIn = false;
  if (place !== 'in') place = 'loading';
  schedule(0);
  show();
}

/** What to say, and its name; nothing while a good code speaks for itself. */
function message(): [string, Message | null] {
  if (signOutFailed) return ['signOutFailed', { heading: words.signOut, detail: words.signOutFailed }];
  const waiting = place === 'loading' || place === 'signingIn';
  const key = place !== 'in' && !waiting ? place : trouble || (waiting && !code ? place : expired() ? 'loading' : 'in');
  if (key === 'in') return [key, null];
  const said = words[key];
  if (key === 'failed') return [key, { ...said, detail: reason }];
  return [key, code && !expired() ? { ...said, detail: `${said.detail}\n${words.stillValid}` } : said];
}

function show(): void {
  const [key, said] = message();
  const next = trouble === null ? null : inFlight ? 0 : dueAt === null ? null : Math.max(0, dueAt - local());
  paint({
    code,
    now: now(),
    key,
    message: said,
    next,
    canSignOut: place === 'in' || (code !== null && place !== 'ended'),
  });
}

/** Once a second, when the server's clock turns to a new one. */
function tick(): void {
  show();
  setTimeout(tick, 1000 - (now() % 1000));
}

function start(): void {
  const kept = store.get<{ code: Code; offset: number }>('code');
  if (kept && isCode(kept.code)) {
    code = kept.code;
    startFrom(kept.offset);
  }
  holdUntil = local() + Math.min(HOLD_MS_MAX, (store.get<number>('hold') || 0) - Date.now());
  const wanted = wantedResident();
  const played = store.get<number>('demo');
  const fragment = new URLSearchParams(location.hash.slice(1));
  const assertion = fragment.get('assertion');
  if (assertion) {
    history.replaceState(null, '', location.pathname);
    // A city's app opens the page without a state, when none was asked for; any other answer must bring ours back.
    if (fragment.get('state') !== store.takeState()) return settle('failed', words.stateMismatch);
    store.remove('out');
    pending = { assertion };
  } else if (store.get('out')) {
    return settle('signedOut');
  } else if (played && wanted && played !== wanted) {
    forgetCode();
    pending = { demo_resident: wanted };
  }
  if (holdUntil > local()) trouble = 'busy';
  schedule(0);
}

document.getElementById('act')!.onclick = begin;
document.getElementById('out')!.onclick = () => void signOut();
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  show();
  wake();
});
addEventListener('online', () => {
  // A district comes back at one moment: its phones do not.
  if (trouble === 'network' && dueAt !== null) schedule(Math.min(dueAt - local(), Math.random() * BACKOFF_MS_FIRST));
});
addEventListener('hashchange', () => location.reload());
addEventListener('storage', (event) => {
  if (event.key === 'out' && event.newValue) {
    forgetAll();
    show();
  }
});
addEventListener('load', () => {
  if (navigator.serviceWorker) navigator.serviceWorker.register('/sw.js').catch(() => undefined);
});
start();
tick();
