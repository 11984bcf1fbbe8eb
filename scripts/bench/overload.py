#!/usr/bin/env python3
"""What the server does when more come than it can serve.

    scripts/bench/overload.py                              all of it: half an hour once built
    scripts/bench/overload.py --only step,refusal          of step, refusal, recovery, one-address, reload-storm, pages
    scripts/bench/overload.py --seconds 5 --rounds 1 --residents 300000 --out DIR      shows that it works, proves nothing

One shard on CPU 0, all clients on CPU 1, which could not offer ten times what a core serves: where it matters the server
has a twentieth of its CPU. What is left out stays in the results as it was. See benches/README.md. Writes benches/results/overload.json and overload.md.
"""

import contextlib
import json
import os
import sys
import time

sys.path.insert(1, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "replay"))

import cases
import figures
import link
import main as bench_main
import report
import servers
import stage
from servers import ROOT, Failed

# A twentieth of a CPU, in slices that are short beside every time that is looked at.
QUOTA_US, PERIOD_US = 1_000, 20_000
TIMES = 10
# As many as are out at most: new connections, each held for its patience.
CONNECTIONS, FILES = 18_000, 18_500
# Enough addresses that no port is asked for twice while it is still remembered.
SOURCES = "127.77.0.0/1024"
CLOSED_CONNECTIONS = 32
PATIENCE_S, DEADLINE_S = 1, 1.0
CAPACITY_S, SAMPLE_S = 10, 0.5
GOODPUT_MIN, REFUSAL_MAX, SUCCESS_MIN, STORM_GOODPUT_MIN = 0.90, 0.35, 0.999, 0.98
# More of a CPU than this taken by others spoils a run; it is counted, and said.
OTHERS_MAX = 0.05
ACCEPTED = "onecode_connections_accepted_total"
DROPPED = 'onecode_shed_total{by="deadline"}'
ANSWERED, SHED, SIGNATURES = 'onecode_requests_total{route="refresh",result="2xx"}', 'onecode_shed_total{by="delay"}', "onecode_signatures_total"
# Of what can be done over new connections: what is asked of those that stay open, below and above their capacity, and how fast they are opened (in less than the
# 15 s after which an idle one is closed).
REFUSAL_S, SERVED_SHARE, REFUSAL_TIMES, OPENING_SHARE, REFUSAL_PAUSE_S, REFUSAL_REST_S = 3, 1.2, 3, 0.75, 0.2, 5
QUIET_SHARE, QUIET_S, RUSH_S, AFTER_S, RELOADS = 0.3, 5, 5, 8, 3
# As quiet as before: p99 of a second is not above its median before by more than this, or not above the worst.
RECOVERY_FACTOR, RECOVERY_S = 1.2, 5
# Each keeps its connection as long as a browser that is soon closed for being idle: 4,000 are open, and there is room for who waits.
ADDRESS_RESIDENTS, ADDRESS_CONNECTIONS, STAY_S = 20_000, 5_000, 12
# A third of a thousand of each; garbage is closed at once, so a third of a thousand come each second.
JUNK, JUNK_CONNECTIONS = {"silent": 333, "begun": 333, "garbage": 333}, 334
STORM_S, STORM_CONNECTIONS, HONEST_PER_S = 6, 64, 2_000
LINE, BUDGET_BITS_PER_S, PAGES_S, BYTES_S = "2gbit", 100_000_000, 20, 0.1
PAGE_CONNECTIONS, BESIDE_PER_S = 5_000, 300
# Each code is signed when it is asked for.
COLD = {"ONECODE_CODE_SIGNED_AHEAD": "0"}


