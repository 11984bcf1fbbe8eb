// Hand scanners, which type what they read like a keyboard and end it with Enter, and the clipboard.

import { TEXT_CHARS_MAX } from '../verify/verify.ts';

/** A hand scanner types faster than this from key to key. */
const KEY_MS_MAX = 250;

const isField = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);

export function listen(read: (text: string) => void): void {
  let typed = '';
  let last = 0;
  document.addEventListener('keydown', (event) => {
    if (isField(event.target) || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.timeStamp - last > KEY_MS_MAX) typed = '';
    last = event.timeStamp;
    if (event.key.length === 1 && typed.length < TEXT_CHARS_MAX) {
      typed += event.key;
      // A space in a code must press no button and scroll nothing; one that begins nothing is the person's.
      if (typed !== ' ') event.preventDefault();
      else typed = '';
    } else if (event.key === 'Enter' && typed.length > 3) {
      event.preventDefault();
      read(typed);
      typed = '';
    }
  });
  document.addEventListener('paste', (event) => {
    const text = event.clipboardData?.getData('text').trim();
    if (!text || isField(event.target)) return;
    event.preventDefault();
    read(text);
  });
}
