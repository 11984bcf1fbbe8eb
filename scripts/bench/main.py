"""The bench from its start to its report; called by scripts/bench.sh, which builds everything first."""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time

import ahead
import cases
import elsewhere
import instructions
import report
import servers
import stage
import tls
from servers import ROOT, Failed

CASES = ["noise", "warm", "cold", "churn", "static", "latency", "ahead", "tls", "parts", "instructions"]
FILES_MIN = 12_000
PORTS = 60
PORT_BASE_MAX = 65_536 - PORTS


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """Wrong usage in one line."""
        self.exit(2, f"onecode: {self.prog}: {message} (--help has all)\n")


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return int(text)


def options():
    parser = Parser(prog="scripts/bench.sh", description="Measures onecode beside the floor and its peers, or a server "
                    "elsewhere.", allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="3 minutes at most: shows that all works, proves nothing")
    parser.add_argument("--no-install", action="store_true", help="install nothing: name what is missing and exit 1")
    parser.add_argument("--pairs", type=positive, help="rounds of each case (10; 2 with --quick)")
    parser.add_argument("--seconds", type=positive, help="length of a run (5; 1 with --quick)")
    parser.add_argument("--residents", type=positive, help="of the demo in the cold case (2000000; 300000 with --quick)")
    parser.add_argument("--only", help="some of the cases, by comma: " + ",".join(CASES) + "; of a server elsewhere: " +
                        ",".join(elsewhere.CASES))
    parser.add_argument("--page", help="path of the static case (a page of 14 kB made for it, else /)")
    parser.add_argument("--out", help="folder of the results (benches/results; target/bench/quick with --quick; target/bench "
                        "with --target)")
    parser.add_argument("--port-base", type=positive, default=18_100, help="the first of the ports used (18100)")
    parser.add_argument("--target", help="measure this server instead, such as http://10.0.0.1:8080")
    parser.add_argument("--admin", help="its admin address, from which its CPU is read, such as http://10.0.0.1:8081")
    parser.add_argument("--token-file", help="a file whose first line is a token with the scope read, sent to --admin alone")
    parser.add_argument("--sessions", help="its sessions.txt, copied here")
    parser.add_argument("--check", action="store_true", help="look at the options, and at the server elsewhere, and end")
    chosen = parser.parse_args()
    quick = chosen.quick
    chosen.pairs = chosen.pairs or (2 if quick else 10)
    chosen.seconds = chosen.seconds or (1 if quick else 5)
    chosen.residents = chosen.residents or (300_000 if quick else 2_000_000)
    chosen.latency_seconds, chosen.latency_rounds = (2, 1) if quick else (8, 3)
    usual = "target/bench" if chosen.target else "target/bench/quick" if quick else "benches/results"
    chosen.out = chosen.out or os.path.join(ROOT, usual)
    if chosen.port_base > PORT_BASE_MAX:
        parser.error(f"--port-base is at most {PORT_BASE_MAX}")
    check_target(parser, chosen)
    known = elsewhere.CASES if chosen.target else CASES
    chosen.only = known if chosen.only is None else chosen.only.split(",")
    for name in chosen.only:
        if name not in CASES:
            parser.error(f"--only: there is no case {name!r}")
        if name not in known:
            parser.error(f"--only: the case {name} is not for a server elsewhere ({', '.join(known)} are)")
    # What is started is started from the root of the tree.
    chosen.sessions = chosen.sessions and os.path.abspath(chosen.sessions)
    return chosen


def check_target(parser, chosen):
    """The options of a server elsewhere need each other."""
    named = {"--target": chosen.target, "--admin": chosen.admin, "--sessions": chosen.sessions}
    missing = [name for name, value in named.items() if not value]
    given = [name for name, value in {**named, "--token-file": chosen.token_file}.items() if value is not None]
    if given and missing:
        parser.error(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing, which {given[0]} needs")
    for name in ("--target", "--admin"):
        if named[name] and (wrong := elsewhere.wrong_origin(named[name])):
            parser.error(f"{name} {named[name]}: {wrong}")


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def said(*command):
    try:
        found = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10)
        return found.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def machine(chosen):
    cpu = re.search(r"^model name\s*: (.*)$", read("/proc/cpuinfo"), re.M)
    vulnerabilities = "/sys/devices/system/cpu/vulnerabilities"
    names = sorted(os.listdir(vulnerabilities)) if os.path.isdir(vulnerabilities) else []
    changed = " and changes" if said("git", "status", "--porcelain", "src", "Cargo.toml", "web") else ""
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "mtu": read("/sys/class/net/lo/mtu"),
        "congestion": read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "vulnerabilities": {name: read(os.path.join(vulnerabilities, name)) for name in names},
        "commit": said("git", "rev-parse", "--short", "HEAD") + changed,
        "rustc": " ".join(said("rustc", "--version").split()[:2]),
        "nginx": said("nginx", "-v").replace("nginx version: ", ""),
        "wrk": " ".join(said("wrk", "-v").split()[:2]),
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "pairs": chosen.pairs,
        "seconds": chosen.seconds,
        "quick": chosen.quick,
    }