class Overload:
    """Where things are, how long they run, and the two CPUs."""

    def __init__(self, chosen, folder):
        target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
        self.bench = cases.Bench(chosen, folder, target, os.path.join(ROOT, "target", "bench"))
        self.chosen, self.next_resident = chosen, 0
        # Where the clients are and what they connect to, if that is not this host's loopback.
        self.side, self.address = [], "127.0.0.1"

    @contextlib.contextmanager
    def server(self, environment=None, limited=False, address="127.0.0.1"):
        """A demo that is stopped afterwards; one that is limited has a part of its CPU once it is up."""
        bench = self.bench
        server = servers.Onecode("onecode", bench.target, bench.folder, bench.port(), bench.server_cpu, self.chosen.residents, environment=environment,
                                 address=address)
        quota = None
        try:
            if limited:
                # What a start leaves to be done is done with the whole CPU.
                self.strangers(server, ["--plan", "0:1000,3:1000", "--connections", 1_000, "--patience", PATIENCE_S], 3)
                quota = stage.Quota(QUOTA_US, PERIOD_US)
                quota.add(server)
                server.limited = quota.described
            yield server
        finally:
            server.stop()
            if quota:
                quota.remove()

    def command(self, server, arguments, path=cases.REFRESH):
        return [*self.side, "taskset", "-c", str(self.bench.client_cpu), servers.built(self.bench.bench, "load"), "--url",
                f"http://{self.address}:{server.port}{path}", *(str(each) for each in arguments)]

    def load(self, server, arguments, timeout_s, path=cases.REFRESH, honest=False):
        """A run to its end. One that is honest has the clients' CPU before all others, so that its p99 is of the server."""
        first = ["chrt", "-f", "1"] if honest else []
        return servers.ended(servers.start_piped(first + self.command(server, arguments, path)), timeout_s)

    def strangers(self, server, arguments, seconds):
        """People none of whom has had a code lately, each over a new connection. What they and the server have taken is told, too."""
        before, others_before, overflows_before, signed_before = server.cpu_s(), servers.others_s(), overflows(), server.metric("onecode_signatures_total")
        samples = stage.Samples(lambda: (server.cpu_s(), servers.others_s()), SAMPLE_S)
        result = self.load(server, ["--crowd", "--in-order", "--sessions", server.sessions, "--from", self.next_resident, "--sources", SOURCES,
                                    "--deadline", DEADLINE_S, *arguments], seconds + 60)
        samples.stop()
        for number, second in enumerate(result["seconds"]):
            since = result["started_unix_s"] + number
            of = lambda column: samples.at(since + 1, column) - samples.at(since, column)
            second.update(server_cpu=round(of(1), 4), others=round(max(of(2), 0), 4))
        self.walk(result["arrived"])
        result["server_cpu_s"], result["others"] = server.cpu_s() - before, (servers.others_s() - others_before) / seconds
        result["overflows"] = overflows() - overflows_before
        result["signed"] = server.metric("onecode_signatures_total") - signed_before
        return result

    def walk(self, count):
        """Goes on by so many residents, and tells who is next: whoever comes next has not been there."""
        self.next_resident = (self.next_resident + count) % self.chosen.residents
        return self.next_resident

    def capacity(self, server, seconds=CAPACITY_S):
        """Cold refreshes a second over new connections, with as many at once as keep it busy and no queue."""
        seconds = min(seconds, self.chosen.seconds)
        result = self.strangers(server, ["--closed", "--connections", CLOSED_CONNECTIONS, "--duration", seconds + 1, "--patience", 20, "--reloads", 0],
                                seconds + 1)
        if result["gave_up"] > result["arrived"] / 100:
            raise Failed(f"of {result['arrived']} at once by {CLOSED_CONNECTIONS}, {result['refused']} were refused and {result['gave_up']} gave up")
        # In the first second all begin at once.
        per_s = [second["served"] for second in result["seconds"][1:seconds + 1]]
        return {"per_s": sum(per_s) / len(per_s), "least_per_s": min(per_s), "cpu_us": result["server_cpu_s"] * 1e6 / result["served"],
                "cpu": result["server_cpu_s"] / (seconds + 1), "signed_share": result["signed"] / result["served"], "p99_us": result["latency_us"]["p99"],
                "others": result["others"]}


def overflows():
    """Connections of this host that were made for their clients and found the server's queue full: what they send is lost, and sent again."""
    with open("/proc/net/netstat", encoding="ascii") as file:
        names, values = [line.split() for line in file if line.startswith("TcpExt:")]
    return int(values[names.index("ListenOverflows")])


def ended_wrk(process, timeout_s):
    return cases.wrk_result(*servers.output(process, timeout_s))


def disturbed(others):
    return f"; DISTURBED: others took {others:.0%} of a CPU" if others > OTHERS_MAX else ""


def flood(overload, server, rate, seconds, patience_s):
    """So many a second for so long, who wait for so long and do not come again."""
    result = overload.strangers(server, ["--plan", f"0:{rate:.1f},{seconds}:{rate:.1f}", "--connections", CONNECTIONS, "--patience", patience_s,
                                         "--reloads", 0], seconds)
    offered = result["arrived"] / seconds
    busy = 1 - sum(second["idle_us"] for second in result["seconds"][:seconds]) / 1e6 / seconds
    return {"offered_per_s": offered, "served_per_s": [second["served"] for second in result["seconds"][:seconds]], "generator_busy": busy,
            "generator_late_us": max(second["late_us"] for second in result["seconds"]), "patience_s": patience_s,
            **{name: result[name] for name in ("arrived", "served", "refused", "broken", "gave_up", "overdue", "overflows", "served_latency_us", "signed", "others",
                                               "server_cpu_s", "seconds")}}


