#!/usr/bin/env python3
"""Connections that mean harm, and what an honest client feels of them.

    scripts/bench/hostile.py                              all of it: 15 minutes once built
    scripts/bench/hostile.py heads bodies                 of heads, bodies, readers, handshakes; the rest is left as it was
    scripts/bench/hostile.py heads --pairs 1 --connections 1000 --out DIR     shows that it works, proves nothing

heads, bodies, readers: 5,000 connections that send a head or a body byte by byte, or read answers slowly after
hundreds of requests each, beside refreshes at a fixed rate; runs without and with them in ABBA order. How long until
each was closed is told, too. handshakes: TLS hellos that lead to nothing, beside honest new connections that take
what is left of the server, against as many good ones. One shard on CPU 0, all clients on CPU 1; see
benches/README.md. Writes benches/results/hostile.json and hostile.md.
"""

import json
import os
import sys
import time

import cases
import figures
import main as bench_main
import report
import servers
import stage
import tls
from servers import ROOT

TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
BENCH = os.path.join(ROOT, "target", "bench")
HELD = ["heads", "bodies", "readers"]
BAD = ["silent", "garbage", "half", "cut", "junk"]
RATE, RESIDENTS = 20_000, 10_000
# Of src/limits.rs: HEAD_MS_MAX; BODY_MS_MAX, what a few bytes earn is less than a tick; SEND_STALL_MS_MAX and what UNSENT_BYTES_MAX, which the
# kernel may hold, and a slot of SEND_SLOT_BYTES earn at SEND_LEAST_BYTES_PER_S: these readers take 64 bytes a second, so they are no stall.
LIMIT_S = {"heads": 5.0, "bodies": 5.0, "readers": 10.0 + (131_072 + 4_096) / 500}
SLACK_S = 1.0
# So many are opened a second, and the run begins so long after the first: until a slow reader's buffers are full, what it asks for is as
# much load as any. Those who mean harm stay until they are closed, or their limit is well over.
OPENED_PER_S = {"heads": 2_500, "bodies": 2_500, "readers": 1_000}
BEGIN_S = {"heads": 0, "bodies": 0, "readers": 6}
RUN_S = {"heads": 9, "bodies": 10, "readers": 14}
GOODPUT_MIN, P99_MAX = 0.98, 2.0
# More of a CPU than this taken by others spoils a run; it is counted, and said.
OTHERS_MAX = 0.05
# So many floods a second, and so many honest people at once. The server shares its CPU with loops that do nothing, so that it is what binds,
# not the clients' CPU.
FLOOD_PER_S, HONEST_CONNECTIONS, LOOPS, FLOOD_S = 1_000, 32, 2, 5
FLOOD_ALL_PER_S, FLOOD_ALL_CONNECTIONS, HONEST_PER_S = 20_000, 12_000, 500
# Enough addresses that no flood runs out of ports.
SOURCES = "127.77.0.0/1024"
FLOOD_MIN = 0.90


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder, self.next_port = options, folder, options.port_base

    def onecode(self, tls_files=None):
        self.next_port += 2
        return servers.Onecode("onecode", TARGET, self.folder, self.next_port - 2, 0, RESIDENTS, tls=tls_files)

    @staticmethod
    def command(url, arguments):
        return ["taskset", "-c", "1", os.path.join(BENCH, "release", "load"), "--url", url, *(str(each) for each in arguments)]

    def load(self, url, arguments, timeout_s):
        return servers.ended(servers.start_piped(self.command(url, arguments)), timeout_s)

    def beside(self, url, arguments):
        """Starts those who mean harm. They share a CPU with whoever measures, so they have it whenever they want it, for some microseconds, and
        not a slice of the scheduler's now and then, which would be in the p99; without the right to that they are like any other."""
        first = ["chrt", "-f", "1"] if os.geteuid() == 0 else []
        return servers.start_piped(first + self.command(url, arguments))


class Closings(stage.Watcher):
    """How many the server has closed for being slow; a client that does not read is not told of it."""

    def __init__(self, server, expected):
        self.server, self.expected, self.began, self.closed, self.first_s, self.all_s = server, expected, time.monotonic(), 0, None, None
        self.before = self.count()
        super().__init__(0.2)

    def count(self):
        return self.server.metric('onecode_connections_ended_total{reason="slow"}')

    def look(self):
        if self.all_s is not None:
            return
        self.closed, elapsed_s = self.count() - self.before, time.monotonic() - self.began
        if self.closed and self.first_s is None:
            self.first_s = elapsed_s
        if self.closed >= self.expected:
            self.all_s = elapsed_s


