// Ed25519 for browsers whose WebCrypto lacks it: a file of its own, loaded when it is needed.

import { verifyAsync } from '@noble/ed25519';

Object.assign(self, {
  // RFC 8032, not the laxer rules of ZIP-215.
  verifyEd25519: (signature: Uint8Array, signed: Uint8Array, key: Uint8Array): Promise<boolean> =>
    verifyAsync(signature, signed, key, { zip215: false }).catch(() => false),
});