def step(overload):
    """Ten times what it can serve, all at once, for a minute."""
    with overload.server(COLD, limited=True) as server:
        before = overload.capacity(server)
        print(f"  capacity {before['per_s']:,.0f}/s with {server.limited}, {before['cpu_us']:.1f} µs each{disturbed(before['others'])}", flush=True)
        time.sleep(2)
        found = flood(overload, server, TIMES * before["per_s"], overload.chosen.seconds, PATIENCE_S)
        shed = {by: server.metric(f"onecode_shed_total{{by=\"{by}\"}}") for by in ("delay", "deadline", "bytes")}
        tell_flood(found, before["per_s"])
        time.sleep(5)
        after = overload.capacity(server)
        print(f"  capacity {after['per_s']:,.0f}/s afterwards{disturbed(after['others'])}", flush=True)
        time.sleep(2)
        # Who waits longer than the deadline sees what the server would have sent to those who have gone.
        patient = flood(overload, server, TIMES * before["per_s"], min(overload.chosen.seconds, 20), 3)
        tell_flood(patient, before["per_s"])
    capacity, cpu_us = (before["per_s"] + after["per_s"]) / 2, (before["cpu_us"] + after["cpu_us"]) / 2
    # What the kernel does for those whom it turns away itself is done on the clients' CPU here, and not in this.
    turned_away_us = (found["server_cpu_s"] * 1e6 - found["served"] * cpu_us) / (found["arrived"] - found["served"])
    print(f"  {turned_away_us:.2f} µs for each who was turned away, {turned_away_us / cpu_us:.3f} of a code", flush=True)
    return {"limited": server.limited, "turned_away_us": turned_away_us, "turned_away": turned_away_us / cpu_us, "capacity": before, "capacity_after": after, "shed": shed, "flood": found, "patient": patient,
            "goodput": figures.mean(found["served_per_s"]) / capacity, "least": min(found["served_per_s"]) / capacity}


def tell_flood(found, capacity):
    per_s = found["served_per_s"]
    print(f"  offered {found['offered_per_s']:,.0f}/s: served {figures.mean(per_s):,.0f}/s, {figures.mean(per_s) / capacity:.1%} of capacity, in the worst "
          f"second {min(per_s) / capacity:.1%}; {found['refused']:,} refused, {found['broken']:,} broken; p99 of the served {found['served_latency_us']['p99'] / 1e3:.0f} ms, "
          f"longest {found['served_latency_us']['max'] / 1e3:.0f} ms, past the deadline {found['overdue']}; generator {found['generator_busy']:.0%} busy, late by "
          f"{found['generator_late_us'] / 1e3:.0f} ms at most{disturbed(found['others'])}", flush=True)


def refusal(overload):
    """What one refusal costs beside one code, over connections that stay open and have each had a code before. Below capacity a request costs `served`; what a
    rush has taken beyond those whom it served is the refusals'. `new` is a code over a new connection."""
    seconds, runs = min(overload.chosen.seconds, REFUSAL_S), {"served": {}, "rush": {}, "new": {}}
    with overload.server(COLD, limited=True) as server:
        per_s = overload.capacity(server, seconds)["per_s"]
        read = lambda: (server.cpu_s(), server.metric(ANSWERED), server.metric(SHED), server.metric(DROPPED), server.metric(ACCEPTED), servers.others_s())

        def kept(share):
            # Each connection is opened, at a rate that is no rush, before what is looked at.
            connections = int(per_s * share * seconds)
            opening_s = connections / (per_s * OPENING_SHARE)
            process = servers.start_piped(overload.command(server, [
                "--sessions", server.sessions, "--from", overload.walk(2 * connections), "--rate", f"{per_s * share:.0f}", "--duration", seconds, "--connections", connections,
                "--first-rate", f"{per_s * OPENING_SHARE:.0f}", "--in-turn", "--sources", SOURCES]))
            time.sleep(opening_s + REFUSAL_PAUSE_S)
            before = read()
            time.sleep(seconds - 2 * REFUSAL_PAUSE_S)
            # Before they close what is open, which costs, too.
            after = read()
            servers.ended(process, seconds + 60)
            return before, after

        def new(_):
            before = read()
            overload.capacity(server, seconds)
            return before, read()

        kinds = {"served": (kept, SERVED_SHARE), "rush": (kept, REFUSAL_TIMES), "new": (new, 1)}
        for index, order in figures.palindrome(list(kinds), overload.chosen.rounds):
            for name in order:
                run, share = kinds[name]
                before, after = run(share)
                # By then all are closed.
                time.sleep(REFUSAL_REST_S)
                figure = dict(zip(("cpu_s", "served", "refused", "dropped", "accepted", "others"), (now - then for now, then in zip(after, before))))
                figure["others"] /= seconds
                runs[name][index] = figure
                print(f"  {index + 1} {name:7} {figure['served']:,.0f} served, {figure['refused']:,.0f} refused, {figure['dropped']:,.0f} dropped, {figure['accepted']:,.0f} "
                      f"connections, {figure['cpu_s']:.3f} s{disturbed(figure['others'])}", flush=True)
    if any(run["refused"] < run["served"] / 10 for run in runs["rush"].values()):
        raise Failed("too few were refused: no figure comes of that")
    if any(run["refused"] + run["dropped"] > run["served"] / 100 for run in runs["served"].values()):
        raise Failed("some were refused below capacity: what a code costs is not known")
    each = lambda name: {index: run["cpu_s"] * 1e6 / run["served"] for index, run in runs[name].items()}
    kept_us, new_us = each("served"), each("new")
    refused_us = {index: (run["cpu_s"] * 1e6 - run["served"] * kept_us[index]) / (run["refused"] + run["dropped"]) for index, run in runs["rush"].items()}
    summary = lambda values: figures.summary(list(values.values()))
    found = {"limited": server.limited, "seconds": seconds, "kept_us": summary(kept_us), "new_us": summary(new_us), "refused_us": summary(refused_us),
             "ratio": figures.paired(refused_us, kept_us), "runs": {name: list(of_name.values()) for name, of_name in runs.items()}}
    print(f"  a code {found['kept_us']['median']:.1f} µs, over a new connection {found['new_us']['median']:.1f}; a refusal {found['refused_us']['median']:.1f} µs: "
          f"{report.ratio(found['ratio'])}", flush=True)
    return found


