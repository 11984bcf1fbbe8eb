// Paints the scanner page. It decides nothing.

import { words } from 'scan-words';
import { keyOf, lookOf, type Judged, type Look } from './result.ts';
import type { TrustState } from './messages.ts';
import type { Said } from './words/zh-CN.ts';

/** Each look has a shape of its own, so that no colour is needed: what the citizen's page has, and further ones. */
const SHAPES: { readonly [look in Look | 'ready']: string } = {
  green: 'M12 2a10 10 0 1 0 0 20a10 10 0 1 0 0-20M7.5 12.5l3.2 3.2l6-6.7',
  yellow: 'M12 3L1.5 21h21zM12 10v5M12 18v.01',
  red: 'M8 2h8l6 6v8l-6 6h-8l-6-6v-8zM9 9l6 6M15 9l-6 6',
  unknown: 'M3 3h18v18h-18zM9.5 10a2.5 2.5 0 1 1 3.8 2.1q-1.3.7-1.3 1.9M12 17v.01',
  no: 'M3 8h18v8h-18zM8 12h8',
  ask: 'M12 1.5l10.5 10.5l-10.5 10.5l-10.5-10.5zM9.5 9.5a2.5 2.5 0 1 1 3.8 2.1q-1.3.7-1.3 1.9M12 16.5v.01',
  test: 'M9 2h6M10 2v7l-6 11q-.5 2 1.5 2h13q2 0 1.5-2l-6-11v-7M7 15h10',
  ready: 'M3 8v-5h5M16 3h5v5M21 16v5h-5M8 21h-5v-5',
};

export const element = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;

export function put(id: string, text: string): void {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
  target.hidden = !text;
}

export function time(ms: number): string {
  return new Date(ms).toLocaleTimeString(words.lang, {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
  });
}

/** A time of day with its date. */
export const day = (ms: number): string => `${new Date(ms).toLocaleDateString(words.lang)} ${time(ms)}`;

function stage(look: Look | 'ready', said: Said, detail: string): void {
  element('result').dataset.look = look;
  element('shape').setAttribute('d', SHAPES[look]);
  put('word', said.word);
  put('advice', said.advice);
  put('detail', detail);
}

/** Reads a text out, also when it is the same as the last one. */
function announce(text: string): void {
  const say = element('say');
  say.textContent = '';
  requestAnimationFrame(() => (say.textContent = text));
}

export function paintReady(): void {
  stage('ready', { word: words.ready, advice: '' }, '');
}

/** Shows a verdict, and says when it was reached. */
export function paintVerdict(judged: Judged, atMs: number): void {
  const look = lookOf(judged);
  const said = words.said[keyOf(judged)];
  const isTest = judged.env === 'test';
  const parts = [words.source[judged.source], time(atMs)];
  if (judged.outcome === 'valid_in_grace' && judged.exp) parts.unshift(words.inGrace(day(judged.exp * 1000)));
  stage(look, isTest ? { word: `TEST · ${said.word}`, advice: words.test } : said, parts.join(' · '));
  put('last', words.last((isTest ? 'TEST ' : '') + said.word, time(atMs)));
  announce(
    `${isTest ? words.test + '. ' : ''}${said.word}. ${isTest ? '' : said.advice}. ${words.source[judged.source]}`,
  );
}

/** How old the list of keys is. */
export function trustLine(trust: TrustState, now: number): string {
  const said = words.trust;
  if (!trust.confirmed) return said.none;
  const parts = [said.list, said.age(words.age(Math.floor((now - trust.confirmed) / 60_000)))];
  if (trust.unusable) parts.push(said.unusable(trust.unusable));
  return parts.join(' · ');
}
