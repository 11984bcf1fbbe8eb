// Takes a picture of the citizen page: node screenshot.mjs OUT.png URL [--lang zh-CN] [--qr] [--dark]
//
// With --qr it is the painted symbol alone, quiet zone included, for a decoder to read.

import { parseArgs } from 'node:util';
import { anyLook, launch, open } from './support.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { lang: { type: 'string', default: 'zh-CN' }, qr: { type: 'boolean' }, dark: { type: 'boolean' } },
});
const [out, url] = positionals;
if (!out || !url) {
  console.error('usage: node screenshot.mjs OUT.png URL [--lang zh-CN] [--qr] [--dark]');
  process.exit(2);
}
const browser = await launch();
try {
  const page = await open(browser, url, {
    locale: values.lang,
    viewport: { width: 390, height: 700 },
    deviceScaleFactor: 2,
    colorScheme: values.dark ? 'dark' : 'light',
  });
  await anyLook(page);
  await (values.qr ? page.locator('#qr') : page).screenshot({ path: out });
} finally {
  await browser.close();
}
