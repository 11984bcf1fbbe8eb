// The manual: its texts, the same in both languages, of what there is; its pages in Chromium; and each of its commands,
// run against a real server. ONECODE_BIN names the server's binary.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, afterEach, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { commandsOf, runPages } from './manual-commands.mjs';
import { Mock } from './mock.mjs';
import { LANGUAGES, SAID, take } from './pictures.mjs';
import { launch, open, seriousViolations } from './support.mjs';

const MANUAL = fileURLToPath(new URL('../../manual/', import.meta.url));
const PAGES = ['README', 'phone', 'door', 'desk', 'sampling', 'tube-form', 'operators', 'metrics'];
/** The sections that the drills lead to. */
const DRILLS =
  'process-killed shard-stuck network-down firewall network-loss disk-full journal-device clock-off ' +
  'certificate-expired key-revoked restore ten-times-the-crowd fifteen-hours';
const PICTURE_BYTES_MAX = 30_000;

const markdown = (language, page) => readFileSync(`${MANUAL}${language}/${page}.md`, 'utf8');
const route = (page) => (page === 'README' ? 'manual' : `manual/${page}`);
const anchors = (text) => [...text.matchAll(/<a id="([^"]+)"><\/a>/g)].map(([, id]) => id);
const links = (text) => [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, to]) => to);

/** What both languages must have alike: a line for each line, by its kind, with all that is not words. */
function skeleton(text) {
  let inCode = false;
  return text.split('\n').map((line) => {
    if (line.startsWith('```')) inCode = !inCode;
    if (inCode || line.startsWith('```')) return line;
    const kind = line.match(/^(#+ |\d+\. |- |> |\| ---|\||!)?/)[0];
    const cells = kind === '|' ? line.split(/(?<!\\)\|/).length : 0;
    const code = [...line.matchAll(/`([^`]+)`/g)].map(([, word]) => word).sort();
    const bold = line.match(/\*\*/g)?.length ?? 0;
    const to = links(line).map((link) => link.replace(/pictures\/[^/]+\//, 'pictures/'));
    return JSON.stringify([line === '' ? 'empty' : kind, cells, code, bold, to.sort(), anchors(line)]);
  });
}

describe('the texts', () => {
  for (const page of PAGES) {
    it(`${page} is built alike in both languages`, () => {
      const [first, second] = LANGUAGES.map((language) => skeleton(markdown(language, page)));
      assert.deepEqual(first, second);
    });
  }

  it('lead only to what is there', () => {
    let count = 0;
    for (const language of LANGUAGES) {
      for (const page of PAGES) {
        for (const to of links(markdown(language, page))) {
          const [file, id] = to.split('#');
          const target = file.replace(/\.md$/, '') || page;
          count += 1;
          if (file.startsWith('../pictures/')) {
            assert.ok(file.startsWith(`../pictures/${language}/`), `${page}: ${to}`);
            assert.ok(existsSync(MANUAL + file.slice(3)), `${page}: ${to}`);
            assert.ok(readFileSync(MANUAL + file.slice(3)).length <= PICTURE_BYTES_MAX, to);
          } else {
            assert.ok(PAGES.includes(target), `${page}: ${to}`);
            if (id) assert.ok(anchors(markdown(language, target)).includes(id), `${page}: ${to}`);
          }
        }
      }
    }
    assert.ok(count > 100);
  });

  it('have a section for each drill', () => {
    for (const language of LANGUAGES) {
      const there = anchors(markdown(language, 'operators'));
      assert.deepEqual(
        DRILLS.split(' ').filter((id) => !there.includes(id)),
        [],
      );
    }
  });

  it('explain each message of the citizen page, in its words', () => {
    for (const language of LANGUAGES) {
      const words = readFileSync(fileURLToPath(new URL(`../../web/src/words/${language}.ts`, import.meta.url)), 'utf8');
      const passing = ['loading', 'signingIn'];
      const headings = [...words.matchAll(/(\w+): \{\s*heading: '([^']+)'/g)].filter(
        ([, key]) => !passing.includes(key),
      );
      assert.ok(headings.length >= 9);
      const text = markdown(language, 'phone');
      for (const [, key, heading] of headings) assert.ok(text.includes(`| ${heading} |`), `${language}: ${key}`);
    }
  });

  it('name no command outside the blocks that are run', () => {
    for (const page of PAGES) {
      const run = commandsOf(page).join('\n');
      const inline = [
        ...markdown('en', page)
          .replace(/```[^]*?```/g, '')
          .matchAll(/`((?:onecode|curl) [^`]+)`/g),
      ];
      for (const [, command] of inline) {
        assert.ok(command === 'onecode --help' || run.includes(command), `${page}: ${command}`);
      }
    }
  });
});

