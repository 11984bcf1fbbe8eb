// The scanner page: reads codes, decides with the server or without it, keeps what it decided, and says in words, shape,
// colour, sound and vibration what a door has to do.
//
// A verdict is due within 300 ms of a reading. The server is asked while the link is good and this device decides
// meanwhile, so that an answer that does not come costs its wait and nothing else.

import { words } from 'scan-words';
import { now, startFrom, wallOffset } from '../clock.ts';
import { Camera } from './camera.ts';
import * as idb from './idb.ts';
import { listen } from './input.ts';
import { Link, PROBE_MS, type Choice } from './link.ts';
import type { Offline, Question, Said, TrustState } from './messages.ts';
import { ask, heardS, object, startHeardFrom } from './net.ts';
import { Queue, uuid7 } from './queue.ts';
import { answered, keyOf, lookOf, type Judged } from './result.ts';
import { play, unlock } from './sound.ts';
import { day, element, paintReady, paintVerdict, put, trustLine } from './view.ts';

/** Where the worker lies. */
declare const JUDGE: string;

const VERIFY = '/scan/verify';
/** The same symbol is one scan while it stays before the camera. */
const SAME_MS = 3_000;
/** How long a verdict stands before the page is ready for the next person. */
const RESULT_MS = 6_000;
/** How often ages are painted, and a lost server is looked for. */
const TICK_MS = 1_000;
/** How often the server's time is kept, in its seconds. */
const CLOCK_KEPT_S = 30;
const TOKEN = /^[\w-]{48}$/;

interface Device {
  /** Empty where a certificate stands for it. */
  readonly token: string;
  readonly place: string;
}

const COUNTED = ['green', 'yellow', 'red', 'test', 'other'] as const;
type Counted = (typeof COUNTED)[number];
type Shift = { since: number } & { [kind in Counted]: number };

let device: Device = { token: '', place: '' };
let shift: Shift = newShift();
let trust: TrustState | null = null;
let tokenRefused = false;
/** Counts scans: what belongs to an older one changes nothing on the screen. */
let scans = 0;
let lastText = '';
let lastSeen = -Infinity;
let clearing = 0;
let probing = false;
let lastProbe = -Infinity;
let keptS = 0;

const link = new Link();
const queue = new Queue(() => (isKnown() ? device.token : null), showDevice);

/** The device is set up, and the server has not refused it. */
const isKnown = (): boolean => !!device.place && !tokenRefused;

// --- the worker

const judge = new Worker(JUDGE);
const asked = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();
let questions = 0;
let broken = false;

function question<T>(what: Question, give: Transferable[] = []): Promise<T> {
  if (broken) return Promise.reject(new Error('the worker is broken'));
  const id = ++questions;
  judge.postMessage({ ...what, id }, give);
  return new Promise<T>((resolve, reject) => asked.set(id, { resolve, reject }));
}

judge.onerror = () => {
  broken = true;
  asked.forEach(({ reject }) => reject(new Error('the worker is broken')));
  asked.clear();
};
judge.onmessage = ({ data }: MessageEvent<Said>) => {
  if ('trust' in data) {
    trust = data.trust;
    return showDevice();
  }
  const waiting = asked.get(data.id);
  asked.delete(data.id);
  if ('error' in data) waiting?.reject(new Error(data.error));
  else waiting?.resolve(data.answer as never);
};

// --- a scan

/** Takes what the camera sees: a symbol that stays is one scan. */
function seen(text: string): void {
  const at = performance.now();
  const same = text === lastText && at - lastSeen < SAME_MS;
  [lastText, lastSeen] = [text, at];
  if (!same) void decide(text);
}

async function decide(text: string): Promise<void> {
  const scan = ++scans;
  const began = performance.now();
  const atMs = Math.round(now());
  const id = uuid7(atMs);
  const own = question<Offline>({ op: 'verify', text, atMs, heardS }).catch(() => UNDECIDED);
  // What is no code of this kind is not sent: who knows what it says.
  const asking = link.asks && isKnown() && text.startsWith('OC1:') ? askServer(id, text) : null;
  const intime = asking && (await Promise.race([asking, after(link.answerMs)]));
  const offline = await own;
  if (asking && !tokenRefused) link.asked(!!intime);
  const local: Judged = { ...offline, outcome: offline.noKeys ? 'no_keys' : offline.outcome, source: 'offline' };
  const judged = intime || local;
  const record = { id, at: atMs, place: device.place, cti: offline.cti, ...recordOf(judged) };
  const late = intime ? null : asking;
  if (!intime?.recorded) await queue.keep(record, !!late);
  if (scan === scans) show(judged, atMs, began);
  count(judged, 1);
  if (late) void settle(scan, late, id, judged, atMs);
}

