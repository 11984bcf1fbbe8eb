"""A server elsewhere: its own account of CPU and requests from its admin listener, and what wrk sees from here."""

import json
import os
import time
import urllib.parse

import cases
import figures
import report
import servers
from servers import Failed, ask

CASES = ["warm", "cold", "churn", "static"]
SESSION_CHARS = 48
TOKEN_CHARS_MAX = 4_096
COUNTS = ["process_cpu_seconds_total", "onecode_requests_total", "onecode_signatures_total",
          "onecode_ahead_signatures_total"]
HEAD = ["case", "CPU per request", "requests/s at most", "wrk busy", "runs", "void"]


def wrong_origin(text):
    """What is wrong with an address, or None. Neither wrk nor the load generator speaks anything but http here."""
    try:
        parts = urllib.parse.urlsplit(text)
        fits = parts.scheme == "http" and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        return "an address is http://HOST:PORT"
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        return "an address is http://HOST:PORT and nothing more"
    return None


def token_of(path):
    """The first line of a file; no error shows any of it."""
    if not path:
        return None
    try:
        with open(path, encoding="ascii") as file:
            token = file.readline(TOKEN_CHARS_MAX + 1).strip()
    except OSError as error:
        raise Failed(f"--token-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if not 0 < len(token) <= TOKEN_CHARS_MAX or not all("!" <= character <= "~" for character in token):
        raise Failed(f"--token-file {path}: its first line is no token")
    return token


def check_sessions(path):
    """How many sessions a file has, and the first of them."""
    try:
        first = cases.first_session(path)
        sessions = os.path.getsize(path) // (SESSION_CHARS + 1)
    except OSError as error:
        raise Failed(f"--sessions {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        first, sessions = "", 0
    if len(first) != SESSION_CHARS or not sessions:
        raise Failed(f"--sessions {path}: its first line is no session of {SESSION_CHARS} characters")
    return sessions, first


class Elsewhere:
    """The server that was named, after everything about it that can be wrong was looked at."""

    def __init__(self, chosen):
        self.url, self.admin = chosen.target.rstrip("/"), chosen.admin.rstrip("/")
        parts = urllib.parse.urlsplit(self.url)
        self.host, self.port = parts.hostname, parts.port or 80
        self.token = token_of(chosen.token_file)
        self.residents, session = check_sessions(chosen.sessions)
        self.counts()
        try:
            status = ask(self.port, cases.REFRESH, {"Authorization": f"Bearer {session}"}, self.host).status
        except (Failed, OSError) as error:
            raise Failed(f"--target {self.url}: {getattr(error, 'strerror', None) or error}") from None
        if status != 200:
            raise Failed(f"--target {self.url} answers {status} to the first session of {chosen.sessions}: copy its "
                         "sessions.txt anew")

    def counts(self):
        return servers.metrics(self.admin, COUNTS, self.token)


def run_once(bench, server, name, walk):
    """One run: what wrk saw, and what the server counted meanwhile."""
    chosen = bench.options
    arguments = {"cold": [chosen.sessions, 0], "static": ["gzip"]}.get(name, [chosen.sessions])
    if name == "cold":
        arguments[1] = walk.begin(60_000 * chosen.seconds)
    elif name != "static":
        cases.wait_for_window(chosen.seconds + 1)
        bench.prefetch(server.url, chosen.sessions, pin=False)
    before = server.counts()
    run = bench.wrk(server.url + ((chosen.page or "/") if name == "static" else ""), name, arguments, pin=False)
    cpu_s, requests, signatures, ahead = (now - old for now, old in zip(server.counts(), before))
    if name == "cold":
        walk.end(run["requests"])
    run.update(cpu_us=cpu_s * 1e6 / max(requests, 1), server_requests=requests, signatures=signatures)
    if run["failed"] or not run["requests"]:
        run["void"] = f"{run['failed']} of {run['requests']} requests failed"
    elif name == "cold" and (signatures < run["requests"] or ahead):
        run["void"] = (f"{signatures:.0f} signatures for {run['requests']} requests, {ahead:.0f} made ahead (cold is measured "
                       "with code.signed_ahead = 0 and more residents than are asked in a window)")
    return run


def markdown(results):
    rows = []
    for name in [name for name in CASES if name in results]:
        found = results[name]
        good = [run for run in found["runs"] if "void" not in run]
        cells = ["no valid run", "", ""]
        if good:
            busy = figures.median([run["client_busy"] for run in good])
            cells = [report.us(found["cpu_us"]), f"{found['per_s']['median']:,.0f}", f"{busy:.0%}"]
        rows.append([name, *cells, len(found["runs"]), found["void"]])
    asked = results["asked"]
    return "\n".join([
        "# A server elsewhere", "", f"{asked['target']}, {asked['pairs']} runs of {asked['seconds']} s of each case; {asked['time']}.", "",
        "CPU per request is the server's own account of all its threads over the requests that it counted; brackets are "
        "95 % bootstrap intervals of the median. The load is one thread of wrk with 64 connections: where it is busy, "
        "the rate is its own and not the server's.", "",
        *report.table(HEAD, rows), "",
        *[f"- void, {name}: {run['void']}" for name in CASES for run in results.get(name, {}).get("runs", []) if "void" in run], ""])


def measure(bench):
    """All that was chosen of the cases, written to target.json and target.md. The names of those without a valid run."""
    chosen = bench.options
    server, failed = Elsewhere(chosen), []
    results = {"asked": {"target": server.url, "pairs": chosen.pairs, "seconds": chosen.seconds,
                         "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}}
    bench.say(f"measuring {server.url}; the load comes from here, and is not pinned")
    walk = cases.Walk(server.residents)
    for name in [name for name in CASES if name in chosen.only]:
        runs = [run_once(bench, server, name, walk) for _ in range(chosen.pairs)]
        good = [run for run in runs if "void" not in run]
        results[name] = {"runs": runs, "void": len(runs) - len(good)}
        if good:
            results[name].update(cpu_us=figures.summary([run["cpu_us"] for run in good]),
                                 per_s=figures.summary([run["per_s"] for run in good]))
            bench.say(f"{name:7} {report.us(results[name]['cpu_us'])} CPU/request, "
                      f"{results[name]['per_s']['median']:,.0f}/s, {results[name]['void']} void")
        else:
            bench.say(f"{name:7} no valid run: {runs[-1]['void']}")
            failed.append(name)
    os.makedirs(chosen.out, exist_ok=True)
    for end, content in [("json", json.dumps(results, indent=1) + "\n"), ("md", markdown(results))]:
        path = os.path.join(chosen.out, f"target.{end}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        bench.say(f"written: {os.path.relpath(path, os.getcwd())}")
    return failed