def kernel_tcp():
    """Connections that the kernel alone holds still, and the memory of all TCP on this machine."""
    with open("/proc/net/sockstat", encoding="ascii") as file:
        line = next(line.split() for line in file if line.startswith("TCP:"))
    named = dict(zip(line[1::2], map(int, line[2::2])))
    return named["orphan"], named["mem"] * os.sysconf("SC_PAGE_SIZE")


def held(bench, kind):
    """Runs without and with connections that are held, in ABBA order, over one server."""
    server, runs = bench.onecode(), {"quiet": {}, "beside": {}}
    url, seconds = f"http://127.0.0.1:{server.port}", RUN_S[kind]
    honest = ["--sessions", server.sessions, "--residents", cases.WARM_RESIDENTS, "--rate", RATE, "--duration", seconds, "--warm-up", 0.5]
    for index, order in figures.palindrome(list(runs), bench.options.pairs):
        for name in order:
            cases.wait_for_window(seconds + 4)
            bench.load(url + cases.REFRESH, ["--sessions", server.sessions, "--residents", cases.WARM_RESIDENTS, "--requests",
                                             cases.WARM_RESIDENTS, "--rate", 10_000, "--duration", 5], 20)
            before, watch = server.resident_bytes(), Closings(server, bench.options.connections) if name == "beside" else None
            held_s = BEGIN_S[kind] + max(RUN_S[kind], LIMIT_S[kind]) + 6
            harm = name == "beside" and bench.beside(url + cases.REFRESH, [
                "--hostile", kind, "--connections", bench.options.connections, "--rate", OPENED_PER_S[kind], "--duration", held_s,
                "--sessions", server.sessions])
            if harm:
                time.sleep(BEGIN_S[kind])
            cpu_before, others_before = server.cpu_s(), servers.others_s()
            result = bench.load(url + cases.REFRESH, honest, seconds + 30)
            run = {"per_s": (result["answered"] - refused(result)) / result["elapsed_s"], "p99_us": result["latency_us"]["p99"],
                   "p50_us": result["latency_us"]["p50"], "failed": result["failed"], "cpu": (server.cpu_s() - cpu_before) / result["elapsed_s"]}
            run["others"] = (servers.others_s() - others_before) / result["elapsed_s"]
            if harm:
                run["memory_bytes"] = server.resident_bytes() - before
                run["orphans"], run["kernel_bytes"] = kernel_tcp()
                run["harm"] = servers.ended(harm, held_s + 30)
                watch.stop()
                # Of the last one, which came this long after the first.
                opening_s = bench.options.connections / OPENED_PER_S[kind]
                run.update(closed=watch.closed, closed_first_s=watch.first_s, closed_last_s=watch.all_s and watch.all_s - opening_s)
            runs[name][index] = run
            told = f", {run['closed']:.0f} of {run['harm']['begun']} closed, the last after {run['closed_last_s'] or 0:.1f} s, {run['orphans']} left to the kernel" if harm else ""
            print(f"  {kind} {index + 1} {name:7} {run['per_s']:8,.0f}/s p50 {run['p50_us']} p99 {run['p99_us']} µs, CPU {run['cpu']:.0%}, "
                  f"{run['failed']} failed{told}"
                  f"{'; DISTURBED by others' if run['others'] > OTHERS_MAX else ''}", flush=True)
    server.stop()
    of = lambda name, key: {index: run[key] for index, run in runs[name].items()}
    beside = runs["beside"].values()
    closed_all = all(run["closed_last_s"] is not None and run["harm"]["begun"] == bench.options.connections for run in beside)
    last_s = max(run["closed_last_s"] or 0 for run in beside)
    return {"connections": bench.options.connections, "rate": RATE, "limit_s": LIMIT_S[kind],
            "goodput": figures.paired(of("beside", "per_s"), of("quiet", "per_s")), "p99": figures.paired(of("beside", "p99_us"), of("quiet", "p99_us")),
            "quiet_p99_us": figures.summary(list(of("quiet", "p99_us").values())), "beside_p99_us": figures.summary(list(of("beside", "p99_us").values())),
            "cpu": figures.paired(of("beside", "cpu"), of("quiet", "cpu")), "closed_all": closed_all, "closed_last_s": last_s,
            "memory_bytes": max(run["memory_bytes"] for run in beside), "orphans": max(run["orphans"] for run in beside),
            "kernel_bytes": max(run["kernel_bytes"] for run in beside), "runs": {name: list(of_name.values()) for name, of_name in runs.items()}}


def refused(result):
    return sum(count for status, count in result["statuses"].items() if status != "200")


