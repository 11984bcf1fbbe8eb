// The citizen page in Chromium, against scripted answers: every state, and how it behaves when things go wrong.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { code, Mock, problem } from './mock.mjs';
import {
  anyLook,
  expectedModules,
  kept,
  launch,
  look,
  message,
  open,
  paintedModules,
  seriousViolations,
  sleep,
} from './support.mjs';

let browser;
let mock;
let page;

before(async () => {
  browser = await launch();
});
after(() => browser.close());
beforeEach(async () => {
  mock = await new Mock().start();
});
afterEach(async () => {
  const errors = page?.errors ?? [];
  await page?.context().close();
  page = undefined;
  await mock.stop();
  assert.deepEqual(errors, [], 'the page threw nothing and broke no policy');
});

const demo = { demo: true };
/** Answers to the n-th refresh; the last one goes on. */
const inTurn =
  (...answers) =>
  () =>
    (answers.length > 1 ? answers.shift() : answers[0])();
const text = (selector) => page.locator(selector).innerText();

/** Ways into each state, and what is then on the screen. */
const STATES = {
  green: [
    (m) => {
      m.refresh = () => code();
    },
    look,
  ],
  yellow: [
    (m) => {
      m.refresh = () => code({ status: 'yellow' });
    },
    look,
  ],
  red: [
    (m) => {
      m.refresh = () => code({ status: 'red' });
    },
    look,
  ],
  unknown: [
    (m) => {
      m.refresh = () => code({ status: 'no such status' });
    },
    look,
  ],
  test: [
    (m) => {
      m.refresh = () => code({ env: 'test' });
    },
    look,
  ],
  expired: [
    (m) => {
      m.refresh = inTurn(
        () => code({ life: 2, refresh: 1 }),
        () => problem(500, 'fault'),
      );
    },
    look,
  ],
  loading: [
    (m) => {
      m.refresh = () => new Promise(() => {});
    },
    message,
  ],
  signingIn: [
    (m) => {
      m.refresh = () => problem(401, 'no-session', demo);
      m.session = () => new Promise(() => {});
    },
    message,
  ],
  failed: [
    (m) => {
      m.refresh = () => problem(401, 'no-session', demo);
      m.session = () => problem(400, 'bad', { detail: 'Why not.' });
    },
    message,
  ],
  notConfigured: [
    (m) => {
      m.refresh = () => problem(401, 'no-session');
    },
    message,
  ],
  unknownResident: [
    (m) => {
      m.refresh = () => problem(404, 'unknown-resident');
    },
    message,
  ],
  busy: [
    (m) => {
      m.refresh = () => problem(503, 'overloaded', {}, { 'Retry-After': '30' });
    },
    message,
  ],
  server: [
    (m) => {
      m.refresh = () => problem(500, 'fault');
    },
    message,
  ],
  network: [
    (m) => {
      m.refresh = inTurn(
        () => code({ refresh: 1 }),
        () => new Promise(() => m.server.closeAllConnections()),
      );
    },
    message,
  ],
  ended: [
    (m) => {
      m.refresh = inTurn(
        () => code({ refresh: 1 }),
        () => problem(401, 'no-session', { login_url: m.url }),
      );
    },
    message,
  ],
};

async function inState(name, script, shown, locale) {
  const served = await new Mock().start();
  script(served);
  const small = { locale, viewport: { width: 320, height: 640 }, reducedMotion: 'reduce' };
  const seen = await open(browser, served.url, small);
  await shown(seen, name);
  assert.equal(await seen.getAttribute('html', 'lang'), locale === 'zh-CN' ? 'zh-CN' : 'en');
  assert.ok((await seen.locator('main').innerText()).trim().length > 3);
  assert.deepEqual(await seriousViolations(seen), []);
  const overflow = () => seen.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok((await overflow()) <= 0);
  await seen.evaluate(() => {
    document.documentElement.style.fontSize = '200%';
  });
  assert.ok((await overflow()) <= 0);
  assert.deepEqual(seen.errors, []);
  await seen.context().close();
  await served.stop();
}

