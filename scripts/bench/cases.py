"""The cases: which servers, which load, what is checked of each run, and the figures that come out."""

import base64
import json
import os
import random
import re
import resource
import subprocess
import time

import figures
import servers
from servers import Failed, ask, check_equal

WINDOW_S = 45
WARM_RESIDENTS = 1000
CONNECTIONS = 64
REFRESH = "/person/app/refreshQRCode"
STEAL_MAX = 0.01
SIGNED_SHARE_MAX = 0.01
# As benches/qr.rs names them.
LEVEL_CASE, LEVELS = "matrix of a code, ", {"Avx512", "Avx2", "Portable"}
GZIP = {"Accept-Encoding": "gzip"}


def wait_for_window(length_s):
    """Sleeps past the next edge of a window if a run of this length would meet it: payloads are made anew there."""
    left_s = WINDOW_S - time.time() % WINDOW_S
    if left_s < length_s + 0.5:
        time.sleep(left_s + 0.2)


def cpu_times():
    with open("/proc/stat", encoding="utf-8") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    return sum(fields[:8]), fields[7]


class Bench:
    """What all cases share: where things are, how long they run, and the two CPUs."""

    def __init__(self, options, folder, target, bench):
        self.options, self.folder, self.target, self.bench = options, folder, target, bench
        self.server_cpu, self.client_cpu = 0, 1
        self.next_port = options.port_base
        self.notes = []

    def port(self):
        self.next_port += 2
        return self.next_port - 2

    def say(self, text):
        print(text, flush=True)

    def onecode(self, name="onecode", residents=100_000, driver="auto", environment=None):
        return servers.Onecode(name, self.target, self.folder, self.port(), self.server_cpu, residents, driver,
                               environment)

    def floor(self, answer, closing=False):
        name = "floor-close" if closing else "floor"
        return servers.floor(self.bench, name, self.folder, self.port(), self.server_cpu, answer, closing)

    def nginx(self, name, location, ours, path, fields, deferred=False):
        return servers.nginx(name, location, self.folder, self.port(), self.server_cpu, ours, path, fields, deferred)

    def peer(self, kind, sessions):
        return servers.peer(self.bench, kind, self.port(), self.server_cpu, sessions)

    def wrk_command(self, url, script, arguments, seconds, connections=CONNECTIONS, pin=True):
        command = ["taskset", "-c", str(self.client_cpu)] if pin else []
        # wrk counts whole seconds.
        command += ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", f"scripts/wrk/{script}.lua", url, "--"]
        return command + [str(argument) for argument in arguments]

    def wrk(self, url, script, arguments, seconds=None, pin=True, connections=CONNECTIONS):
        """One run of wrk: requests, rate, and how busy wrk itself was."""
        seconds = seconds or self.options.seconds
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        _, out, err = servers.run(self.wrk_command(url, script, arguments, seconds, connections, pin), seconds + 30)
        after, elapsed_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
        result = wrk_result(out, err)
        used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        result["client_busy"] = used_s / elapsed_s
        return result

    def load(self, url, arguments, timeout_s, pin=True):
        """One run of the open-loop generator."""
        command = ["taskset", "-c", str(self.client_cpu)] if pin else []
        command += [os.path.join(self.bench, "release", "load"), "--url", url] + [str(argument) for argument in arguments]
        return servers.ended(servers.start_piped(command), timeout_s)

    def prefetch(self, url, sessions, pin=True):
        """Has the warm residents' payloads made."""
        arguments = ["--sessions", sessions, "--residents", WARM_RESIDENTS, "--requests", WARM_RESIDENTS]
        self.load(url + REFRESH, arguments + ["--rate", 10_000, "--duration", 5], 20, pin)

    def run(self, server, script, arguments, url_path=""):
        """One measured run of one server; a run that is not evidence says why."""
        steal_before, cpu_before = cpu_times(), server.cpu_s()
        result = self.wrk(f"http://127.0.0.1:{server.port}{url_path}", script, arguments)
        cpu_s, steal_after = server.cpu_s() - cpu_before, cpu_times()
        elapsed = max(steal_after[0] - steal_before[0], 1)
        result["steal"] = (steal_after[1] - steal_before[1]) / elapsed
        result["cpu_us"] = cpu_s * 1e6 / max(result["requests"], 1)
        if result["failed"] or not result["requests"]:
            result["void"] = f"{result['failed']} of {result['requests']} requests failed"
        return result


