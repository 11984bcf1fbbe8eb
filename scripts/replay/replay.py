"""The Xi'an day again: one crowd, one line, three services. Called by scripts/replay-xian.sh, which builds everything first."""

import argparse
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench"))

import cases
import figures
import main as bench_main
import servers
import stage
import tls as bench_tls
from servers import ROOT, Failed

import contenders
import link
import page

SERVER_CPU, CLIENT_CPU = 0, 1
NAMES = ["old", "informed", "onecode"]
# Of the length of a replay: calm, rising to ten times as many, at the peak, falling, and calm again.
SHARES = {"calm": 0.10, "rise": 0.50, "peak": 0.10, "fall": 0.05, "after": 0.25}
PEAK = 10
# People a second while it is calm, for each Mbit/s of the line: half of what it carries of the old design's pages, and what makes
# one core of an informed service fall at the peak.
BASES_PER_MBIT = [0.1, 1.0]
BASE_MAX = 1_000
# nginx has 16,384, and takes two for each whose code is being made.
CONNECTIONS = 5_000
CLOSED_CONNECTIONS = 128
SECONDS_MIN, SECONDS_MAX = 5, 600
# A run of the maxima that others have disturbed is made again, so often at most.
ATTEMPTS, ATTEMPT_PAUSE_S = 3, 5
PATIENCE_S, RELOADS, PAUSE_S = 5, 3, 1
SAMPLE_S = 0.5
# As quiet as before: for so many seconds p99 is not above its worst calm second by more than this, and nobody gives up.
RECOVERY_FACTOR, RECOVERY_SLACK_US, RECOVERY_S = 2, 2_000, 3


def options():
    parser = bench_main.Parser(prog="scripts/replay-xian.sh", description="Sends one crowd over one line at the old design, an "
                               "informed one and onecode; needs root and Linux network namespaces.", allow_abbrev=False)
    parser.add_argument("--rate", default="1gbit", help="of the line, such as 100mbit (1gbit)")
    parser.add_argument("--seconds", type=bench_main.positive, default=120, help="length of each replay (120)")
    parser.add_argument("--base", help="people who come each second while it is calm, ten times as many at the peak; several "
                        "crowds by comma (100,1000 with 1gbit, in proportion below)")
    parser.add_argument("--only", default=",".join(NAMES), help="some of " + ",".join(NAMES) + " by comma, or `maxima`: "
                        "how much each can carry, as a table")
    parser.add_argument("--pairs", type=bench_main.positive, default=3, help="rounds of the maxima (3)")
    parser.add_argument("--out", default=os.path.join(ROOT, "benches", "results"), help="folder of the results (benches/results)")
    parser.add_argument("--profile", choices=["release", "debug"], default="release", help="which build, for tests (release)")
    parser.add_argument("--no-install", action="store_true", help="install nothing: name what is missing and exit 1")
    parser.add_argument("--check", action="store_true", help="look at the options and the host, and end")
    chosen = parser.parse_args()
    chosen.only = chosen.only.split(",")
    for name in chosen.only:
        if name not in NAMES and chosen.only != ["maxima"]:
            parser.error(f"--only: {name!r} is none of {', '.join(NAMES)}, and no maxima alone")
    try:
        bits = link.bits_per_s(chosen.rate)
    except ValueError:
        parser.error(f"--rate {chosen.rate}: a number with kbit, mbit or gbit")
    if not SECONDS_MIN <= chosen.seconds <= SECONDS_MAX and chosen.only != ["maxima"]:
        parser.error(f"--seconds is {SECONDS_MIN} to {SECONDS_MAX}")
    usual = ",".join(str(max(10, min(BASE_MAX, int(bits / 1e6 * share)))) for share in BASES_PER_MBIT)
    try:
        chosen.bases = [bench_main.positive(base) for base in (chosen.base or usual).split(",")]
    except argparse.ArgumentTypeError as error:
        parser.error(f"--base: {error}")
    return chosen


