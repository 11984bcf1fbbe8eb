// A module of web/src as the tests can import it.

import { rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const WEB = fileURLToPath(new URL('../../web/', import.meta.url));
/** Of the packages that web/ is built with. */
export const fromWeb = createRequire(`${WEB}build.mjs`);

export async function source(path) {
  const outfile = join(tmpdir(), `onecode-${process.pid}-${path.replace(/\W/g, '-')}.mjs`);
  await fromWeb('esbuild').build({ entryPoints: [`${WEB}src/${path}`], bundle: true, format: 'esm', outfile });
  try {
    return await import(pathToFileURL(outfile));
  } finally {
    rmSync(outfile);
  }
}
