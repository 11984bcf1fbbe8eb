#!/usr/bin/env python3
"""Alerts and boards against the programs that will read them: `check.py ONECODE`.

promtool checks the rules, runs alerts.yaml and parses each query of the boards; then a Prometheus scrapes a demo and a
node_exporter, and must have an answer to each query. The three programs come from PATH, or from Debian's packages, which
are unpacked below the target folder and not installed; where neither can be had, the exit status is 3. Grafana itself is
in no package here: that it draws the boards is not shown."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "tools/debian"
PROGRAMS = {"promtool": "prometheus", "prometheus": "prometheus", "prometheus-node-exporter": "prometheus-node-exporter"}
RULES = ROOT / "contrib/prometheus/onecode.rules.yaml"
BOARDS = sorted((ROOT / "contrib/grafana").glob("*.json"))
# What a healthy demo has nothing of, and why that is right.
EMPTY = {
    "onecode_journal_folded_to": "no snapshot was written yet",
    "onecode_sampled_wait": "nobody was asked how long it waited",
    "onecode:retransmitted": "fewer bytes than say anything",
    "onecode:shed:rate1m": "nobody is refused, and only who refuses is shown",
    "node_nf_conntrack": "a host that tracks no connections",
    "node_network_speed_bytes": "an interface without a speed",
    "onecode_interface_bits_per_second": "the loopback interface, which has none",
    "node_pressure": "a kernel without PSI",
    "node_filefd_maximum": "no bound is none to show",
    "node_disk_write": "a disk that writes nothing meanwhile",
    "node_filesystem_avail_bytes": "a root that is an overlay",
}
SECONDS = 20


def programs():
    """Where they are."""
    path = os.environ["PATH"] + os.pathsep + str(TOOLS / "usr/bin")
    missing = {package for program, package in PROGRAMS.items() if not shutil.which(program, path=path)}
    if missing and shutil.which("apt-get"):
        TOOLS.mkdir(parents=True, exist_ok=True)
        print("fetched from Debian, and unpacked only:", *sorted(missing), flush=True)
        fetched = subprocess.run(["apt-get", "download", "-qq", *missing], cwd=TOOLS, check=False, capture_output=True)
        if fetched.returncode == 0:
            for package in TOOLS.glob("*.deb"):
                subprocess.run(["dpkg-deb", "--extract", package, TOOLS], check=True)
    found = {program: shutil.which(program, path=path) for program in PROGRAMS}
    if not all(found.values()):
        print("missing:", *(program for program, where in found.items() if not where))
        sys.exit(3)
    return found


def queries():
    """Each query of each board: where it is, and what it asks."""
    for board in BOARDS:
        document = json.loads(board.read_text())
        for annotation in document["annotations"]["list"]:
            yield f"{board.name}: {annotation['name']}", annotation["expr"]
        for panel in document["panels"]:
            for target in panel.get("targets", []):
                yield f"{board.name}: {panel['title']} {target['refId']}", target["expr"]


def filled_in(query, node=".*"):
    query = query.replace("$__rate_interval", "1m").replace('"$node"', f'"{node}"')
    assert "$" not in query.replace("$instance", "").replace("$device", ""), query
    return query.replace("$instance", ".*").replace("$device", ".*")


def check_words(promtool, folder):
    subprocess.run([promtool, "check", "rules", RULES], check=True)
    subprocess.run([promtool, "check", "config", "--syntax-only", RULES.with_name("scrape.yaml")], check=True)
    subprocess.run([promtool, "test", "rules", ROOT / "tests/dashboards/alerts.yaml"], check=True)
    cases = (ROOT / "tests/dashboards/alerts.yaml").read_text()
    for alert in re.findall(r"- alert: (\w+)", RULES.read_text()):
        assert f'"{alert}"' in cases, f"{alert} has no case in alerts.yaml"
    # JSON is YAML; promtool takes a query only as a rule.
    rules = [{"record": f"query:{number}", "expr": filled_in(query)} for number, (_, query) in enumerate(queries())]
    file = folder / "queries.yaml"
    file.write_text(json.dumps({"groups": [{"name": "boards", "rules": rules}]}))
    subprocess.run([promtool, "check", "rules", "--lint=none", file], check=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, (path, answer.status, body)
    return body


def wait_for(process, port, path):
    for _ in range(300):
        with contextlib.suppress(OSError, AssertionError):
            return get(port, path)
        assert process.poll() is None, f"{process.args[0]} ended with {process.returncode}"
        time.sleep(0.1)
    raise AssertionError(f"{process.args[0]} does not come up")


@contextlib.contextmanager
def running(*command, **more):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def ask(port, admin, data, over):
    """People who refresh, and an operator who looks one of them up, which the journal keeps."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    sessions = (data / "sessions.txt").read_text().split()
    while not over.wait(0.1):
        session = sessions[int(time.time() * 10) % len(sessions)]
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=unchecked)
        for path in ("/person/app/refreshQRCode", "/person/app/refreshQRCode", "/", "/.well-known/jwks.json"):
            connection.request("GET", path, headers={"Authorization": f"Bearer {session}"})
            connection.getresponse().read()
        connection.close()
        operator = http.client.HTTPConnection("127.0.0.1", admin, timeout=10)
        whom = {"resident": "0123456789abcdef"}
        operator.request("POST", "/admin/residents/lookup", json.dumps(whom), {"Content-Type": "application/json"})
        operator.getresponse().read()
        operator.close()


