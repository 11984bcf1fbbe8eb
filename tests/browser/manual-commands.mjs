// Runs the commands of the manual as it has them, page by page, against a server of its own over TLS, in one shell.
//
// A block ```sh is run as it stands. The one marked ```sh setup names what each site sets; here it is set to what the
// test has. Between the blocks the test does what the text around them tells of: a kill, a new certificate, a file.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePorts } from './support.mjs';

const MANUAL = fileURLToPath(new URL('../../manual/', import.meta.url));
const RUN_MS_MAX = 120_000;

/** The blocks of a page with their names: the anchor that they stand behind, and their number there. */
function blocksOf(page, language = 'sh') {
  const found = [];
  let [section, open] = ['top', null];
  for (const line of readFileSync(`${MANUAL}en/${page}.md`, 'utf8').split('\n')) {
    const anchor = line.match(/<a id="([^"]+)">/);
    if (open === null && anchor) section = anchor[1];
    if (!line.startsWith('```')) open?.lines.push(line);
    else if (open) open = null;
    else {
      const [kind, mark] = line.slice(3).split(' ');
      const number = found.filter((block) => block.section === section && block.kind === kind).length;
      open = { section, kind, mark, name: `${section}.${number}`, lines: [] };
      found.push(open);
    }
  }
  return found.filter(({ kind }) => kind === language).map((block) => ({ ...block, text: block.lines.join('\n') }));
}

export const commandsOf = (page) => blocksOf(page).map(({ text }) => text);

const START = `
start() {
    sleep 2
    onecode serve --config "$config" >> onecode.log 2>&1 & pid=$!
    curl -sS --retry 30 --retry-all-errors --retry-delay 1 "$admin/readyz" > ready
}`;
const END = 'kill -TERM "$pid"; wait "$pid"';
const ASK = `curl -sS -H "Authorization: Bearer $(head -n 1 "$data/sessions.txt")"`;
/** Two people whom nobody is; one is known before. */
const KNOWN = '990000199001010017';
const ADD = (id, ago) => `
echo '{"id_number":"${id}","status":"green","version":'$(( $(date +%s%3N) - ${ago} ))',"reason":"before"}' |
    curl -sS -T - -X POST -H "Content-Type: application/x-ndjson" "$admin/admin/residents" | grep done`;
const TUBE = [KNOWN, '990000198512310025'];