def wrk_result(out, err):
    """What our scripts for wrk have said at its end."""
    found = re.search(r"^json: (.*)$", out, re.M)
    if not found:
        raise Failed(f"wrk said nothing usable: {out} {err}")
    result = json.loads(found[1])
    result["per_s"] = result["requests"] / (result["duration_us"] / 1e6)
    return result


class Case:
    """Rounds of runs over some servers, and the ratios of ours to the others within each round."""

    def __init__(self, bench, name, ours, contenders, equal):
        self.bench, self.name, self.ours, self.contenders, self.equal = bench, name, ours, contenders, equal
        self.runs = {server.name: {} for server in contenders}
        self.void = []

    def go(self, one_run, rounds):
        by_name = {server.name: server for server in self.contenders}
        for index, order in figures.palindrome(list(by_name), rounds):
            for name in order:
                result = one_run(by_name[name])
                if result.get("void"):
                    self.void.append(f"{name}, round {index + 1}: {result['void']}")
                    self.bench.say(f"  {self.name}: VOID {self.void[-1]}")
                    continue
                self.runs[name][index] = result
                self.bench.say(f"  {self.name} {index + 1}/{rounds} {name:14} {result['cpu_us']:8.2f} µs CPU/request "
                               f"{result['per_s']:9.0f}/s")

    def result(self):
        per_server, ratios = {}, {}
        for name, runs in self.runs.items():
            if runs:
                per_server[name] = {figure: figures.summary([run[figure] for run in runs.values()])
                                    for figure in ("cpu_us", "per_s", "client_busy")}
                shares = [run["signed_share"] for run in runs.values() if "signed_share" in run]
                if shares:
                    per_server[name]["signed_share"] = figures.median(shares)
                per_server[name]["steal_max"] = max(run["steal"] for run in runs.values())
                per_server[name]["marked_runs"] = sum(run["steal"] > STEAL_MAX for run in runs.values())
        mine = {index: run["cpu_us"] for index, run in self.runs[self.ours].items()}
        for name, runs in self.runs.items():
            if name != self.ours:
                ratios[name] = figures.paired(mine, {index: run["cpu_us"] for index, run in runs.items()})
        return {"ours": self.ours, "servers": per_server, "ratios": ratios, "void": self.void, "equal": self.equal,
                "runs": {name: list(runs.values()) for name, runs in self.runs.items()}}


def stop_servers(contenders):
    for server in contenders:
        server.stop()


def refresh_answer(server, fields=None):
    session = first_session(server.sessions)
    asked = {"Authorization": f"Bearer {session}", **(fields or {})}
    return ask(server.port, REFRESH, asked), asked


def first_session(path):
    with open(path, encoding="ascii") as file:
        return file.readline().strip()


def equal_all(ours, contenders, path, fields, tls=None):
    """Asks all servers once, and fails unless they answer alike."""
    return {server.name: check_equal(ours, ask(server.port, path, fields, tls=tls), server.name) for server in contenders}


def warm_run(bench, sessions, script):
    """A run over the 1,000 warm residents, between two edges of the window.

    The payload cache has two places for a resident: of 1,000 residents hardly three share them and cost each other
    signatures, so the share of requests that were signed is part of the result.
    """

    def run(server):
        wait_for_window(bench.options.seconds + 1)
        if server.name not in ("floor", "floor-close") and "nginx" not in server.name:
            bench.prefetch(f"http://127.0.0.1:{server.port}", server_sessions(server, sessions))
        signatures = server.metric("onecode_signatures_total") if hasattr(server, "metric") else 0
        window = time.time() // WINDOW_S
        result = bench.run(server, script, [server_sessions(server, sessions)])
        if hasattr(server, "metric"):
            signed = server.metric("onecode_signatures_total") - signatures
            result["signed_share"] = signed / max(result["requests"], 1)
            # A hundred times what chance gives 1,000 residents in 32,768 pairs of places.
            if result["signed_share"] > SIGNED_SHARE_MAX:
                result["void"] = f"{signed:.0f} signatures in a warm run"
        if time.time() // WINDOW_S != window:
            result["void"] = "the run met the edge of a window"
        return result

    return run


