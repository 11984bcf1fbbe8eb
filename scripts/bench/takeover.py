#!/usr/bin/env python3
"""A rolling restart under load: what it refuses, what it cuts off, and for how long nothing is written.

    scripts/bench/takeover.py                              all of it: 5 minutes once built, 5 GB of memory, 4 GB in target/bench
    scripts/bench/takeover.py --residents 10000 --seconds 12 --out DIR     shows that it works, proves nothing

Two rounds of two takeovers each, with refreshes at a fixed rate over kept connections, then over a new connection each. In
each round `serve --takeover` is first the program that runs, then another build of it: its own code at opt-level 2, not 3.
Meanwhile a small client sends one status after the other on the admin listener, each a millisecond after the last answer;
the pause is the longest time between two that were acknowledged. The last of them must be there in the end. The shard is
on CPU 0, all clients on CPU 1; what loads is on both. Writes benches/results/takeover.json and takeover.md.
"""

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import cases
import figures
import main as bench_main
import recovery
import report
import servers
import stage
from servers import ROOT, Failed

TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
BENCH = os.path.join(ROOT, "target", "bench")
PAUSE_MS_MAX = 200
# So many that none asks more often than one person may.
SESSIONS = 1_000_000
OTHER = "profile.release.package.onecode.opt-level=2"
# Between two takeovers, and how long one may take.
QUIET_S, TAKEOVER_S_MAX = 2.5, 40
# What the new process says on its way.
STAGES = ["registry:", "driver", "journal: glommio", "serving on"]
# Enough addresses that no round runs out of ports.
SOURCES = "127.78.0.0/64"


def build(folder):
    """Both programs and the load generator; returns the paths of the programs by name."""
    programs = {}
    for name, changes in [("other", ["--config", OTHER]), ("same", [])]:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--bin", "onecode", *changes], cwd=ROOT, check=True)
        programs[name] = shutil.copy(os.path.join(TARGET, "release", "onecode"), os.path.join(folder, f"onecode-{name}"))
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=os.path.join(ROOT, "benches", "load"), check=True,
                   env={**os.environ, "CARGO_TARGET_DIR": BENCH})
    hashes = {name: hash_of(path) for name, path in programs.items()}
    if hashes["same"] == hashes["other"]:
        raise Failed(f"{OTHER} has made the same program")
    return programs, hashes


def hash_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class Writer(threading.Thread):
    """Sends one status after the other, and remembers when each was acknowledged."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.over, self.acknowledged, self.put_off, self.failed = port, threading.Event(), [], 0, None
        self.number, self.last = recovery.id_number(1), None
        # Newer than what the demo says of its residents.
        self.version = int(time.time() * 1_000) + 10_000

    def run(self):
        # This thread's alone.
        os.sched_setaffinity(0, {1})
        connection = None
        while not self.over.wait(0.001):
            self.version += 1
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                result = self.write(connection, self.version)
            except (OSError, http.client.HTTPException) as error:
                # Its last answer may have said that it ends; nothing was lost that was acknowledged.
                connection, result = None, "retry"
                self.failed = repr(error) if isinstance(error, TimeoutError) else self.failed
            if result == "done":
                self.acknowledged.append(time.monotonic())
                self.last = self.version
            elif result == "retry":
                self.put_off += 1
            else:
                self.failed = f"a write was answered with {result}"

    def write(self, connection, version):
        line = json.dumps({"id_number": self.number, "status": ("green", "yellow", "red")[version % 3], "version": version}) + "\n"
        connection.request("POST", "/admin/residents", line, {"Content-Type": "application/x-ndjson"})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status == 503:
            return "retry"
        return json.loads(text)["result"] if answer.status == 200 else f"{answer.status} {text[:100]}"

    def longest(self, begins, ends):
        """The longest time between two acknowledged writes, of which one lies in this time; and where in it that began."""
        pairs = zip(self.acknowledged, self.acknowledged[1:])
        gaps = [(after - before, before - begins) for before, after in pairs if after >= begins and before <= ends]
        if not gaps:
            raise Failed("nothing was written")
        return max(gaps)

    def stop(self):
        self.over.set()
        self.join(30)
        if self.failed or self.last is None:
            raise Failed(f"writing: {self.failed or 'nothing was acknowledged'}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        found = self.write(connection, self.last)
        connection.close()
        if found != "ignored":
            raise Failed(f"the last write that was acknowledged is lost: {found}")


class Heard(threading.Thread):
    """What a process says, and when."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.lines = process, []
        self.start()

    def run(self):
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.strip().removeprefix("onecode: ")))

    def when(self, words):
        return next((at for at, line in self.lines if words in line), None)


