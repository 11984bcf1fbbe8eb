// What the scanner keeps on this device, in IndexedDB: named values, and the queue of scans by their id.

/** A scan as `POST /scan/records` takes it: `at` in Unix milliseconds, `id` and `cti` in hexadecimal. */
export interface ScanRecord {
  readonly id: string;
  readonly at: number;
  readonly place: string;
  readonly cti: string;
  readonly result: string;
  readonly test: boolean;
  /** Why the server refuses it for good; it is kept, and said. */
  readonly refused?: string;
}

type Key = 'device' | 'clock' | 'shift' | 'jwks';

let opening: Promise<IDBDatabase> | null = null;

function open(): Promise<IDBDatabase> {
  opening ||= new Promise((resolve, reject) => {
    const request = indexedDB.open('scan', 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore('values');
      request.result.createObjectStore('queue', { keyPath: 'id' });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  // What could not be opened now may be later.
  opening.catch(() => (opening = null));
  return opening;
}

/** Runs one transaction; what it wrote to the queue is on the disk when this resolves. */
async function run<T>(
  store: 'values' | 'queue',
  mode: IDBTransactionMode,
  work: (store: IDBObjectStore) => IDBRequest<T> | void,
): Promise<T | undefined> {
  const database = await open();
  return new Promise((resolve, reject) => {
    const durability = store === 'queue' ? 'strict' : 'default';
    const transaction = database.transaction(store, mode, { durability });
    const request = work(transaction.objectStore(store));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** A kept value; undefined where there is none or storage is forbidden. */
export const get = <T>(key: Key): Promise<T | undefined> =>
  run('values', 'readonly', (store) => store.get(key) as IDBRequest<T>).catch(() => undefined);

/** Keeps a value, if storage is allowed. */
export const set = (key: Key, value: unknown): Promise<unknown> =>
  run('values', 'readwrite', (store) => void store.put(value, key)).catch(() => undefined);

export const queued = async (): Promise<ScanRecord[]> =>
  (await run('queue', 'readonly', (store) => store.getAll() as IDBRequest<ScanRecord[]>)) ?? [];

/** Replaces records by others, in one transaction. */
export const exchange = (gone: readonly string[], put: readonly ScanRecord[]): Promise<unknown> =>
  run('queue', 'readwrite', (store) => {
    for (const id of gone) store.delete(id);
    for (const record of put) store.put(record);
  });
