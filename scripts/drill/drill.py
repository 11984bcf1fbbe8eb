#!/usr/bin/env python3
"""One fault, for real, on a test instance: what keeps working, what is lost, for how long, against the promise. See scripts/drill.sh,
which looks for what is needed and builds the server."""

import collections
import json
import os
import re
import signal
import subprocess
import sys
import time

SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[1:1] = [os.path.join(SCRIPTS, "bench"), os.path.join(SCRIPTS, "replay")]

import crowds
import disks
import faults
import link
import main as bench_main
import networks
import processes
import servers
import stage
import stand as stands
import telling
import trust
from servers import ROOT, Failed

# What it does, what is wrong in a line, how many seconds it takes at most, what it needs of this host, and how large a disk of its own.
Drill = collections.namedtuple("Drill", "run fault seconds needs disk_mebibytes", defaults=[None])
# By the name of their section in the manual.
DRILLS = {
    "process-killed": Drill(processes.process_killed, "the process is killed, again and again", 15, ""),
    "shard-stuck": Drill(processes.shard_stuck, "one shard's thread stands still", 30, "root"),
    "network-down": Drill(networks.network_down, "the server's network interface goes down", 15, "root"),
    "firewall": Drill(networks.firewall, "a firewall drops everything", 15, "root nft"),
    "network-loss": Drill(networks.network_loss, "a network that loses packets and resets connections", 15, "root nft"),
    "disk-full": Drill(disks.disk_full, "the disk of the journal is full", 15, "root", 256),
    "journal-device": Drill(disks.journal_device, "the journal's device hangs, then fails", 15, "root", 256),
    "clock-off": Drill(trust.clock_off, "the server's clock is off by an hour, ahead and behind", 15, "clock"),
    "certificate-expired": Drill(trust.certificate_expired, "the certificate ends while the server runs", 15, "clock openssl"),
    "key-revoked": Drill(trust.key_revoked, "the key that signs is revoked", 15, ""),
    "restore": Drill(disks.restore, "the data folder is lost, keys and all", 15, ""),
    "ten-times-the-crowd": Drill(crowds.ten_times_the_crowd, "ten times as many come as can be served", 150, "root load"),
    "fifteen-hours": Drill(crowds.fifteen_hours, "the server is gone for fifteen hours", 120, "clock page"),
}
SHORT_S = 15
# For a host that is busy with something else: beyond it a drill is ended, and has failed.
MARGIN_S = 30
FILES_MIN = 4_096
LOAD = os.path.join(ROOT, "target", "bench", "release", "load")


def forbidden(name):
    """What this host does not allow, and no installation changes, or nothing."""
    needs = DRILLS[name].needs.split()
    if "root" in needs and os.geteuid() != 0:
        return "it needs root"
    # As root all of them have a network of their own.
    if os.geteuid() == 0 and (reason := link.refused()):
        return f"no network namespaces here: {reason}"
    return None


def missing(name):
    """What a drill lacks on this host, or nothing."""
    needs = DRILLS[name].needs.split()
    if reason := forbidden(name):
        return reason
    if "clock" in needs and not faults.Clock.library():
        return "it needs libfaketime (the package faketime)"
    if "load" in needs and not os.access(LOAD, os.X_OK):
        return "it needs the load generator (scripts/drill.sh builds it)"
    return crowds.missing_for_page() if "page" in needs else None


def check_manual(name):
    """The page that a drill points to is there; a tree without a manual has none to look in."""
    path = os.path.join(ROOT, telling.MANUAL)
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        if not re.search(rf"(?:[#\"'{{]|^#+ ){re.escape(name)}\b", file.read(), re.M):
            raise Failed(f"{telling.MANUAL} has no section {name}")


def perform(name, folder, out):
    """One drill from its start to its account, which goes to `out`. Returns the exit status."""
    drill, account, began = DRILLS[name], stands.Account(), time.monotonic()
    seconds = drill.seconds + MARGIN_S

    def too_long(*_):
        raise Failed(f"not done after {seconds} s")

    print(f"{name}: {drill.fault}\n  manual: {telling.MANUAL}#{name}", flush=True)
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    stand, failed = None, None
    try:
        check_manual(name)
        stand = stands.Stand(folder, drill.disk_mebibytes)
        drill.run(stand, account)
    except (Failed, subprocess.SubprocessError, OSError) as error:
        failed = str(error)
        if stand and stand.server:
            print(stand.said()[-2_000:], file=sys.stderr)
    finally:
        signal.alarm(0)
        if stand:
            stand.close()
    found = {"name": name, "fault": drill.fault, "made": account.fault, "followed": account.follow, "lost": account.lost, "without": account.without, "rows": account.rows, "notes": account.notes,
             "failed": failed, "held": account.held and not failed, "took_s": round(time.monotonic() - began, 1), "machine": telling.machine()}
    telling.write(out, name, [found], with_page=False)
    print(f"{name}: {telling.verdict(found)}, {found['took_s']} s", flush=True)
    return 0 if found["held"] else 1


