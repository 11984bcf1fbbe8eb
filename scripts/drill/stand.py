"""The test instance of a drill: a network of its own, a data folder of its own, the server, its clients, and the account that is
given of them in the end."""

import http.client
import json
import os
import signal
import subprocess
import time

import clients
import faults
import link
import servers
from servers import ROOT, Failed

RESIDENTS, ASKING = 2_000, 1_000
SHARDS = 2
PORT = 8_080
# What systemd waits before it starts a service again (systemd.service(5), RestartSec).
RESTART_S = 0.1
# For how long it is tried to have a port again.
PORT_S_MAX = 3
# A busy host may make the drill's own questions late; they are asked again.
TRIES = 5
# After a fault the clients go on for so long, so that what comes late is seen.
AFTER_S = 1.5


class Stand:
    """As root the server is behind a link of its own, whose other side the residents and doors are on. Else all is on this host's
    loopback."""

    def __init__(self, folder, disk_mebibytes=None):
        self.folder, self.callers, self.server, self.tls, self.undone, self.starts, self.refused_starts = folder, [], None, None, [], 0, 0
        # Of the residents, those who have phones here.
        self.asking = ASKING
        self.target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
        self.program = servers.built(self.target, "onecode")
        if not os.access(self.program, os.X_OK):
            raise Failed(f"{self.program} is not there: scripts/drill.sh builds it, ONECODE_BIN names another")
        self.link = link.Link("1gbit", 0, 1) if os.geteuid() == 0 else None
        self.address, self.listen = (link.SERVER_ADDRESS, "0.0.0.0") if self.link else ("127.0.0.1", "127.0.0.1")
        self.port = PORT if self.link else free_ports()
        # Last, since it is mounted from now on.
        self.disk = faults.Disk(folder, disk_mebibytes) if disk_mebibytes else None
        self.data = os.path.join(self.disk.path if self.disk else folder, "data")

    def enter(self):
        if self.link:
            self.link.enter()

    def make(self, environment=None):
        """A registry of test residents with their sessions, served from now on as any other, by its own settings."""
        self.environment = environment or {}
        made = self.onecode_served("--demo", "--residents", str(RESIDENTS))
        made.stop()
        os.remove(os.path.join(self.data, "demo"))
        with open(os.path.join(self.data, "sessions.txt"), encoding="ascii") as file:
            self.sessions = file.read().split()
        with open(os.path.join(self.data, "scanner-token.txt"), encoding="ascii") as file:
            self.token = file.read().strip()
        self.start()
        self.trust = os.path.join(self.folder, "jwks.json")
        self.fetch_keys()

    def onecode_served(self, *flags, environment=None):
        self.starts += 1
        cpus = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0))[:SHARDS])
        return servers.Onecode(f"onecode-{self.starts}", self.target, self.folder, self.port, cpus, RESIDENTS, data=self.data, address=self.listen, shards=SHARDS,
                       environment={**self.environment, **(environment or {})}, flags=flags)

    def start(self, environment=None):
        """Starts the server, again where its port is still held, as a supervisor would. Returns how long it took until it was ready."""
        began = time.monotonic()
        while True:
            try:
                self.server = self.onecode_served(environment=environment)
                return time.monotonic() - began
            except Failed as error:
                # The kernel may hold a killed process's ring, and its ports with it, for a moment longer than the process.
                if not any(words in str(error) for words in ("is not free", "already in use")) or time.monotonic() - began > PORT_S_MAX:
                    raise
                self.refused_starts += 1
                time.sleep(RESTART_S)

    def fetch_keys(self):
        """What a scanner keeps for the time without a network."""
        _, _, keys = surely("127.0.0.1", self.port, "GET", "/.well-known/jwks.json", tls=self.tls)
        with open(self.trust, "wb") as file:
            file.write(keys)

    def kill(self):
        self.server.process.kill()
        self.server.process.wait()

    def said(self):
        with open(self.server.log.name, encoding="utf-8") as file:
            return file.read()

    def reload(self, how_it_goes):
        """SIGHUP, until the process has said how it went. Returns how long that took."""
        before = self.said().count(how_it_goes)
        self.server.process.send_signal(signal.SIGHUP)
        return faults.wait_until(f"{how_it_goes!r} after SIGHUP", 5, lambda: self.said().count(how_it_goes) > before, 0.005)

    def onecode(self, *words, status=0, environment=None, said=None):
        """A command of the program. Returns its output."""
        found = subprocess.run([self.program, *words], capture_output=True, text=True, timeout=60, env={**os.environ, **(environment or {})}, input=said)
        if status is not None and found.returncode != status:
            raise Failed(f"onecode {' '.join(words[:3])} ended with {found.returncode}, not {status}: {found.stderr.strip() or found.stdout.strip()}")
        return found.stdout

    def verify(self, codes, clock=None, at=None):
        """What a scanner without a network says of codes: their results, with the keys that were published before."""
        words = ["verify", "--trust", self.trust, "--json", *(["--at", at] if at else []), "-"]
        told = self.onecode(*words, status=None, environment=clock.environment() if clock else None, said="".join(code + "\n" for code in codes))
        return [json.loads(line)["result"] for line in told.splitlines()]

    def ready(self):
        """The admin listener's word: status and text."""
        status, _, body = surely("127.0.0.1", self.port + 1, "GET", "/readyz")
        return status, body.decode()

    def metric(self, name):
        return self.server.metric(name)

    def people(self, writes_per_s=50, scans_per_s=20, **residents):
        """Residents, doors and operators, once all of them are served."""
        phones = clients.Residents(self, **residents)
        faults.wait_until("a first code", 5, lambda: len(phones.shown) > 20)
        doors, operators = clients.Doors(self, phones, per_s=scans_per_s), clients.Operators(self, per_s=writes_per_s)
        faults.wait_until("a first scan and a first status", 5, lambda: doors.recorded and operators.acknowledged)
        return phones, doors, operators

    def stop_callers(self):
        """Returns when that was."""
        over = time.monotonic()
        for callers in self.callers:
            callers.stop()
        return over

    def lost(self, operators=None, scans=(), data=None, before=float("inf")):
        """What was acknowledged and is not in the journal of a data folder, and what is there twice, as three counts: statuses, scans,
        doubled."""
        export = lambda what: [json.loads(line) for line in self.onecode("journal", "export", what, "--json", "--test", "--data", data or self.data).splitlines()]
        versions = {line["version"] for line in export("statuses")}
        statuses = [version for version, at in operators.acknowledged.items() if at < before] if operators else []
        ids = [line["id"] for line in export("scans")]
        missing = [each for callers in scans for each in callers.recorded if each not in set(ids)]
        return sum(version not in versions for version in statuses), len(missing), len(ids) - len(set(ids))

    def not_shown(self, operators):
        """Of those whom operators wrote about, how many the running server knows in an older state than was acknowledged."""
        newest, older = {}, 0
        for version in operators.acknowledged:
            number = operators.numbers[version % clients.WRITTEN]
            newest[number] = max(newest.get(number, 0), version)
        for number, version in newest.items():
            status, _, body = surely("127.0.0.1", self.port + 1, "POST", "/admin/residents/lookup", json.dumps({"id_number": number}),
                                     {"Content-Type": "application/json"})
            older += status != 200 or json.loads(body)["version"] < version
        return older

    def close(self):
        """However it ended: faults are taken back, what runs is ended, and the disk is let go of."""
        for callers in self.callers:
            callers.over.set()
        for undo in reversed(self.undone):
            try:
                undo()
            except (OSError, Failed):
                continue
        if self.disk:
            self.disk.thaw()
        servers.stop_all()
        if self.disk:
            self.disk.unmount()


