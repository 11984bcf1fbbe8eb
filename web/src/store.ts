// What the page keeps on this device. Storage can be forbidden or full: then it forgets, and nothing else changes.

/**
 * `code`: the last code and the clock's offset. `out`: signed out on purpose. `demo`: the resident played in the demo.
 * `hold`: the wall-clock millisecond before which the server asked to be left alone.
 */
export type Key = 'code' | 'out' | 'demo' | 'hold';

export function get<T>(key: Key): T | null {
  try {
    return JSON.parse(localStorage.getItem(key) || 'null') as T | null;
  } catch {
    return null;
  }
}

export function set(key: Key, value: unknown): void {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Private windows of older browsers allow nothing.
  }
}

export function remove(key: Key): void {
  try {
    localStorage.removeItem(key);
  } catch {
    // As above.
  }
}

/** Keeps the state of a sign-in that is about to leave the page: for this tab only. */
export function keepState(state: string): void {
  try {
    sessionStorage.setItem('state', state);
  } catch {
    // Then the answer is refused when it comes.
  }
}

/** The state of the sign-in that this tab left for, once. */
export function takeState(): string | null {
  try {
    const state = sessionStorage.getItem('state');
    sessionStorage.removeItem('state');
    return state;
  } catch {
    return null;
  }
}
