#!/usr/bin/env python3
"""Durable writes through HTTP: records a second, their latency, records a sync, and what refreshes feel of them.

    scripts/bench/writes.py                    all of it: 8 minutes once built
    scripts/bench/writes.py --only batches     of batches, singles, verify, beside, fold; the rest is left as it was
    scripts/bench/writes.py --seconds 1 --pairs 1 --out DIR     shows that all works, proves nothing

One shard on CPU 0, the generator on CPU 1, the journal's thread and the fold wherever the kernel puts them. The
generator is open loop: a request's latency counts from when it was due. A scan counts when its answer says "done", which
it does once it is on disk. Writes benches/results/writes.json, writes.md and writes.svg.
"""

import argparse
import json
import math
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.request

import cases
import figures
import registry
import report
import servers
from servers import ROOT, Failed

TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
BENCH = os.path.join(ROOT, "target", "bench")
BATCH = 100
BATCH_RATES = [10_000, 25_000, 50_000, 100_000, 200_000, 300_000]
SINGLE_RATES = [1_000, 2_000, 5_000, 10_000, 20_000, 40_000]
VERIFY_RATES = [1_000, 2_000, 5_000, 10_000, 15_000]
BESIDE_RATE = 50_000
CONNECTIONS = 64
RESIDENTS, FOLD_RESIDENTS = 100_000, 2_000_000
REFRESH_SHARE = 0.25
ACK_P99_US_MAX, RECORDS_A_SYNC_MIN, BESIDE_MAX, FOLD_MAX = 10_000, 10, 3.0, 2.0
TITLES = {"batches": f"POST /scan/records, {BATCH} scans a request", "singles": "POST /scan/records, one scan a request",
          "verify": "POST /scan/verify: a signature checked and a record of each"}
PARTS = ["batches", "singles", "verify", "beside", "fold"]


class Writes:
    """One server, its token, and the load on it."""

    def __init__(self, options, folder, data=None):
        self.options, self.folder = options, folder
        # What was written before, by a build or by this bench, is no part of what is measured.
        os.sync()
        self.server = servers.Onecode("onecode", TARGET, folder, options.port_base, 0, RESIDENTS, all_cpus="0,1",
                                      environment={"ONECODE_JOURNAL_DISK_BYTES_MAX": str(64 << 30)}, data=data)
        self.token = ""
        if not data:
            with open(os.path.join(self.server.data, "scanner-token.txt"), encoding="ascii") as file:
                self.token = file.read().strip()

    def load(self, path, rate, *arguments, where=("taskset", "-c", "1")):
        seconds = self.options.seconds
        command = [*where, os.path.join(BENCH, "release", "load"),
                   "--url", f"http://127.0.0.1:{self.server.port}{path}", "--rate", str(rate), "--duration", str(seconds),
                   "--warm-up", str(seconds / 5), "--connections", str(CONNECTIONS)] + [str(each) for each in arguments]
        _, out, err = servers.run(command, seconds + 60)
        if not out.startswith("{"):
            raise Failed(f"load: {err.strip()}")
        return json.loads(out)

    def counted(self, path, rate, records_each, *arguments, **where):
        """A run of writes: what was acknowledged, how fast, and how many records each sync carried."""
        names = ["onecode_journal_records_total", "onecode_journal_syncs_total"]
        before, cpu_before = [self.server.metric(name) for name in names], self.server.cpu_s()
        kind = "application/json" if records_each == 1 and path.endswith("verify") else "application/x-ndjson"
        fields = ["--field", f"Authorization: Bearer {self.token}", "--field", f"Content-Type: {kind}"]
        result = self.load(path, rate / records_each, *fields, *arguments, **where)
        records, syncs = [self.server.metric(name) - old for name, old in zip(names, before)]
        asked = result["planned"] * records_each
        done = records if path.endswith("verify") else result["done"]
        return {"asked_per_s": rate, "done_per_s": done / result["elapsed_s"], "not_done": asked - done,
                "failed": result["failed"], "records_a_sync": records / max(syncs, 1),
                "syncs_per_s": syncs / result["elapsed_s"], "server_cpu": (self.server.cpu_s() - cpu_before) / result["elapsed_s"],
                **{name: result["latency_us"][name] for name in ("p50", "p99", "p99_9", "max")}}

    def refreshes(self, rate):
        cases.wait_for_window(self.options.seconds + 1)
        sessions = ["--sessions", self.server.sessions, "--residents", cases.WARM_RESIDENTS]
        # The payloads of this window are made before the run: it measures refreshes that are warm.
        command = ["taskset", "-c", "1", os.path.join(BENCH, "release", "load"), "--url",
                   f"http://127.0.0.1:{self.server.port}{cases.REFRESH}", "--rate", "10000", "--duration", "5",
                   "--requests", str(cases.WARM_RESIDENTS)] + [str(each) for each in sessions]
        servers.run(command, 20)
        result = self.load(cases.REFRESH, rate, *sessions)
        return {"failed": result["failed"], "answered_per_s": result["answered_per_s"],
                **{name: result["latency_us"][name] for name in ("p50", "p99", "p99_9", "max")}}

    def quarter_of_maximum(self):
        """A quarter of what wrk gets of warm refreshes from this server."""
        most = []
        for _ in range(3):
            cases.wait_for_window(4)
            command = ["taskset", "-c", "1", "wrk", "-t1", "-c64", "-d3s", "-s", "scripts/wrk/warm.lua",
                       f"http://127.0.0.1:{self.server.port}", "--", self.server.sessions]
            _, out, _ = servers.run(command, 30)
            found = json.loads(re.search(r"^json: (.*)$", out, re.M)[1])
            most.append(found["requests"] / (found["duration_us"] / 1e6))
        return int(figures.median(most) * REFRESH_SHARE)