def server_sessions(server, otherwise):
    return getattr(server, "sessions", otherwise)


def noise(bench):
    """A/A: two processes of our server, as if they were two servers. No claim below twice what this shows."""
    first, second = bench.onecode("onecode"), bench.onecode("onecode-again")
    case = Case(bench, "A/A", "onecode", [first, second], {})
    case.go(warm_run(bench, first.sessions, "warm"), bench.options.pairs)
    stop_servers([first, second])
    return case.result()


def warm(bench):
    ours = bench.onecode()
    answer, fields = refresh_answer(ours)
    contenders = [ours, bench.floor(answer), bench.nginx("nginx-return", "return", answer, REFRESH, fields),
                  bench.peer("informed", ours.sessions), bench.onecode("onecode-monoio", driver="monoio")]
    # The other driver's server has sessions of its own, so it is asked with one of those.
    equal = equal_all(answer, contenders[1:-1], REFRESH, fields)
    equal["onecode-monoio"] = check_equal(answer, refresh_answer(contenders[-1])[0], "onecode-monoio")
    case = Case(bench, "warm", "onecode", contenders, equal)
    case.go(warm_run(bench, ours.sessions, "warm"), bench.options.pairs)
    result = case.result()
    result["drivers"] = {server.name: server.driver_line() for server in (ours, contenders[-1])}
    stop_servers(contenders)
    return result


def churn(bench):
    ours = bench.onecode()
    answer, fields = refresh_answer(ours, {"Connection": "close"})
    contenders = [ours, bench.floor(answer, closing=True),
                  bench.nginx("nginx-deferred", "return", answer, REFRESH, fields, deferred=True)]
    equal = equal_all(answer, contenders[1:], REFRESH, fields)
    case = Case(bench, "churn", "onecode", contenders, equal)
    case.go(warm_run(bench, ours.sessions, "churn"), bench.options.pairs)
    stop_servers(contenders)
    return case.result()


def page_of_14_kb(bench):
    """An operator's page that is 14 kB on the wire with its head, and the setting that serves it, if there is one."""
    folder = os.path.join(bench.folder, "pages")
    os.makedirs(folder, exist_ok=True)
    # Base64 of noise: gzip takes a quarter off, which leaves 13.3 kB.
    noise = base64.b64encode(random.Random(1).randbytes(13_000)).decode()
    with open(os.path.join(folder, "bench.html"), "w", encoding="ascii") as file:
        file.write(f"<!doctype html><title>bench</title><!--{noise}-->")
    environment = {"ONECODE_ASSETS_DIR": folder}
    command = [os.path.join(bench.target, "release", "onecode"), "check-config"]
    status, _, _ = servers.run(command, 20, env={**os.environ, **environment})
    return environment if status == 0 else None


def static(bench):
    path = bench.options.page
    environment = None if path else page_of_14_kb(bench)
    path = path or ("/bench.html" if environment else "/")
    ours = bench.onecode(residents=1000, environment=environment)
    answer = ask(ours.port, path, GZIP)
    if answer.status != 200:
        raise Failed(f"{path} has status {answer.status}")
    contenders = [ours, bench.floor(answer), bench.nginx("nginx-static", "static", answer, path, GZIP)]
    equal = equal_all(answer, contenders[1:], path, GZIP)
    case = Case(bench, "static", "onecode", contenders, equal)
    case.go(lambda server: bench.run(server, "static", ["gzip"], path), bench.options.pairs)
    stop_servers(contenders)
    result = case.result()
    result["path"], result["bytes"] = path, len(answer.raw)
    return result