describe('the pages', () => {
  let browser;
  let mock;
  let page;
  before(async () => {
    browser = await launch();
    mock = await new Mock().start();
  });
  after(async () => {
    await browser.close();
    await mock.stop();
  });
  afterEach(async () => {
    const errors = page?.errors ?? [];
    await page?.context().close();
    page = undefined;
    assert.deepEqual(errors, [], 'the page threw nothing and broke no policy');
  });

  for (const language of LANGUAGES) {
    for (const name of PAGES) {
      it(`${name} in ${language}: accessible, and no wider than 320 px`, async () => {
        page = await open(browser, mock.url + route(name), { locale: language, viewport: { width: 320, height: 640 } });
        assert.equal(await page.getAttribute('html', 'lang'), language);
        assert.equal(await page.locator('h1').count(), 1);
        assert.deepEqual(await seriousViolations(page), []);
        assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0);
        await page.emulateMedia({ colorScheme: 'dark' });
        assert.deepEqual(await seriousViolations(page), []);
      });
    }

    it(`the first page and the form for a tube in ${language} are one sheet of A4 each`, async () => {
      for (const [name, rows] of [
        ['manual', 4],
        ['manual/tube-form', 20],
      ]) {
        const shown = await open(browser, mock.url + name, { locale: language });
        assert.equal(await shown.locator('tbody tr').count(), rows);
        const pdf = (await shown.pdf({ preferCSSPageSize: true })).toString('latin1');
        assert.equal(pdf.match(/\/Type\s*\/Page\b/g).length, 1, name);
        await shown.context().close();
      }
    });
  }

  it('who has opened one page has them all without a network, pictures and anchors included', async () => {
    const served = await new Mock().start();
    page = await open(browser, `${served.url}manual/door`);
    await page.waitForFunction(() => /kept on this device and opens/.test(document.getElementById('kept').textContent));
    await served.stop();
    for (const name of [...PAGES.map(route), 'manual/', 'manual/operators#disk-full']) {
      await page.goto(served.url + name);
      assert.equal(await page.locator('h1').count(), 1, name);
      await page.waitForFunction(() =>
        /kept on this device and opens/.test(document.getElementById('kept').textContent),
      );
    }
    await page.goto(`${served.url}manual/phone`);
    const whole = () =>
      [...document.images].length > 0 && [...document.images].every((image) => image.naturalWidth > 0);
    await page.evaluate(() => document.querySelectorAll('img').forEach((image) => image.scrollIntoView()));
    await page.waitForFunction(whole);
    await page.reload();
    assert.equal(await page.locator('h1').innerText(), 'On the phone');
  });

  it('what could not be kept as a whole is not called kept', async () => {
    // Not by a route of the page: the service worker, once it is there, asks past that.
    mock.page = (path, request, response) => {
      if (path.startsWith('/manual/pictures/')) return response.writeHead(503).end();
      return Mock.prototype.page.call(mock, path, request, response);
    };
    try {
      page = await open(browser, `${mock.url}manual`);
      await page.waitForFunction(() => /not kept/.test(document.getElementById('kept').textContent));
    } finally {
      delete mock.page;
    }
    assert.deepEqual(await page.evaluate(async () => (await (await caches.open('manual')).keys()).length), 0);
  });

  it('a kept manual is asked for again after an hour, and a newer one is taken', async () => {
    page = await open(browser, `${mock.url}manual`);
    await page.waitForFunction(() => document.getElementById('kept').textContent);
    await page.evaluate(async () => {
      const cache = await caches.open('manual');
      const headers = { Date: new Date(Date.now() - 3_700_000).toUTCString(), 'Content-Type': 'text/html' };
      await cache.put('/manual', new Response('<!doctype html><p>old', { headers }));
      await cache.put('/manual/gone', new Response('gone'));
    });
    await page.goto(`${mock.url}manual/desk`);
    // The page says so once it has asked; the worker may have the page by then, or not.
    await page.waitForFunction(() => document.getElementById('kept').textContent);
    assert.equal(await page.evaluate(async () => await (await caches.open('manual')).match('/manual/gone')), undefined);
    await page.goto(`${mock.url}manual`);
    assert.equal(await page.locator('h1').count(), 1);
  });

  it('the citizen page fetches nothing of it', async () => {
    const asked = [];
    page = await open(browser);
    page.context().on('request', (request) => asked.push(new URL(request.url()).pathname));
    await page.goto(mock.url);
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.waitForTimeout(500);
    assert.ok(asked.includes('/'));
    assert.deepEqual(
      asked.filter((path) => path.startsWith('/manual')),
      [],
    );
  });

  it('the pictures show what residents see', async () => {
    const said = JSON.parse(readFileSync(SAID, 'utf8'));
    for (const language of LANGUAGES) {
      const now = Object.entries(await take(browser, language)).map(([name, one]) => [name, one.said]);
      assert.deepEqual(Object.fromEntries(now), said[language], 'take them again: scripts/manual-pictures.sh');
    }
  });
});

describe('the commands', () => {
  it('do what the manual says, on a real server', async (test) => {
    for (const line of await runPages()) test.diagnostic(line);
  });
});