def raw_syncs(options, folder):
    """What the disk does at best: 4 KiB written over zeros and synced, one after the other, as the journal does."""
    os.sync()
    path, block, times = os.path.join(folder, "raw"), b"Z" * 4096, []
    with open(path, "wb", buffering=0) as file:
        file.write(bytes(64 << 20))
        os.fsync(file.fileno())
        until, at = time.monotonic() + options.seconds, 0
        while time.monotonic() < until:
            began = time.monotonic()
            os.pwrite(file.fileno(), block, at)
            os.fdatasync(file.fileno())
            times.append((time.monotonic() - began) * 1e6)
            at = (at + 4096) % (64 << 20)
    os.remove(path)
    times.sort()
    found = {"syncs_per_s": len(times) / options.seconds, "p50_us": times[len(times) // 2], "p99_us": times[len(times) * 99 // 100]}
    print(f"  the disk alone: {found['syncs_per_s']:.0f} syncs/s, p99 {found['p99_us']:.0f} µs", flush=True)
    return found


def curve(writes, path, rates, records_each, *arguments):
    """Runs at each rate, up and down again; medians of each."""
    runs = {rate: [] for rate in rates}
    for _, order in figures.palindrome(rates, writes.options.pairs):
        for rate in order:
            run = writes.counted(path, rate, records_each, *arguments)
            runs[rate].append(run)
            print(f"  {path} {rate:7}/s: {run['done_per_s']:9.0f}/s done, p50 {run['p50']} p99 {run['p99']} µs, "
                  f"{run['records_a_sync']:.1f} records a sync, {run['failed']} failed, {run['not_done']:.0f} not done", flush=True)
    points = []
    for rate, found in runs.items():
        middle = {name: figures.median([run[name] for run in found]) for name in found[0]}
        points.append({**middle, "p99_all": sorted(run["p99"] for run in found),
                       "failed": sum(run["failed"] for run in found), "not_done": sum(run["not_done"] for run in found)})
    return points


def batches(options, folder):
    writes = Writes(options, folder)
    try:
        return curve(writes, "/scan/records", BATCH_RATES, BATCH, "--scans", BATCH)
    finally:
        writes.server.stop()


def singles(options, folder):
    writes = Writes(options, folder)
    try:
        return curve(writes, "/scan/records", SINGLE_RATES, 1, "--scans", 1)
    finally:
        writes.server.stop()


def verify(options, folder):
    """One code, asked again and again: each verdict is a signature checked and a record of its own."""
    writes = Writes(options, folder)
    try:
        answer, _ = cases.refresh_answer(writes.server)
        body = os.path.join(folder, "verify.json")
        with open(body, "w", encoding="utf-8") as file:
            json.dump({"code": json.loads(answer.body)["code"], "place": "East Gate 07"}, file)
        return curve(writes, "/scan/verify", VERIFY_RATES, 1, "--post", body)
    finally:
        writes.server.stop()


def disk_line(found):
    each = " and ".join(f"{one['syncs_per_s']:,.0f} syncs/s, p99 {one['p99_us'] / 1e3:.2f} ms" for one in found)
    return f"The disk alone, one 4 KiB write and sync after the other, just before and after: {each}."


def pairs(writes, during):
    """Refreshes at a quarter of their maximum, quiet and with `during` going on, in ABBA order."""
    rate = writes.quarter_of_maximum()
    runs = {"quiet": {}, "busy": {}}
    for index, order in figures.palindrome(["quiet", "busy"], writes.options.pairs):
        for name in order:
            runs[name][index] = during(rate) if name == "busy" else writes.refreshes(rate)
            run = runs[name][index]
            print(f"  refreshes at {rate}/s {name:6} p50 {run['p50']} p99 {run['p99']} µs, {run['failed']} failed", flush=True)
    p99 = {name: {index: run["p99"] for index, run in found.items()} for name, found in runs.items()}
    return {"rate": rate, "p99_us": {name: figures.summary(list(found.values())) for name, found in p99.items()},
            "ratio": figures.paired(p99["busy"], p99["quiet"]), "runs": {name: list(found.values()) for name, found in runs.items()}}


def beside(options, folder):
    writes = Writes(options, folder)

    def during(rate):
        found = []
        writer = threading.Thread(target=lambda: found.append(
            # Where it shared the other generator's CPU, that one would wait for its turns and take them for the
            # server's. On the server's CPU it only has what the shard leaves.
            writes.counted("/scan/records", BESIDE_RATE, BATCH, "--scans", BATCH, "--coarse",
                           where=("chrt", "--idle", "0", "taskset", "-c", "0"))))
        cases.wait_for_window(options.seconds + 2)
        writer.start()
        run = writes.refreshes(rate)
        writer.join()
        return {**run, "writes": found[0]}

    try:
        return pairs(writes, during)
    finally:
        writes.server.stop()


def fold(options, folder):
    """Folds one after another: each removal of test data, of which there is none, asks for one of the whole registry."""
    data = os.path.join(folder, "registry")
    sessions = registry.output_of(registry.build(), "--make", data, "--residents", str(FOLD_RESIDENTS))
    with open(data + ".sessions", "w", encoding="ascii") as file:
        file.write(sessions)
    writes = Writes(options, folder, data)
    writes.server.sessions = data + ".sessions"

    def during(rate):
        before, over = writes.server.metric("onecode_journal_folds_total"), threading.Event()

        def ask_for_folds():
            while not over.is_set():
                asked = urllib.request.Request(writes.server.admin_url + "/admin/test-data", method="DELETE")
                urllib.request.urlopen(asked, timeout=60).close()
                folds = writes.server.metric("onecode_journal_folds_total")
                while not over.is_set() and writes.server.metric("onecode_journal_folds_total") == folds:
                    time.sleep(0.05)

        asker = threading.Thread(target=ask_for_folds)
        asker.start()
        try:
            run = writes.refreshes(rate)
        finally:
            over.set()
            asker.join()
        return {**run, "folds": writes.server.metric("onecode_journal_folds_total") - before}

    try:
        return pairs(writes, during)
    finally:
        writes.server.stop()


def page(results):
    lines = ["# Durable writes through HTTP", "", "![p99 over the rate](writes.svg)", "", f"Written by `scripts/bench/writes.py`; {results['machine']}.",
             "Scans sent by an open loop, latency from when each request was due to its whole answer, which comes after the",
             "sync; one shard. Medians of the runs, with the least and the greatest p99.", ""]
    for name, title in TITLES.items():
        if name in results:
            lines += [f"## {title}", "", "| asked | on disk | p50 | p99 | records a sync | syncs | server's CPUs | not done |",
                      "|---|---|---|---|---|---|---|---|"]
            for point in results[name]:
                low, high = point["p99_all"][0] / 1e3, point["p99_all"][-1] / 1e3
                lines.append(f"| {point['asked_per_s']:,.0f}/s | {point['done_per_s']:,.0f}/s | {point['p50'] / 1e3:.2f} ms | "
                             f"{point['p99'] / 1e3:.2f} ms [{low:.2f}, {high:.2f}] | {point['records_a_sync']:.1f} | "
                             f"{point['syncs_per_s']:,.0f}/s | {point['server_cpu']:.2f} | {point['not_done']:,.0f} |")
            lines += ["", disk_line(results["disk"][name]), ""]
    for name, title, most in [("beside", f"refreshes beside {BESIDE_RATE:,} durable scans/s", BESIDE_MAX),
                              ("fold", f"refreshes while {FOLD_RESIDENTS:,} residents are folded again and again", FOLD_MAX)]:
        if name in results:
            found = results[name]
            lines += [f"## p99 of {title}", "", "| rate | quiet | busy | busy / quiet | aim |", "|---|---|---|---|---|",
                      f"| {found['rate']:,}/s | {report.us(found['p99_us']['quiet'])} | {report.us(found['p99_us']['busy'])} | "
                      f"{report.ratio(found['ratio'])} | ≤ {most:.0f} |", "", disk_line(results["disk"][name]), ""]
    return "\n".join(lines)


def curves(results):
    """p99 of the acknowledgement over the records a second that were done, both on logarithmic scales."""
    left, top, width, height, decades_x, decades_y = 90, 50, 600, 300, (3, 6), (2, 6)

    def place(per_s, p99):
        x = left + width * (math.log10(max(per_s, 1)) - decades_x[0]) / (decades_x[1] - decades_x[0])
        return x, top + height * (decades_y[1] - math.log10(max(p99, 1))) / (decades_y[1] - decades_y[0])

    parts = [report.text(20, 28, "Durable writes: p99 of the answer over writes a second", 18, weight="bold")]
    for power in range(decades_x[0], decades_x[1] + 1):
        x, _ = place(10 ** power, 1)
        parts += [f'<path d="M{x:.0f} {top}v{height}" stroke="#dddddd"/>', report.text(x, top + height + 18, f"{10 ** power:,}/s", 12, "middle")]
    for power in range(decades_y[0], decades_y[1] + 1):
        _, y = place(1, 10 ** power)
        parts += [f'<path d="M{left} {y:.0f}h{width}" stroke="#dddddd"/>', report.text(left - 8, y + 4, f"{10 ** power / 1e3:g} ms", 12, "end")]
    for index, (name, title) in enumerate(TITLES.items()):
        points = [place(point["done_per_s"], point["p99"]) for point in results.get(name, [])]
        if points:
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            parts.append(f'<path d="{path}" fill="none" stroke="{report.COLOURS[index]}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{report.COLOURS[index]}"/>' for x, y in points]
        parts.append(f'<rect x="{left}" y="{392 + 22 * index}" width="14" height="14" fill="{report.COLOURS[index]}"/>')
        parts.append(report.text(left + 20, 404 + 22 * index, title))
    return report.svg(760, 470, parts)


def main():
    parser = argparse.ArgumentParser(description="Durable writes through HTTP.")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; may be repeated")
    parser.add_argument("--seconds", type=int, default=5, help="length of a run (5)")
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each case (5)")
    parser.add_argument("--port-base", type=int, default=18_300, help="the first of the ports used (18300)")
    parser.add_argument("--out", default=os.path.join(ROOT, "benches", "results"), help="folder of the results")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    path = os.path.join(options.out, "writes.json")
    results = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            results = json.load(file)
    # Not in memory: a tmpfs syncs nothing.
    folder = tempfile.mkdtemp(prefix="writes-", dir=BENCH)
    servers.LOGS.folder = folder
    try:
        for name in options.only or PARTS:
            print(f"{name}:", flush=True)
            before = raw_syncs(options, folder)
            results[name] = globals()[name](options, folder)
            results.setdefault("disk", {})[name] = [before, raw_syncs(options, folder)]
            shutil.rmtree(os.path.join(folder, f"data-{options.port_base}"), ignore_errors=True)
    except Failed as failed:
        raise SystemExit(f"onecode: {failed}") from None
    finally:
        servers.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"^model name\s*: (.*)$", file.read(), re.M)
    results["machine"] = f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}"
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    with open(path.replace(".json", ".md"), "w", encoding="utf-8") as file:
        file.write(page(results))
    with open(path.replace(".json", ".svg"), "w", encoding="utf-8") as file:
        file.write(curves(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