/** Where this browser cannot decide, it does not say no. */
const UNDECIDED: Offline = {
  outcome: 'unknown_issuer',
  noKeys: false,
  cti: '0'.repeat(32),
};

const recordOf = ({ outcome, env }: Judged) => ({
  result: outcome === 'no_keys' ? 'unknown_issuer' : outcome,
  test: env === 'test',
});

const after = (ms: number): Promise<null> => new Promise((resolve) => setTimeout(resolve, ms, null));

type Answered = NonNullable<ReturnType<typeof answered>>;

async function askServer(id: string, code: string): Promise<Answered | null> {
  const answer = await ask('POST', VERIFY, device.token, JSON.stringify({ id, code, place: device.place }));
  if (answer.status === 401 || answer.status === 403) {
    tokenRefused = true;
    showDevice();
  }
  return answer.status === 200 ? answered(object(answer.text)) : null;
}

/** An answer that came too late still settles the record, and corrects the screen where it says something else. */
async function settle(
  scan: number,
  late: Promise<Answered | null>,
  id: string,
  shown: Judged,
  atMs: number,
): Promise<void> {
  const answer = await late;
  queue.settle(id, answer && { recorded: answer.recorded, ...recordOf(answer) });
  if (!answer) return;
  if (keyOf(answer) === keyOf(shown) && lookOf(answer) === lookOf(shown)) return;
  count(shown, -1);
  count(answer, 1);
  if (scan === scans) show(answer, atMs, performance.now());
}

function show(judged: Judged, atMs: number, began: number): void {
  paintVerdict(judged, atMs);
  play(lookOf(judged));
  const result = element('result');
  result.dataset.key = keyOf(judged);
  result.dataset.source = judged.source;
  result.dataset.ms = String(Math.round(performance.now() - began));
  result.dataset.scan = String(scans);
  clearTimeout(clearing);
  clearing = setTimeout(paintReady, RESULT_MS);
}

// --- the shift

function newShift(): Shift {
  return { since: Date.now(), green: 0, yellow: 0, red: 0, test: 0, other: 0 };
}

function count(judged: Judged, by: number): void {
  const look = lookOf(judged);
  shift[COUNTED.includes(look as Counted) ? (look as Counted) : 'other'] += by;
  void idb.set('shift', shift);
  showShift();
}

function showShift(): void {
  for (const kind of COUNTED) element(`n-${kind}`).textContent = String(shift[kind]);
  put('since', words.shiftSince(day(shift.since)));
}

// --- the device

/** What is wrong with this device; empty while nothing is. */
function warning(): string {
  const said: string[] = [];
  const offBy = Math.round(wallOffset() / 60_000);
  const atMs = now();
  if (tokenRefused) said.push(words.tokenRefused);
  if (trust?.confirmed && atMs >= trust.hardExpiry) said.push(words.trust.over);
  else if (trust?.confirmed && atMs >= trust.softExpiry)
    said.push(words.trust.soon(day(trust.hardExpiry)));
  if (trust?.refused) said.push(words.trust.refused(trust.refused));
  if (queue.refused) said.push(words.refusedRecords(queue.refused));
  if (queue.volatile) said.push(words.volatile);
  if (offBy) said.push(words.clockOff(offBy));
  return said.join(' ');
}

function showDevice(): void {
  const state =
    link.asks && isKnown() ? 'online' : link.choice === 'offline' ? 'forced' : 'offline';
  element('link').dataset.state = state;
  put('link', element('scanner').hidden ? '' : words.link[state]);
  put('where', device.place);
  put('waiting', words.waiting(queue.count));
  put('trust', trust ? trustLine(trust, now()) : '');
  put('warning', warning());
}

function setUp(): void {
  element('setup').hidden = false;
  element('scanner').hidden = true;
  showDevice();
  element<HTMLInputElement>('place').value = device.place;
  element('token').focus();
}

function begin(): void {
  element('setup').hidden = true;
  element('scanner').hidden = false;
  document.querySelector('h1')!.focus();
  paintReady();
  showShift();
  showDevice();
}

async function saveSetup(): Promise<void> {
  const value = (id: string): string => element<HTMLInputElement>(id).value.trim();
  const token = value('token') || device.token;
  put('wrong', '');
  if (token && !TOKEN.test(token)) return put('wrong', words.setup.tokenWrong);
  device = { token, place: value('place') };
  tokenRefused = false;
  await idb.set('device', device);
  element<HTMLFormElement>('setup').reset();
  begin();
  queue.plan(0);
}

