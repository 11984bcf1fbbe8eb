// What the suites share: the browser, the real server, and ways of looking at a page.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

export { sleep };

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export function launch(more = []) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...more,
    ],
  });
}

/** A page of its own: cookies, storage and service worker included. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ locale: 'en-US', viewport: { width: 390, height: 844 }, ...options });
  const page = await context.newPage();
  page.errors = [];
  page.on('pageerror', (error) => page.errors.push(String(error)));
  page.on('console', (said) => {
    if (/Content Security Policy/i.test(said.text())) page.errors.push(said.text());
  });
  if (url) await page.goto(url);
  return page;
}

/** Waits until the card has this look: green, yellow, red, unknown, test, expired. */
export const look = (page, name, timeout = 10_000) =>
  page.waitForSelector(`#card[data-look="${name}"]:not([hidden])`, { timeout });
export const anyLook = (page, timeout = 10_000) => page.waitForSelector('#card[data-look]:not([hidden])', { timeout });
/** Waits until the message with this key is shown. */
export const message = (page, key, timeout = 10_000) =>
  page.waitForSelector(`#message[data-key="${key}"]:not([hidden])`, { timeout });

/** Waits until the page's service worker keeps this path. (To waitForFunction a promise is true at once.) */
export const kept = (page, path) =>
  page.evaluate(async (each) => {
    await navigator.serviceWorker.ready;
    for (let left = 100; !(await caches.match(each)); left--) {
      if (!left) throw new Error(`${each} was not kept within 10 s`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }, path);

/** What axe calls serious or critical, as text. */
export async function seriousViolations(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() =>
    globalThis.axe.run(document, {
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    }),
  );
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join(' | ')}`);
}

/** The painted symbol as the browser's pixels show it: one boolean a module, the quiet zone included. */
export async function paintedModules(page) {
  const box = await page.locator('#qr').evaluate((svg) => {
    svg.scrollIntoView();
    const matrix = svg.getScreenCTM();
    return { side: svg.viewBox.baseVal.width, x: matrix.e, y: matrix.f, scale: matrix.a };
  });
  const shot = await page.screenshot({ scale: 'css' });
  const reader = await page.context().newPage();
  const modules = await reader.evaluate(
    async ({ png, box }) => {
      const picture = new Image();
      picture.src = `data:image/png;base64,${png}`;
      await picture.decode();
      const canvas = document.createElement('canvas');
      canvas.width = picture.width;
      canvas.height = picture.height;
      const context = canvas.getContext('2d');
      context.drawImage(picture, 0, 0);
      const dark = [];
      for (let row = 0; row < box.side; row++) {
        for (let column = 0; column < box.side; column++) {
          const at = (index, start) => Math.floor(start + (index + 0.5) * box.scale);
          const [red] = context.getImageData(at(column, box.x), at(row, box.y), 1, 1).data;
          dark.push(red < 128);
        }
      }
      return dark;
    },
    { png: shot.toString('base64'), box },
  );
  await reader.close();
  return { side: box.side, modules };
}

/** The modules that the server's bits stand for, in the same form. */
export function expectedModules({ size, bits }, quiet = 4) {
  const bytes = Buffer.from(bits, 'base64');
  const side = size + 2 * quiet;
  const modules = Array(side * side).fill(false);
  for (let index = 0; index < size * size; index++) {
    const place = (Math.floor(index / size) + quiet) * side + (index % size) + quiet;
    modules[place] = ((bytes[index >> 3] >> (7 - (index & 7))) & 1) === 1;
  }
  return { side, modules };
}

/** Two ports that were free a moment ago. */
export async function freePorts(count) {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise((resolve) => {
          const server = createServer().listen(0, '127.0.0.1', () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/**
 * The real server in demo mode, with windows of 5 s and codes that live 12 s. With the `folder` and the `url` of one that
 * is gone it is that one again.
 */
export async function startServer(gone) {
  const folder = gone?.folder ?? mkdtempSync(join(tmpdir(), 'onecode-browser-'));
  const data = join(folder, 'data');
  const config = join(folder, 'onecode.toml');
  writeFileSync(config, '[code]\nwindow_s = 5\nlife_s = 12\n');
  const [free, admin] = await freePorts(2);
  const port = gone ? Number(new URL(gone.url).port) : free;
  const [url, adminUrl] = [port, admin].map((each) => `http://127.0.0.1:${each}/`);
  const child = spawn(
    process.env.ONECODE_BIN,
    [
      'serve',
      '--demo',
      '--residents',
      '100',
      '--config',
      config,
      '--data',
      data,
      '--listen',
      `127.0.0.1:${port}`,
      '--admin',
      `127.0.0.1:${admin}`,
    ],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
      // What a stall of the machine makes old is not dropped.
      env: { ...process.env, ONECODE_ADMISSION_DEADLINE_MS: '60000' },
    },
  );
  let said = '';
  let ended = null;
  child.stderr.on('data', (part) => {
    said += part;
  });
  const exit = new Promise((resolve) => child.on('exit', (status, signal) => resolve((ended = `${status ?? signal}`))));
  child.on('error', (error) => {
    ended = String(error);
  });
  const kill = async () => {
    if (ended === null) {
      child.kill('SIGCONT');
      child.kill('SIGKILL');
      await exit;
    }
  };
  const stop = async () => {
    await kill();
    rmSync(folder, { recursive: true, force: true });
  };
  for (let tries = 0; tries < 300; tries++) {
    if (ended !== null) throw new Error(`the server ended with ${ended}: ${said}`);
    const ready = await fetch(`${url}readyz`).then(
      (answer) => answer.ok,
      () => false,
    );
    if (ready) return { url, adminUrl, child, kill, stop, folder, data };
    await sleep(100);
  }
  await stop();
  throw new Error(`the server was not ready after 30 s: ${said}`);
}
