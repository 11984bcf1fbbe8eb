// The service worker of a page: it opens without a network, and without asking the server for it again.
//
// It answers the navigation to the page from the shell it keeps, files that carry the hash of their content, and what is
// below `/manual` from what the manual's own pages have kept (`manual.ts`); a visit of the citizen page fetches nothing of
// that. Calls of the page pass it by. A new build is a new worker (its version is part of its bytes), which fetches its
// own shell and drops the older ones; between builds a shell that is an hour old is fetched again in the background, in
// whatever language the server then answers.

/** What the build knows: whose worker it is, of which build, the path of the page, and the files: those it needs, and others. */
declare const NAME: string;
declare const VERSION: string;
declare const SHELL: string;
declare const NEEDED: readonly string[];
declare const OTHERS: readonly string[];

const worker = self as unknown as ServiceWorkerGlobalScope;

const CACHE = `${NAME}-${VERSION}`;
const MANUAL = 'manual';
const SHELL_AGE_MS_MAX = 3_600_000;

/** `no-cache` asks with the ETag of the copy that the browser just loaded: the answer is a 304 without a body. */
async function fetchShell(): Promise<Response> {
  const response = await fetch(SHELL, { cache: 'no-cache' });
  if (response.ok && !response.redirected && /^text\/html/.test(response.headers.get('Content-Type') || '')) {
    await (await caches.open(CACHE)).put(SHELL, response.clone());
  }
  return response;
}

/** A shell without a date counts as old. */
function old(shell: Response): boolean {
  return !(Date.now() - Date.parse(shell.headers.get('Date') || '') < SHELL_AGE_MS_MAX);
}

async function answer(event: FetchEvent): Promise<Response> {
  // `Vary` tells caches of many; this one serves one browser, whose languages are those of the kept copy.
  const shell = await (await caches.open(CACHE)).match(SHELL, { ignoreVary: true });
  if (!shell) return fetchShell();
  if (old(shell)) event.waitUntil(fetchShell().catch(() => undefined));
  return shell;
}

/** The manual as it is kept, but for its own pages' question for a newer one; whatever is kept where nobody answers. */
async function answerManual(request: Request, path: string): Promise<Response> {
  const kept = await (await caches.open(MANUAL)).match(path.replace(/\/$/, ''), { ignoreVary: true });
  if (kept && (request.mode === 'navigate' || request.cache !== 'no-cache')) return kept;
  return fetch(request).catch((error) => kept || Promise.reject(error));
}

/** A file never changes: it is fetched once. */
async function file(path: string): Promise<Response> {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(path);
  if (kept) return kept;
  const response = await fetch(path);
  if (response.ok) await cache.put(path, response.clone());
  return response;
}

async function dropOthers(): Promise<void> {
  for (const name of await caches.keys()) if (name.startsWith(`${NAME}-`) && name !== CACHE) await caches.delete(name);
  await worker.clients.claim();
}

worker.addEventListener('install', (event) => {
  void worker.skipWaiting();
  event.waitUntil(Promise.all([fetchShell(), ...NEEDED.map(file)]));
});
worker.addEventListener('activate', (event) => event.waitUntil(dropOthers()));
worker.addEventListener('fetch', (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== 'GET' || origin !== location.origin) return;
  if (request.mode === 'navigate' && pathname === SHELL) event.respondWith(answer(event));
  else if (NEEDED.includes(pathname) || OTHERS.includes(pathname)) event.respondWith(file(pathname));
  else if (/^\/manual(\/|$)/.test(pathname)) event.respondWith(answerManual(request, pathname));
});
