#!/usr/bin/env python3
"""The registry at its sizes: memory a resident, time to the first refresh after a start, time and instructions of a lookup.

    scripts/bench/registry.py                        all of it: 20 minutes, 8 GB of memory, 3 GB in target/bench/registry
    scripts/bench/registry.py --only lookups         of make, starts, lookups, instructions; the rest is left as it was

Writes benches/results/registry.json and registry.md. A start is timed from before the process is made until a refresh is
answered with 200. Warm means that the snapshot is in the page cache; cold that the kernel was told to drop its caches
(as root; otherwise those of the snapshot and the executable only).
"""

import argparse
import json
import os
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RESULTS = os.path.join(ROOT, "benches", "results", "registry.json")
DATA = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "bench", "registry")
BINARY = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release", "onecode")
LOOKUP_SIZES = [100_000, 1_000_000, 10_000_000, 40_000_000]
START_SIZES = [100_000, 1_000_000, 10_000_000, 40_000_000]
AIMS_MS = {"10000000": 1_000, "40000000": 4_000}
PARTS = ["make", "starts", "lookups", "instructions"]
WARM_RUNS, COLD_RUNS = 5, 3
START_S_MAX = 120


def output_of(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def build():
    """Builds both and returns the path of the bench."""
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--bin", "onecode"], cwd=ROOT, check=True)
    command = ["cargo", "bench", "--locked", "--quiet", "--bench", "registry", "--no-run", "--message-format=json"]
    for line in output_of(*command).splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "registry":
            if message.get("executable"):
                return message["executable"]
    raise SystemExit("onecode: cargo named no executable for the bench registry")


def folder_of(residents):
    return os.path.join(DATA, str(residents))


def make(bench):
    os.makedirs(DATA, exist_ok=True)
    for residents in START_SIZES:
        sessions = folder_of(residents) + ".sessions"
        if not os.path.exists(sessions):
            text = output_of(bench, "--make", folder_of(residents), "--residents", str(residents))
            with open(sessions, "w", encoding="utf-8") as file:
                file.write(text)
            print(f"made {residents:,} residents", flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port, session):
    """Whether a refresh is answered with 200; None while nobody listens."""
    request = (f"GET /person/app/refreshQRCode HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {session}\r\n"
               "Connection: close\r\n\r\n")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=START_S_MAX) as connection:
            connection.sendall(request.encode())
            return connection.recv(4_096).startswith(b"HTTP/1.1 200")
    except ConnectionRefusedError:
        return None


def memory_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(re.search(r"^VmRSS:\s+(\d+) kB$", file.read(), re.M)[1]) * 1_024