/** What happens before and after a block, and what its output has. */
const AROUND = {
  operators: {
    'setup.1': { before: 'pgrep -x onecode | grep -qx "$pid"', has: [/^ready$/m, /^200 in /m] },
    'process-killed.0': {
      before: `${ADD(KNOWN, 1_000)}\nkill -KILL "$pid"; wait "$pid" || true`,
      has: [/^ready$/m, /journal: \d+ records? applied after/],
    },
    'shard-stuck.0': { has: [/ shard-0 /, /^onecode_connections_open\{shard="0"\}/m] },
    'shard-stuck.1': { after: 'wait "$pid" || true\nstart' },
    'network-down.0': { has: [/^lo /m] },
    'firewall.0': { has: [/^200$/m, /LISTEN/] },
    'network-loss.0': { has: [/reason="slow"/, /^onecode_tcp_retransmitted_segments_total /m] },
    'disk-full.0': { has: [/^journal: ok$/m, /^onecode_journal_full_for_scans 0$/m, /^onecode_journal_failed 0$/m] },
    'journal-device.0': { has: [/^onecode_journal_waiting_seconds /m] },
    'journal-device.1': { has: [/./] },
    'clock-off.0': { has: [/^process_clock_seconds /m, /^process_start_time_seconds /m] },
    'certificate-expired.0': {
      after: 'expires=$(curl -sS "$admin/metrics" | grep "^onecode_tls_certificate_expires")',
    },
    'certificate-expired.1': {
      before: 'cp ../later.pem ../server.pem',
      has: [/^tls\.certificates/m, /^onecode_reloads_refused_total 0$/m],
      after: '! curl -sS "$admin/metrics" | grep -Fx "$expires"',
    },
    'key-revoked.0': { has: [/ prod active /] },
    'key-revoked.1': {
      before: `kid=$(onecode keys list --config "$config" | awk '$2 == "prod" && $3 == "active" { print $1 }')`,
      has: [/ prod revoked /, / prod active /, /"env":"prod"/],
      after: '! curl -fsS "$city/.well-known/jwks.json" | grep -F "$kid"',
    },
    'key-revoked.2': { has: [/session epoch 2/], after: 'sleep 1' },
    'key-rotation.0': { has: [/ prod next /], after: 'sleep 1' },
    'restore.0': { before: END },
    'restore.1': { has: [/ prod revoked /], after: 'start' },
    'restore.2': { after: 'grep -q "Door 7" scans-of-the-damaged-folder.csv' },
    'rolling-restart.0': { has: [/^ready$/m], after: 'grep "takeover: done" onecode.log' },
    'ten-times-the-crowd.0': { has: [/by="deadline"/, /^onecode_brownout_level 0$/m] },
    'fifteen-hours.0': { has: [/^accepted$/m] },
  },
  door: {
    'without-network.0': { after: 'grep -q prod jwks.json' },
    'without-network.1': {
      before: `${ASK} "$city/person/app/refreshQRCode?qr=none" | sed 's/.*"code":"\\([^"]*\\)".*/\\1/' > codes.txt`,
      has: [/^valid green CN-610100 from .*Z until .*Z TEST$/m],
    },
  },
  desk: {
    'look-up.0': { before: ADD(KNOWN, 1_000), has: [/"status":"green"/, /"history":\[/] },
    'change.0': { has: [/"result":"done"/] },
    'after.0': { has: [/^\d{13}$/m] },
  },
  sampling: {
    'entering.0': {
      before: `printf '%s\\n' ${TUBE.join(' ')} > tube-61-000123.txt`,
      has: [/"line":1,"result":"done"/, /"line":2,"result":"done"/],
    },
  },
  metrics: { 'top.0': { has: [/^onecode_build_info\{/m, /"connections_open"/] } },
};

/** An authority, two certificates of the server by it, and the data folder of a demo, which is served without the demo. */
async function prepare(folder) {
  const openssl = (...words) => execFileSync('openssl', words, { cwd: folder, stdio: 'pipe' });
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc'];
  openssl('req', '-x509', ...ec, '-subj', '/CN=authority', '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '9');
  writeFileSync(join(folder, 'san'), 'subjectAltName=IP:127.0.0.1\n');
  openssl('req', ...ec, '-subj', '/CN=server', '-keyout', 'server.key', '-out', 'server.csr');
  for (const [name, days] of [
    ['server', '5'],
    ['later', '8'],
  ]) {
    const by = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'san'];
    openssl('x509', '-req', '-in', 'server.csr', ...by, '-out', `${name}.pem`, '-days', days);
  }
  for (const name of ['bin', 'work', 'backup']) mkdirSync(join(folder, name));
  symlinkSync(resolve(process.env.ONECODE_BIN), join(folder, 'bin/onecode'));
  writeFileSync(join(folder, 'work/sentence.txt'), 'a sentence that is kept in the safe\n');
  const [port, admin] = await freePorts(2);
  const config = [
    `data = "${folder}/data"`,
    `[listen]\naddress = "127.0.0.1:${port}"\n[admin]\naddress = "127.0.0.1:${admin}"`,
    `[tls]\ncertificates = ["${folder}/server.pem"]\nkeys = ["${folder}/server.key"]`,
    '[runtime]\nshards = 1\ndriver = "monoio"\n',
  ];
  writeFileSync(join(folder, 'onecode.toml'), config.join('\n'));
  return [
    `data=${folder}/data config=${folder}/onecode.toml backup=${folder}/backup`,
    `city=https://127.0.0.1:${port} admin=http://127.0.0.1:${admin}`,
  ].join('\n');
}

/** The script of one page: each block behind a line with its name, in the words of the manual. */
function scriptOf(page, site) {
  const around = { ...AROUND[page] };
  const parts = ['set -euo pipefail', site, START, 'trap \'kill -KILL "$pid" 2> /dev/null || true\' EXIT'];
  parts.push(`
onecode serve --demo --residents 100 --data "$data" --shards 1 --driver monoio --listen "127.0.0.1:\${city##*:}" \\
    --admin "\${admin#http://}" > demo.log 2>&1 & pid=$!
curl -sS --retry 30 --retry-all-errors --retry-delay 1 "$admin/readyz" > ready
curl -sS -H "Authorization: Bearer $(cat "$data/scanner-token.txt")" -H "Content-Type: application/json" \\
    -d '{"code":"OC1:","place":"Door 7"}' "http://\${city#https://}/scan/verify" | grep recorded > scanned
${END}
rm "$data/demo"
start`);
  for (const { name, mark, text } of blocksOf(page)) {
    const { before = '', after = '' } = around[name] ?? {};
    delete around[name];
    if (mark === 'setup') {
      const names = [...text.matchAll(/^(\w+)=/gm)].map((match) => match[1]);
      assert.deepEqual(names, ['data', 'config', 'city', 'admin', 'backup', 'pid']);
    } else {
      parts.push(
        before && `{\n${before}\n} >&2`,
        `printf '\\n@@@ %s\\n' '${name}'`,
        text,
        after && `{\n${after}\n} >&2`,
      );
    }
  }
  assert.deepEqual(Object.keys(around), [], `${page} has no such blocks`);
  return [...parts, END].filter(Boolean).join('\n');
}

async function run(page) {
  const folder = mkdtempSync(join(tmpdir(), 'onecode-manual-'));
  try {
    const script = scriptOf(page, await prepare(folder));
    const env = {
      ...process.env,
      PATH: `${folder}/bin:${process.env.PATH}`,
      CURL_CA_BUNDLE: `${folder}/ca.pem`,
      // What a stall of the machine makes old is not dropped.
      ONECODE_ADMISSION_DEADLINE_MS: '60000',
    };
    writeFileSync(join(folder, 'script'), script);
    const stdio = ['ignore', 'pipe', 'pipe'];
    const options = { cwd: join(folder, 'work'), env, stdio, encoding: 'utf8', timeout: RUN_MS_MAX };
    const { status, stdout, stderr } = spawnSync('bash', [join(folder, 'script')], options);
    const log = () => execFileSync('sh', ['-c', 'tail -n 20 *.log'], { cwd: options.cwd, encoding: 'utf8' });
    assert.equal(status, 0, `${page}: ${stdout.slice(-2_000)}\n${stderr.slice(-2_000)}\n${status === 0 || log()}`);
    const said = Object.fromEntries(
      stdout
        .split(/^@@@ /m)
        .slice(1)
        .map((part) => part.split(/\n([^]*)/, 2)),
    );
    for (const [name, { has = [] }] of Object.entries(AROUND[page])) {
      for (const pattern of has) assert.match(said[name], pattern, `${page} ${name}`);
    }
    return said;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const shape = (line) =>
  line
    .replace(/\d/g, '0')
    .replace(/^\w+/, '')
    .replace(/ TEST$/, '');

/** Runs the commands of all pages that have some; what was run, a line each. */
export async function runPages() {
  const lines = [];
  for (const page of Object.keys(AROUND)) {
    const said = await run(page);
    lines.push(`${page}: ${Object.keys(said).length} blocks`);
    if (page === 'door') {
      const told = blocksOf('door', 'text').flatMap((block) => block.lines);
      for (const line of told) assert.equal(shape(line), shape(said['without-network.1'].trim()));
    }
    if (page === 'metrics') {
      const shown = [...said['top.0'].matchAll(/^# HELP (\S+)/gm)].map((match) => match[1]);
      const text = readFileSync(`${MANUAL}en/metrics.md`, 'utf8');
      const told = [...text.matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1]);
      assert.deepEqual(told.sort(), shown.sort(), 'each metric is explained, and each that is explained is there');
    }
  }
  return lines;
}
