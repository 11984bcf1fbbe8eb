// The operator's page: /status.json every two seconds, as rates, and along the chain with its sick link marked.

import { language, words } from './words.ts';

interface Status {
  readonly [name: string]: unknown;
  readonly requests: { readonly [route: string]: { readonly [result: string]: number } };
  readonly shed_total: { readonly [by: string]: number };
  readonly connections_open: readonly number[];
  readonly thread_cpu_seconds_total: { readonly [thread: string]: number };
  readonly thread_wait_seconds_total: { readonly [thread: string]: number };
}
type State = 'ok' | 'warn' | 'bad';

const EVERY_MS = 2_000;
const POINTS = 60;
const TOKEN = 'onecode-ops-token';

const element = (id: string): HTMLElement => document.getElementById(id)!;
const number = (value: number, digits = 0): string =>
  value.toLocaleString(language, { maximumFractionDigits: digits, minimumFractionDigits: digits });
const percent = (share: number): string => `${number(share * 100, share < 0.1 ? 1 : 0)} %`;
const of = (status: Status, name: string): number => Number(status[name] ?? 0);
const sum = (counts: { readonly [name: string]: number } | undefined): number =>
  Object.values(counts ?? {}).reduce((all, count) => all + count, 0);

/** A number with the prefix that leaves it below a thousand. */
function short(value: number, unit: string): string {
  const prefixes = ['', 'k', 'M', 'G', 'T'];
  let at = 0;
  while (value >= 1_000 && at < prefixes.length - 1) {
    value /= 1_000;
    at += 1;
  }
  return `${number(value, value < 10 && at > 0 ? 1 : 0)} ${prefixes[at]}${unit}`;
}

function duration(seconds: number): string {
  const units: readonly (readonly [number, string])[] = [[86_400, 'd'], [3_600, 'h'], [60, 'min']];
  const [length, unit] = units.find(([length]) => seconds >= 2 * length) ?? [1, 's'];
  return `${number(Math.floor(seconds / length))} ${unit}`;
}

/** What happened between two readings. */
class Span {
  readonly seconds: number;
  constructor(readonly before: Status, readonly now: Status) {
    this.seconds = Math.max(0.1, of(now, 'process_clock_seconds') - of(before, 'process_clock_seconds'));
  }
  private rate(count: (status: Status) => number): number {
    return Math.max(0, count(this.now) - count(this.before)) / this.seconds;
  }
  of(name: string): number {
    return this.rate((status) => of(status, name));
  }
  route(route: string): number {
    return this.rate((status) => sum(status.requests[route]));
  }
  errors(): number {
    return this.rate((status) => Object.values(status.requests).reduce((all, results) => all + (results['5xx'] ?? 0), 0));
  }
  shed(): number {
    return this.rate((status) => sum(status.shed_total));
  }
  /** The share of the time that a thread ran, or waited for a CPU. */
  thread(name: string, kind: 'cpu' | 'wait'): number {
    return this.rate((status) => status[`thread_${kind}_seconds_total`] ? (status as Status)[`thread_${kind}_seconds_total` as 'thread_cpu_seconds_total'][name] ?? 0 : 0);
  }
}

const worse = (bad: boolean, warn: boolean): State => (bad ? 'bad' : warn ? 'warn' : 'ok');

