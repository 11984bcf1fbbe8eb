// On every page of the manual: keeps the whole of it on the device of whoever opens one page, and says so only once it
// is there. The service worker answers from what is kept here; the citizen page and its first visit know nothing of it.

/** All paths of the manual in the language of this page. */
declare const ROUTES: readonly string[];

const CACHE = 'manual';
/** What is older is asked for again, by its ETag. */
const AGE_MS_MAX = 3_600_000;

const path = (request: Request): string => new URL(request.url).pathname;

async function isKept(cache: Cache): Promise<boolean> {
  const kept = (await cache.keys()).map(path);
  return ROUTES.every((route) => kept.indexOf(route) >= 0);
}

/** All of it is stored or nothing: half a manual is worse than none that is known to be missing. */
async function keep(): Promise<boolean> {
  const cache = await caches.open(CACHE);
  const first = await cache.match(ROUTES[0]!, { ignoreVary: true });
  const age = Date.now() - Date.parse((first && first.headers.get('Date')) || '');
  if (!(age < AGE_MS_MAX) || !(await isKept(cache))) {
    try {
      await cache.addAll(ROUTES.map((route) => new Request(route, { cache: 'no-cache' })));
      for (const request of await cache.keys()) if (ROUTES.indexOf(path(request)) < 0) await cache.delete(request);
    } catch {
      // Without a network what was kept before is what there is.
    }
  }
  return isKept(cache);
}

async function start(): Promise<void> {
  const line = document.getElementById('kept')!;
  let kept = false;
  try {
    await navigator.serviceWorker.register('/sw.js');
    kept = await keep();
  } catch {
    // A browser without service workers, or a page that did not come over TLS.
  }
  line.textContent = (kept ? line.dataset.kept : line.dataset.not) || '';
}

document.getElementById('print')!.onclick = () => print();
addEventListener('load', () => void start());