def handshakes(bench):
    """What a hello that leads to nothing costs, and what honest people have beside many of them."""
    chain_and_key = tls.make_certificate(bench.folder)
    server = bench.onecode(chain_and_key)
    trust, url = ["--trust", chain_and_key[0]], f"https://127.0.0.1:{server.port}{cases.REFRESH}"
    sessions = ["--sessions", server.sessions]
    good = [*trust, *sessions, "--new-connections", "--rate", FLOOD_PER_S, "--duration", FLOOD_S + 1, "--connections", 256]
    bad = lambda kind, rate: [*trust, "--hostile", kind, "--rate", rate, "--duration", FLOOD_S + 1, "--connections", FLOOD_ALL_CONNECTIONS,
                              "--sources", SOURCES]
    floods = {"good": good, **{kind: bad(kind, FLOOD_PER_S) for kind in BAD}}
    honest = [*trust, *sessions, "--crowd", "--closed", "--sources", SOURCES, "--connections", HONEST_CONNECTIONS, "--duration", FLOOD_S, "--patience", 10, "--reloads", 0]
    costs, runs, all_of_it = {}, {name: {} for name in ["none", *floods]}, {}
    for name, arguments in floods.items():
        before = server.cpu_s()
        result = bench.load(url, arguments, FLOOD_S + 40)
        costs[name] = (server.cpu_s() - before) * 1e6 / result.get("begun", result.get("answered"))
        print(f"  {name:8} alone: {costs[name]:6.1f} µs of server CPU each", flush=True)
    loops = [servers.start(["taskset", "-c", "0", sys.executable, "-c", "while True: pass"]) for _ in range(LOOPS)]
    for index, order in figures.palindrome(list(runs), bench.options.pairs):
        for name in order:
            flood = name in floods and servers.start_piped(bench.command(url, floods[name]))
            time.sleep(0.5)
            result = bench.load(url, honest, FLOOD_S + 40)
            told = servers.ended(flood, FLOOD_S + 40) if flood else {}
            seconds = result["seconds"][1:FLOOD_S]
            runs[name][index] = {"per_s": sum(second["served"] for second in seconds) / len(seconds), "p99_us": result["latency_us"]["p99"],
                                 "failed": result["refused"] + result["broken"], "flood_per_s": told.get("per_s", told.get("answered_per_s", 0)),
                                 "flood": told}
            print(f"  {index + 1} beside {name:8} {runs[name][index]['per_s']:7,.0f}/s honest, {runs[name][index]['flood_per_s']:7,.0f}/s of it, p99 "
                  f"{result['latency_us']['p99'] / 1e3:.1f} ms, {runs[name][index]['failed']} failed", flush=True)
    for process in loops:
        servers.stop(process)
    for name in ["none", *BAD]:
        flood = name in BAD and servers.start_piped(bench.command(url, bad(name, FLOOD_ALL_PER_S)))
        time.sleep(0.5)
        result = bench.load(url, [*trust, *sessions, "--new-connections", "--rate", HONEST_PER_S, "--duration", FLOOD_S, "--connections", 256], FLOOD_S + 40)
        told = servers.ended(flood, FLOOD_S + 40) if flood else {}
        all_of_it[name] = {"flood_per_s": told.get("per_s", 0), "answered_share": result["answered"] / result["planned"], "failed": result["failed"],
                           "p99_us": result["latency_us"]["p99"]}
        print(f"  beside {all_of_it[name]['flood_per_s']:7,.0f}/s {name:8} {all_of_it[name]['answered_share']:.1%} of {HONEST_PER_S}/s answered, p99 "
              f"{result['latency_us']['p99'] / 1e3:.1f} ms", flush=True)
    server.stop()
    per_s = lambda name: {index: run["per_s"] for index, run in runs[name].items()}
    return {"flood_per_s": FLOOD_PER_S, "loops": LOOPS, "cost_us": costs, "all": all_of_it,
            "per_s": {name: figures.summary(list(per_s(name).values())) for name in runs},
            "to_good": {name: figures.paired(per_s(name), per_s("good")) for name in BAD}, "runs": {name: list(found.values()) for name, found in runs.items()}}


