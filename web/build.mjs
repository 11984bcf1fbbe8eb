// Builds web/dist: one page per language with everything inlined, the service worker, the manifest and the icon,
// and assets.json, which tells the server's build what each file is. Works on Node 18 and later.
//
// It fails when the first visit would cost more than its budget.

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
/** All that the manual in one language may bring to a phone that keeps it. */
const MANUAL_BYTES_MAX = 250_000;
/** What is not a file, or not known before the server runs. Generous: the browser tests measure the real bytes. */
const HEAD_BYTES = 420;
const CSP_BYTES = 420;
const SESSION_ANSWER_BYTES = 420;
const REFRESH_ANSWER_BYTES = 1_024;
const UNAUTHORISED_ANSWER_BYTES = 512;

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

/** Resolves the module `words` to one language. */
const speaking = (language) => ({
  name: 'words',
  setup: ({ onResolve }) => onResolve({ filter: /^words$/ }, () => ({ path: `${HERE}src/words/${language}.ts` })),
});

async function wordsOf(language) {
  const text = await bundle(`words/${language}.ts`, { format: 'esm', minify: false });
  return (await import(`data:text/javascript;base64,${Buffer.from(text).toString('base64')}`)).words;
}

const escapeHtml = (text) =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

async function page(language, style) {
  const words = await wordsOf(language);
  const script = await bundle('citizen.ts', { plugins: [speaking(language)] });
  if (/<\/(script|style)/i.test(script + style)) throw new Error('an inlined text would end its own element');
  const fill = (name) => {
    if (name === 'style') return style;
    if (name === 'script') return script;
    const word = name.split('.').reduce((value, key) => value?.[key], words);
    if (typeof word !== 'string') throw new Error(`citizen.html asks for {{${name}}}, which ${language} does not have`);
    return escapeHtml(word);
  };
  // Line ends between elements carry nothing on this page; inside elements a line end of the source never matters.
  return (
    source('citizen.html')
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

function firstVisit(files) {
  const size = (name) => brotliBytes(files.get(name));
  const largestPage = Math.max(...LANGUAGES.map((language) => size(`index.${language}.html`)));
  return [
    ['page', largestPage + HEAD_BYTES + CSP_BYTES],
    ['refresh, not signed in', UNAUTHORISED_ANSWER_BYTES],
    ['session', SESSION_ANSWER_BYTES],
    ['refresh', REFRESH_ANSWER_BYTES],
    ['service worker', size('sw.js') + HEAD_BYTES],
    ['page again, 304', HEAD_BYTES + CSP_BYTES],
    ['manifest', size('manifest.webmanifest') + HEAD_BYTES],
    ['icon', size('icon.svg') + HEAD_BYTES],
  ];
}

async function main() {
  const files = new Map();
  const style = await bundle('citizen.css');
  for (const language of LANGUAGES) files.set(`index.${language}.html`, await page(language, style));
  files.set('manifest.webmanifest', JSON.stringify(JSON.parse(source('manifest.json'))));
  files.set('icon.svg', source('icon.svg').trim());
  const version = createHash('sha256');
  for (const text of files.values()) version.update(text);
  files.set(
    'sw.js',
    await bundle('worker.ts', { define: { VERSION: JSON.stringify(version.digest('hex').slice(0, 16)) } }),
  );

  files.set('ops.html', await opsPage());

  const assets = [
    ...LANGUAGES.map((lang) => ({
      route: '/',
      file: `index.${lang}.html`,
      lang,
      type: 'text/html; charset=utf-8',
      cache: 'revalidate',
    })),
    { route: '/sw.js', file: 'sw.js', type: 'text/javascript; charset=utf-8', cache: 'revalidate' },
    { route: '/manifest.webmanifest', file: 'manifest.webmanifest', type: 'application/manifest+json', cache: 'day' },
    { route: '/ops', file: 'ops.html', type: 'text/html; charset=utf-8', cache: 'revalidate' },
    { route: '/icon.svg', file: 'icon.svg', type: 'image/svg+xml', cache: 'day' },
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

  const parts = firstVisit(files);
  const total = parts.reduce((sum, [, bytes]) => sum + bytes, 0);
  for (const [name, bytes] of parts) console.log(`${String(bytes).padStart(7)}  ${name}`);
  console.log(`${String(total).padStart(7)}  first visit, of at most ${FIRST_VISIT_BYTES_MAX} bytes`);
  if (total > FIRST_VISIT_BYTES_MAX)
    throw new Error(`the first visit costs ${total} bytes, more than ${FIRST_VISIT_BYTES_MAX}`);

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
