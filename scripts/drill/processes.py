"""Drills of the process itself: killed, and with a shard that stands."""

import time

import clients
import faults
import stand as stands
from stand import AFTER_S, RESTART_S

# Promised. With one of two shards left, half of the new connections are served, by chance some fewer.
RESTART_S_MAX, OTHERS_SHARE_MIN = 5, 0.40
KILLS = 3
SELF_ENDED_S_MAX = 13


def process_killed(stand, account):
    stand.make()
    phones, doors, operators = stand.people()
    began, ends = time.monotonic(), []
    for _ in range(KILLS):
        time.sleep(0.7)
        killed = time.monotonic()
        stand.kill()
        time.sleep(RESTART_S)
        stand.start()
        ends.append((killed, time.monotonic()))
    account.made(f"kill -9 {KILLS} times while {phones.per_s} refreshes, {doors.per_s} scans and {operators.per_s} statuses a second came; process ids "
                 f"gone each time")
    account.followed(f"started again after {RESTART_S} s, as systemd does; nothing else")
    time.sleep(AFTER_S)
    shown = [code["code"] for code in phones.shown.values()]
    offline = stand.verify(shown)
    over = stand.stop_callers()
    account.without = f"everybody for {phones.gap_s(began, over):.1f} s each time"
    account.most_s("longest time without a code, of all residents, at any kill", RESTART_S_MAX, phones.gap_s(began, over))
    account.most_s("longest time without a verdict at the doors", RESTART_S_MAX, doors.gap_s(began, over))
    account.most_s("longest time without a status taken", RESTART_S_MAX, operators.gap_s(began, over))
    tell_ledger(stand, account, operators, [doors])
    account.none("codes that differ from what the process before made in the same window", phones.differing, len(phones.made))
    account.none("codes on phones that a door without a network does not take", sum(result != "valid" for result in offline), len(offline))
    account.note(f"not served meanwhile: residents {phones.words(began, over)}; doors {doors.words(began, over)}; operators {operators.words(began, over)}; "
                 f"started again {', '.join(f'{end - kill:.2f} s' for kill, end in ends)} after each kill"
                 + (f"; {stand.refused_starts} of the starts found a port still held and were made again" if stand.refused_starts else ""))


def tell_ledger(stand, account, operators, scans):
    """The journal beside what was acknowledged, read while the server runs."""
    statuses, missing, doubled = stand.lost(operators, scans)
    account.lost = "nothing" if not statuses + missing else f"{statuses + missing:,} records"
    account.none("acknowledged statuses that are lost", statuses, len(operators.acknowledged))
    account.none("recorded scans that are lost", missing, sum(len(each.recorded) for each in scans))
    account.none("scans that are there twice", doubled)
    account.none("residents shown in an older state than was acknowledged", stand.not_shown(operators), clients.WRITTEN)


def shard_stuck(stand, account):
    stand.make()
    phones, doors, operators = stand.people(threads=64, per_s=80, patience_s=1.0)
    doors.patience_s = operators.patience_s = 1.0
    time.sleep(0.5)
    thread = faults.StandingThread(stand.server.process.pid, "shard-0")
    stand.undone.append(thread.let_go)
    stuck = time.monotonic()
    time.sleep(0.5)
    state, ready = thread.state(), stand.ready()
    account.made(f"thread shard-0 of {stands.SHARDS} held by ptrace(2): the kernel says \"{state}\"; all other threads went on")
    # The server ends by itself: an orderly end is not to be had from a thread that stands.
    thread.bury()
    status = stand.server.process.wait()
    held = time.monotonic()
    time.sleep(RESTART_S)
    stand.start()
    account.followed(f"nothing: the server ended itself with {status}, and was started again after {RESTART_S} s, as systemd does")
    time.sleep(AFTER_S)
    over = stand.stop_callers()
    account.without = f"half of all new connections for {held - stuck:.0f} s, then everybody for {phones.gap_s(stuck, over):.1f} s"
    account.most_s("time until the server ended itself, with status 70", SELF_ENDED_S_MAX if status == 70 else 0, held - stuck)
    account.share("new connections of residents that were served by the other shard meanwhile", OTHERS_SHARE_MIN, phones.share(stuck, held - 1.0),
                  phones.words(stuck, held - 1.0))
    account.most_s("longest time in which no resident at all had a code, the restart included", RESTART_S_MAX, phones.gap_s(stuck, over))
    account.most_s("p99 of those who were served meanwhile", 0.5, phones.p99_s(stuck, held))
    account.share("residents served once it was started again", 1, phones.share(over - 1, over - 0.1), phones.words(over - 1, over - 0.1))
    tell_ledger(stand, account, operators, [doors])
    account.note(f"/readyz said {ready[0]} after 0.5 s; health checks on the public listener get no answer for the same share of connections")
    account.note(f"operators meanwhile: {operators.words(stuck, held)}; doors: {doors.words(stuck, held)}")