class Bench:
    def __init__(self, options, folder, programs):
        self.options, self.folder, self.programs, self.process, self.heard = options, folder, programs, None, None
        self.port, self.data = options.port_base, os.path.join(folder, "data")

    def launch(self, program, *flags):
        process = servers.start([self.programs[program], "serve", "--data", self.data, "--listen", f"127.0.0.1:{self.port}", "--admin",
                              f"127.0.0.1:{self.port + 1}", "--shards", "1", "--cpus", "0", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.heard = Heard(process)
        return process

    def said(self):
        return "\n".join(line for _, line in self.heard.lines[-12:])

    def ready(self, process, patience_s=120):
        until = time.monotonic() + patience_s
        while process.poll() is None and time.monotonic() < until:
            try:
                if servers.ask(self.port + 1, "/readyz", {"Connection": "close"}).status == 200:
                    return process
            except (OSError, Failed):
                pass
            time.sleep(0.05)
        raise Failed(f"the server did not come up:\n{self.said()}")

    def make(self):
        """A registry of test residents, served as any other: a demo cannot be taken over."""
        servers.check_free(self.port)
        servers.check_free(self.port + 1)
        servers.stop(self.ready(self.launch("same", "--demo", "--residents", str(self.options.residents))), 30)
        os.remove(os.path.join(self.data, "demo"))
        self.process = self.ready(self.launch("same"))
        # What has just been made is not to keep the disk busy beside what is measured.
        os.sync()

    def take_over(self, program):
        """Ends the process that serves by the one that takes over; the load goes on."""
        begins, old = time.monotonic(), self.process
        self.process = self.launch(program, "--takeover")
        try:
            code = old.wait(TAKEOVER_S_MAX)
        except subprocess.TimeoutExpired:
            raise Failed(f"the old process has not ended after {TAKEOVER_S_MAX} s:\n{self.said()}") from None
        ends = time.monotonic()
        servers.stop(old)
        time.sleep(QUIET_S)
        if self.process.poll() is not None:
            raise Failed(f"the new process has ended:\n{self.said()}")
        # The journal is asked for right after the first of them, and the new process serves from the last on.
        stages = {words: self.heard.when(words) for words in STAGES}
        return {"program": program, "begins": begins, "ends": ends, "took_s": ends - begins, "exit": code, "stages": stages}

    def round(self, name, programs):
        arguments = ["--connections", 256, "--new-connections", "--sources", SOURCES] if name == "new" else ["--connections", 64]
        rate = self.options.new_rate if name == "new" else self.options.rate
        command = ["taskset", "-c", "1", os.path.join(BENCH, "release", "load"), "--url", f"http://127.0.0.1:{self.port}{cases.REFRESH}",
                   "--sessions", os.path.join(self.data, "sessions.txt"), "--residents", min(self.options.residents, SESSIONS),
                   "--rate", rate, "--duration", self.options.seconds, *arguments]
        writer, others = Writer(self.port + 1), servers.others_s()
        load = servers.start([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        writer.start()
        began = time.monotonic()
        time.sleep(QUIET_S)
        takeovers = [self.take_over(program) for program in programs]
        under_load = load.poll() is None
        out, err = load.communicate(timeout=self.options.seconds + 30)
        servers.stop(load)
        ended = time.monotonic()
        others = (servers.others_s() - others) / (ended - began)
        writer.stop()
        if not under_load:
            raise Failed("the load ended before the takeovers did: give more --seconds")
        if not out.startswith("{"):
            raise Failed(f"load: {err.strip()}")
        found, edges = json.loads(out), [began]
        for each in takeovers:
            begins, ends = each.pop("begins"), each.pop("ends") + 0.5
            gap_s, at_s = writer.longest(begins, ends)
            stages = {words: at and round(at - begins, 3) for words, at in each["stages"].items()}
            each.update(pause_ms=gap_s * 1e3, pause_at_s=at_s, stages=stages)
            edges += [begins, ends]
            print(f"  {name} by the {each['program']} program: {each['took_s']:.1f} s, the longest pause of writes {gap_s * 1e3:.0f} ms, "
                  f"the old process ended with {each['exit']}; "
                  f"the pause from {at_s:.3f} s on, stages {stages}", flush=True)
        quiet = [writer.longest(begins, ends)[0] * 1e3 for begins, ends in zip(edges[::2], [*edges[1::2], ended]) if begins < ends]
        failures, statuses = found["failures"], found["statuses"]
        result = {"rate": rate, "answered": found["answered"], "planned": found["planned"], "refused": failures["broken"],
                  "truncated": failures["closed"] + failures["malformed"], "late": failures["timeout"] + found["unanswered"],
                  "statuses": statuses, "not_200": sum(count for status, count in statuses.items() if status != "200"), "p99_us": found["latency_us"]["p99"],
                  "max_us": found["latency_us"]["max"], "writes": len(writer.acknowledged), "put_off": writer.put_off,
                  "quiet_pause_ms": max(quiet), "others": others, "takeovers": takeovers}
        print(f"  {name}: {result['answered']:,} answered at {rate:,}/s, {result['refused']} refused, {result['truncated']} truncated, {result['late']} late, "
              f"{result['not_200']} not with 200 ({statuses}); beside takeovers no write for {result['quiet_pause_ms']:.0f} ms at most", flush=True)
        return result


def markdown(results):
    machine = results["machine"]
    lines = ["# A rolling restart under load", "", f"Written by `scripts/bench/takeover.py`; {machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, loopback; commit "
             f"{machine['commit']}; {machine['time']}. {results['residents']:,} residents, one shard. The other program is the same source built with "
             f"`--config {OTHER}`: SHA-256 {results['programs']['other']}… for {results['programs']['same']}….", ""]
    rows = []
    for name, words in [("kept", "over kept connections"), ("new", "over a new connection each")]:
        found = results[name]
        for each in found["takeovers"]:
            rows.append((f"{found['rate']:,}/s {words}", f"the {each['program']} program", f"{each['took_s']:.1f} s", f"{each['pause_ms']:.0f} ms",
                         report.reached(each["pause_ms"] <= PAUSE_MS_MAX), each["exit"]))
    lines += report.table(["refreshes", "taken over by", "from the start of the new process to the end of the old one",
                           f"longest pause of writes (≤ {PAUSE_MS_MAX} ms)", "", "exit status of the old one"], rows) + [""]
    rows = []
    for name, words in [("kept", "over kept connections"), ("new", "over a new connection each")]:
        found = results[name]
        rows.append((words, f"{found['answered']:,} of {found['planned']:,}", found["refused"], found["truncated"], found["late"], found["not_200"],
                     report.reached(not any(found[key] for key in ("refused", "truncated", "late", "not_200"))), f"{found['p99_us'] / 1e3:.1f} ms, {found['max_us'] / 1e3:.0f} ms",
                     f"{found['writes']:,}", f"{found['put_off']:,}", f"{found['quiet_pause_ms']:.0f} ms"))
    lines += report.table(["both takeovers, refreshes", "answered", "refused (0)", "truncated (0)", "late (0)", "not 200 (0)", "", "p99 and longest answer", "writes acknowledged",
                           "put off", "longest pause without a takeover"], rows) + [""]
    return "\n".join(lines)


def options():
    parser = bench_main.Parser(prog="scripts/bench/takeover.py", description="A rolling restart under load.")
    parser.add_argument("--residents", type=bench_main.positive, default=10_000_000, help="of the registry (10000000)")
    parser.add_argument("--rate", type=bench_main.positive, default=20_000, help="refreshes a second over kept connections (20000)")
    parser.add_argument("--new-rate", type=bench_main.positive, default=8_000, help="and over new ones, of which the clients' CPU makes no more (8000)")
    parser.add_argument("--seconds", type=bench_main.positive, default=60, help="of load in each round (60)")
    parser.add_argument("--out", default=os.path.join(ROOT, "benches", "results"), help="folder of the results (benches/results)")
    parser.add_argument("--port-base", type=bench_main.positive, default=18_400, help="the first of the ports used (18400)")
    chosen = parser.parse_args()
    chosen.pairs, chosen.quick = 1, False
    return chosen


def measure(chosen, folder):
    bench_main.raise_files()
    os.makedirs(chosen.out, exist_ok=True)
    programs, hashes = build(folder)
    bench = Bench(chosen, folder, programs)
    results = {"machine": bench_main.machine(chosen), "residents": chosen.residents, "programs": hashes}
    bench.make()
    results["kept"] = bench.round("kept", ["same", "other"])
    results["new"] = bench.round("new", ["same", "other"])
    figures.write_json(os.path.join(chosen.out, "takeover.json"), results)
    with open(os.path.join(chosen.out, "takeover.md"), "w", encoding="utf-8") as file:
        file.write(markdown(results))
    print("\n" + markdown(results))


if __name__ == "__main__":
    chosen = options()
    os.makedirs(BENCH, exist_ok=True)
    # Not in a temporary folder, which may be in memory: the journal is to be on a disk.
    sys.exit(stage.perform("takeover", lambda folder: measure(chosen, folder), BENCH))