/** The links of the chain, each with its state and what says so. */
function links(span: Span): readonly (readonly [string, State, readonly string[]])[] {
  const { now } = span;
  const shards = Object.keys(now.thread_cpu_seconds_total).filter((name) => name.startsWith('shard-'));
  const busy = Math.max(0, ...shards.map((name) => span.thread(name, 'cpu')));
  const waits = Math.max(0, ...shards.map((name) => span.thread(name, 'wait')));
  const speed = of(now, 'interface_bits_per_second');
  const [out, into] = [8 * span.of('interface_sent_bytes_total'), 8 * span.of('interface_received_bytes_total')];
  const load = speed > 0 ? Math.max(out, into) / speed : 0;
  const [lost, squeezed] = [span.of('softnet_dropped_packets_total'), span.of('softnet_squeezes_total')];
  const dropped = span.of('interface_dropped_packets_total');
  const [overflows, syns] = [span.of('listen_overflows_total'), span.of('syn_drops_total')];
  const [again, entries, most] = [span.of('tcp_retransmitted_segments_total'), of(now, 'conntrack_entries'), of(now, 'conntrack_entries_max')];
  const budget = of(now, 'egress_budget_bytes_per_second');
  const spent = budget > 0 ? span.of('sent_bytes_total') / budget : 0;
  const [shed, level] = [span.shed(), of(now, 'brownout_level')];
  const syncs = span.of('journal_syncs_total');
  const syncMs = syncs > 0 ? (1_000 * span.of('journal_sync_seconds_total')) / syncs : 0;
  const waiting = of(now, 'journal_waiting_seconds');
  const pressure = of(now, 'memory_pressure_ratio');
  const room = of(now, 'residents_used') / Math.max(1, of(now, 'residents_max'));
  return [
    [words.nic, worse(load > 0.95, load > 0.8 || dropped > 0), [`↑ ${short(out, 'bit/s')}`, `↓ ${short(into, 'bit/s')}`, speed > 0 ? `${percent(load)} ${words.of} ${short(speed, 'bit/s')}` : String(now['interface'] ?? ''), `${words.dropped} ${number(dropped)}/s`]],
    [words.cpu, worse(lost > 0, squeezed > 100), [`${words.dropped} ${number(lost)}/s`, `${words.squeezed} ${number(squeezed)}/s`]],
    [words.tcp, worse(most > 0 && entries > 0.95 * most, again > 100 || (most > 0 && entries > 0.8 * most)), [`${words.again} ${number(again)}/s`, most > 0 ? `${words.tracked} ${short(entries, '')} ${words.of} ${short(most, '')}` : '']],
    [words.accept, worse(overflows > 10 || syns > 10, overflows > 0 || syns > 0), [`${words.overflowed} ${number(overflows)}/s`, `${words.synDrops} ${number(syns)}/s`]],
    [words.admission, worse(shed > 0 && level > 1, shed > 0 || level > 0), [budget > 0 ? `${percent(spent)} ${words.ofBudget}` : words.noBudget, `${words.refusedRequests} ${number(shed)}/s`, `${words.level} ${level}`]],
    [words.shard, worse(busy > 0.97, busy > 0.8 || waits > 0.1), [`${words.busiest} ${percent(busy)}`, `${words.waits} ${percent(waits)}`]],
    [words.memory, worse(pressure > 0.1, pressure > 0.01 || room > 0.9), [`${words.pressure} ${percent(pressure)}`, `${words.room} ${percent(room)}`]],
    [words.journal, worse(of(now, 'journal_failed') > 0 || of(now, 'journal_full') > 0 || waiting > 1, waiting > 0.1 || of(now, 'journal_full_for_scans') > 0), [`${words.sync} ${number(syncMs, 1)} ms`, `${words.oldest} ${number(1_000 * waiting)} ms`]],
  ];
}

function paintChain(span: Span): void {
  const items = links(span).map(([name, state, lines]) => {
    const item = document.createElement('li');
    item.dataset['state'] = state;
    const [title, mark, text] = [document.createElement('b'), document.createElement('span'), document.createElement('p')];
    mark.textContent = words[state];
    title.append(name, mark);
    text.textContent = lines.filter(Boolean).join('\n');
    item.append(title, text);
    return item;
  });
  element('chain').replaceChildren(...items);
}

const past = new Map<string, number[]>();

/** What is counted, as figure and as a line over the last two minutes. */
function paintRates(span: Span): void {
  const { now } = span;
  const waited = span.of('sampled_waits_total');
  const rates: readonly (readonly [string, number, (value: number) => string])[] = [
    [words.refreshes, span.route('refresh'), number],
    [words.verdicts, span.route('scan_verify'), number],
    [words.pages, span.route('page'), number],
    [words.sessions, span.route('session'), number],
    [words.errors, span.errors(), number],
    [words.shed, span.shed(), number],
    [words.delay, waited > 0 ? span.of('sampled_wait_ms_total') / waited : 0, (value) => `${number(value, 1)} ms`],
    [words.signatures, span.of('signatures_total'), number],
    [words.sent, 8 * span.of('sent_bytes_total'), (value) => short(value, 'bit')],
    [words.connections, span.of('connections_accepted_total'), number],
    [words.open, now.connections_open.reduce((all, open) => all + open, 0), number],
    [words.records, span.of('journal_records_total'), number],
  ];
  const tiles = rates.map(([name, value, told]) => {
    const points = [...(past.get(name) ?? []), value].slice(-POINTS);
    past.set(name, points);
    const top = Math.max(1e-9, ...points);
    const line = points.map((point, at) => `${at === 0 ? 'M' : 'L'}${at} ${20 - (18 * point) / top}`).join('');
    const tile = document.createElement('div');
    const [label, figure] = [document.createElement('span'), document.createElement('strong')];
    label.textContent = name;
    figure.textContent = told(value);
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    svg.setAttribute('viewBox', `0 0 ${POINTS} 21`);
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    path.setAttribute('d', line);
    svg.append(path);
    tile.append(label, figure, svg);
    return tile;
  });
  element('rates').replaceChildren(...tiles);
}