def start(residents):
    """One start: time to the first refresh, memory after it, and what the process says of its registry."""
    with open(folder_of(residents) + ".sessions", encoding="utf-8") as file:
        session = file.read().split()[-1]
    port, admin = free_port(), free_port()
    command = [BINARY, "serve", "--data", folder_of(residents), "--listen", f"127.0.0.1:{port}", "--admin",
               f"127.0.0.1:{admin}"]
    began = time.monotonic()
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while (answered := ask(port, session)) is None:
            if server.poll() is not None or time.monotonic() - began > START_S_MAX:
                raise SystemExit("onecode: the server did not come up: " + server.stderr.read())
            time.sleep(0.001)
        took_ms = (time.monotonic() - began) * 1_000
        if not answered:
            raise SystemExit("onecode: the first refresh was refused")
        memory = memory_bytes(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        said = server.communicate()[1]
    line = re.search(r"registry: .*", said)
    return took_ms, memory, line[0] if line else ""


def drop_caches(residents):
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("3")
        return "all caches dropped"
    except OSError:
        for path in [os.path.join(folder_of(residents), "registry.snapshot"), BINARY]:
            subprocess.run(["dd", f"if={path}", "of=/dev/null", "iflag=nocache", "count=0", "status=none"], check=True)
        return "snapshot and executable dropped"


def starts():
    found = {}
    for residents in START_SIZES:
        with open(os.path.join(folder_of(residents), "registry.snapshot"), "rb") as file:
            while file.read(1 << 24):
                pass
        warm = [start(residents) for _ in range(WARM_RUNS)]
        cold = []
        for _ in range(COLD_RUNS):
            how = drop_caches(residents)
            cold.append(start(residents)[0])
        found[str(residents)] = {
            "warm_ms": [round(run[0]) for run in warm],
            "cold_ms": [round(run) for run in cold],
            "cold_means": how,
            "memory_bytes": [run[1] for run in warm],
            "said": warm[-1][2],
        }
        print(residents, found[str(residents)], flush=True)
    return found


def lookups(bench):
    found = {}
    for residents in LOOKUP_SIZES:
        found[str(residents)] = json.loads(output_of(bench, "--lookups", str(residents)))
        print(found[str(residents)], flush=True)
    return found


def instructions(bench):
    """Instructions of one lookup and the making of its number, by residents."""
    found = {}
    for residents in LOOKUP_SIZES:
        with tempfile.TemporaryDirectory() as folder:
            command = ["valgrind", "--tool=callgrind", "--toggle-collect=registry::part_lookup",
                       f"--callgrind-out-file={folder}/out", bench, "--lookups", str(residents), "--once"]
            run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if run.returncode != 0:
                raise SystemExit("onecode: the bench failed under callgrind:\n" + run.stderr)
            with open(f"{folder}/out", encoding="utf-8") as file:
                total = int(re.search(r"^(?:totals|summary): (\d+)", file.read(), re.M)[1])
        found[str(residents)] = round(total / json.loads(run.stdout)["lookups"], 1)
        print(f"{residents:,}: {found[str(residents)]} instructions", flush=True)
    return found


def memory_of(found):
    return statistics.median(found["memory_bytes"])


def table(results):
    """The results as a page."""
    lines = ["# The registry at its sizes", "", "Written by `scripts/bench/registry.py`; " + results["machine"] + ".", "",
             "A table has room for a quarter more residents than it holds, at most 7 of 8 cells of 64 bytes used. Memory is",
             "that of the whole process after its first refresh (VmRSS), with two shards' payload caches, which do not grow",
             "with residents; the last column is what each resident adds beyond the smallest registry here.", ""]
    if "starts" in results:
        lines += ["| residents | first refresh, warm | cold | aim, warm | memory | over residents | each further one |",
                  "|---|---|---|---|---|---|---|"]
        smallest = min(int(residents) for residents in results["starts"])
        least = memory_of(results["starts"][str(smallest)])
        for residents, found in results["starts"].items():
            count = int(residents)
            further = f"{(memory_of(found) - least) / (count - smallest):.1f} bytes" if count > smallest else ""
            warm, cold = statistics.median(found["warm_ms"]), statistics.median(found["cold_ms"])
            aim = f"{AIMS_MS[residents]:,} ms" if residents in AIMS_MS else ""
            lines.append(f"| {count:,} | {warm:,.0f} ms | {cold:,.0f} ms | {aim} | {memory_of(found) / 1e6:,.0f} MB | "
                         f"{memory_of(found) / count:.1f} bytes | {further} |")
        lines += ["", "Medians of "
                  f"{WARM_RUNS} warm and {COLD_RUNS} cold starts, from before the process is made to the answer. What the",
                  "largest said: `" + list(results["starts"].values())[-1]["said"] + "`.", ""]
    if "lookups" in results:
        lines += ["| residents | a lookup | instructions | table | of it in huge pages |", "|---|---|---|---|---|"]
        for residents, found in results["lookups"].items():
            count = results.get("instructions", {}).get(residents, "")
            huge = found["huge_bytes"] / found["table_bytes"]
            lines.append(f"| {int(residents):,} | {found['lookup_ns']} ns | {count} | {found['table_bytes'] / 1e6:,.0f} MB | "
                         f"{huge:.0%} |")
        lines += ["", "Each lookup waits for the one before, all over the table, so this is latency: of the caches, then of "
                  "memory.", "Instructions include the loop and the making of the number; valgrind counts them."]
    return "\n".join(lines) + "\n"


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"^model name\s*: (.*)$", file.read(), re.M)
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description="The registry at its sizes.")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; may be repeated")
    wanted = parser.parse_args().only or PARTS
    bench = build()
    results = {}
    if os.path.exists(RESULTS):
        with open(RESULTS, encoding="utf-8") as file:
            results = json.load(file)
    if "make" in wanted:
        make(bench)
    for name, measure in [("starts", starts), ("lookups", lambda: lookups(bench)), ("instructions", lambda: instructions(bench))]:
        if name in wanted:
            results[name] = measure()
    results["machine"] = machine()
    with open(RESULTS, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=2)
        file.write("\n")
    with open(RESULTS.replace(".json", ".md"), "w", encoding="utf-8") as file:
        file.write(table(results))
    print("written: " + os.path.relpath(RESULTS, ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
