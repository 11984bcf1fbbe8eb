// A small server with the pages of web/dist and answers that a test scripts: the states that the real server only
// reaches under load or in ruin. What the real server does is tested against the real server.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync } from 'node:zlib';

const DIST = fileURLToPath(new URL('../../web/dist/', import.meta.url));
export const REFRESH = '/person/app/refreshQRCode';
export const SESSION = '/person/app/session';
export const VERIFY = '/scan/verify';
export const RECORDS = '/scan/records';

/** Calls that a test scripts, and the member of the mock that answers. */
const SCRIPTED = {
  [`GET ${REFRESH}`]: 'refresh',
  [`POST ${SESSION}`]: 'session',
  [`DELETE ${SESSION}`]: 'signOut',
  [`POST ${VERIFY}`]: 'verify',
  [`POST ${RECORDS}`]: 'records',
  'GET /.well-known/jwks.json': 'jwks',
  'GET /readyz': 'ready',
};

const lines = (text) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

const hashes = (html, element) =>
  [...html.matchAll(new RegExp(`<${element}>(.*?)</${element}>`, 'gs'))]
    .map(([, text]) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`)
    .join(' ');

const policy = (html) =>
  `default-src 'none'; script-src ${hashes(html, 'script')}; style-src ${hashes(html, 'style')}; connect-src 'self'; ` +
  `img-src 'self' data:; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

/** Bits that look like a symbol: three finder patterns, the rest from a hash of the seed. */
export function bits(size, seed) {
  const field = Buffer.alloc(Math.ceil((size * size) / 8));
  const noise = createHash('shake256', { outputLength: field.length }).update(String(seed)).digest();
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const index = row * size + column;
      const y = row < 8 ? row : row >= size - 8 ? size - 1 - row : 9;
      const x = column < 8 ? column : column >= size - 8 ? size - 1 - column : 9;
      const finder = y < 8 && x < 8 && !(row >= size - 8 && column >= size - 8);
      const ring = Math.max(Math.abs(y - 3), Math.abs(x - 3));
      const dark = finder ? ring !== 2 && ring < 4 : (noise[index >> 3] >> (7 - (index & 7))) & 1;
      if (dark) field[index >> 3] |= 0x80 >> (index & 7);
    }
  }
  return field.toString('base64');
}

/** The answer to a refresh at this moment. */
export function code(options = {}) {
  const at = Math.floor(Date.now() / 1000);
  const { status = 'green', life = 120, refresh = 45, env } = options;
  const seed = options.seed ?? at;
  return {
    status: 200,
    body: {
      code: `OC1:${seed}`,
      status,
      iat: at,
      exp: at + life,
      refresh_at: at + refresh,
      ...(env && { env }),
      qr: { size: 49, bits: bits(49, seed) },
    },
  };
}

export const problem = (status, type, more = {}, headers = {}) => ({
  status,
  headers,
  body: { type: `https://onecode.example/problems/${type}`, title: type.replace(/-/g, ' '), status, ...more },
});

export class Mock {
  /** Every call of the API: method, path, body and time in milliseconds. */
  calls = [];
  /** The path of every file that was asked for. */
  fetched = [];
  refresh = () => code();
  session = () => ({ status: 200, body: { session: 's', expires_at: 4_000_000_000 } });
  signOut = () => ({ status: 204 });
  verify = () => problem(503, 'overloaded');
  /** Takes each record once, by its id, as the server does. */
  records = ({ text }) => {
    const taken = lines(text);
    for (const record of taken) this.recorded.set(record.id, record);
    return { status: 200, text: taken.map((_, at) => `{"line":${at + 1},"result":"done"}\n`).join('') };
  };
  recorded = new Map();
  jwks = () => ({ status: 404 });
  ready = () => ({ status: 200 });
  /** Puts something before a file: `[part of its name, text]`. */
  before = null;

  async start(port = 0) {
    const { assets } = JSON.parse(readFileSync(`${DIST}assets.json`, 'utf8'));
    this.assets = assets.map((asset) => ({ ...asset, content: readFileSync(DIST + asset.file) }));
    this.server = createServer((request, response) => this.answer(request, response));
    await new Promise((resolve, reject) => this.server.on('error', reject).listen(port, '127.0.0.1', resolve));
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}/`;
    return this;
  }

  async stop() {
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.server.closeAllConnections();
    await closed;
  }

  refreshes() {
    return this.calls.filter((call) => call.path === REFRESH);
  }

  async answer(request, response) {
    const path = request.url.split('?')[0];
    let text = '';
    for await (const part of request) text += part;
    const name = SCRIPTED[`${request.method} ${path}`];
    if (!name) return this.page(path, request, response);
    const { headers } = request;
    const { authorization } = headers;
    const body = text && name !== 'records' ? JSON.parse(text) : null;
    const call = { method: request.method, path, body, text, headers, authorization, at: Date.now() };
    this.calls.push(call);
    const answer = await this[name](call);
    const type = answer.status < 400 ? 'application/json' : 'application/problem+json';
    response.writeHead(answer.status, {
      'Content-Type': type,
      'Cache-Control': 'private, no-store',
      ...answer.headers,
    });
    response.end(answer.text ?? (answer.body ? JSON.stringify(answer.body) : undefined));
  }

  calledFor(path) {
    return this.calls.filter((call) => call.path === path);
  }

  page(path, request, response) {
    this.fetched.push(path);
    const english = /^en/.test(request.headers['accept-language'] || '');
    const found = this.assets.filter((asset) => asset.route === path);
    const asset = found.find((each) => !each.lang || each.lang === (english ? 'en' : 'zh-CN'));
    if (!asset) return response.writeHead(404).end();
    const put = this.before && path.includes(this.before[0]) ? this.before[1] : '';
    const body = brotliCompressSync(Buffer.concat([Buffer.from(put), asset.content]));
    const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 16)}"`;
    const headers = {
      ETag: etag,
      'Cache-Control': asset.cache === 'revalidate' ? 'no-cache' : 'public, max-age=86400',
      Vary: 'Accept-Encoding, Accept-Language',
      ...(/^text\/html/.test(asset.type) && { 'Content-Security-Policy': policy(asset.content.toString()) }),
    };
    if (request.headers['if-none-match'] === etag) return response.writeHead(304, headers).end();
    response.writeHead(200, {
      ...headers,
      'Content-Type': asset.type,
      'Content-Encoding': 'br',
      'Content-Length': body.length,
    });
    response.end(body);
  }
}