// --- the link

async function probe(): Promise<void> {
  const atMs = performance.now();
  if (!link.probes || probing || atMs - lastProbe < PROBE_MS * (0.75 + Math.random() / 2)) return;
  [probing, lastProbe] = [true, atMs];
  const answer = await ask('GET', '/readyz');
  probing = false;
  link.probed(answer.status === 200 ? answer.ms : Infinity);
  if (!link.probes) queue.plan(0);
}

function tick(): void {
  void probe();
  showDevice();
  if (heardS > keptS + CLOCK_KEPT_S) {
    keptS = heardS;
    void idb.set('clock', { offset: wallOffset(), heardS });
  }
  setTimeout(tick, TICK_MS);
}

// --- the camera

const camera = new Camera(element<HTMLVideoElement>('video'), question, seen, () => void toggleCamera());
let awake: WakeLockSentinel | undefined;

/** Starts the camera, or stops it. While it runs the screen stays on. */
async function toggleCamera(): Promise<void> {
  const video = element<HTMLVideoElement>('video');
  const running = !video.hidden;
  put('cameraSaid', '');
  element('torch').hidden = element('zooming').hidden = true;
  void awake?.release();
  if (running) camera.stop();
  else {
    video.hidden = false;
    try {
      awake = await navigator.wakeLock?.request('screen').catch(() => undefined);
      const { torch, zoom } = await camera.start();
      element('torch').hidden = !torch;
      element('zooming').hidden = !zoom;
      if (zoom)
        Object.assign(element<HTMLInputElement>('zoom'), {
          min: zoom.min,
          max: zoom.max,
          step: zoom.step,
          value: zoom.min,
        });
    } catch (error) {
      video.hidden = true;
      const blocked = error instanceof DOMException && /NotAllowed|Security/.test(error.name);
      put('cameraSaid', !isSecureContext ? words.camera.insecure : blocked ? words.camera.blocked : words.camera.none);
      return;
    }
  }
  video.hidden = running;
  put('camera', running ? words.camera.on : words.camera.off);
}

// --- all together

function wire(): void {
  element('camera').onclick = () => void toggleCamera();
  element('torch').onclick = () => {
    const on = element('torch').getAttribute('aria-pressed') !== 'true';
    element('torch').setAttribute('aria-pressed', String(on));
    camera.set({ torch: on });
  };
  element<HTMLInputElement>('zoom').oninput = () =>
    camera.set({ zoom: Number(element<HTMLInputElement>('zoom').value) });
  element<HTMLFormElement>('manual').onsubmit = (event) => {
    event.preventDefault();
    const field = element<HTMLInputElement>('text');
    const text = field.value.trim();
    field.value = '';
    if (text) void decide(text);
  };
  element('newShift').onclick = () => {
    shift = newShift();
    void idb.set('shift', shift);
    showShift();
  };
  element<HTMLSelectElement>('choice').onchange = () => {
    link.choice = element<HTMLSelectElement>('choice').value as Choice;
    showDevice();
  };
  element('toSetup').onclick = setUp;
  element('update').onclick = () => void question({ op: 'refresh' });
  element<HTMLFormElement>('setup').onsubmit = (event) => {
    event.preventDefault();
    void saveSetup();
  };
  addEventListener('pointerdown', unlock);
  addEventListener('keydown', unlock);
  addEventListener('offline', () => {
    link.lost();
    showDevice();
  });
  listen((text) => {
    if (!element('scanner').hidden) void decide(text);
  });
}

async function start(): Promise<void> {
  wire();
  device = (await idb.get<Device>('device')) ?? device;
  shift = (await idb.get<Shift>('shift')) ?? shift;
  const clock = await idb.get<{ offset: number; heardS: number }>('clock');
  if (clock) {
    startFrom(clock.offset);
    startHeardFrom(clock.heardS);
  }
  if (!navigator.onLine) link.lost();
  await queue.load();
  if (device.place) begin();
  else setUp();
  if (!isSecureContext) put('cameraSaid', words.camera.insecure);
  tick();
}

addEventListener('load', () => {
  if (navigator.serviceWorker)
    navigator.serviceWorker.register('/scan-sw.js', { scope: '/scan' }).catch(() => undefined);
  // Asked once, so that a full disk does not take the scans.
  void navigator.storage?.persist?.().catch(() => undefined);
});
void start();
