// The pages in Chromium, against the real server in demo mode: what a resident and a door see on a good day, and on the
// day the server is gone. ONECODE_BIN names the server's binary.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import {
  expectedModules,
  kept,
  launch,
  look,
  message,
  open,
  paintedModules,
  seriousViolations,
  sleep,
  startServer,
} from './support.mjs';

/** All that a first visit may bring to the phone, response heads included. */
const FIRST_VISIT_BYTES_MAX = 14_000;
const SCANNER_FIRST_VISIT_BYTES_MAX = 60_000;

let browser;
let server;
let page;
let pipe;

before(async () => {
  browser = await launch();
});
after(() => browser.close());
afterEach(async () => {
  const errors = page?.errors ?? [];
  await page?.context().close();
  page = undefined;
  pipe?.stop();
  pipe = undefined;
  assert.deepEqual(errors, [], 'the page threw nothing and broke no policy');
});

/** A pipe to the server that counts the bytes on their way to the browser, and notes what was asked for. */
async function countingPipe(target) {
  const count = { bytes: 0, paths: [] };
  const sockets = [];
  const listener = createServer((near) => {
    const far = connect(Number(new URL(target).port), '127.0.0.1');
    sockets.push(near, far);
    near.on('data', (part) => {
      count.paths.push(...[...part.toString('latin1').matchAll(/^(?:GET|POST) (\S+) HTTP/gm)].map((match) => match[1]));
      far.write(part);
    });
    far.on('data', (part) => {
      count.bytes += part.length;
      near.write(part);
    });
    for (const [one, other] of [
      [near, far],
      [far, near],
    ])
      one.on('close', () => other.destroy()).on('error', () => {});
  });
  await once(listener.listen(0, '127.0.0.1'), 'listening');
  const stop = () => {
    listener.close();
    for (const socket of sockets) socket.destroy();
  };
  return { count, url: `http://127.0.0.1:${listener.address().port}/`, stop };
}

describe('with the real server', () => {
  before(async () => {
    server = await startServer();
  });
  after(() => server.stop());

  it('opening the page shows a signed test code, painted as the server drew it', async () => {
    page = await open(browser);
    const answers = [];
    page.on('response', async (response) => {
      if (response.url().includes('refreshQRCode') && response.ok()) answers.push(await response.json());
    });
    await page.setViewportSize({ width: 600, height: 1000 });
    await page.goto(server.url);
    await look(page, 'test');
    const seen = await paintedModules(page);
    assert.match(answers.at(-1).code, /^OC1:/);
    assert.ok(answers.some((answer) => JSON.stringify(expectedModules(answer.qr)) === JSON.stringify(seen)));
    assert.deepEqual(await seriousViolations(page), []);
  });

  it('the code changes after its window', async () => {
    page = await open(browser, server.url);
    await look(page, 'test');
    const drawn = () => page.getAttribute('#bits', 'd');
    const first = await drawn();
    for (let tries = 0; tries < 150 && (await drawn()) === first; tries++) await sleep(100);
    assert.notEqual(await drawn(), first);
  });

  for (const [locale, lang, title] of [
    ['zh-CN', 'zh-CN', '健康码'],
    ['en-GB', 'en', 'Health code'],
    ['fr-FR', 'zh-CN', '健康码'],
  ]) {
    it(`a reader of ${locale} gets ${lang}`, async () => {
      page = await open(browser, server.url, { locale });
      assert.equal(await page.getAttribute('html', 'lang'), lang);
      assert.equal(await page.title(), title);
    });
  }

  it('the first visit stays inside its bytes, and the next one costs only the refresh', async (test) => {
    pipe = await countingPipe(server.url);
    page = await open(browser, pipe.url);
    await look(page, 'test');
    await page.evaluate(() => navigator.serviceWorker.ready);
    // Headless browsers leave out what only an installation or a tab's picture needs.
    for (const path of ['/manifest.webmanifest', '/icon.svg']) {
      if (!pipe.count.paths.includes(path))
        await page.evaluate((each) => fetch(each).then((answer) => answer.text()), path);
    }
    await sleep(500);
    for (const path of [
      '/',
      '/sw.js',
      '/manifest.webmanifest',
      '/icon.svg',
      '/person/app/session',
      '/person/app/refreshQRCode',
    ]) {
      assert.ok(pipe.count.paths.includes(path), `${path} was fetched`);
    }
    test.diagnostic(`first visit: ${pipe.count.bytes} bytes for ${pipe.count.paths.join(' ')}`);
    assert.ok(pipe.count.bytes <= FIRST_VISIT_BYTES_MAX, `${pipe.count.bytes} bytes`);

    await page.goto('about:blank');
    const before = pipe.count.bytes;
    pipe.count.paths.length = 0;
    await page.goto(pipe.url);
    await look(page, 'test');
    await sleep(300);
    test.diagnostic(`second visit: ${pipe.count.bytes - before} bytes for ${pipe.count.paths.join(' ')}`);
    assert.ok(!pipe.count.paths.includes('/'), 'the page itself came from the service worker');
  });

  it('the manual is there in both languages, and stays when the server is gone', async () => {
    const alone = await startServer();
    try {
      for (const [language, word] of [
        ['zh-CN', '一张'],
        ['en', 'Print this page'],
      ]) {
        const answer = await fetch(`${alone.url}manual`, { headers: { 'Accept-Language': language } });
        assert.equal(answer.status, 200);
        assert.equal(answer.headers.get('Content-Language'), language);
        assert.ok((await answer.text()).includes(word));
        const picture = await fetch(`${alone.url}manual/pictures/phone-green.png`, {
          headers: { 'Accept-Language': language },
        });
        assert.equal(picture.headers.get('Content-Type'), 'image/png');
        assert.equal(Buffer.from(await picture.arrayBuffer()).toString('latin1', 1, 4), 'PNG');
      }
      page = await open(browser, `${alone.url}manual/`);
      await page.waitForFunction(() => /device and opens/.test(document.getElementById('kept').textContent));
      alone.child.kill('SIGKILL');
      await page.goto(`${alone.url}manual/operators#disk-full`);
      assert.equal(await page.title(), 'For operators · Health code manual');
      assert.ok((await page.evaluate(() => scrollY)) > 0, 'it stands at the section');
    } finally {
      await alone.stop();
    }
  });

  it('signing out ends the session until the resident asks for another', async () => {
    page = await open(browser, server.url);
    await look(page, 'test');
    await page.focus('#out');
    await page.keyboard.press('Enter');
    await message(page, 'signedOut');
    await page.reload();
    await message(page, 'signedOut');
    await page.focus('#act');
    await page.keyboard.press('Enter');
    await look(page, 'test');
  });
});

