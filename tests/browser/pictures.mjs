// Takes the manual's pictures of the citizen page, in each language: node pictures.mjs
//
// The page is the real one, its answers are scripted. What it says on each picture is kept beside them, with a hash of
// its style: a test takes the same way again and sees whether the pictures still show what residents see.

import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { code, Mock, problem } from './mock.mjs';
import { launch, look, message, open } from './support.mjs';

const FOLDER = fileURLToPath(new URL('../../manual/pictures/', import.meta.url));
export const LANGUAGES = ['zh-CN', 'en'];
/** Beside the pictures: what the page said on each. */
export const SAID = `${FOLDER}said.json`;

const inTurn =
  (...answers) =>
  () =>
    (answers.length > 1 ? answers.shift() : answers[0])();
const seed = 7;

/** How to come to each picture, and what it is of: one element, or from the top of one to the end of another. */
const PICTURES = {
  'phone-green': async (mock, page) => {
    mock.refresh = () => code({ seed });
    await page.goto(mock.url);
    await look(page, 'green');
    return ['#card'];
  },
  'phone-network': async (mock, page) => {
    mock.refresh = inTurn(
      () => code({ seed, refresh: 1 }),
      () => new Promise(() => mock.server.closeAllConnections()),
    );
    await page.goto(mock.url);
    await message(page, 'network');
    return ['#live', '#message'];
  },
  'phone-expired': async (mock, page) => {
    mock.refresh = inTurn(
      () => code({ seed, life: 2, refresh: 60 }),
      () => new Promise(() => {}),
    );
    await page.goto(mock.url);
    await look(page, 'expired');
    await message(page, 'loading');
    return ['#card'];
  },
  'phone-busy': async (mock, page) => {
    mock.refresh = () => problem(503, 'overloaded', {}, { 'Retry-After': '30' });
    await page.goto(mock.url);
    await message(page, 'busy');
    return ['#message'];
  },
};

async function around(page, from, to) {
  const [first, last] = await Promise.all([from, to].map((selector) => page.locator(selector).boundingBox()));
  return { x: first.x, y: first.y, width: first.width, height: last.y + last.height - first.y };
}

/** Takes all pictures of one language: for each name the picture's bytes, and what it says, its digits as zeros. */
export async function take(browser, language) {
  const taken = {};
  for (const [name, come] of Object.entries(PICTURES)) {
    const mock = await new Mock().start();
    const page = await open(browser, null, {
      locale: language,
      viewport: { width: 320, height: 640 },
      reducedMotion: 'reduce',
    });
    try {
      const [from, to = from] = await come(mock, page);
      const png = await page.screenshot({ fullPage: true, clip: await around(page, from, to) });
      const style = createHash('sha256').update(await page.locator('style').first().textContent());
      const words = await page.locator('main').innerText();
      const text = words.replace(/\d+/g, '0').split(/\s*\n\s*/);
      taken[name] = { png, said: { text, style: style.digest('hex').slice(0, 16) } };
    } finally {
      await page.context().close();
      await mock.stop();
    }
  }
  return taken;
}

async function main() {
  const browser = await launch();
  const said = {};
  try {
    for (const language of LANGUAGES) {
      mkdirSync(FOLDER + language, { recursive: true });
      for (const [name, one] of Object.entries(await take(browser, language))) {
        writeFileSync(`${FOLDER}${language}/${name}.png`, one.png);
        (said[language] ??= {})[name] = one.said;
        console.log(`${String(one.png.length).padStart(7)}  ${language}/${name}.png`);
      }
    }
  } finally {
    await browser.close();
  }
  writeFileSync(SAID, `${JSON.stringify(said, null, 2)}\n`);
}

if (argv[1] === fileURLToPath(import.meta.url)) await main();
