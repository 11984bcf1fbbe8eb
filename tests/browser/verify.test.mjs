// The page's own verification, held against the table that every verifier of ours is held against, and against published
// vectors.

import assert from 'node:assert/strict';
import { randomBytes, X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import * as made from './made.mjs';
import { source } from './source.mjs';

const TABLE = JSON.parse(readFileSync(new URL('../codes/cases.json', import.meta.url), 'utf8'));
/** Cases of the table that a browser cannot do, each with the reason: none needs it. */
const LEFT_OUT = {};

let verification;
let trust;

before(async () => {
  verification = { ...(await source('verify/verify.ts')), ...(await source('verify/trust.ts')) };
  trust = await verification.fromJwks(JSON.stringify(TABLE.trust));
});

describe('the shared table', () => {
  it('has a result for each case, and it is the one that is written there', async (test) => {
    let run = 0;
    for (const { name, text, result, status } of TABLE.cases) {
      if (LEFT_OUT[name]) {
        test.diagnostic(`left out: ${name}: ${LEFT_OUT[name]}`);
        continue;
      }
      const verdict = await verification.verify(trust, text, TABLE.at);
      assert.deepEqual([verdict.outcome, verdict.claims?.status], [result, status], name);
      run++;
    }
    test.diagnostic(`${run} cases run, ${Object.keys(LEFT_OUT).length} left out`);
    assert.ok(run > 70);
  });
});

describe('published certificates', () => {
  /** Cases that a browser cannot do, each with the reason. */
  const PUBLISHED_LEFT_OUT = {};

  it('have the results that they say, where VECTORS_DIR names a folder of them', async (test) => {
    const folder = process.env.VECTORS_DIR && join(process.env.VECTORS_DIR, 'dcc');
    if (!folder) return test.diagnostic('VECTORS_DIR names no folder of published vectors: none was run');
    let run = 0;
    for (const path of readdirSync(folder, { recursive: true }).sort()) {
      if (!path.endsWith('.json')) continue;
      if (PUBLISHED_LEFT_OUT[path]) {
        test.diagnostic(`left out: ${path}: ${PUBLISHED_LEFT_OUT[path]}`);
        continue;
      }
      await checkPublished(path, JSON.parse(readFileSync(join(folder, path), 'utf8')));
      run++;
    }
    test.diagnostic(`published certificates: ${run} run, ${Object.keys(PUBLISHED_LEFT_OUT).length} left out`);
    assert.ok(run > 100);
  });

  async function checkPublished(path, { PREFIX, TESTCTX, EXPECTEDRESULTS }) {
    const certificate = new X509Certificate(Buffer.from(TESTCTX.CERTIFICATE, 'base64'));
    const der = certificate.publicKey.export({ type: 'spki', format: 'der' });
    const alg = certificate.publicKey.asymmetricKeyType === 'ec' ? 'ES256' : 'PS256';
    const entry = { alg, key: new Uint8Array(der), nbf: 0, exp: null, env: 'prod', profile: 'hc1' };
    // Its signer is trusted whichever issuer and key id it names.
    const [trusted] = (await verification.Trust.of([{ ...entry, iss: '', kid: new Uint8Array() }])).candidates(
      'hc1',
      '',
      new Uint8Array(),
    );
    const anybody = new verification.Trust();
    anybody.candidates = () => (trusted ? [trusted] : []);
    const clock = TESTCTX.VALIDATIONCLOCK;
    const at = Math.floor(Date.parse(/Z|[+-]\d\d:?\d\d$/.test(clock) ? clock : `${clock}Z`) / 1000);
    const { outcome, claims } = await verification.verify(anybody, PREFIX, at);
    assert.notEqual(outcome, 'malformed', path);
    const { EXPECTEDVERIFY: good, EXPECTEDEXPIRATIONCHECK: inTime } = EXPECTEDRESULTS;
    if (typeof good === 'boolean') assert.equal(!!claims, good, path);
    if (typeof inTime === 'boolean' && claims) assert.equal(outcome === 'valid', inTime, path);
  }
});

describe('published signatures', () => {
  it('are good or bad as they say, where VECTORS_DIR names a folder of them', async (test) => {
    const folder = process.env.VECTORS_DIR && join(process.env.VECTORS_DIR, 'wycheproof');
    if (!folder) return test.diagnostic('VECTORS_DIR names no folder of published vectors: none was run');
    const { keyOf } = await source('verify/keys.ts');
    const bytes = (text) => new Uint8Array(Buffer.from(text, 'hex'));
    for (const [alg, name] of [
      ['Ed25519', 'ed25519'],
      ['ES256', 'ecdsa_secp256r1_sha256_p1363'],
    ]) {
      let run = 0;
      const { testGroups } = JSON.parse(readFileSync(join(folder, `${name}_test.json`), 'utf8'));
      for (const { publicKey, publicKeyDer, tests } of testGroups) {
        const key = await keyOf(alg, bytes(alg === 'Ed25519' ? publicKey.pk : publicKeyDer));
        for (const { tcId, msg, sig, result } of tests) {
          const good = !!key && (await key.verify(bytes(sig), bytes(msg)));
          assert.equal(good, result === 'valid', `${name} ${tcId}`);
          run++;
        }
      }
      test.diagnostic(`${name}: ${run} run, none left out`);
      assert.ok(run > 100);
    }
  });

  it('are the same to the library for browsers without Ed25519', async (test) => {
    if (!process.env.VECTORS_DIR)
      return test.diagnostic('VECTORS_DIR names no folder of published vectors: none was run');
    globalThis.self = globalThis;
    await source('verify/noble.ts');
    const file = join(process.env.VECTORS_DIR, 'wycheproof/ed25519_test.json');
    const bytes = (text) => new Uint8Array(Buffer.from(text, 'hex'));
    for (const { publicKey, tests } of JSON.parse(readFileSync(file, 'utf8')).testGroups) {
      for (const { tcId, msg, sig, result } of tests) {
        const good = await globalThis.verifyEd25519(bytes(sig), bytes(msg), bytes(publicKey.pk));
        assert.equal(good, result === 'valid', `${tcId}`);
      }
    }
  });
});

describe('altered codes', () => {
  it('are never valid, cut or changed anywhere', async () => {
    for (const name of ['ours', 'ES256', 'PS256', 'maps of no length']) {
      const { text } = TABLE.cases.find((each) => each.name === name);
      for (let end = 0; end < text.length; end += 3) {
        const { outcome } = await verification.verify(trust, text.slice(0, end), TABLE.at);
        assert.equal(outcome, 'malformed', `${name} cut at ${end}`);
      }
      for (let at = 0; at < text.length; at++) {
        for (const other of ['0', 'A', ' ', ':', '\n', 'é']) {
          const altered = text.slice(0, at) + other + text.slice(at + 1);
          const { outcome, claims } = await verification.verify(trust, altered, TABLE.at);
          assert.equal(outcome === 'valid' && !!claims, altered === text, `${name} ${at} ${other}`);
        }
      }
    }
  });

  it('of any bytes have a verdict, and so has any text', async () => {
    const texts = ['', 'OC1:', 'HC1:', `OC1:${'0'.repeat(4_092)}`, `OC1:${'0'.repeat(1 << 20)}`, '\ud800', 'OC1:\0\0'];
    for (let round = 0; round < 300; round++) texts.push(`OC1:${made.base45(randomBytes(round))}`);
    for (const text of texts) assert.equal((await verification.verify(trust, text, TABLE.at)).outcome, 'malformed');
  });
});

describe('a list of keys', () => {
  const [signer, other] = [made.key(3), made.key(8)];
  const list = (...signers) => verification.fromJwks(JSON.stringify(made.jwks(...signers)));
  const outcome = async (trusted, options, at = made.nowS()) =>
    (await verification.verify(trusted, made.code(signer, options), at)).outcome;

  it('bounds the issue of what its keys have signed, not the time of the check', async () => {
    const now = made.nowS();
    const bounded = await list({ ...signer, more: { nbf: now - 100, exp: now - 50 } });
    assert.equal(await outcome(bounded, { iat: now - 60 }), 'valid');
    for (const iat of [now - 101, now - 49]) assert.equal(await outcome(bounded, { iat }), 'bad_signature');
  });

  it('that is too old makes nothing valid; a clock behind a time that was heard is wrong', async () => {
    const [trusted, now] = [await list(signer), made.nowS()];
    trusted.staleFrom = now + 9_000;
    trusted.heard = now;
    assert.equal(await outcome(trusted, { exp: now + 9_999 }, now + 8_999), 'valid');
    assert.equal(await outcome(trusted, { exp: now + 9_999 }, now + 9_000), 'stale_trust');
    assert.equal(await outcome(trusted, { exp: now + 9 }, now + 9_000), 'expired');
    assert.equal(await outcome(trusted, { iat: now }, now - 300), 'clock_suspect');
    assert.equal(await outcome(trusted, { iat: now + 400, exp: now + 500 }, now), 'not_yet_valid');
  });

  it('passes over a key that no browser can use, and is refused where it is not whole', async () => {
    const neutral = Buffer.alloc(32);
    neutral[0] = 1;
    const weak = { ...other, more: { x: neutral.toString('base64url') } };
    const trusted = await list(signer, weak);
    assert.equal(trusted.unusable, 1);
    assert.equal(await outcome(trusted), 'valid');
    for (const text of ['', 'null', '{}', '{"keys":1}']) await assert.rejects(verification.fromJwks(text));
    await assert.rejects(list(), { message: 'it has no key that codes are signed with' });
    await assert.rejects(list({ ...signer, more: { kid: '%' } }), { message: 'key 0: its `kid` is no base64url' });
    await assert.rejects(list({ ...signer, more: { iss: 7 } }), { message: 'key 0: it has no `iss`' });
  });
});
