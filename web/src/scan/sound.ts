// A sound and a vibration for each look, told apart without eyes: rising for yes, falling and long for no, a question in
// between. A test never sounds like a yes.

import type { Look } from './result.ts';

/** Tones in Hz and milliseconds, one after another. */
const SOUNDS: { readonly [look in Look]: readonly (readonly [number, number])[] } = {
  green: [
    [880, 80],
    [1320, 140],
  ],
  yellow: [
    [660, 110],
    [660, 110],
    [660, 110],
  ],
  red: [
    [440, 180],
    [220, 420],
  ],
  unknown: [
    [520, 150],
    [440, 150],
  ],
  no: [[220, 420]],
  ask: [
    [440, 120],
    [587, 120],
    [440, 120],
  ],
  test: [
    [300, 60],
    [300, 60],
  ],
};
const BUZZES: { readonly [look in Look]: readonly number[] } = {
  green: [60],
  yellow: [60, 60, 60, 60, 60],
  red: [400, 100, 400],
  unknown: [150, 80, 150],
  no: [400],
  ask: [100, 80, 100],
  test: [30, 30, 30],
};

let context: AudioContext | null = null;

/** Browsers let a page sound only after a gesture; each one tries. */
export function unlock(): void {
  try {
    context ||= new AudioContext();
    void context.resume().catch(() => undefined);
  } catch {
    // Then it vibrates only.
  }
}

export function play(look: Look): void {
  navigator.vibrate?.([...BUZZES[look]]);
  if (context?.state !== 'running') return;
  let at = context.currentTime;
  for (const [hertz, ms] of SOUNDS[look]) {
    const tone = context.createOscillator();
    const volume = context.createGain();
    tone.frequency.value = hertz;
    volume.gain.setValueAtTime(0.25, at);
    volume.gain.setTargetAtTime(0, at + ms / 1000 - 0.02, 0.008);
    tone.connect(volume).connect(context.destination);
    tone.start(at);
    tone.stop((at += ms / 1000));
    at += 0.03;
  }
}
