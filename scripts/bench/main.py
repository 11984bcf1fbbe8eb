"""The bench from its start to its report; called by scripts/bench.sh, which builds everything first."""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

import cases
import figures
import instructions
import report
import servers
from servers import ROOT, Failed

CASES = ["noise", "warm", "cold", "churn", "static", "latency", "ahead", "parts", "instructions"]
FILES_MIN = 12_000


def options():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description="Measures onecode beside the floor and its "
                                     "peers, or a server elsewhere.")
    parser.add_argument("--quick", action="store_true", help="3 minutes at most: shows that all works, proves nothing")
    parser.add_argument("--pairs", type=int, help="rounds of each case (10; 2 with --quick)")
    parser.add_argument("--seconds", type=int, help="length of a run (5; 1 with --quick)")
    parser.add_argument("--residents", type=int, help="of the demo in the cold case (2000000; 300000 with --quick)")
    parser.add_argument("--only", help="some of the cases, by comma: " + ",".join(CASES))
    parser.add_argument("--page", help="path of the static case (a page of 14 kB made for it, else /)")
    parser.add_argument("--out", help="folder of the results (benches/results; target/bench/quick with --quick)")
    parser.add_argument("--port-base", type=int, default=18_100, help="the first of the ports used (18100)")
    parser.add_argument("--target", help="measure this server instead, such as http://10.0.0.1:8080")
    parser.add_argument("--admin", help="its admin address, from which its CPU is read")
    parser.add_argument("--sessions", help="its sessions.txt, copied here")
    chosen = parser.parse_args()
    quick = chosen.quick
    chosen.pairs = chosen.pairs or (2 if quick else 10)
    chosen.seconds = chosen.seconds or (1 if quick else 5)
    chosen.residents = chosen.residents or (300_000 if quick else 2_000_000)
    chosen.latency_seconds, chosen.latency_rounds = (2, 1) if quick else (8, 3)
    chosen.out = chosen.out or os.path.join(ROOT, "target/bench/quick" if quick else "benches/results")
    chosen.only = chosen.only.split(",") if chosen.only else CASES
    unknown = set(chosen.only) - set(CASES)
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}")
    if bool(chosen.target) != bool(chosen.admin) or (chosen.target and not chosen.sessions):
        parser.error("--target, --admin and --sessions belong together")
    return chosen


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


def check_host(chosen):
    if not {0, 1} <= os.sched_getaffinity(0):
        raise Failed("CPUs 0 and 1 are needed: one for the servers, one for the load")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < FILES_MIN:
        raise Failed(f"{FILES_MIN} open files are needed for 10,000 connections; here are {hard} (ulimit -Hn)")
    for port in range(chosen.port_base, chosen.port_base + 60):
        servers.check_free(port)


def measure(bench, chosen, results):
    """All cases, one after the other. One that fails is named in the notes and keeps no other from its turn."""

    def ahead():
        if "cold" in results:
            maximum = results["cold"]["servers"]["onecode"]["per_s"]["median"]
        else:
            maximum = 60_000
            results["notes"].append("the case cold was left out, so the rate of those who return is a share of 60,000/s")
        results["ahead"] = cases.ahead(bench, maximum)

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
        "ahead": ahead,
        "parts": lambda: results.update(parts=cases.parts(bench, instructions.build())),
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


def measure_target(bench, chosen):
    """A server elsewhere: its own account of CPU and requests, and what wrk sees from here."""
    target, results = chosen.target.rstrip("/"), {}
    host = urllib.parse.urlsplit(target).hostname
    print(f"measuring {host}; the load comes from here, and is not pinned")
    walk = cases.Walk(os.path.getsize(chosen.sessions) // 49)
    for name in [case for case in ("warm", "cold", "churn", "static") if case in chosen.only]:
        runs = []
        for _ in range(chosen.pairs):
            arguments = {"cold": [chosen.sessions, 0], "static": ["gzip"]}.get(name, [chosen.sessions])
            if name == "cold":
                arguments[1] = walk.begin(60_000 * chosen.seconds)
            elif name != "static":
                cases.wait_for_window(chosen.seconds + 1)
                bench.prefetch(target, chosen.sessions, pin=False)
            counts = ["process_cpu_seconds_total", "onecode_requests_total", "onecode_signatures_total",
                      "onecode_ahead_signatures_total"]
            before = [servers.metric(chosen.admin, count) for count in counts]
            run = bench.wrk(target + ((chosen.page or "/") if name == "static" else ""), name, arguments, pin=False)
            cpu_s, requests, signatures, ahead = (servers.metric(chosen.admin, count) - old
                                                  for count, old in zip(counts, before))
            if name == "cold":
                walk.end(run["requests"])
            run.update(cpu_us=cpu_s * 1e6 / max(requests, 1), server_requests=requests, signatures=signatures)
            if run["failed"] or (name == "cold" and (signatures < run["requests"] or ahead)):
                run["void"] = (f"{run['failed']} failed, {signatures:.0f} signatures, {ahead:.0f} of them ahead (cold is measured "
                               "with code.signed_ahead = 0 and more residents than are asked in a window)")
            runs.append(run)
        good = [run for run in runs if "void" not in run]
        results[name] = {"runs": runs, "void": len(runs) - len(good)}
        if good:
            results[name].update(cpu_us=figures.summary([run["cpu_us"] for run in good]),
                                 per_s=figures.summary([run["per_s"] for run in good]))
            print(f"{name:7} {report.us(results[name]['cpu_us'])} CPU/request, "
                  f"{results[name]['per_s']['median']:,.0f}/s, {results[name]['void']} void")
        else:
            print(f"{name:7} no valid run: {runs[-1]['void']}")
    path = os.path.join(ROOT, "target/bench/target.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    print(f"results: {os.path.relpath(path, os.getcwd())}")


def main():
    chosen = options()
    # Ctrl-C and a kill end it as any error does: everything that was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = tempfile.mkdtemp(prefix="onecode-bench-")
    # nginx's worker runs as another user and must find its files; what is secret in here has modes of its own.
    os.chmod(folder, 0o711)
    servers.LOGS.folder = folder
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    bench = cases.Bench(chosen, folder, target, os.path.join(ROOT, "target", "bench"))
    results = {"machine": machine(chosen), "notes": bench.notes}
    began = time.monotonic()
    try:
        if chosen.target:
            measure_target(bench, chosen)
            return 0
        check_host(chosen)
        failed = measure(bench, chosen, results)
        check_steal(results)
        write(results, chosen.out)
        print(f"took {time.monotonic() - began:.0f} s")
        return 1 if failed else 0
    except Failed as error:
        print(f"onecode: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("onecode: interrupted, nothing is written", file=sys.stderr)
        return 130
    finally:
        servers.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