def recovery(overload):
    """A rush of five seconds by people who reload at once, again and again: how soon it is as quiet as before for those who come then. A person belongs to the
    second in which they came: those of the rush are its own, however late they are done."""
    rounds = []
    with overload.server(COLD, limited=True) as server:
        capacity = overload.capacity(server)
        quiet, rush = QUIET_SHARE * capacity["per_s"], TIMES * capacity["per_s"]
        plan = f"0:{quiet:.1f},{QUIET_S}:{quiet:.1f},{QUIET_S + 0.001}:{rush:.1f},{QUIET_S + RUSH_S}:{rush:.1f},{QUIET_S + RUSH_S + 0.001}:{quiet:.1f}," \
               f"{QUIET_S + RUSH_S + AFTER_S}:{quiet:.1f}"
        print(f"  capacity {capacity['per_s']:,.0f}/s with {server.limited}; {quiet:,.0f}/s, then {rush:,.0f}/s for {RUSH_S} s", flush=True)
        for number in range(overload.chosen.rounds * 4):
            result = overload.strangers(server, ["--plan", plan, "--connections", CONNECTIONS, "--patience", PATIENCE_S, "--reloads", RELOADS, "--pause", 0],
                                        QUIET_S + RUSH_S + AFTER_S)
            rounds.append(recovered(result))
            one = rounds[-1]
            print(f"  {number + 1}: quiet p99 {figures.median(one['quiet_p99_us']) / 1e3:.0f} ms; who came then, back after {one['back_s']} s, but for a slice {one['slice_back_s']} s: {in_ms(one['after_p99_us'])}; "
                  f"who was done then, after {one['done_back_s']} s: {in_ms(one['done_after_p99_us'])}; in the rush {one['rush_served_per_s']} served, {one['tries_per_s']:,.0f} "
                  f"tries a second, {one['reloads']:,} reloads, {one['gave_up']:,} gave up{disturbed(one['others'])}", flush=True)
            time.sleep(1)
    return together(rounds, {"limited": server.limited, "capacity": capacity, "quiet_per_s": quiet, "rush_per_s": rush})


def together(rounds, found):
    """What all rounds of a recovery come to."""
    found = {**found, "rounds": rounds}
    for name in ("", "slice_", "done_"):
        backs = [one[f"{name}back_s"] for one in rounds]
        found.update({f"{name}within": sum(back is not None and back <= RECOVERY_S for back in backs), f"{name}longest_s": None if None in backs else max(backs)})
    return found


def in_ms(times_us):
    return ", ".join(f"{time_us / 1e3:.0f}" for time_us in times_us) + " ms"