describe('every state', () => {
  for (const [name, [script, shown]] of Object.entries(STATES)) {
    it(`${name}: words, accessible, and no wider than 320 px, even with text at 200 %`, () =>
      Promise.all(['zh-CN', 'en-US'].map((locale) => inState(name, script, shown, locale))));
  }

  it('signed out, dark and in forced colours: accessible', async () => {
    page = await open(browser, mock.url, { colorScheme: 'dark' });
    await look(page, 'green');
    assert.deepEqual(await seriousViolations(page), []);
    await page.emulateMedia({ forcedColors: 'active' });
    assert.deepEqual(await seriousViolations(page), []);
    assert.equal(
      await page.locator('#qr').evaluate((svg) => getComputedStyle(svg).backgroundColor),
      'rgb(255, 255, 255)',
    );
    await page.emulateMedia({ forcedColors: 'none' });
    await page.click('#out');
    await message(page, 'signedOut');
    assert.deepEqual(await seriousViolations(page), []);
  });

  it('without JavaScript the page says so', async () => {
    page = await open(browser, mock.url, { javaScriptEnabled: false, locale: 'zh-CN' });
    assert.match(await text('noscript'), /JavaScript/);
  });
});

describe('the code', () => {
  it('is painted module by module, with its quiet zone', async () => {
    const answer = code({ seed: 7 });
    mock.refresh = () => answer;
    page = await open(browser, mock.url, { viewport: { width: 600, height: 900 } });
    await look(page, 'green');
    assert.deepEqual(await paintedModules(page), expectedModules(answer.body.qr));
  });

  it('has a word and a shape of its own for each status', async () => {
    const seen = new Set();
    for (const status of ['green', 'yellow', 'red', 'unknown']) {
      mock.refresh = () => code({ status });
      page = await open(browser, mock.url);
      await look(page, status);
      seen.add(await text('#word')).add(await page.getAttribute('#shape', 'd'));
      await page.context().close();
    }
    assert.equal(seen.size, 8);
  });

  it('is marked TEST and has no status colour when it is a test code', async () => {
    mock.refresh = () => code({ env: 'test' });
    page = await open(browser, mock.url);
    await look(page, 'test');
    assert.match(await text('#test'), /TEST/);
    assert.equal(await text('#word'), 'Green');
    const colour = await page.locator('#card h2').evaluate((heading) => getComputedStyle(heading).backgroundColor);
    assert.equal(colour, 'rgb(74, 85, 104)');
  });

  it('is fetched anew at refresh_at and not before', async () => {
    mock.refresh = () => code({ refresh: 3 });
    page = await open(browser, mock.url);
    await look(page, 'green');
    const first = await page.getAttribute('#bits', 'd');
    await page.waitForFunction((drawn) => document.getElementById('bits').getAttribute('d') !== drawn, first);
    const [one, two] = mock.refreshes();
    // The server's clock is known to half a second, and its `iat` is a whole one.
    assert.ok(two.at - one.at > 1_400 && two.at - one.at < 4_900, `${two.at - one.at} ms`);
  });

  it('follows the clock of the server, not that of the phone', async () => {
    page = await open(browser);
    await page.clock.install({ time: Date.now() + 3_600_000 });
    await page.goto(mock.url);
    await look(page, 'green');
    assert.match(await text('#left'), /^(2:0|1:5)/);
  });

  it('keeps the screen reader quiet while only the countdown moves', async () => {
    page = await open(browser, mock.url, { reducedMotion: 'reduce' });
    await look(page, 'green');
    const [said, clock] = [await page.textContent('#say'), await text('#clock')];
    await page.evaluate(() => {
      globalThis.changes = 0;
      new MutationObserver(() => globalThis.changes++).observe(document.getElementById('say'), {
        childList: true,
        subtree: true,
        characterData: true,
      });
    });
    await sleep(2_200);
    assert.equal(await page.evaluate(() => globalThis.changes), 0);
    assert.match(said, /Green/);
    assert.notEqual(await text('#clock'), clock, 'the clock ticks where nothing else moves');
    assert.equal(await page.locator('#live i').evaluate((band) => getComputedStyle(band).animationName), 'none');
  });

  it('is not refreshed while nobody looks, and at once when it is due and somebody does', async () => {
    mock.refresh = () => code({ refresh: 2 });
    page = await open(browser);
    await page.addInitScript(() => {
      let hidden = false;
      Object.defineProperty(Document.prototype, 'hidden', { get: () => hidden });
      globalThis.hide = (now) => {
        hidden = now;
        document.dispatchEvent(new Event('visibilitychange'));
      };
    });
    await page.goto(mock.url);
    await look(page, 'green');
    await page.evaluate(() => {
      hide(true);
      hide(false);
      hide(true);
    });
    assert.equal(mock.refreshes().length, 1, 'looking again refreshes nothing that is not due');
    await sleep(4_000);
    assert.equal(mock.refreshes().length, 1);
    await page.evaluate(() => hide(false));
    await sleep(500);
    assert.equal(mock.refreshes().length, 2);
  });
});