def check_answers(found, onecode, folder):
    port, admin, exporter, server = (free_port() for _ in range(4))
    data, budget = folder / "data", {"ONECODE_BANDWIDTH_EGRESS_BITS_PER_S": "1000000000"}
    rules = folder / "rules.yaml"
    rules.write_text(RULES.read_text().replace("interval: 15s", "interval: 1s"))
    jobs = [{"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{at}"]}]} for name, at in (("onecode", admin), ("node", exporter))]
    config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(rules)], "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(json.dumps(config))
    serve = [onecode, "serve", "--demo", "--tls", "--residents", "1000", "--data", data, "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    watch = [found["prometheus"], f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{server}"]
    export = [found["prometheus-node-exporter"], f"--web.listen-address=127.0.0.1:{exporter}"]
    over = threading.Event()
    with running(*serve, env=os.environ | budget) as demo, running(*export) as node, running(*watch) as prometheus:
        for process, at, path in ((demo, admin, "/readyz"), (node, exporter, "/metrics"), (prometheus, server, "/-/ready")):
            wait_for(process, at, path)
        people = threading.Thread(target=ask, args=(port, admin, data, over))
        people.start()
        try:
            time.sleep(SECONDS)
            empty = list(unanswered(server, f"127.0.0.1:{exporter}"))
            check_rules(server)
        finally:
            over.set()
            people.join()
    assert not empty, "no answer:\n" + "\n".join(empty)


def unanswered(server, node):
    """The queries that have no answer and should."""
    count = 0
    for place, query in queries():
        asked = urllib.parse.urlencode({"query": filled_in(query, node)})
        result = json.loads(get(server, f"/api/v1/query?{asked}"))["data"]["result"]
        excused = next((why for name, why in EMPTY.items() if name in query), None)
        starts = query.startswith("changes(process_start")
        count += bool(result)
        if not result and not starts:
            print(f"no answer: {place}: {excused or query}")
            if not excused:
                yield f"{place}: {query}"
    print(f"{count} of {sum(1 for _ in queries())} queries have an answer")


def check_rules(server):
    groups = json.loads(get(server, "/api/v1/rules"))["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules and all(rule["health"] == "ok" for rule in rules), [rule for rule in rules if rule["health"] != "ok"]
    firing = [rule["name"] for rule in rules if rule.get("state") == "firing" and rule["name"].startswith("Onecode")]
    print(f"{len(rules)} rules are evaluated; firing: {firing or 'none'}")
    assert not firing, "a healthy demo has no alert"


def main():
    found = programs()
    with tempfile.TemporaryDirectory() as folder:
        check_words(found["promtool"], Path(folder))
        check_answers(found, sys.argv[1], Path(folder))


if __name__ == "__main__":
    main()