def raise_files(least=FILES_MIN):
    """Two CPUs and as many open files as connections are held."""
    if not {0, 1} <= os.sched_getaffinity(0):
        raise Failed("CPUs 0 and 1 are needed: one for the servers, one for the load")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < least:
        raise Failed(f"{least} open files are needed for so many connections; here are {hard} (ulimit -Hn)")


def check_host(chosen):
    raise_files()
    for port in range(chosen.port_base, chosen.port_base + PORTS):
        servers.check_free(port)


def measure(bench, chosen, results):
    """All cases, one after the other. One that fails is named in the notes and keeps no other from its turn."""

    def latency():
        if "warm" in results:
            maximum = results["warm"]["servers"]["onecode"]["per_s"]["median"]
        else:
            maximum = 40_000
            results["notes"].append("the case warm was left out, so rates are shares of 40,000/s")
        results["latency"], results["memory"] = cases.latency(bench, maximum)

    steps = {
        "noise": lambda: results.update(noise=cases.noise(bench)),
        "warm": lambda: results.update(warm=cases.warm(bench)),
        "cold": lambda: results.update(cold=cases.cold(bench)),
        "churn": lambda: results.update(churn=cases.churn(bench)),
        "static": lambda: results.update(static=cases.static(bench)),
        "latency": latency,
        "ahead": lambda: results.update(ahead=ahead.measure(bench)),
        "tls": lambda: results.update(tls=tls.measure(bench)),
        "parts": lambda: results.update(parts=cases.parts(bench, instructions.build(), instructions.build("qr"))),
        "instructions": lambda: results.update(instructions=instructions.count(instructions.build())),
    }
    failed = []
    for name in [name for name in CASES if name in chosen.only]:
        bench.say(f"{name}:")
        try:
            steps[name]()
        except (Failed, OSError) as error:
            print(f"onecode: {name}: {error}", file=sys.stderr)
            results["notes"].append(f"{name} failed: {error}")
            failed.append(name)
            servers.stop_all()
    return failed


def check_steal(results):
    marked = sum(server["marked_runs"] for case in ("noise", "warm", "cold", "churn", "static")
                 for server in results.get(case, {}).get("servers", {}).values())
    if marked:
        results["notes"].append(f"{marked} runs had over 1 % of the machine's time stolen by its host; they are counted")


def write(results, folder):
    os.makedirs(folder, exist_ok=True)
    files = {"bench.json": json.dumps(results, indent=1) + "\n", "bench.md": report.markdown(results)}
    if any(case in results for case in report.RATIO_CASES):
        files["cpu-per-request.svg"], files["ratios.svg"] = report.bars(results), report.ratios(results)
    if results.get("latency"):
        files["latency.svg"] = report.latencies(results["latency"])
    for name, content in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(content)
    print("\n" + "\n".join(report.table(["case", "target", "found", "reached"], report.target_rows(results))))
    print(f"\nresults: {os.path.relpath(folder, os.getcwd())}")


def check(chosen):
    """Before anything is built: what can be known to be wrong."""
    try:
        try:
            os.makedirs(chosen.out, exist_ok=True)
        except OSError as error:
            raise Failed(f"--out {chosen.out}: {error.strerror}") from None
        if not os.access(chosen.out, os.W_OK):
            raise Failed(f"--out {chosen.out}: cannot be written to")
        if chosen.target:
            elsewhere.Elsewhere(chosen)
    except Failed as error:
        print(f"onecode: {error}", file=sys.stderr)
        return 1
    return 0


def perform(chosen, folder):
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    bench = cases.Bench(chosen, folder, target, os.path.join(ROOT, "target", "bench"))
    results = {"machine": machine(chosen), "notes": bench.notes}
    began = time.monotonic()
    if chosen.target:
        return 1 if elsewhere.measure(bench) else 0
    check_host(chosen)
    failed = measure(bench, chosen, results)
    check_steal(results)
    write(results, chosen.out)
    print(f"took {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    asked = options()
    sys.exit(check(asked) if asked.check else stage.perform("bench", lambda folder: perform(asked, folder)))