describe('without a network', () => {
  it('keeps the code until its end, over a reload too, and then says when it expired', async () => {
    mock.refresh = () => code({ life: 9, refresh: 2 });
    page = await open(browser, mock.url);
    await look(page, 'green');
    await kept(page, '/');
    const { port } = mock;
    await mock.stop();
    await message(page, 'network');
    assert.ok(await page.isVisible('#card[data-look=green]'));
    await page.reload();
    await look(page, 'green');
    await message(page, 'network');
    await look(page, 'expired', 15_000);
    assert.match(await text('#validity'), /expired at \d\d:\d\d:\d\d/);
    assert.equal(await page.isVisible('#live'), false);
    await page.reload();
    await look(page, 'expired');
    mock.refresh = () => code();
    await mock.start(port);
    await page.click('#act');
    await look(page, 'green');
  });
});

describe('under load', () => {
  const inSeconds = (s) => new Date(Date.now() + s * 1000).toUTCString();
  // A date is in whole seconds, as is the Date that it is measured from: 5 s of them are 4 s at least.
  const forms = { seconds: () => '4', 'a date': () => inSeconds(5) };
  for (const [form, value] of Object.entries(forms)) {
    it(`waits as long as Retry-After says in ${form}, whatever is pressed or reloaded`, async () => {
      mock.refresh = inTurn(
        () => problem(503, 'overloaded', {}, { 'Retry-After': value() }),
        () => code(),
      );
      page = await open(browser, mock.url);
      await message(page, 'busy');
      assert.match(await text('#next'), /\d s/);
      await page.reload();
      await message(page, 'busy');
      await page.evaluate(() => dispatchEvent(new Event('online')));
      await look(page, 'green');
      const [one, two] = mock.refreshes();
      assert.ok(two.at - one.at >= 4_000, `${two.at - one.at} ms`);
      assert.equal(mock.refreshes().length, 2);
    });
  }

  it('never tries again at once, and ever more slowly', async () => {
    mock.refresh = () => problem(500, 'fault');
    page = await open(browser);
    // Full jitter at its top, so that the growth is seen; the floor holds at its bottom.
    await page.addInitScript(() => {
      Math.random = () => 0.999;
    });
    await page.goto(mock.url);
    await sleep(9_500);
    const gaps = mock
      .refreshes()
      .map((call) => call.at)
      .map((at, index, all) => at - (all[index - 1] ?? at))
      .slice(1);
    assert.equal(gaps.length, 2, `${gaps}`);
    assert.ok(gaps[0] >= 2_900 && gaps[1] >= 4_900, `${gaps}`);
    await page.addInitScript(() => {
      Math.random = () => 0;
    });
    mock.calls = [];
    await page.reload();
    await sleep(3_500);
    const close = mock
      .refreshes()
      .map((call) => call.at)
      .map((at, index, all) => at - (all[index - 1] ?? at))
      .slice(1);
    assert.ok(close.length > 0 && close.every((gap) => gap >= 990), `${close}`);
  });

  it('a hotel page in place of an answer is no network', async () => {
    mock.refresh = () => ({ status: 200, body: undefined });
    page = await open(browser);
    await page.route('**/person/app/*', (route) =>
      route.fulfill({ contentType: 'text/html', body: '<h1>Welcome</h1>' }),
    );
    await page.goto(mock.url);
    await message(page, 'network');
  });
});

