"""Drills of the day itself: ten times the crowd, and a server that is gone for fifteen hours."""

import datetime
import json
import os
import select
import shutil
import subprocess
import sys
import time

import clients
import faults
import overload
import servers
from processes import tell_ledger
from stand import AFTER_S
from servers import ROOT, Failed

# Long enough for its queues to stand and fall, and short beside what scripts/bench/overload.py measures with.
STEP_S, STEP_RESIDENTS, STEP_S_MAX = 20, 600_000, 140
GONE_S = 15 * 3_600
# A page that has waited longest asks again within this (web/src/citizen.ts); its code lives so long, and a door gives it so much more.
PAGE_BACK_S_MAX, LIFE_S, LEEWAY_S = 62, 120, 60
# It waits for 1 s and up to 60 s more, at random.
COUNTED_S, ASKED_PER_MINUTE_MAX = 1_800, 2.5
NODE_MAJOR = 20


def ten_times_the_crowd(stand, account):
    out = os.path.join(stand.folder, "overload")
    command = [sys.executable, os.path.join(ROOT, "scripts", "bench", "overload.py"), "--only", "step", "--seconds", str(STEP_S), "--rounds", "1",
               "--residents", str(STEP_RESIDENTS), "--out", out]
    status, said, err = servers.run(command, STEP_S_MAX)
    if status:
        raise Failed(f"overload.py: {err.strip()}")
    with open(os.path.join(out, "overload.json"), encoding="utf-8") as file:
        found = json.load(file)["step"]
    flood, patient, before, after = found["flood"], found["patient"], found["capacity"], found["capacity_after"]
    account.made(f"{flood['offered_per_s']:,.0f} people a second, all at once, for {STEP_S} s, to a server that can serve {before['per_s']:,.0f} (one shard with {found['limited']}); "
                 f"then once more, by people who wait for {patient['patience_s']} s")
    account.followed("nothing: the server refuses what it cannot serve, by itself")
    account.lost, account.without = "nothing is written here", f"who was turned away: {(flood['arrived'] - flood['served']) / flood['arrived']:.0%}; the others are served in time"
    account.row("the fault was there: asked of what can be served", f"{overload.TIMES - 2} × or more", f"{flood['offered_per_s'] / before['per_s']:.1f} ×",
                flood["offered_per_s"] >= (overload.TIMES - 2) * before["per_s"])
    account.share("served a second meanwhile, of what can be served", overload.GOODPUT_MIN, found["goodput"])
    account.none("answers past their deadline of a second", flood["overdue"], flood["served"])
    # How many a second are not to be compared: before, some had a code that the cache had.
    account.row(f"p99 afterwards, with as many at once as before ({overload.CLOSED_CONNECTIONS})", f"≤ {overload.RECOVERY_FACTOR} × {before['p99_us'] / 1e3:.0f} ms", f"{after['p99_us'] / 1e3:.0f} ms",
                after["p99_us"] <= overload.RECOVERY_FACTOR * before["p99_us"])
    account.note(f"served in each second: {', '.join(str(one) for one in flood['served_per_s'])}; p99 of them {flood['served_latency_us']['p99'] / 1e3:.0f} ms; "
                 f"turned away {flood['arrived'] - flood['served']:,} of {flood['arrived']:,}, each for {found['turned_away']:.2f} of a code's CPU")
    account.note("; ".join(f"{when} {each['per_s']:,.0f}/s, of which {each['signed_share']:.0%} were signed anew, {each['cpu_us']:.0f} µs of CPU each" for each, when in ((before, "before"), (after, "afterwards"))))
    others = max(flood["others"], before["others"], after["others"])
    account.note(f"other programs took {others:.0%} of a CPU at most" + (": DISTURBED, the figures are of that, too" if others > overload.OTHERS_MAX else "")
                 + "; benches/results/overload.md has the long runs")


class Phone:
    """A browser with the page open, told what to do line by line (page.mjs)."""

    def __init__(self, stand):
        self.folder = stand.folder
        command = ["node", os.path.join(ROOT, "scripts", "drill", "page.mjs"), f"http://127.0.0.1:{stand.port}/", stand.sessions[0]]
        self.log = open(os.path.join(stand.folder, "page.log"), "w+", encoding="utf-8")
        environment = {**os.environ, "TMPDIR": stand.folder, "HOME": stand.folder}
        self.process = servers.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment)

    def tell(self, line, patience_s=60):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], patience_s)[0]:
            raise Failed(f"the page: no answer to {line!r} after {patience_s} s")
        answer = self.process.stdout.readline()
        if not answer:
            self.log.seek(0)
            raise Failed(f"the page: {self.log.read().strip()[-500:]}")
        return json.loads(answer)

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        servers.stop(self.process)