class Walk:
    """Residents in their order over all runs of one server: none twice in a window."""

    def __init__(self, residents):
        self.residents = residents
        # Behind those whom the checks before it, or a warm case, have asked for.
        self.next = 2 * WARM_RESIDENTS
        self.asked = []

    def begin(self, at_most):
        """Where the next run begins; sleeps into a new window if this one has not so many left."""
        window = int(time.time() // WINDOW_S)
        self.asked = [(of, count) for of, count in self.asked if of >= window]
        if sum(count for _, count in self.asked) + at_most + 2 * WARM_RESIDENTS > self.residents:
            time.sleep(WINDOW_S - time.time() % WINDOW_S + 0.2)
            self.asked = []
        return self.next

    def end(self, requests):
        # What was on its way when wrk stopped was asked, too.
        count = requests + 2 * CONNECTIONS
        self.asked.append((int(time.time() // WINDOW_S), count))
        self.next = (self.next + count) % self.residents


def cold_run(bench, sessions, walks, signed_by):
    """A run in which each request must be a signature: the server's own count says whether it was."""

    def run(server):
        walk = walks[server.name]
        # More than any server here manages.
        first = walk.begin(60_000 * bench.options.seconds if server.name != "floor" else 0)
        before = signed_by.metric("onecode_signatures_total")
        result = bench.run(server, "cold", [sessions, first])
        walk.end(result["requests"])
        if server is signed_by:
            signed = server.metric("onecode_signatures_total") - before
            if not result["requests"] <= signed <= result["requests"] + CONNECTIONS:
                result["void"] = f"{result['requests']} requests, but {signed:.0f} signatures"
        return result

    return run


def cold(bench):
    residents = bench.options.residents
    # A signature made ahead is none that a request cost.
    ours = bench.onecode(residents=residents, environment={"ONECODE_CODE_SIGNED_AHEAD": "0"})
    answer, fields = refresh_answer(ours)
    contenders = [ours, bench.floor(answer), bench.peer("informed", ours.sessions),
                  bench.peer("obvious", ours.sessions)]
    equal = equal_all(answer, contenders[1:], REFRESH, fields)
    walks = {server.name: Walk(residents) for server in contenders}
    case = Case(bench, "cold", "onecode", contenders, equal)
    case.go(cold_run(bench, ours.sessions, walks, ours), bench.options.pairs)
    result = case.result()
    stop_servers(contenders[1:])
    result["at_33000"] = cold_at(bench, ours, walks["onecode"], 33_000)
    stop_servers([ours])
    return result


def cold_at(bench, server, walk, rate):
    """Latency of cold refreshes at a rate that must be reached."""
    seconds = bench.options.latency_seconds
    runs = []
    for _ in range(bench.options.latency_rounds):
        first = walk.begin(rate * seconds)
        arguments = ["--sessions", server.sessions, "--from", first, "--rate", rate, "--duration", seconds]
        result = bench.load(f"http://127.0.0.1:{server.port}{REFRESH}", arguments, seconds + 20)
        walk.end(result["planned"])
        runs.append(result)
        bench.say(f"  cold at {rate}/s: {result['answered_per_s']:.0f}/s, p99 {result['latency_us']['p99']} µs")
    return {"rate": rate, "runs": runs, "answered_per_s": figures.median([run["answered_per_s"] for run in runs]),
            "p99_us": figures.median([run["latency_us"]["p99"] for run in runs]),
            "failed": sum(run["failed"] for run in runs)}


def latency(bench, maximum):
    """Latency at 25, 50 and 75 % of our own maximum, for all at the same rates; and memory, while they are up."""
    ours = bench.onecode()
    answer, fields = refresh_answer(ours)
    contenders = [ours, bench.floor(answer), bench.nginx("nginx-return", "return", answer, REFRESH, fields)]
    equal_all(answer, contenders[1:], REFRESH, fields)
    by_name = {server.name: server for server in contenders}
    seconds, points = bench.options.latency_seconds, []
    for share in (25, 50, 75):
        rate = int(maximum * share / 100)
        runs = {name: [] for name in by_name}
        for _, order in figures.palindrome(list(by_name), bench.options.latency_rounds):
            for name in order:
                runs[name].append(latency_run(bench, by_name[name], ours.sessions, rate, seconds))
                last = runs[name][-1]
                bench.say(f"  latency at {share} % ({rate}/s) {name:14} p50 {last['p50']} p99 {last['p99']} "
                          f"p99.9 {last['p99_9']} µs, {last['answered_per_s']:.0f}/s")
        points.append({"share": share, "rate": rate, "servers": {name: of_runs(found) for name, found in runs.items()}})
    held = memory(bench, [ours, contenders[2]], ours.sessions)
    stop_servers(contenders)
    return points, held


def latency_run(bench, server, sessions, rate, seconds):
    wait_for_window(seconds + 2)
    url = f"http://127.0.0.1:{server.port}"
    if hasattr(server, "metric"):
        bench.prefetch(url, sessions)
    before = server.cpu_s()
    arguments = ["--sessions", sessions, "--residents", WARM_RESIDENTS, "--rate", rate, "--duration", seconds]
    result = bench.load(url + REFRESH, arguments + ["--warm-up", seconds / 5], seconds + 20)
    found = dict(result["latency_us"])
    found["cpu_us"] = (server.cpu_s() - before) * 1e6 / max(result["answered"], 1)
    found["answered_per_s"], found["failed"] = result["answered_per_s"], result["failed"]
    return found


def of_runs(runs):
    found = {name: figures.median([run[name] for run in runs])
             for name in ("p50", "p99", "p99_9", "max", "cpu_us", "answered_per_s")}
    found["failed"] = sum(run["failed"] for run in runs)
    found["runs"] = runs
    return found


def memory(bench, contenders, sessions, connections=10_000, scheme="http", extra=()):
    """Resident memory of so many idle keep-alive connections, each of which has had one answer."""
    found = {}
    for server in contenders:
        url = f"{scheme}://127.0.0.1:{server.port}{REFRESH}"
        before = server.resident_bytes()
        command = ["taskset", "-c", str(bench.client_cpu), os.path.join(bench.bench, "release", "load"), "--url", url]
        command += ["--sessions", sessions, "--residents", "1000", "--hold", "--connections", str(connections), *extra]
        holder = servers.start(command + ["--duration", "12"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
        said = holder.stderr.readline()
        time.sleep(0.5)
        after = server.resident_bytes()
        # The end of its stdin ends it; it then says how many are still open.
        out, err = holder.communicate(timeout=20)
        servers.stop(holder)
        if "held" not in said or not out.startswith("{") or json.loads(out)["held"] != connections:
            raise Failed(f"{server.name} did not hold {connections} connections: {said}{err}")
        found[server.name] = {"connections": connections, "bytes_each": (after - before) / connections}
        bench.say(f"  memory {server.name:14} {found[server.name]['bytes_each']:.0f} bytes a connection")
    return found


def parts(bench, instructions_executable, qr_executable):
    """What signature and matrix cost, ours and the libraries', one after the other on the servers' CPU."""
    found = {}
    pinned = ["taskset", "-c", str(bench.server_cpu)]
    for command in ([os.path.join(bench.bench, "release", "parts")], [instructions_executable]):
        _, out, err = servers.run(pinned + command, 60)
        if not out.startswith("{"):
            raise Failed(f"{command[0]}: {err}")
        found.update(json.loads(out))
    # What the shard takes is the best level of this CPU; a target is of one that it may not be.
    _, out, err = servers.run(pinned + [qr_executable, LEVEL_CASE], 60)
    levels = dict(re.findall(rf"^{LEVEL_CASE}(.+?) +([0-9.]+) ns,", out, re.M))
    if "Portable" not in levels or set(levels) - LEVELS:
        raise Failed(f"{qr_executable}: these are not the levels that are known: {', '.join(levels) or err or 'none'}")
    found.update({f"matrix_{level.lower()}_ns": float(ns) for level, ns in levels.items()})
    return found