describe('signing in', () => {
  it('signs itself in to the demo, as the resident of the fragment', async () => {
    let inside = false;
    mock.refresh = () => (inside ? code({ env: 'test' }) : problem(401, 'no-session', demo));
    mock.session = () => {
      inside = true;
      return { status: 200, body: { session: 's', expires_at: 1 } };
    };
    page = await open(browser, `${mock.url}#demo_resident=42`);
    await look(page, 'test');
    const signIns = () => mock.calls.filter((call) => call.method === 'POST').map((call) => call.body);
    assert.deepEqual(signIns(), [{ demo_resident: 42 }]);
    await page.evaluate(() => {
      location.hash = '#demo_resident=43';
    });
    await page.waitForLoadState();
    await anyLook(page);
    await page.waitForFunction(() => localStorage.getItem('demo') === '43');
    assert.deepEqual(signIns().at(-1), { demo_resident: 43 });
  });

  it('goes to the login page with a state, and takes the assertion that brings it back', async () => {
    let inside = false;
    mock.refresh = () => (inside ? code() : problem(401, 'no-session', { login_url: 'http://login.example/in?app=1' }));
    mock.session = () => {
      inside = true;
      return { status: 200, body: { session: 's', expires_at: 1 } };
    };
    page = await open(browser);
    await page.route('http://login.example/**', (route) => {
      const asked = new URL(route.request().url()).searchParams;
      assert.equal(asked.get('app'), '1');
      assert.equal(asked.get('redirect_uri'), mock.url);
      assert.match(asked.get('state'), /^[0-9a-f]{32}$/);
      const back = `${asked.get('redirect_uri')}#assertion=a.b.c&state=${asked.get('state')}`;
      return route.fulfill({
        contentType: 'text/html',
        body: `<script>location.replace(${JSON.stringify(back)})</script>`,
      });
    });
    await page.goto(mock.url);
    await look(page, 'green');
    assert.deepEqual(mock.calls.find((call) => call.method === 'POST').body, { assertion: 'a.b.c' });
    assert.equal(page.url(), mock.url, 'the assertion is gone from the address');
  });

  it('refuses an answer with a state that it did not ask for', async () => {
    page = await open(browser, `${mock.url}#assertion=a.b.c&state=forged`);
    await message(page, 'failed');
    assert.equal(mock.calls.length, 0);
    assert.equal(page.url(), mock.url);
  });

  it('lets a city’s app open the page with an assertion', async () => {
    page = await open(browser, `${mock.url}#assertion=a.b.c`);
    await look(page, 'green');
    assert.deepEqual(mock.calls[0].body, { assertion: 'a.b.c' });
  });

  it('says why a sign-in failed, and does not go round in circles', async () => {
    mock.refresh = () => problem(401, 'no-session', { login_url: 'http://login.example/' });
    page = await open(browser, `${mock.url}#assertion=a.b.c`);
    await message(page, 'failed');
    assert.match(await text('#detail'), /cookies/);
    await sleep(1_500);
    assert.equal(mock.calls.length, 2);
  });

  it('sends nobody away from a code that is still valid', async () => {
    mock.refresh = inTurn(
      () => code({ refresh: 1 }),
      () => problem(401, 'no-session', { login_url: 'http://login.example/' }),
    );
    page = await open(browser, mock.url);
    await message(page, 'ended');
    assert.ok(await page.isVisible('#card[data-look=green]'));
    await page.route('http://login.example/**', (route) => route.fulfill({ contentType: 'text/html', body: 'login' }));
    await page.reload();
    await message(page, 'ended');
  });

  it('signs out and in again by keyboard alone, and stays signed out in between', async () => {
    page = await open(browser, mock.url);
    await look(page, 'green');
    const focus = () => page.evaluate(() => document.activeElement.id);
    await page.keyboard.press('Tab');
    assert.equal(await focus(), 'out');
    const outline = await page.locator('#out').evaluate((button) => getComputedStyle(button).outlineStyle);
    assert.equal(outline, 'solid');
    await page.keyboard.press('Enter');
    await message(page, 'signedOut');
    assert.equal(await page.isVisible('#card'), false);
    assert.equal(await page.evaluate(() => localStorage.getItem('code')), null);
    assert.equal(await focus(), 'act', 'the focus went where the next step is');
    const calls = mock.calls.length;
    await page.reload();
    await message(page, 'signedOut');
    assert.equal(mock.calls.length, calls);
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await look(page, 'green');
  });

  it('stays signed in, and says so, when signing out did not reach the service', async () => {
    mock.signOut = () => problem(503, 'overloaded', {}, { 'Retry-After': '1' });
    page = await open(browser, mock.url);
    await look(page, 'green');
    await page.click('#out');
    await message(page, 'signOutFailed');
    assert.ok(await page.isVisible('#card'));
  });
});
