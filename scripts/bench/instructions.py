#!/usr/bin/env python3
"""Instructions of the parts of a refresh under callgrind, against the committed figures.

    scripts/bench/instructions.py            builds, counts, compares; ends with 1 if warm or cold rose by over 2 %
    scripts/bench/instructions.py --write    writes benches/results/instructions.json instead

Two runs of one binary count the same to the instruction, so the limit is not for noise: it is what a change may cost
without being looked at. The figures belong to one compiler and to what valgrind shows of the CPU (it hides AVX-512);
both are in the file and named when they differ.
"""

import argparse
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMMITTED = os.path.join(ROOT, "benches", "results", "instructions.json")
PARTS = ["head", "session", "sign", "code", "verdict", "base45", "matrix", "warm", "cold"]
GUARDED = ["warm", "cold"]
RISE_MAX = 0.02
CALLGRIND_S_MAX = 300


def output_of(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def build(bench="instructions"):
    """Builds a bench and returns the path of its executable."""
    command = ["cargo", "bench", "--locked", "--bench", bench, "--no-run", "--message-format=json"]
    for line in output_of(*command).splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == bench:
            if message.get("executable"):
                return message["executable"]
    raise SystemExit(f"onecode: cargo named no executable for the bench {bench}")


def count(executable):
    """Instructions a call, by part."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        for part in PARTS:
            command += [f"--zero-before=instructions::part_{part}", f"--dump-after=instructions::part_{part}"]
        run = subprocess.run(command + [executable, "--once"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             timeout=CALLGRIND_S_MAX)
        if run.returncode != 0:
            raise SystemExit("onecode: the bench failed under callgrind:\n" + run.stderr)
        calls = json.loads(run.stdout)
        totals = {}
        for path in glob.glob(f"{folder}/out*"):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            part = re.search(r"^desc: Trigger: --dump-after=instructions::part_(\w+)$", text, re.M)
            if part:
                totals[part[1]] = int(re.search(r"^totals: (\d+)$", text, re.M)[1])
    missing = [part for part in PARTS if not totals.get(part)]
    if missing:
        raise SystemExit("onecode: callgrind counted nothing for " + ", ".join(missing))
    return {part: round(totals[part] / calls[part]) for part in PARTS}


def environment():
    flags = ""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("flags"):
                flags = line
                break
    return {
        "rustc": output_of("rustc", "--version").strip(),
        "valgrind": output_of("valgrind", "--version").strip(),
        "simd": "avx2" if " avx2" in flags else "sse2",
    }


def main():
    parser = argparse.ArgumentParser(description="Instructions of the parts of a refresh under callgrind.")
    parser.add_argument("--write", action="store_true", help="write the committed figures instead of comparing")
    arguments = parser.parse_args()
    found = {"instructions_per_call": count(build()), "environment": environment()}
    if arguments.write:
        with open(COMMITTED, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=2)
            file.write("\n")
        print(f"written: {os.path.relpath(COMMITTED, ROOT)}")
        return 0
    with open(COMMITTED, encoding="utf-8") as file:
        committed = json.load(file)
    risen = []
    for part in PARTS:
        now, before = found["instructions_per_call"][part], committed["instructions_per_call"][part]
        change = now / before - 1
        print(f"{part:8} {now:>9,} instructions, committed {before:>9,}  ({change:+.2%})")
        if part in GUARDED and change > RISE_MAX:
            risen.append(part)
    for name, value in found["environment"].items():
        if committed["environment"].get(name) != value:
            print(f"note: {name} is {value}, the committed figures are of {committed['environment'].get(name)}")
    if risen:
        print(f"onecode: {' and '.join(risen)} cost over {RISE_MAX:.0%} more instructions than committed: find out why, "
              "or, if it is worth it, write new figures with scripts/bench/instructions.py --write and say why in the "
              "commit", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