def plan(seconds, base):
    """The crowd's plan and where its parts begin, in seconds."""
    starts, at = {}, 0.0
    for name, share in SHARES.items():
        starts[name] = at
        at += share * seconds
    peak = base * PEAK
    points = [(0, base), (starts["rise"], base), (starts["peak"], peak), (starts["fall"], peak), (starts["after"], base), (at, base)]
    return ",".join(f"{second:g}:{rate:g}" for second, rate in points), starts


def sampler(line, contender):
    """Counters beside a run, twice a second: the wire, the server's CPU, both CPUs."""

    def read():
        wire_bytes, drops = line.counters()
        return wire_bytes * 8, drops, contender.cpu_s(), *busy_s(), servers.others_s()

    return stage.Samples(read, SAMPLE_S)


def busy_s():
    """Seconds that the servers' CPU and the crowd's had something to do, interrupts included."""
    with open("/proc/stat", encoding="ascii") as file:
        lines = {line.split()[0]: [int(field) for field in line.split()[1:9]] for line in file if line.startswith("cpu")}
    tick = os.sysconf("SC_CLK_TCK")
    return tuple((sum(lines[f"cpu{cpu}"]) - lines[f"cpu{cpu}"][3] - lines[f"cpu{cpu}"][4]) / tick for cpu in (SERVER_CPU, CLIENT_CPU))


class Replay:
    """Everything that a run needs, once."""

    def __init__(self, chosen, folder):
        self.chosen, self.folder = chosen, folder
        target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
        servers.BUILD.profile = chosen.profile
        self.load = servers.built(os.path.join(ROOT, "target", "bench"), "load")
        self.line = link.Link(chosen.rate, SERVER_CPU, CLIENT_CPU)
        self.cast = contenders.Cast(folder, target, os.path.join(ROOT, "target", "bench"), SERVER_CPU)
        contenders.Contender.sessions_file = self.cast.sessions

    def crowd(self, arguments, timeout_s, scheme="http"):
        """One run of the crowd, from its side of the line."""
        command = [*self.line.crowd_side(), "taskset", "-c", str(CLIENT_CPU), self.load, "--crowd",
                   "--url", f"{scheme}://{link.SERVER_ADDRESS}:{contenders.PORT}{cases.REFRESH}", "--sources", link.SOURCES,
                   "--sessions", self.cast.sessions] + [str(argument) for argument in arguments]
        _, out, err = servers.run(command, timeout_s)
        if not out.startswith("{"):
            raise Failed(f"load: {err.strip()}")
        return json.loads(out)

    def day(self, name, base):
        """The whole plan against one of them."""
        chosen, contender = self.chosen, self.cast.start(name)
        asked, starts = plan(chosen.seconds, base)
        try:
            found = contender.check()
            samples = sampler(self.line, contender)
            kept = ["--page-cached"] if contenders.PAGES_KEPT[name] else []
            result = self.crowd(["--plan", asked, "--page", "/", *kept, "--connections", CONNECTIONS, "--patience", PATIENCE_S,
                                 "--reloads", RELOADS, "--pause", PAUSE_S], chosen.seconds + PATIENCE_S * (RELOADS + 1) + 30)
            time.sleep(SAMPLE_S)
            samples.stop()
        finally:
            contender.stop()
        for number, second in enumerate(result["seconds"]):
            since, until = result["started_unix_s"] + number, result["started_unix_s"] + number + 1
            of = lambda column: samples.at(until, column) - samples.at(since, column)
            second.update(wire_bits=round(of(1)), wire_drops=round(of(2)), server_cpu=round(of(3), 4),
                          server_cpu_all=round(of(4), 4), crowd_cpu_all=round(of(5), 4), others=round(max(of(6), 0), 4))
        found.update(result, phases=starts, **summary(result["seconds"], starts, chosen.seconds))
        print(f"  {name:9} served {found['served']:,} of {found['arrived']:,} ({found['served'] / max(found['arrived'], 1):.1%}), at the "
              f"peak {found['peak_served_per_s']:,.0f}/s, p99 {page.time_words(found['peak_p99_us'])}, {found['peak_wire_bits'] / 1e6:,.0f} "
              f"Mbit/s; quiet again: {page.recovery_words(found)}{disturbed(found['others'])}", flush=True)
        return found