describe("the operator's page", () => {
  const shown = (page) => page.waitForSelector('#chain li[data-state]', { timeout: 15_000 });

  it('shows the chain, the rates and the threads of a running server, on a desk and on a phone', async () => {
    const alone = await startServer();
    try {
      const refreshing = await open(browser, alone.url);
      await look(refreshing, 'test');
      page = await open(browser, `${alone.adminUrl}ops`, { viewport: { width: 1280, height: 800 } });
      await shown(page);
      assert.equal(await page.locator('#chain li').count(), 8);
      assert.match(await page.innerText('#shards'), /journal[\s\S]*shard-0/);
      assert.equal(await page.getAttribute('#state', 'data-state'), 'ok');
      assert.match(await page.innerText('#facts'), /residents\s+100 of/);
      assert.deepEqual(await seriousViolations(page), []);
      await page.setViewportSize({ width: 390, height: 844 });
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is cut off');
      assert.equal((await fetch(`${alone.url}ops`)).status, 404, 'and it is not public');
      alone.child.kill('SIGKILL');
      await page.waitForSelector('#state[data-state=bad]', { timeout: 15_000 });
      await refreshing.context().close();
    } finally {
      await alone.stop();
    }
  });

  it('asks for a token where the server wants one, and speaks Chinese', async () => {
    const alone = await startServer();
    try {
      page = await open(browser, undefined, { locale: 'zh-CN' });
      await page.route('**/status.json', (route) =>
        route.request().headers().authorization === 'Bearer right'
          ? route.continue()
          : route.fulfill({ status: 401, body: '' }),
      );
      await page.goto(`${alone.adminUrl}ops`);
      await page.waitForSelector('#sign-in:not([hidden])');
      await page.fill('#token', 'right');
      await page.keyboard.press('Enter');
      await shown(page);
      assert.equal(await page.getAttribute('html', 'lang'), 'zh-CN');
      assert.match(await page.innerText('#chain-title'), /从网线到磁盘/);
      assert.ok(await page.isHidden('#sign-in'));
    } finally {
      await alone.stop();
    }
  });
});