def markdown(results):
    machine = results["machine"]
    lines = ["# Connections that mean harm", "", f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, loopback; commit {machine['commit']}; {machine['time']}; "
             f"{machine['pairs']} rounds in ABBA order. Ratios are of runs of one round; brackets are 95 % bootstrap intervals of the median.", ""]
    rows = []
    for kind in [kind for kind in HELD if kind in results]:
        found = results[kind]
        closed = f"{found['closed_last_s']:.1f} s, {'all' if found['closed_all'] else '**not all**'}"
        rows.append((f"slow {kind}", f"{found['connections']:,}", report.ratio(found["goodput"]), report.reached(found["goodput"]["median"] >= GOODPUT_MIN),
                     f"{found['quiet_p99_us']['median']:,.0f} → {found['beside_p99_us']['median']:,.0f} µs: {report.ratio(found['p99'])}",
                     report.reached(found["p99"]["median"] <= P99_MAX), closed, report.reached(found["closed_all"] and found["closed_last_s"] <= found["limit_s"] + SLACK_S),
                     report.ratio(found["cpu"]), f"{found['memory_bytes'] / 1e6:.1f} MB", f"{found['orphans']:,}, {found['kernel_bytes'] / 1e6:,.0f} MB",
                     f"{sum(run['others'] > OTHERS_MAX for both in found['runs'].values() for run in both)}"))
    if rows:
        lines += [f"Beside refreshes at {RATE:,}/s over 64 connections, from when the first of them comes, of the readers from when the buffers of the last are full, until all must be closed. "
                  "The clients share a CPU, so what those who mean harm take of it is in the p99.", ""]
        lines += report.table(["", "connections", f"goodput to quiet (≥ {GOODPUT_MIN})", "", f"p99 to quiet (≤ {P99_MAX:.0f})", "", "closed after", "within its limit and a second",
                               "server CPU to quiet", "the process's memory", "left to the kernel, and memory of its TCP", "runs disturbed by others"], rows) + [""]
    if "handshakes" in results:
        found = results["handshakes"]
        rows = []
        for name in BAD:
            to_good, rest = found["to_good"][name], found["all"][name]
            rows.append((name, f"{found['cost_us'][name]:.1f} µs", report.ratio(to_good), report.reached(to_good["median"] >= FLOOD_MIN),
                         f"{rest['flood_per_s']:,.0f}/s", f"{rest['answered_share']:.1%}", f"{rest['p99_us'] / 1e3:.1f} ms"))
        quiet = found["all"]["none"]
        lines += [f"Bad TLS handshakes: `silent` sends nothing, `garbage` no TLS, `half` half a hello, `cut` a good hello and goes, `junk` the same and a record that "
                  f"nobody can open. A good one with its request costs {found['cost_us']['good']:.1f} µs of server CPU. Goodput is that of honest new connections, "
                  f"{HONEST_CONNECTIONS} at once, beside {found['flood_per_s']:,} bad ones a second, to that beside as many good ones "
                  f"({found['per_s']['good']['median']:,.0f}/s; {found['per_s']['none']['median']:,.0f}/s beside none), while {found['loops']} loops that do nothing share the server's CPU, so that it "
                  f"is what binds. The last columns: {FLOOD_ALL_PER_S:,}/s asked of the flood, the server's CPU its own; quiet p99 is {quiet['p99_us'] / 1e3:.1f} ms.", ""]
        lines += report.table(["", "server CPU each", f"honest goodput to that beside good ones (≥ {FLOOD_MIN})", "", "flood", f"of {HONEST_PER_S}/s honest answered", "their p99"], rows) + [""]
    return "\n".join(lines)


def options():
    parser = bench_main.Parser(prog="scripts/bench/hostile.py", description="Connections that mean harm, and what an honest client feels of them.")
    parser.add_argument("parts", nargs="*", metavar="part", help="some of " + ", ".join([*HELD, "handshakes"]) + " (all)")
    parser.add_argument("--pairs", type=bench_main.positive, default=5, help="rounds (5)")
    parser.add_argument("--connections", type=bench_main.positive, default=5_000, help="that are held (5000)")
    parser.add_argument("--out", default=os.path.join(ROOT, "benches", "results"), help="folder of the results (benches/results)")
    parser.add_argument("--port-base", type=bench_main.positive, default=18_300, help="the first of the ports used (18300)")
    chosen = parser.parse_args()
    for part in chosen.parts:
        if part not in [*HELD, "handshakes"]:
            parser.error(f"there is no part {part!r}")
    chosen.parts = chosen.parts or [*HELD, "handshakes"]
    chosen.seconds = FLOOD_S
    chosen.quick = False
    return chosen


def measure(chosen, folder):
    path = os.path.join(chosen.out, "hostile.json")
    bench_main.raise_files()
    os.makedirs(chosen.out, exist_ok=True)
    results = json.load(open(path, encoding="utf-8")) if os.path.exists(path) else {}
    results["machine"] = bench_main.machine(chosen)
    bench = Bench(chosen, folder)
    for part in chosen.parts:
        print(f"{part}:", flush=True)
        results[part] = handshakes(bench) if part == "handshakes" else held(bench, part)
    for name, content in {"hostile.json": json.dumps(results, indent=1) + "\n", "hostile.md": markdown(results)}.items():
        with open(os.path.join(chosen.out, name), "w", encoding="utf-8") as file:
            file.write(content)
    print("\n" + markdown(results))


if __name__ == "__main__":
    asked = options()
    sys.exit(stage.perform("hostile", lambda folder: measure(asked, folder)))