def disturbed(others):
    return f"; DISTURBED: others took {others:.0%} of a CPU" if others > page.OTHERS_MAX else ""


def p99_us(seconds):
    """The median of those seconds in which anyone came to an end, if there are any."""
    found = [second["p99_us"] for second in seconds if second["served"] + second["gave_up"]]
    return figures.median(found) if found else None


def summary(seconds, starts, length):
    """What is said of a day in words."""
    # In the first second caches are filled.
    calm = seconds[1 if starts["rise"] >= 2 else 0:max(int(starts["rise"]), 1)]
    peak = seconds[round(starts["peak"]):max(round(starts["fall"]), round(starts["peak"]) + 1)]
    was_calm = not any(second["gave_up"] + second["reloads"] for second in calm) and all(second["served"] for second in calm)
    found = {"quiet_p99_us": p99_us(calm) if was_calm else None, "recovered_s": None, "watched_s": length - round(starts["after"])}
    if was_calm:
        limit_us = max(RECOVERY_FACTOR * max(second["p99_us"] for second in calm), found["quiet_p99_us"] + RECOVERY_SLACK_US)
        begin, end = round(starts["after"]), min(len(seconds), length)
        for number in range(begin, end):
            window = seconds[number:min(number + RECOVERY_S, end)]
            if all(second["served"] and second["p99_us"] <= limit_us and not second["gave_up"] for second in window):
                found["recovered_s"] = number - begin
                break
    median = lambda key: figures.median([second[key] for second in peak])
    found["others"] = sum(second["others"] for second in seconds) / len(seconds)
    return {**found, "peak_served_per_s": median("served"), "peak_p99_us": p99_us(peak), "peak_wire_bits": median("wire_bits"),
            "peak_server_cpu": median("server_cpu"), "peak_crowd_busy": 1 - median("idle_us") / 1e6}


# What is measured of the maxima: who takes part, whether the page is fetched, TLS, and what else the crowd does.
MAXIMA = {
    "first visit: new connection, page, refresh": (NAMES, ["--page", "/"], False),
    "return: new connection, refresh": (NAMES, [], False),
    "first visit with TLS: whole handshake (X25519), page, refresh": (["informed", "onecode"], ["--page", "/"], True),
    "return with TLS: resumed handshake (X25519), refresh": (["informed", "onecode"], ["--resume"], True),
    "first visit with TLS as shipped: X25519MLKEM768": (["onecode"], ["--page", "/", "--post-quantum"], True),
    "return with TLS as shipped: X25519MLKEM768": (["onecode"], ["--resume", "--post-quantum"], True),
}


def maxima(replay):
    """As many visits as each carries, with so many people at once all the time."""
    chain_and_key = bench_tls.make_certificate(replay.folder, link.SERVER_ADDRESS)
    seconds = min(replay.chosen.seconds, 5)
    rows = {}
    for row, (names, arguments, secure) in MAXIMA.items():
        print(f"{row}:", flush=True)
        runs = {name: [] for name in names}
        for _, order in figures.palindrome(names, replay.chosen.pairs):
            for name in order:
                for attempt in range(ATTEMPTS):
                    time.sleep(ATTEMPT_PAUSE_S * attempt)
                    run = maximum(replay, name, arguments, seconds, chain_and_key if secure else None)
                    print(f"  {name:9} {run['per_s']:9,.0f}/s  {run['cpu_us']:7.1f} µs server CPU each, {run['wire_bits_per_s'] / 1e6:5,.0f} "
                          f"Mbit/s, CPUs {run['server_cpu_all']:.0%} and {run['crowd_cpu_all']:.0%}, {run['failed']} failed"
                          f"{disturbed(run['others'])}", flush=True)
                    if not disturbed(run["others"]):
                        break
                runs[name].append(run)
        rows[row] = {name: {**{figure: figures.summary([run[figure] for run in found]) for figure in found[0]}, "runs": found}
                     for name, found in runs.items()}
    return rows


