"""Residents who come back when they are told, with signatures made while the shard was idle and without.

A run begins with a window: in it everyone comes for the first time, in the next one each comes back when told, which
makes the same rate without a surge. What counts is two seconds in the midst of that second window.
"""

import math
import time

import cases
import figures
from servers import Failed

SHARE = 0.75
# The shortest window there is, so that a run is short.
WINDOW_S, LIFE_S = 5, 30
WARM_UP_S, SECONDS = WINDOW_S + 2, 2
RESIDENTS = 600_000
MAXIMUM_RUNS = 5
COUNTS = ["onecode_signatures_total", "onecode_ahead_hits_total"]


def maximum_of(bench, server):
    """What cold refreshes reach at most, as wrk finds it: a return is one where nothing was made ahead. Those who return
    cannot be asked themselves, since they come when they are told, however idle the server is."""
    first, rates = 0, []
    for _ in range(min(MAXIMUM_RUNS, bench.options.pairs)):
        before = server.metric(COUNTS[0])
        run = bench.wrk(f"http://127.0.0.1:{server.port}", "cold", [server.sessions, first], seconds=SECONDS)
        signed = server.metric(COUNTS[0]) - before
        # What was on its way when wrk stopped was asked, too.
        first = (first + run["requests"] + 2 * cases.CONNECTIONS) % RESIDENTS
        if run["failed"] or not run["requests"] <= signed <= run["requests"] + cases.CONNECTIONS:
            bench.say(f"  the maximum: VOID {run['failed']} of {run['requests']} failed, {signed:.0f} signatures")
            continue
        rates.append(run["per_s"])
        bench.say(f"  the maximum: {run['per_s']:.0f} cold refreshes/s")
    if not rates:
        raise Failed("no valid run of cold refreshes, of whose maximum the rate is a share")
    return figures.summary(rates)


def one_run(bench, server, rate, not_before):
    """A run of the server that was paused, from the first edge of a window after that time."""
    residents = rate * WINDOW_S
    arguments = ["--sessions", server.sessions, "--rate", rate, "--requests", residents, "--residents", residents,
                 "--returning", "--duration", WARM_UP_S + SECONDS, "--warm-up", WARM_UP_S]
    time.sleep(max(0, math.ceil(max(time.time(), not_before) / WINDOW_S) * WINDOW_S - time.time()))
    server.resume()
    before, cpu_before = [server.metric(name) for name in COUNTS], server.cpu_s()
    result = bench.load(f"http://127.0.0.1:{server.port}{cases.REFRESH}", arguments, 60)
    cpu_s = server.cpu_s() - cpu_before
    signed, found = [server.metric(name) - old for name, old in zip(COUNTS, before)]
    server.pause()
    answered = max(result["answered"], 1)
    return {**result["latency_us"], "recorded": result["recorded"], "failed": result["failed"], "failures": result["failures"],
            "statuses": result["statuses"], "unanswered": result["unanswered"], "answered_per_s": result["answered_per_s"],
            "found_share": found / max(answered - residents, 1), "signed_share": signed / answered,
            "cpu_us": cpu_s * 1e6 / answered}


def measure(bench):
    """Both sides at the same share of the measured maximum, in ABBA order; ratios of p99 within a round."""
    shared = {"ONECODE_CODE_WINDOW_S": str(WINDOW_S), "ONECODE_CODE_LIFE_S": str(LIFE_S)}
    sides = {"ahead": bench.onecode("ahead", RESIDENTS, environment=shared),
             "off": bench.onecode("off", RESIDENTS, environment={**shared, "ONECODE_CODE_SIGNED_AHEAD": "0"})}
    # The one that is not asked stands still: it would sign for those it expects, on the CPU of the other.
    sides["ahead"].pause()
    maximum = maximum_of(bench, sides["off"])
    sides["off"].pause()
    rate = int(maximum["median"] * SHARE)
    if rate * WINDOW_S > RESIDENTS:
        raise Failed(f"{RESIDENTS:,} residents are too few for {rate:,}/s")
    runs, last = {name: {} for name in sides}, dict.fromkeys(sides, 0)
    for index, order in figures.palindrome(list(sides), bench.options.pairs):
        for name in order:
            # Whom the run before expected in the next window must not be found by those who come first in this one.
            run = runs[name][index] = one_run(bench, sides[name], rate, last[name] + WINDOW_S)
            last[name] = time.time()
            bench.say(f"  returning at {rate}/s {name:6} p50 {run['p50']} p99 {run['p99']} µs, found {run['found_share']:.0%}, "
                      f"signed {run['signed_share']:.0%}, {run['cpu_us']:.1f} µs, {run['failed']} failed")
    cases.stop_servers(sides.values())
    p99 = {name: {index: run["p99"] for index, run in found.items()} for name, found in runs.items()}
    return {"maximum_per_s": maximum, "rate": rate, "pairs": bench.options.pairs, "seconds": SECONDS,
            "p99_ratio": figures.paired(p99["ahead"], p99["off"]),
            "servers": {name: cases.of_runs(list(found.values())) for name, found in runs.items()}}
