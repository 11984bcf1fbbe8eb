// A phone with the citizen page open while its server is gone, for fifteen-hours: told what to do by lines on its input, each
// answered by a line of JSON. The browser's clock is Playwright's: the page's time is put forward, nobody waits for it.
//
//     show                      waits for a code, or for what is said in its place
//     forward SECONDS EVERY     so many seconds of the page's time, in steps; the page's timers and its calls run in each
//     until LOOK SECONDS EVERY  the same, until the card looks so
//     reload                    as by the person's finger
//
// Usage: node page.mjs URL SESSION

import { createInterface } from 'node:readline';
import { launch, open, sleep } from '../../tests/browser/support.mjs';

const REFRESH = '/person/app/refreshQRCode';
/** Real milliseconds for a call of the page to fail or to be answered. */
const SETTLE_MS = 25;
const [url, session] = process.argv.slice(2);

const browser = await launch();
const page = await open(browser);
let asked = 0;
page.on('request', (request) => {
  if (request.url().includes(REFRESH)) asked += 1;
});
await page.context().addCookies([{ name: 'oc', value: session, url, httpOnly: true, sameSite: 'Strict' }]);
await page.clock.install();
await page.goto(url);
// Without it a reload shows nothing while the server is gone.
await page.evaluate(() => navigator.serviceWorker.ready.then(() => true));

const told = () =>
  page.evaluate(() => {
    const [card, message] = [document.querySelector('#card'), document.querySelector('#message')];
    return {
      look: card && !card.hidden ? card.dataset.look : null,
      message: message && !message.hidden ? message.dataset.key : null,
      words: message && !message.hidden ? message.innerText.replace(/\s+/g, ' ').trim() : '',
      at: Date.now() / 1000,
    };
  });

async function forward(seconds, every, enough = () => false) {
  let gone = 0;
  while (gone < seconds && !enough(await told())) {
    await page.clock.fastForward(every * 1000);
    await sleep(SETTLE_MS);
    gone += every;
  }
  return gone;
}

const commands = {
  show: async () => void (await page.waitForSelector('#card[data-look]:not([hidden]), #message:not([hidden])')),
  forward: (seconds, every) => forward(Number(seconds), Number(every)),
  until: (look, seconds, every) => forward(Number(seconds), Number(every), (state) => state.look === look),
  reload: async () => void (await page.reload()),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = line.split(' ');
  const gone = (await commands[name](...words)) ?? 0;
  await sleep(200);
  console.log(JSON.stringify({ ...(await told()), asked, gone, errors: page.errors }));
}
await browser.close();