function paintShards(span: Span): void {
  const cell = (content: string | Node, kind = 'td'): HTMLElement => {
    const made = document.createElement(kind);
    made.append(content);
    return made;
  };
  const row = (...cells: readonly HTMLElement[]): HTMLElement => {
    const made = document.createElement('tr');
    made.append(...cells);
    return made;
  };
  const names = Object.keys(span.now.thread_cpu_seconds_total).filter((name) => /^(shard-|journal$|admin$|fold$)/.test(name));
  const heads = [words.thread, words.ran, words.waited, words.open].map((word) => cell(word, 'th'));
  heads.forEach((head) => head.setAttribute('scope', 'col'));
  element('shards').querySelector('thead')!.replaceChildren(row(...heads));
  const rows = names.map((name) => {
    const busy = span.thread(name, 'cpu');
    const meter = document.createElement('meter');
    Object.assign(meter, { min: 0, max: 1, high: 0.8, value: Math.min(1, busy) });
    meter.setAttribute('aria-label', `${name}: ${words.ran}`);
    const shown = cell(meter);
    shown.append(` ${percent(busy)}`);
    const at = /^shard-(\d+)$/.exec(name);
    const head = cell(name, 'th');
    head.setAttribute('scope', 'row');
    return row(head, shown, cell(percent(span.thread(name, 'wait'))), cell(at ? number(span.now.connections_open[Number(at[1])] ?? 0) : ''));
  });
  element('shards').querySelector('tbody')!.replaceChildren(...rows);
}

function paintFacts(now: Status): void {
  const clock = of(now, 'process_clock_seconds');
  const ends = of(now, 'tls_certificate_expires_seconds');
  const facts: readonly (readonly [string, string])[] = [
    [words.residents, `${number(of(now, 'residents'))} ${words.of} ${number(of(now, 'residents_max'))}`],
    [words.snapshot, duration(clock - of(now, 'snapshot_unix_seconds'))],
    [words.folded, number(Math.max(0, of(now, 'journal_durable_to') - of(now, 'journal_folded_to')))],
    [words.disk, short(of(now, 'journal_disk_bytes'), 'B')],
    [words.certificate, ends > 0 ? duration(Math.max(0, ends - clock)) : words.none],
    [words.reloads, number(of(now, 'reloads_refused_total'))],
    [words.rss, short(of(now, 'process_resident_memory_bytes'), 'B')],
    [words.uptime, duration(clock - of(now, 'process_start_time_seconds'))],
    [words.driver, String(now['driver'])],
    [words.clock, `${number(Math.round(clock - Date.now() / 1_000) || 0)} s`],
  ];
  const rows = facts.map(([name, value]) => {
    const [pair, term, detail] = [document.createElement('div'), document.createElement('dt'), document.createElement('dd')];
    term.textContent = name;
    detail.textContent = value;
    pair.append(term, detail);
    return pair;
  });
  element('facts').replaceChildren(...rows);
}

function say(text: string, state: State): void {
  element('state').dataset['state'] = state;
  if (element('state').textContent !== text) element('state').textContent = text;
}

let before: Status | null = null;

async function read(): Promise<void> {
  const token = sessionStorage.getItem(TOKEN);
  const answer = await fetch('/status.json', token ? { headers: { Authorization: `Bearer ${token}` } } : {});
  element('sign-in').hidden = answer.ok;
  if (!answer.ok) {
    const why = answer.status === 401 && !token ? words.token : answer.status < 500 ? words.refused : `${answer.status}`;
    return say(why, 'warn');
  }
  const now: Status = await answer.json();
  element('version').textContent = String(now['version']);
  if (before) {
    const span = new Span(before, now);
    paintChain(span);
    paintRates(span);
    paintShards(span);
  }
  paintFacts(now);
  before = now;
  if (of(now, 'journal_failed') > 0) return say(words.failed, 'bad');
  say(words.serving, 'ok');
}

document.documentElement.lang = language;
for (const name of ['chain', 'rates', 'shards', 'facts'] as const) element(`${name}-title`).textContent = words[name];
document.querySelector('label')!.textContent = words.token;
document.querySelector('button')!.textContent = words.enter;
element('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, (element('token') as HTMLInputElement).value.trim());
  void look();
});

let timer = 0;

/** Reads again and again; never two at a time, and not while nobody looks. */
async function look(): Promise<void> {
  clearTimeout(timer);
  if (document.visibilityState === 'visible') await read().catch(() => say(words.gone, 'bad'));
  timer = setTimeout(() => void look(), EVERY_MS);
}
document.addEventListener('visibilitychange', () => void look());
say(words.waiting, 'warn');
void look();