def rfc3339(unix_s):
    return datetime.datetime.fromtimestamp(unix_s, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def fifteen_hours(stand, account):
    clock = faults.Clock(stand.folder)
    stand.make(clock.environment())
    phones, doors, operators = stand.people()
    phone = Phone(stand)
    first = phone.tell("show")
    account.row("the page shows a code", "test", str(first["look"]), first["look"] == "test")
    time.sleep(1)
    shown = dict(list(phones.shown.items())[:200])
    stand.stop_callers()
    stand.kill()
    gone = time.time()
    account.made("kill -9, and no server for fifteen hours: the clocks of the page and of the server were put forward, nobody waited. The page is the real one in "
                 "Chromium, whose timers ran minute by minute and whose calls found a port where nobody listens")
    early = phone.tell("forward 60 5")
    late = phone.tell(f"until expired {LIFE_S + 60} 5")
    # A finger on the screen: the page comes from the phone itself.
    again = phone.tell("reload")
    # In small steps for a while, in which nothing is passed over: how often it asks.
    counted = phone.tell(f"forward {COUNTED_S} 4")
    per_minute = (counted["asked"] - again["asked"]) * 60 / (counted["at"] - again["at"])
    long_after = phone.tell(f"forward {GONE_S - (counted['at'] - first['at']):.0f} 60", 100)
    codes = [code["code"] for code in shown.values()]
    ends = [code["exp"] for code in shown.values()]
    account.without = "everybody once their code had ended, until the server was back"
    account.row("after a minute", "the code is still shown", str(early["look"]), early["look"] == "test")
    account.row("at the end of its life", "it is marked as expired", f"{late['look']} after {late['at'] - first['at']:.0f} s", late["look"] == "expired")
    account.row("reloaded while the server is gone", "the page is there and says what is wrong", f"{again['look'] or 'no code'}, “{again['words'][:80]}”", again["message"] == "network")
    account.row("after fifteen hours", "never a code as if it were good", f"{long_after['look'] or 'no code'}, “{long_after['words'][:80]}”", long_after["look"] in (None, "expired") and long_after["message"])
    account.row(f"how often one page asks meanwhile, counted for {COUNTED_S / 60:.0f} minutes", f"≤ {ASKED_PER_MINUTE_MAX} a minute", f"{per_minute:.2f} a minute", per_minute <= ASKED_PER_MINUTE_MAX)
    for word, at, expected in (("a second after they were gone", gone + 1, {"valid"}), ("as their life ends", max(ends) + LEEWAY_S + 1, {"expired"}), ("after fifteen hours", gone + GONE_S, {"expired"})):
        results = stand.verify(codes, at=rfc3339(at))
        account.row(f"`onecode verify` with the keys published before, {word}", " or ".join(expected), f"{len(results)} codes: {', '.join(sorted(set(results)))}", set(results) == expected)
    clock.set(int(long_after["at"] - time.time()))
    began = time.monotonic()
    stand.start()
    took_s = time.monotonic() - began
    account.followed("the server started again over the same data folder; nothing on the phones")
    back = phone.tell(f"until test {PAGE_BACK_S_MAX + 60} 2")
    account.most_s("of the page's time, from the server's return until the page shows a good code by itself", PAGE_BACK_S_MAX, back["gone"] if back["look"] == "test" else float("inf"))
    account.none("errors of the page, all the time", len(back["errors"]))
    phone.stop()
    stand.callers.clear()
    returned = clients.Residents(stand, per_s=200)
    time.sleep(AFTER_S)
    served, over = time.monotonic() - AFTER_S, stand.stop_callers()
    account.share("sessions that are good after fifteen hours", 1, returned.share(served, over), returned.words(served, over))
    results = stand.verify([code["code"] for code in returned.shown.values()], clock)
    account.none("new codes that a door refuses which has only the keys from before", sum(result != "valid" for result in results), len(results))
    tell_ledger(stand, account, operators, [doors])
    account.note(f"the server's own start took {took_s:.2f} s (of a city: benches/results/registry.md). Once back, all pages come within {PAGE_BACK_S_MAX} s, spread at random over it")


def missing_for_page():
    """What this host lacks for a browser with the page, or nothing."""
    if not shutil.which("node"):
        return "it needs Node.js"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < NODE_MAJOR:
        return f"it needs Node.js {NODE_MAJOR} or later, here is {version}"
    if not os.path.exists(os.path.join(ROOT, "tests", "browser", "node_modules", "playwright-core")):
        return "it needs tests/browser/node_modules (npm ci in tests/browser)"
    return None