def recovered(result):
    """How one rush went, and how soon it was over, by when people came and by when they were done."""
    # In the first second caches are filled.
    before, rush = result["seconds"][1:QUIET_S], result["seconds"][QUIET_S:QUIET_S + RUSH_S]
    after = result["seconds"][QUIET_S + RUSH_S:QUIET_S + RUSH_S + AFTER_S]

    by_coming = [second["arrived_p99_us"] for second in before], [second["arrived_p99_us"] for second in after], [
        second["arrived"] - second["served_of_arrived"] for second in after]
    by_end = [second["p99_us"] for second in before], [second["p99_us"] for second in after], [second["gave_up"] for second in after]
    return {"quiet_p99_us": by_coming[0], "after_p99_us": by_coming[1], "after_lost": by_coming[2], "back_s": back(*by_coming), "slice_back_s": back(*by_coming, PERIOD_US),
            "done_after_p99_us": by_end[1], "done_back_s": back(*by_end), "rush_served_per_s": [second["served"] for second in rush],
            # Of those that were begun, some have waited for a connection of the generator's until their patience ended.
            "tries_per_s": sum(second["arrived"] + second["reloads"] for second in rush) / RUSH_S,
            "reloads": result["reloads"], "gave_up": result["gave_up"], "others": result["others"]}


def back(calm_us, after_us, lost, slack_us=0):
    """The first second from which on it is as before, but for one that the noise has: nobody is lost, and p99 is not above what it was by more than that."""
    limit_us = max(RECOVERY_FACTOR * figures.median(calm_us), *calm_us) + slack_us
    as_before = [not gone and p99_us <= limit_us for p99_us, gone in zip(after_us, lost)]
    return next((at for at in range(len(after_us)) if all(as_before[at:at + 2])), None)


def one_address(overload):
    """20,000 residents and 1,000 who mean harm behind one address, as behind a carrier's."""
    seconds = overload.chosen.seconds
    with overload.server(COLD, limited=True) as server:
        harm = {}
        for kind, per_s in JUNK.items():
            command = overload.command(server, ["--hostile", kind, "--connections", JUNK_CONNECTIONS, "--rate", per_s, "--duration", seconds + 2, "--sources", "127.0.0.1/1"])
            harm[kind] = servers.start_piped(command)
        time.sleep(1)
        open_most = stage.Peak(lambda: server.metric("onecode_connections_open"), 0.5)
        rate = ADDRESS_RESIDENTS / 60 * 1.02
        result = overload.strangers(server, ["--plan", f"0:{rate:.1f},{seconds}:{rate:.1f}", "--connections", ADDRESS_CONNECTIONS, "--stay", STAY_S, "--sources", "127.0.0.1/1",
                                             "--patience", 10, "--reloads", 0], seconds + STAY_S)
        open_most.stop()
        told = {}
        for kind, process in harm.items():
            told[kind] = servers.ended(process, 30)
    found = {"limited": server.limited, "success": result["served"] / result["arrived"], "open_most": open_most.most, "harm": told,
             **{name: result[name] for name in ("arrived", "served", "refused", "broken", "gave_up", "latency_us", "others")}}
    print(f"  {found['served']:,} of {found['arrived']:,} served ({found['success']:.3%}), p99 {found['latency_us']['p99'] / 1e3:.0f} ms, at most {found['open_most']:,.0f} "
          f"connections; harm: " + ", ".join(f"{one['begun']:,} {kind}" for kind, one in told.items()) + disturbed(found["others"]), flush=True)
    return found