def maximum(replay, name, arguments, seconds, tls_files):
    """One run against a server just started."""
    contender = replay.cast.start(name, tls_files)
    try:
        resumed = lambda: contender.servers[0].metric(bench_tls.RESUMED) if name == "onecode" else 0
        samples, resumed_before = sampler(replay.line, contender), resumed()
        arguments = ["--closed", "--duration", seconds, "--connections", CLOSED_CONNECTIONS, "--patience", 20, "--reloads", 0, *arguments]
        trust = ["--trust", tls_files[0]] if tls_files else []
        result = replay.crowd(arguments + trust, seconds + 40, "https" if tls_files else "http")
        samples.stop()
        if "--resume" in arguments and name == "onecode" and resumed() - resumed_before < 0.9 * result["served"]:
            raise Failed(f"{resumed() - resumed_before:.0f} of {result['served']} handshakes were resumed")
    finally:
        contender.stop()
    # The first second has the start of all connections at once, the last is not whole.
    since = result["started_unix_s"] + (1 if seconds > 2 else 0)
    until = result["started_unix_s"] + seconds
    of = lambda column: samples.at(until, column) - samples.at(since, column)
    served = sum(second["served"] for second in result["seconds"][1 if seconds > 2 else 0:seconds])
    length_s = until - since
    return {"per_s": served / length_s, "cpu_us": of(3) * 1e6 / max(served, 1), "busy_us": of(4) * 1e6 / max(served, 1), "wire_bits_per_s": of(1) / length_s,
            "wire_bytes_each": of(1) / 8 / max(served, 1), "server_cpu": of(3) / length_s, "server_cpu_all": of(4) / length_s,
            "crowd_cpu_all": of(5) / length_s, "others": max(of(6), 0) / length_s, "failed": result["gave_up"] + result["refused"] + result["broken"],
            "p50_us": result["latency_us"]["p50"], "p99_us": result["latency_us"]["p99"]}


def check_host():
    reason = link.refused()
    if reason:
        raise Failed(f"no network namespaces with a shaped link can be made here: {reason}")
    bench_main.raise_files()


def measure(chosen, folder):
    replay = Replay(chosen, folder)
    os.sched_setaffinity(0, {CLIENT_CPU})
    about = {"machine": {**bench_main.machine(argparse.Namespace(pairs=chosen.pairs, seconds=chosen.seconds, quick=False)),
                         "mtu": "1500"}, "link": replay.line.described(), "rate": chosen.rate,
             "rate_bits_per_s": replay.line.bits_per_s,
             "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("ONECODE_")}}
    if chosen.only == ["maxima"]:
        results = {**about, "rows": maxima(replay)}
        figures.write_json(os.path.join(chosen.out, "replay-maxima.json"), results)
        print("\n" + "\n".join(page.maxima_table(results)))
    else:
        crowd = {"connections": CONNECTIONS, "patience_s": PATIENCE_S, "reloads": RELOADS, "pause_s": PAUSE_S,
                 "residents": contenders.RESIDENTS, "seconds": chosen.seconds}
        results = {**about, "crowd": crowd, "crowds": []}
        for base in chosen.bases:
            print(f"{base:,} people a second, {base * PEAK:,} at the peak; {about['link']}:", flush=True)
            days = {name: replay.day(name, base) for name in NAMES if name in chosen.only}
            results["crowds"].append({"base_per_s": base, "peak_per_s": base * PEAK, "plan": plan(chosen.seconds, base)[0], "days": days})
        figures.write_json(os.path.join(chosen.out, "replay.json"), results)
    page.write(chosen.out)
    print(f"\nresults: {os.path.relpath(chosen.out, os.getcwd())}")


def perform(chosen, folder):
    check_host()
    os.makedirs(chosen.out, exist_ok=True)
    if not chosen.check:
        measure(chosen, folder)


if __name__ == "__main__":
    asked = options()
    sys.exit(stage.perform("replay", lambda folder: perform(asked, folder)))
