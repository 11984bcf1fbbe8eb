// Builds web/dist: the citizen and the scanner page, one file per language with everything inlined, the operators' page,
// service workers and manifests, the icon, the files that the scanner's worker is made of, and assets.json, which tells
// the server's build what each file is. Works on Node 18 and later.
//
// It fails when the first visit to a page would cost more than its budget.

import { build } from 'esbuild';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';
import { manual } from './manual.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const DIST = `${HERE}dist`;
const ASIDE = `${HERE}dist.new`;
/** The first is served when the reader's languages are not among them. */
const LANGUAGES = ['zh-CN', 'en'];

/** All that a first visit may bring to the phone, response heads included (DESIGN principle 3). */
const FIRST_VISIT_BYTES_MAX = 14_000;
/** The same for a device that becomes a scanner; the file that only older browsers need is counted. */
const SCANNER_FIRST_VISIT_BYTES_MAX = 60_000;
/** All that the manual in one language may bring to a phone that keeps it. */
const MANUAL_BYTES_MAX = 250_000;
/** What is not a file, or not known before the server runs. Generous: the browser tests measure the real bytes. */
const HEAD_BYTES = 420;
const CSP_BYTES = 420;
const SESSION_ANSWER_BYTES = 420;
const REFRESH_ANSWER_BYTES = 1_024;
const UNAUTHORISED_ANSWER_BYTES = 512;
const JWKS_BYTES = 1_500;

/** Phones of about 2018 and later. The one flaw of Safari 12 in destructuring (in parameters of async arrows) is not met. */
const TARGET = ['chrome70', 'firefox68', 'safari12'];

const source = (name) => readFileSync(`${HERE}src/${name}`, 'utf8');

/** Bundles one entry and returns its text. */
async function bundle(entry, options = {}) {
  const result = await build({
    entryPoints: [`${HERE}src/${entry}`],
    bundle: true,
    minify: true,
    write: false,
    charset: 'utf8',
    format: 'iife',
    target: TARGET,
    supported: { destructuring: true },
    legalComments: 'none',
    logLevel: 'warning',
    ...options,
  });
  return result.outputFiles[0].text.trim();
}

/** The pages: what each is made of, and the module that stands for its words. */
const CITIZEN = { html: 'citizen.html', style: 'citizen.css', script: 'citizen.ts', words: 'words', folder: 'words' };
const SCANNER = {
  html: 'scan.html',
  style: 'scan.css',
  script: 'scan/scan.ts',
  words: 'scan-words',
  folder: 'scan/words',
};

/** Resolves the module of a page's words to one language. */
const speaking = ({ words, folder }, language) => ({
  name: 'words',
  setup: ({ onResolve }) =>
    onResolve({ filter: new RegExp(`^${words}$`) }, () => ({ path: `${HERE}src/${folder}/${language}.ts` })),
});

async function wordsOf({ folder }, language) {
  const text = await bundle(`${folder}/${language}.ts`, { format: 'esm', minify: false });
  return (await import(`data:text/javascript;base64,${Buffer.from(text).toString('base64')}`)).words;
}

const escapeHtml = (text) =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

async function page(parts, language, define = {}) {
  const words = await wordsOf(parts, language);
  const style = await bundle(parts.style);
  const script = await bundle(parts.script, { plugins: [speaking(parts, language)], define });
  if (/<\/(script|style)/i.test(script + style)) throw new Error('an inlined text would end its own element');
  const fill = (name) => {
    if (name === 'style') return style;
    if (name === 'script') return script;
    const word = name.split('.').reduce((value, key) => value?.[key], words);
    if (typeof word !== 'string')
      throw new Error(`${parts.html} asks for {{${name}}}, which ${language} does not have`);
    return escapeHtml(word);
  };
  // Line ends between elements carry nothing on this page; inside elements a line end of the source never matters.
  return (
    source(parts.html)
      .replace(/\n/g, '')
      .replace(/\{\{([\w.]+)\}\}/g, (_, name) => fill(name)) + '\n'
  );
}

/** The operator's page, in both languages: one reader, who has the time for it. */
async function opsPage() {
  const parts = { style: await bundle('ops/ops.css'), script: await bundle('ops/ops.ts', { target: 'es2022' }) };
  return source('ops/ops.html').replace(/\{\{(style|script)\}\}/g, (_, name) => parts[name]);
}

/** The manual in one language; its script knows all of its paths. */
async function manualOf(language, style) {
  const inline = { frame: source('manual.html'), paper: source('manual-paper.html'), style };
  const routes = manual(language, inline)
    .assets.map((asset) => asset.route)
    .filter((route) => route !== '/manual/');
  const script = await bundle('manual.ts', { define: { ROUTES: JSON.stringify(routes) } });
  return manual(language, { ...inline, script });
}

