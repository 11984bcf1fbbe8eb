"""Whether drills tell what was, and bite; called by scripts/test.sh with the folder of a short run and the server's binary.

A server that forgets what it has acknowledged is put in the place of the real one: between two kills its data folder is set back.
"""

import json
import os
import subprocess
import sys
import tempfile

DRILL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "drill.py")
# Of process-killed the first start makes the residents, the second is killed; what the third takes, the fourth has forgotten.
FORGETFUL = """#!/bin/sh
if [ "$1" = serve ]; then
    for word in "$@"; do
        [ "$before" = --data ] && data=$word
        before=$word
    done
    echo >>"{folder}/starts"
    case $(wc -l <"{folder}/starts") in
        3) cp -a "$data" "{folder}/kept" ;;
        4) rm -r "$data" && cp -a "{folder}/kept" "$data" ;;
    esac
fi
exec "{binary}" "$@"
"""


def check_accounts(folder):
    with open(os.path.join(folder, "drills.json"), encoding="utf-8") as file:
        accounts = json.load(file)
    for account in accounts:
        told = {row["what"] for row in account["rows"]}
        assert account["held"] and account["made"] and account["followed"], account["name"]
        assert any("lost" in what for what in told) and len(told) == len(account["rows"]) > 5, account["name"]
    with open(os.path.join(folder, "drills.html"), encoding="utf-8") as file:
        text = file.read()
    assert all(f"id='{account['name']}'" in text for account in accounts)
    print(f"drills: {len(accounts)} held")


def check_that_it_bites(binary):
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "forgetful")
        with open(program, "w", encoding="utf-8") as file:
            file.write(FORGETFUL.format(folder=folder, binary=binary))
        os.chmod(program, 0o755)
        ended = subprocess.run([sys.executable, DRILL, "process-killed", "--out", folder], env={**os.environ, "ONECODE_BIN": program}, stdout=subprocess.PIPE, text=True, timeout=120)
        assert ended.returncode == 1, ended.stdout
        with open(os.path.join(folder, "process-killed.json"), encoding="utf-8") as file:
            (account,) = json.load(file)
        missed = {row["what"] for row in account["rows"] if not row["holds"]}
        assert "acknowledged statuses that are lost" in missed, (missed, ended.stdout)
        print("drills: a server that forgets is found out")


def check_usage(binary):
    for words, status, says in [(["nothing"], 2, "no drill 'nothing'"), ([], 2, "one of NAME"), (["--list", "--all"], 2, "one of NAME"), (["--all", "key-revoked"], 2, "one of NAME"),
                                (["--list"], 0, "fifteen-hours"), (["key-revoked"], 1, "is not there")]:
        with tempfile.TemporaryDirectory() as folder:
            ended = subprocess.run([sys.executable, DRILL, *words, "--out", folder], env={**os.environ, "ONECODE_BIN": binary + "-missing"}, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, timeout=60)
        assert (ended.returncode, says in ended.stdout) == (status, True), (words, ended.returncode, ended.stdout)


if __name__ == "__main__":
    check_usage(os.path.abspath(sys.argv[2]))
    check_accounts(sys.argv[1])
    check_that_it_bites(os.path.abspath(sys.argv[2]))
