// The camera: pictures in, texts out. Symbols are read by the browser where it can, otherwise by the worker, one picture
// at a time: a slow phone reads fewer, and nothing piles up.

import type { Question } from './messages.ts';

type Decode = (question: Extract<Question, { op: 'decode' }>, give: Transferable[]) => Promise<string | null>;
type Reader = (video: HTMLVideoElement) => Promise<string | null>;

interface Detector {
  detect(source: HTMLVideoElement): Promise<readonly { readonly rawValue: string }[]>;
}
declare const BarcodeDetector:
  { new (options: { formats: string[] }): Detector; getSupportedFormats(): Promise<string[]> } | undefined;

/** What a camera can do that types of the DOM do not know of. */
interface Abilities {
  readonly torch?: boolean;
  readonly zoom?: { readonly min: number; readonly max: number; readonly step: number };
}

/** The longer side of what is read of a whole picture, and the side of what is read of its middle, in pixels. */
const WHOLE_PX = 800;
const MIDDLE_PX = 560;
/** Between two pictures. */
const PAUSE_MS = 30;

export class Camera {
  private track: MediaStreamTrack | null = null;
  private reader: Reader | null = null;
  private turn = 0;
  private readonly canvas = document.createElement('canvas');

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly decode: Decode,
    private readonly read: (text: string) => void,
    private readonly ended: () => void,
  ) {}

  /** Throws what `getUserMedia` throws. */
  async start(): Promise<Abilities> {
    this.stop();
    const picture = { facingMode: 'environment', width: { ideal: 1280 }, height: { ideal: 720 } };
    const stream = await navigator.mediaDevices.getUserMedia({ video: picture, audio: false });
    this.track = stream.getVideoTracks()[0]!;
    // Pulled out, or taken by another.
    this.track.onended = this.ended;
    this.video.srcObject = stream;
    await this.video.play();
    this.reader ||= await this.native();
    void this.loop(this.track);
    return (this.track.getCapabilities?.() ?? {}) as Abilities;
  }

  stop(): void {
    this.track?.stop();
    this.track = null;
    this.video.srcObject = null;
  }

  /** Sets torch or zoom; a camera that cannot stays as it is. */
  set(what: { readonly torch: boolean } | { readonly zoom: number }): void {
    this.track?.applyConstraints({ advanced: [what as MediaTrackConstraintSet] }).catch(() => undefined);
  }

  private async native(): Promise<Reader> {
    try {
      if (typeof BarcodeDetector === 'undefined' || !(await BarcodeDetector.getSupportedFormats()).includes('qr_code'))
        return this.own;
      const detector = new BarcodeDetector({ formats: ['qr_code'] });
      return async (video) => (await detector.detect(video))[0]?.rawValue ?? null;
    } catch {
      return this.own;
    }
  }

  private async loop(track: MediaStreamTrack): Promise<void> {
    while (this.track === track && track.readyState === 'live') {
      if (this.video.readyState >= 2 && !document.hidden) {
        try {
          const text = await this.reader!(this.video);
          if (text !== null && this.track === track) this.read(text);
        } catch {
          // Some browsers have the detector and not what it needs.
          this.reader = this.own;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  /** In turn the whole picture, reduced, and its middle as sharp as it is: near and far symbols. */
  private readonly own: Reader = async (video) => {
    const { videoWidth, videoHeight } = video;
    const middle = this.turn++ % 2 === 1 && Math.max(videoWidth, videoHeight) > WHOLE_PX;
    const side = Math.min(MIDDLE_PX, videoWidth, videoHeight);
    const scale = Math.min(1, WHOLE_PX / Math.max(videoWidth, videoHeight));
    const [width, height] = middle ? [side, side] : [Math.round(videoWidth * scale), Math.round(videoHeight * scale)];
    const { canvas } = this;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext('2d', { willReadFrequently: true })!;
    if (middle)
      context.drawImage(video, (videoWidth - side) / 2, (videoHeight - side) / 2, side, side, 0, 0, side, side);
    else context.drawImage(video, 0, 0, width, height);
    const data = context.getImageData(0, 0, width, height).data.buffer;
    return this.decode({ op: 'decode', width, height, data }, [data]);
  };
}