const brotliBytes = (text) =>
  brotliCompressSync(Buffer.from(text), { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length;

/** What is fetched on the first visit to a page, with its bytes. */
function firstVisit(files) {
  const size = (name) => brotliBytes(files.get(name)) + HEAD_BYTES;
  const largest = (name) => Math.max(...LANGUAGES.map((language) => size(`${name}.${language}.html`))) + CSP_BYTES;
  return [
    ['page', largest('index')],
    ['refresh, not signed in', UNAUTHORISED_ANSWER_BYTES],
    ['session', SESSION_ANSWER_BYTES],
    ['refresh', REFRESH_ANSWER_BYTES],
    ['service worker', size('sw.js')],
    ['page again, 304', HEAD_BYTES + CSP_BYTES],
    ['manifest', size('manifest.webmanifest')],
    ['icon', size('icon.svg')],
  ];
}

function scannerFirstVisit(files, [judge, ed25519]) {
  const size = (name) => brotliBytes(files.get(name)) + HEAD_BYTES;
  const largest = Math.max(...LANGUAGES.map((language) => size(`scan.${language}.html`)));
  return [
    ['page', largest + CSP_BYTES],
    ['worker', size(judge)],
    ['Ed25519, where the browser lacks it', size(ed25519)],
    ['service worker', size('scan-sw.js')],
    ['page again, 304', HEAD_BYTES + CSP_BYTES],
    ['manifest', size('scan.webmanifest')],
    ['icon', size('icon.svg')],
    ['keys', HEAD_BYTES + JWKS_BYTES],
  ];
}

function check(what, parts, max) {
  const total = parts.reduce((sum, [, bytes]) => sum + bytes, 0);
  for (const [name, bytes] of parts) console.log(`${String(bytes).padStart(7)}  ${name}`);
  console.log(`${String(total).padStart(7)}  first visit to the ${what} page, of at most ${max} bytes`);
  if (total > max) throw new Error(`the first visit to the ${what} page costs ${total} bytes, more than ${max}`);
}

const hashOf = (texts) => {
  const hash = createHash('sha256');
  for (const text of texts) hash.update(text);
  return hash.digest('hex').slice(0, 16);
};

const defines = (values) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, JSON.stringify(value)]));

/** Adds a file whose name carries its hash, and returns that name. */
function hashed(files, stem, text) {
  const name = `${stem}-${hashOf([text])}.js`;
  files.set(name, text);
  return name;
}

async function main() {
  const files = new Map();
  for (const language of LANGUAGES) files.set(`index.${language}.html`, await page(CITIZEN, language));
  for (const name of ['manifest', 'scan']) {
    files.set(`${name}.webmanifest`, JSON.stringify(JSON.parse(source(`${name}.json`))));
  }
  files.set('icon.svg', source('icon.svg').trim());
  const citizen = { NAME: 'onecode', SHELL: '/', NEEDED: [], OTHERS: [], VERSION: hashOf(files.values()) };
  files.set('sw.js', await bundle('worker.ts', { define: defines(citizen) }));

  // What has big integers, as this needs, has the rest, too.
  const ed25519 = hashed(files, 'ed25519', await bundle('verify/noble.ts', { target: 'es2020' }));
  const judge = hashed(
    files,
    'judge',
    await bundle('scan/judge.ts', { define: defines({ ED25519: `/assets/${ed25519}` }) }),
  );
  for (const language of LANGUAGES) {
    files.set(`scan.${language}.html`, await page(SCANNER, language, defines({ JUDGE: `/assets/${judge}` })));
  }
  const [NEEDED, OTHERS] = [[`/assets/${judge}`], [`/assets/${ed25519}`]];
  const scanner = { NAME: 'scan', SHELL: '/scan', NEEDED, OTHERS, VERSION: hashOf(files.values()) };
  files.set('scan-sw.js', await bundle('worker.ts', { define: defines(scanner) }));

  files.set('ops.html', await opsPage());

  const html = (route, name) =>
    LANGUAGES.map((lang) => ({
      route,
      file: `${name}.${lang}.html`,
      lang,
      type: 'text/html; charset=utf-8',
      cache: 'revalidate',
    }));
  const script = (route, file, cache) => ({ route, file, type: 'text/javascript; charset=utf-8', cache });
  const manifest = (file) => ({ route: `/${file}`, file, type: 'application/manifest+json', cache: 'day' });
  const assets = [
    ...html('/', 'index'),
    script('/sw.js', 'sw.js', 'revalidate'),
    manifest('manifest.webmanifest'),
    { route: '/ops', file: 'ops.html', type: 'text/html; charset=utf-8', cache: 'revalidate' },
    { route: '/icon.svg', file: 'icon.svg', type: 'image/svg+xml', cache: 'day' },
    ...html('/scan', 'scan'),
    script('/scan-sw.js', 'scan-sw.js', 'revalidate'),
    manifest('scan.webmanifest'),
    ...[judge, ed25519].map((file) => script(`/assets/${file}`, file, 'immutable')),
  ];
  const manualStyle = await bundle('manual.css');
  for (const language of LANGUAGES) {
    const { assets: its, print } = await manualOf(language, manualStyle);
    for (const { body, ...asset } of its) {
      files.set(asset.file, body);
      assets.push(asset);
    }
    // Not served: scripts/manual-pdf.sh prints it.
    files.set(`manual/${language}.html`, print);
    const bytes = its.reduce((sum, { body }) => sum + Math.min(brotliBytes(body), body.length) + HEAD_BYTES, 0);
    console.log(`${String(bytes).padStart(7)}  manual in ${language}, of at most ${MANUAL_BYTES_MAX} bytes`);
    if (bytes > MANUAL_BYTES_MAX) throw new Error(`the manual in ${language} is larger than ${MANUAL_BYTES_MAX} bytes`);
  }
  files.set('assets.json', `${JSON.stringify({ assets }, null, 2)}\n`);

  check('citizen', firstVisit(files), FIRST_VISIT_BYTES_MAX);
  check('scanner', scannerFirstVisit(files, [judge, ed25519]), SCANNER_FIRST_VISIT_BYTES_MAX);

  rmSync(ASIDE, { recursive: true, force: true });
  mkdirSync(ASIDE);
  for (const [name, content] of files) {
    mkdirSync(dirname(`${ASIDE}/${name}`), { recursive: true });
    writeFileSync(`${ASIDE}/${name}`, content);
  }
  rmSync(DIST, { recursive: true, force: true });
  renameSync(ASIDE, DIST);
}

main().catch((error) => {
  console.error(`build-web: ${error.message}`);
  process.exit(1);
});
