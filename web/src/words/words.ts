// The words of the citizen page. A language is one file beside this one; a page carries the words of one language,
// so that a first visit pays for no other.

/** What the page says when there is no code to show, or beside the code when something is wrong. */
export interface Message {
  readonly heading: string;
  readonly detail: string;
  /** The label of the one button, or nothing to press. */
  readonly button?: string;
}

export interface Words {
  readonly lang: string;
  readonly title: string;
  readonly status: { readonly green: string; readonly yellow: string; readonly red: string; readonly unknown: string };
  /** Follows TEST on the banner. */
  readonly test: string;
  readonly expired: string;
  /** When the code ran out. */
  readonly expiredAt: (time: string) => string;
  /** Before the countdown. */
  readonly left: string;
  /** After the countdown. */
  readonly until: (time: string) => string;
  readonly qr: string;
  readonly signOut: string;
  readonly signOutFailed: string;
  /** Follows a message while a further try is planned. */
  readonly nextTry: (seconds: number) => string;
  readonly trying: string;
  /** Stands in for the detail of a message while a code that is still valid is on the screen. */
  readonly stillValid: string;
  readonly noScript: Message;
  readonly loading: Message;
  readonly signingIn: Message;
  readonly signedOut: Message;
  readonly failed: Message;
  readonly stateMismatch: string;
  readonly sessionNotKept: string;
  readonly notConfigured: Message;
  readonly unknownResident: Message;
  readonly ended: Message;
  readonly network: Message;
  readonly busy: Message;
  readonly server: Message;
}