def perform_each(names, out):
    """Each in a process of its own, since each has namespaces of its own. Returns the exit status; the page has all of them."""
    found = []
    for name in names:
        began, reason = time.monotonic(), missing(name)
        path = os.path.join(stage_folder(), f"{name}.json")
        if not reason:
            process = servers.start([sys.executable, os.path.abspath(__file__), name, "--out", stage_folder()])
            try:
                # It ends itself before that.
                process.wait(DRILLS[name].seconds + 3 * MARGIN_S)
            finally:
                servers.stop(process, 20)
        if not reason and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found += json.load(file)
        else:
            reason = reason or "it ended without an account"
            print(f"{name}: NOT DONE: {reason}", flush=True)
            found.append({"name": name, "fault": DRILLS[name].fault, "made": "", "followed": [], "lost": "", "without": "", "rows": [], "notes": [], "failed": f"not done: {reason}", "held": False,
                          "took_s": round(time.monotonic() - began, 1), "machine": telling.machine()})
    telling.write(out, "drills", found, with_page=True)
    held = [one for one in found if one["held"]]
    print(f"\n{len(held)} of {len(found)} promises held: {os.path.relpath(os.path.join(out, 'drills.html'), ROOT)}")
    return 0 if len(held) == len(found) else 1


def stage_folder():
    return servers.LOGS.folder


def options():
    parser = bench_main.Parser(prog="scripts/drill.sh", description="Makes one fault for real on a test instance of its own, follows the manual, and tells what was lost and for how "
                               "long, against the promise. Exit status 0 only if it held.", allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of --list")
    parser.add_argument("--list", action="store_true", help="name the drills, and which of them this host does not allow")
    parser.add_argument("--all", action="store_true", help="all of them, and one page of their accounts: 5 minutes once built")
    parser.add_argument("--short", action="store_true", help=f"those that take at most {SHORT_S} s and that this host can make; the others are named")
    parser.add_argument("--out", help="folder of the accounts (target/drills; benches/results with --all)")
    parser.add_argument("--no-install", action="store_true", help="install nothing: name what is missing and exit 1")
    parser.add_argument("--check", action="store_true", help="look at the options, and end")
    chosen = parser.parse_args()
    if chosen.list + chosen.all + chosen.short + bool(chosen.names) != 1:
        parser.error("one of NAME, --list, --all and --short")
    for name in chosen.names:
        if name not in DRILLS:
            parser.error(f"there is no drill {name!r}")
    chosen.out = os.path.abspath(chosen.out or os.path.join(ROOT, *(("benches", "results") if chosen.all else ("target", "drills"))))
    return chosen


def tell_list():
    for name, drill in DRILLS.items():
        reason = forbidden(name)
        print(f"{name:20} {drill.fault}; {drill.seconds} s at most" + (f"; not here: {reason}" if reason else ""))


def work(chosen, folder):
    bench_main.raise_files(FILES_MIN)
    os.makedirs(chosen.out, exist_ok=True)
    if len(chosen.names) == 1:
        if reason := missing(chosen.names[0]):
            raise Failed(f"{chosen.names[0]}: {reason}")
        return perform(chosen.names[0], folder, chosen.out)
    if chosen.short:
        short = [name for name in DRILLS if DRILLS[name].seconds <= SHORT_S]
        for name in short:
            if reason := missing(name):
                print(f"LEFT OUT: {name}: {reason}", flush=True)
        return perform_each([name for name in short if not missing(name)], chosen.out)
    return perform_each(chosen.names or list(DRILLS), chosen.out)


if __name__ == "__main__":
    asked = options()
    if asked.list:
        tell_list()
    elif not asked.check:
        sys.exit(stage.perform("drill", lambda folder: work(asked, folder)))