def surely(*arguments, **named):
    """A question of the drill itself, which is no part of what is measured."""
    for left in reversed(range(TRIES)):
        try:
            return clients.ask(*arguments, **named)
        except (OSError, http.client.HTTPException) as error:
            if not left:
                raise Failed(f"{arguments[3]}: {clients.word(error)}") from None
            time.sleep(RESTART_S)
    return None


def free_ports():
    """One whose successor is free, too."""
    for port in range(21_000 + os.getpid() % 1_000 * 10, 40_000, 10):
        try:
            servers.check_free(port)
            servers.check_free(port + 1)
            return port
        except Failed:
            continue
    raise Failed("no port is free")


class Account:
    """What was promised, beside what was measured."""

    def __init__(self):
        self.rows, self.notes, self.fault, self.follow = [], [], "", []
        # In a word or two: what of the acknowledged was lost, and for how long who had no code.
        self.lost, self.without = "", ""

    def made(self, what):
        """The fault, with the proof that it was there."""
        self.fault = what
        print(f"  fault: {what}", flush=True)

    def followed(self, step):
        """What was done about it, as the manual says."""
        self.follow.append(step)
        print(f"  done: {step}", flush=True)

    def row(self, what, promise, measured, holds):
        self.rows.append({"what": what, "promise": promise, "measured": measured, "holds": bool(holds)})
        print(f"  {'ok ' if holds else 'NOT'} {what}: {measured} (promised: {promise})", flush=True)

    def most_s(self, what, most, seconds):
        self.row(what, f"≤ {most:g} s", "it did not end" if seconds == float("inf") else f"{seconds:.2f} s", seconds <= most)

    def share(self, what, least, share, others=""):
        self.row(what, "all" if least == 1 else f"≥ {least:.1%}", f"{share:.2%}" + (f" ({others})" if others and others != "none" else ""), share >= least)

    def none(self, what, count, of=None):
        self.row(what, "0", f"{count:,}" + (f" of {of:,}" if of is not None else ""), count == 0)

    def note(self, text):
        self.notes.append(text)
        print(f"  note: {text}", flush=True)

    @property
    def held(self):
        return bool(self.rows) and all(row["holds"] for row in self.rows)
