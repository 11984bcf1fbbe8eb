#!/usr/bin/env python3
"""The start over a full journal: the most records that one fold leaves, applied again after a kill.

    scripts/bench/recovery.py                          all of it: some minutes, 2 GB in target/bench/recovery
    scripts/bench/recovery.py --residents 10000 --mebibytes 4 --out DIR     shows that it works, proves nothing

Statuses are written as fast as they are taken until a fold has begun by itself (256 MiB of records) and is done. Then the
process is killed, and the snapshot from before that fold is put back: what a kill right before the end of the fold
leaves, with all that was written meanwhile. A start is timed from before the process is made until a refresh is answered
with 200, and compared with one whose journal is folded. With --mebibytes the writing ends there, without a fold.
Segments that are folded are not read at a start, however many `journal.disk_bytes_max` lets lie there.
Writes benches/results/recovery.json and recovery.md.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import registry

AIM_MS = 5_000
LINES, WRITERS, RUNS = 1_000, 4, 3


def id_number(n):
    """The ID number of synthetic resident n, as src/registry/demo.rs makes it."""
    rest, sequence = divmod(n, 1_000)
    rest, day = divmod(rest, 28)
    rest, month = divmod(rest, 12)
    area, year = divmod(rest, 60)
    digits = f"99{area:04}{year + 1950:04}{month + 1:02}{day + 1:02}{sequence:03}"
    total = sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(digits))
    return digits + "10X98765432"[total % 11]


class Server:
    """A process over a data folder, and how long it took until it answered."""

    def __init__(self, data, *flags):
        self.port, self.admin = registry.free_port(), registry.free_port()
        command = [registry.BINARY, "serve", "--data", data, "--listen", f"127.0.0.1:{self.port}", "--admin",
                   f"127.0.0.1:{self.admin}", *flags]
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8")
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log)
        sessions = os.path.join(data, "sessions.txt")
        while True:
            if self.process.poll() is not None or time.monotonic() - began > registry.START_S_MAX:
                raise SystemExit("onecode: the server did not come up: " + self.said())
            if os.path.exists(sessions):
                with open(sessions, encoding="ascii") as file:
                    answered = registry.ask(self.port, file.readline().strip())
                if answered is not None:
                    break
            time.sleep(0.001)
        self.took_ms = (time.monotonic() - began) * 1_000
        if not answered:
            raise SystemExit("onecode: the first refresh was refused")

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def metric(self, name):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return float(re.search(rf"^{name} (\S+)$", text, re.M)[1])

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait()


def write(server, residents, is_enough):
    """Writes statuses until it is enough; returns how many were acknowledged."""
    numbers = [id_number(n) for n in range(1, min(residents, 100_000) + 1)]
    # Newer than what the demo says of its residents.
    base, done, ended, lock = int(time.time() * 1_000), [0], threading.Event(), threading.Lock()
    failures = []

    def run(writer):
        connection = http.client.HTTPConnection("127.0.0.1", server.admin, timeout=60)
        version = base + writer
        while not ended.is_set():
            lines = []
            for _ in range(LINES):
                version += WRITERS
                status = ("green", "yellow", "red")[version % 3]
                lines.append(f'{{"id_number":"{numbers[version % len(numbers)]}","status":"{status}","version":{version}}}\n')
            connection.request("POST", "/admin/residents", "".join(lines), {"Content-Type": "application/x-ndjson"})
            answer = connection.getresponse().read()
            accepted = answer.count(b'"result":"done"')
            if accepted + answer.count(b'"result":"retry"') != LINES:
                failures.append(answer[:400])
                return
            with lock:
                done[0] += accepted

    threads = [threading.Thread(target=run, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    while not failures and not is_enough():
        time.sleep(0.02)
    ended.set()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"onecode: a write was refused: {failures[0]}")
    return done[0]


def fill(options, data):
    """Leaves a data folder as a kill at the worst moment does; says what lies in it."""
    server = Server(data, "--demo", "--residents", str(options.residents))
    snapshot, kept = os.path.join(data, "registry.snapshot"), os.path.join(data, "snapshot.before")
    shutil.copyfile(snapshot, kept)
    before = server.metric("onecode_journal_bytes_total")
    if options.mebibytes:
        wanted = before + options.mebibytes * 2**20
        records = write(server, options.residents, lambda: server.metric("onecode_journal_bytes_total") >= wanted)
    else:
        records = write(server, options.residents, lambda: server.metric("onecode_journal_folds_total") >= 1)
    written = server.metric("onecode_journal_bytes_total") - before
    server.end(signal.SIGKILL)
    if any(int(count) for count in re.findall(r"; (\d+) segments? deleted", server.said())):
        raise SystemExit("onecode: segments are gone that the snapshot from before needs")
    os.replace(kept, snapshot)
    os.chmod(snapshot, 0o600)
    return {"records": records, "bytes": round(written)}


def start(options, data, folder, cold):
    """One start over a copy of the folder, since a start changes what it finds."""
    copy = os.path.join(folder, "copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(data, copy)
    os.sync()
    if cold:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("3")
    server = Server(copy, "--demo", "--residents", str(options.residents))
    said = re.search(r"journal: .*applied.*", server.said())
    server.end(signal.SIGKILL)
    return server.took_ms, said[0] if said else "nothing was applied"


def page(results):
    lines = ["# A start over a full journal", "", f"Written by `scripts/bench/recovery.py`; {results['machine']}.", "",
             f"{results['records']:,} statuses, {results['bytes'] / 2**20:.0f} MiB of journal that no snapshot holds, about "
             f"{results['residents']:,} residents; medians of {RUNS}, from before the process is made to the first refresh. It is a demo, which writes a "
             "session for each resident before it serves: that is most of the time with an empty journal (a server that is no "
             "demo: see registry.md), and so recovery is what the full journal adds.", "",
             "| caches | with an empty journal | with the full one | recovery | aim | |", "|---|---|---|---|---|---|"]
    for name in ("warm", "cold"):
        if name in results:
            full, bare = results[name]["full_ms"], results[name]["bare_ms"]
            verdict = "reached" if full - bare < AIM_MS else "missed"
            lines.append(f"| {name} | {bare:,.0f} ms | {full:,.0f} ms | {full - bare:,.0f} ms | < {AIM_MS:,} ms | {verdict} |")
    return "\n".join(lines + ["", f"It said: `{results['said']}`."]) + "\n"


def main():
    parser = argparse.ArgumentParser(description="The start over a full journal.")
    parser.add_argument("--residents", type=int, default=10_000_000, help="residents of the registry")
    parser.add_argument("--mebibytes", type=int, help="write only so much, and do not wait for a fold")
    parser.add_argument("--out", default=os.path.join(registry.ROOT, "benches", "results"), help="where the results go")
    options = parser.parse_args()
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--bin", "onecode"]
    subprocess.run(command, cwd=registry.ROOT, check=True)
    folder = os.path.join(os.path.dirname(registry.DATA), "recovery")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    try:
        bare, data = os.path.join(folder, "bare"), os.path.join(folder, "data")
        Server(bare, "--demo", "--residents", str(options.residents)).end(signal.SIGTERM)
        results = {"machine": registry.machine(), "residents": options.residents, **fill(options, data)}
        for name in ["warm"] + ["cold"] * os.access("/proc/sys/vm/drop_caches", os.W_OK):
            full, found = [], []
            for _ in range(RUNS):
                found.append(start(options, bare, folder, name == "cold")[0])
                took_ms, results["said"] = start(options, data, folder, name == "cold")
                full.append(took_ms)
            results[name] = {"full_ms": statistics.median(full), "bare_ms": statistics.median(found), "all_ms": full}
            print(name, results[name], flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(options.out, exist_ok=True)
    with open(os.path.join(options.out, "recovery.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=2)
        file.write("\n")
    with open(os.path.join(options.out, "recovery.md"), "w", encoding="utf-8") as file:
        file.write(page(results))
    print(page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