describe('when the real server is gone', () => {
  it('the code stays until its end, over a reload too, and is then marked expired', async () => {
    const alone = await startServer();
    try {
      page = await open(browser, alone.url);
      await look(page, 'test');
      await kept(page, '/');
      alone.child.kill('SIGKILL');
      await message(page, 'network', 15_000);
      assert.ok(await page.isVisible('#card[data-look=test]'));
      await page.reload();
      await page.waitForSelector('#card:not([hidden])');
      await look(page, 'expired', 20_000);
      assert.match(await page.innerText('#validity'), /\d\d:\d\d:\d\d/);
      await message(page, 'network');
      assert.deepEqual(await seriousViolations(page), []);
    } finally {
      await alone.stop();
    }
  });
});

describe('a door at the real server', () => {
  let served;
  before(async () => {
    served = await startServer();
  });
  after(() => served.stop());

  const command = (words, input) =>
    execFileSync(process.env.ONECODE_BIN, [...words, '--data', served.data], { encoding: 'utf8', input });

  async function setUp(url) {
    page = await open(browser, `${url}scan`);
    await page.fill('#token', readFileSync(join(served.data, 'scanner-token.txt'), 'utf8').trim());
    await page.fill('#place', 'North gate');
    await page.click('#setup button');
    await page.waitForFunction(() => document.getElementById('trust').textContent.includes('confirmed'));
  }

  /** The code of a resident of the demo, as a phone has it. */
  async function code(resident) {
    const ask = async (path, options) => (await fetch(`${served.url}person/app/${path}`, options)).json();
    const body = JSON.stringify({ demo_resident: resident });
    const { session } = await ask('session', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
    return (await ask('refreshQRCode?qr=none', { headers: { Authorization: `Bearer ${session}` } })).code;
  }

  async function scan(text) {
    const last = await page.getAttribute('#result', 'data-scan');
    await page.fill('#text', text);
    await page.press('#text', 'Enter');
    await page.waitForFunction((last) => document.getElementById('result').dataset.scan !== (last ?? undefined), last);
    return page.evaluate(() => ({ ...document.getElementById('result').dataset }));
  }

  it('the first visit stays inside its bytes, and the next one needs no page', async (test) => {
    pipe = await countingPipe(served.url);
    await setUp(pipe.url);
    await kept(page, '/scan');
    for (const path of ['/scan.webmanifest', '/icon.svg']) {
      if (!pipe.count.paths.includes(path))
        await page.evaluate((each) => fetch(each).then((answer) => answer.text()), path);
    }
    await sleep(500);
    test.diagnostic(`first visit: ${pipe.count.bytes} bytes for ${pipe.count.paths.join(' ')}`);
    assert.ok(pipe.count.bytes <= SCANNER_FIRST_VISIT_BYTES_MAX, `${pipe.count.bytes} bytes`);
    await page.goto('about:blank');
    pipe.count.paths.length = 0;
    await page.goto(`${pipe.url}scan`);
    await page.waitForSelector('#scanner:not([hidden])');
    await sleep(300);
    assert.ok(
      !pipe.count.paths.some((path) => path === '/scan' || path.startsWith('/assets/')),
      pipe.count.paths.join(' '),
    );
  });

  it('checks online, decides alone when the server is killed, and brings each scan once when it is back', async () => {
    await setUp(served.url);
    const known = await code(7);
    const online = await scan(known);
    assert.deepEqual([online.look, online.source], ['test', 'online'], 'residents of the demo are no real ones');
    assert.deepEqual(await seriousViolations(page), []);
    const codes = [await code(8), await code(9), await code(10)];
    await served.kill();
    for (const each of codes) {
      const alone = await scan(each);
      assert.deepEqual([alone.look, alone.source], ['test', 'offline']);
      assert.ok(Number(alone.ms) <= 300, `${alone.ms} ms`);
    }
    assert.equal(await page.innerText('#waiting'), '3 scans to send');
    served = await startServer(served);
    await page.waitForFunction(
      () => document.getElementById('waiting').textContent === 'All scans are sent',
      undefined,
      {
        timeout: 90_000,
      },
    );
    await served.kill();
    const scans = command(['journal', 'export', '--test', '--place', 'North gate']).trim().split('\n').slice(1);
    assert.equal(scans.length, 4, scans.join('\n'));
    assert.equal(new Set(scans.map((line) => line.split(',')[0])).size, 4);
  });
});