def reload_storm(overload):
    """One resident's code asked for as fast as it goes over 64 connections, beside others who ask at a rate."""
    seconds, window_s = min(overload.chosen.seconds, STORM_S), cases.WINDOW_S
    with overload.server() as server:
        url, runs, bench = f"http://127.0.0.1:{server.port}", {"quiet": {}, "beside": {}}, overload.bench
        one = os.path.join(bench.folder, "one-session")
        with open(server.sessions, encoding="ascii") as sessions, open(one, "w", encoding="ascii") as file:
            # Nobody else's: the others are the first thousand.
            file.write(list(line for line, _ in zip(sessions, range(cases.WARM_RESIDENTS + 1)))[-1])
        # By itself, over the edge of a window.
        time.sleep((window_s - STORM_S / 2 - time.time() % window_s) % window_s)
        signed, windows = server.metric(SIGNATURES), int(time.time() // window_s)
        alone = bench.wrk(url, "refresh", [one], STORM_S, connections=STORM_CONNECTIONS)
        windows = int(time.time() // window_s) - windows + 1
        signed = server.metric(SIGNATURES) - signed
        print(f"  alone {alone['per_s']:,.0f}/s: {signed:.0f} signatures in {windows} windows", flush=True)
        for index, order in figures.palindrome(list(runs), overload.chosen.rounds):
            for name in order:
                cases.wait_for_window(seconds + 3)
                bench.prefetch(url, server.sessions)
                signed_before, others = server.metric(SIGNATURES), servers.others_s()
                storm = name == "beside" and servers.start_piped(bench.wrk_command(url, "refresh", [one], seconds + 1, STORM_CONNECTIONS))
                time.sleep(0.5)
                result = overload.load(server, ["--sessions", server.sessions, "--residents", cases.WARM_RESIDENTS, "--rate", HONEST_PER_S, "--duration", seconds,
                                                "--warm-up", 0.2, "--coarse"], seconds + 20, honest=True)
                told = storm and ended_wrk(storm, seconds + 20)
                runs[name][index] = {"per_s": result["statuses"].get("200", 0) / result["elapsed_s"], "failed": result["failed"], "p50_us": result["latency_us"]["p50"],
                                     "p99_us": result["latency_us"]["p99"], "signed": server.metric(SIGNATURES) - signed_before,
                                     "storm_per_s": told["per_s"] if told else 0, "others": (servers.others_s() - others) / seconds}
                run = runs[name][index]
                print(f"  {index + 1} {name:6} {run['per_s']:,.0f}/s of {HONEST_PER_S:,}, {run['failed']} failed, p50 {run['p50_us']} p99 {run['p99_us']} µs; storm "
                      f"{run['storm_per_s']:,.0f}/s, {run['signed']:.0f} signatures{disturbed(run['others'])}", flush=True)
    of = lambda name, key: {index: run[key] for index, run in runs[name].items()}
    return {"alone_per_s": alone["per_s"], "alone_signed": signed, "windows": windows, "honest_per_s": HONEST_PER_S,
            "goodput": figures.paired(of("beside", "per_s"), of("quiet", "per_s")), "p99": figures.paired(of("beside", "p99_us"), of("quiet", "p99_us")),
            "quiet_p99_us": figures.summary(list(of("quiet", "p99_us").values())), "beside_p99_us": figures.summary(list(of("beside", "p99_us").values())),
            "signed": figures.summary(list(of("beside", "signed").values())), "storm_per_s": figures.summary(list(of("beside", "storm_per_s").values())),
            "runs": {name: list(of_name.values()) for name, of_name in runs.items()}}


def pages(overload):
    """Pages of ten times the budget, and refreshes beside them, over a line that has room for all of it."""
    seconds = min(overload.chosen.seconds, PAGES_S)
    line = link.Link(LINE, overload.bench.server_cpu, overload.bench.client_cpu)
    loopback, (overload.side, overload.address) = (overload.side, overload.address), (line.crowd_side(), link.SERVER_ADDRESS)
    environment = {"ONECODE_BANDWIDTH_EGRESS_BITS_PER_S": str(BUDGET_BITS_PER_S)}
    with overload.server(environment, address="0.0.0.0") as server:
        page = servers.ask(server.port, "/", {})
        rate, refreshes = TIMES * BUDGET_BITS_PER_S / 8 / len(page.raw), [
            "--sessions", server.sessions, "--residents", cases.WARM_RESIDENTS, "--rate", BESIDE_PER_S, "--warm-up", 2, "--coarse"]
        quiet = overload.load(server, [*refreshes, "--duration", seconds], seconds + 20)
        flood = servers.start_piped(["chrt", "-f", "1", *overload.command(server, ["--rate", rate, "--duration", seconds + 2, "--connections", PAGE_CONNECTIONS, "--coarse",
                                                                             "--sources", link.SOURCES], "/")])
        time.sleep(1)
        samples = stage.Samples(lambda: (server.metric("onecode_sent_bytes_total") * 8, line.counters()[0] * 8, servers.others_s()), BYTES_S)
        beside = overload.load(server, [*refreshes, "--duration", seconds], seconds + 20)
        samples.stop()
        overload.side, overload.address = loopback
        told, shed = servers.ended(flood, 30), server.metric('onecode_shed_total{by="bytes"}')
    # Every second that begins with a sample, not only the whole ones of the clock.
    starts = [row[0] for row in samples.rows if row[0] + 1 <= samples.rows[-1][0]]
    bits = {name: [samples.at(start + 1, column) - samples.at(start, column) for start in starts] for column, name in ((1, "sent"), (2, "line"))}
    found = {"budget_bits_per_s": BUDGET_BITS_PER_S, "offered_bits_per_s": rate * len(page.raw) * 8, "page_bytes": len(page.raw), "line": line.described(),
             "sent_most": max(bits["sent"]), "sent_mean": figures.mean(bits["sent"]), "line_most": max(bits["line"]), "line_mean": figures.mean(bits["line"]),
             "pages": told, "refused": shed, "quiet": quiet, "beside": beside, "success": beside["statuses"].get("200", 0) / beside["planned"],
             "p99": beside["latency_us"]["p99"] / quiet["latency_us"]["p99"], "others": (samples.rows[-1][3] - samples.rows[0][3]) / (samples.rows[-1][0] - samples.rows[0][0])}
    print(f"  pages of {found['offered_bits_per_s'] / 1e6:,.0f} Mbit/s offered: {found['sent_mean'] / 1e6:.1f} Mbit/s sent, {found['sent_most'] / 1e6:.1f} in the worst second; on the line "
          f"{found['line_mean'] / 1e6:.1f} and {found['line_most'] / 1e6:.1f}; {told['statuses']}; refreshes {found['success']:.2%}, p99 {quiet['latency_us']['p99']} → "
          f"{beside['latency_us']['p99']} µs{disturbed(found['others'])}", flush=True)
    return found


CASES = {"step": step, "refusal": refusal, "recovery": recovery, "one-address": one_address, "reload-storm": reload_storm, "pages": pages}


def others_words(*shares):
    most = max(shares)
    return f"{most:.0%}{', **disturbed**' if most > OTHERS_MAX else ''}"


def markdown(results):
    """A table of what was aimed at and found, a row for each figure of the cases that are there."""
    rows, ms, row = [], lambda us: f"{us / 1e3:,.0f} ms", lambda *cells: rows.append(cells)
    notes = [f"{name}: {found['machine']['cpu']}, {found['machine']['cpus']} CPUs, Linux {found['machine']['kernel']}; commit {found['machine']['commit']}; "
             f"{found['machine']['time']}" + (f"; the server had {found['limited']}" if "limited" in found else "") for name, found in results.items()]
    if found := results.get("step"):
        flood, patient, capacity = found["flood"], found["patient"], found["capacity"]["per_s"]
        others = others_words(flood["others"])
        row("step", f"cold refreshes, new connections: {flood['offered_per_s']:,.0f}/s offered for {len(flood['served_per_s'])} s, {capacity:,.0f}/s before and "
            f"{found['capacity_after']['per_s']:,.0f}/s after it at most", "goodput ≥ 90 % of capacity", f"{found['goodput']:.1%}", report.reached(found["goodput"] >= GOODPUT_MIN), others)
        row("", "the worst second", "", f"{found['least']:.1%}", "", "")
        row("", f"answers past their deadline of {DEADLINE_S:.0f} s, of {flood['served']:,}; longest {ms(flood['served_latency_us']['max'])}, p99 "
            f"{ms(flood['served_latency_us']['p99'])}", "0", f"{flood['overdue']}", report.reached(flood["overdue"] == 0), "")
        row("", f"the same where clients wait for {patient['patience_s']} s, of {patient['served']:,}; and connections whose first bytes were lost at a full queue of the kernel's", "",
            f"{patient['overdue']}; {patient['overflows']:,}", "", others_words(patient["others"]))
        row("", "CPU for each who is turned away, to that of a code", "≤ 0.35", f"{found['turned_away']:.3f}", report.reached(found["turned_away"] <= REFUSAL_MAX), "")
        row("", "generator busy, late at most", "", f"{flood['generator_busy']:.0%}, {ms(flood['generator_late_us'])}", "", "")
    if found := results.get("refusal"):
        every = [run["others"] for runs in found["runs"].values() for run in runs]
        new_ratio = found["refused_us"]["median"] / found["new_us"]["median"]
        row("refusal", f"who is turned away over a connection that stays open ({found['refused_us']['median']:.1f} µs) to a code over a new one ({found['new_us']['median']:.1f} µs)", "≤ 0.35",
            f"{new_ratio:.2f}", report.reached(new_ratio <= REFUSAL_MAX), others_words(*every))
        row("", f"to a code over one that stays open ({found['kept_us']['median']:.1f} µs)", "", report.ratio(found["ratio"]), "", "")
    if found := results.get("recovery"):
        rounds = found["rounds"]
        row("recovery", f"{found['quiet_per_s']:,.0f}/s, {found['rush_per_s']:,.0f}/s for {RUSH_S} s with {RELOADS} reloads at once, and back: p99 of those who come in a second as before "
            f"within {RECOVERY_S} s", f"{len(rounds)} of {len(rounds)}", f"{found['within']} of {len(rounds)}, the last after {found['longest_s']} s",
            report.reached(found["within"] == len(rounds)), others_words(*(one["others"] for one in rounds)))
        row("", f"the same but for one slice of the quota, {PERIOD_US / 1e3:.0f} ms, by which a p99 of so few may differ", "", f"{found['slice_within']} of {len(rounds)}, the last after "
            f"{found['slice_longest_s']} s", "", "")
        row("", "p99 of those who are done in a second, among them those of the rush who came again", "", f"{found['done_within']} of {len(rounds)}, the last after {found['done_longest_s']} s", "", "")
    if found := results.get("one-address"):
        harm = sum(one["begun"] for one in found["harm"].values())
        row("one-address", f"{found['arrived']:,} residents, {found['open_most']:,.0f} connections at most, {harm:,} that mean harm; p99 {ms(found['latency_us']['p99'])}", "≥ 99.9 %",
            f"{found['success']:.3%}", report.reached(found["success"] >= SUCCESS_MIN), others_words(found["others"]))
    if found := results.get("reload-storm"):
        every = [run["others"] for runs in found["runs"].values() for run in runs]
        row("reload-storm", f"one resident, {found['storm_per_s']['median']:,.0f}/s over {STORM_CONNECTIONS} connections, beside {found['honest_per_s']:,}/s of others: their goodput", "as without",
            report.ratio(found["goodput"]), report.reached(found["goodput"]["median"] >= STORM_GOODPUT_MIN), others_words(*every))
        row("", "their p99", "", f"{found['quiet_p99_us']['median']:,.0f} → {found['beside_p99_us']['median']:,.0f} µs", "", "")
        row("", f"signatures for that resident in {found['windows']} windows, alone at {found['alone_per_s']:,.0f}/s", f"≤ {found['windows']}", f"{found['alone_signed']:.0f}",
            report.reached(found["alone_signed"] <= found["windows"]), "")
    if found := results.get("pages"):
        budget = found["budget_bits_per_s"]
        row("pages", f"{found['offered_bits_per_s'] / 1e6:,.0f} Mbit/s of pages offered, budget {budget / 1e6:.0f}: the worst second on the line, headers included", f"≤ {1.05 * budget / 1e6:.0f} Mbit/s",
            f"{found['line_most'] / 1e6:.1f} Mbit/s", report.reached(found["line_most"] <= 1.05 * budget), others_words(found["others"]))
        row("", "the mean on the line; by the server's own count of payload: mean, worst second", "", f"{found['line_mean'] / 1e6:.1f}; {found['sent_mean'] / 1e6:.1f}, {found['sent_most'] / 1e6:.1f} Mbit/s", "", "")
        row("", f"refreshes beside them, {BESIDE_PER_S}/s", "≥ 99.9 %", f"{found['success']:.2%}", report.reached(found["success"] >= SUCCESS_MIN), "")
        row("", "their p99 to quiet", "≤ 5", f"{found['p99']:.2f} ({found['quiet']['latency_us']['p99']:,} → {found['beside']['latency_us']['p99']:,} µs)", report.reached(found["p99"] <= 5), "")
    head = ["case", "what", "aim", "found", "reached", "CPU that others took"]
    return "\n".join(["# When more come than can be served", "", *report.table(head, rows), "", *(f"- {note}" for note in notes)]) + "\n"


def options():
    parser = bench_main.Parser(prog="scripts/bench/overload.py", description="What the server does when more come than it can serve.", allow_abbrev=False)
    parser.add_argument("--only", default=",".join(CASES), help="some of the cases, by comma: " + ",".join(CASES) + " (all)")
    parser.add_argument("--seconds", type=bench_main.positive, default=60, help="length of a run (60)")
    parser.add_argument("--rounds", type=bench_main.positive, default=5, help="of those cases that have some; four times as many of recovery (5)")
    parser.add_argument("--add", action="store_true", help="add the rounds of recovery to those that are there, from slots that are shorter than all of them take")
    parser.add_argument("--residents", type=bench_main.positive, default=2_000_000, help="of the demo (2000000)")
    parser.add_argument("--out", default=os.path.join(ROOT, "benches", "results"), help="folder of the results (benches/results)")
    parser.add_argument("--port-base", type=bench_main.positive, default=18_500, help="the first of the ports used (18500)")
    chosen = parser.parse_args()
    chosen.only = chosen.only.split(",")
    for name in chosen.only:
        if name not in CASES:
            parser.error(f"--only: there is no case {name!r}")
    chosen.quick, chosen.pairs = False, 1
    return chosen


def measure(chosen, folder):
    bench_main.raise_files(FILES)
    os.makedirs(chosen.out, exist_ok=True)
    path = os.path.join(chosen.out, "overload.json")
    results = json.load(open(path, encoding="utf-8")) if os.path.exists(path) else {}
    overload = Overload(chosen, folder)
    for name in chosen.only:
        print(f"{name}:", flush=True)
        earlier, results[name] = results.get(name), CASES[name](overload)
        if chosen.add and name == "recovery" and earlier:
            results[name] = together([*earlier["rounds"], *results[name]["rounds"]], results[name])
        results[name]["machine"] = bench_main.machine(chosen)
    figures.write_json(path, results)
    with open(os.path.join(chosen.out, "overload.md"), "w", encoding="utf-8") as file:
        file.write(markdown(results))
    print("\n" + markdown(results))


if __name__ == "__main__":
    chosen = options()
    sys.exit(stage.perform("overload", lambda folder: measure(chosen, folder)))
