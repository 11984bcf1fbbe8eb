"""How much a node carries, of reads and of writes, and the limits that follow; called by scripts/capacity.sh, which builds everything first."""

import http.client
import os
import selectors
import socket
import sys
import time
import urllib.parse

import cases
import elsewhere
import main as bench_main
import servers
import stage
from servers import ROOT, Failed

# Steps from the expected peak up to 30 times it.
STEPS = [1, 1.5, 2, 3, 4, 6, 8, 11, 15, 20, 25, 30]
STEP_S, PAUSE_S, PATIENCE_S = 2.5, 0.5, 2
ERRORS_MAX, GOODPUT_MIN = 0.001, 0.9
# Where the generator itself was this busy, or late, the node may carry more.
GENERATOR_BUSY_MAX, GENERATOR_LATE_S = 0.95, 0.1
# What a gateway is told is so much of what the node was seen to carry.
MARGIN = 0.8
DEMO_RESIDENTS, FILES = 300_000, 4_096
# Ours alone: no region is 999999, and nobody who lives was born in 1900.
WRITTEN, STREAMS, TICK_S = 1_000, 4, 0.01
CHECKS, WEIGHTS = "10X98765432", (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def id_number(number):
    """One of ours, from 0, with its check character (GB 11643-1999)."""
    digits = f"99999919000101{number:03}"
    return digits + CHECKS[sum(int(digit) * weight for digit, weight in zip(digits, WEIGHTS)) % 11]


class Node:
    """The node that is measured: where it listens, and who asks for what there."""

    def __init__(self, url, admin, sessions, token=None):
        self.url, self.admin, self.sessions, self.token = url, admin, sessions, token

    def metric(self, name):
        return servers.metrics(self.admin, [name], self.token)[0]


class Stream:
    """`POST /admin/residents` for as long as it takes: lines go out in batches, answers come in order."""

    def __init__(self, node):
        parts = urllib.parse.urlsplit(node.admin)
        self.socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        token = f"Authorization: Bearer {node.token}\r\n" if node.token else ""
        head = f"POST /admin/residents HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/x-ndjson\r\n{token}Transfer-Encoding: chunked\r\n\r\n"
        self.out, self.tail, self.waiting, self.answered, self.done, self.sent = bytearray(head.encode()), b"", [], 0, 0, 0
        self.socket.setblocking(False)

    def add(self, lines, due):
        body = "".join(lines).encode()
        self.out += b"%x\r\n%s\r\n" % (len(body), body)
        self.sent += len(lines)
        self.waiting.append((self.sent, due))

    def end(self):
        self.out += b"0\r\n\r\n"

    def write(self):
        if self.out:
            del self.out[:self.socket.send(self.out)]

    def read(self, latencies):
        data = self.tail + self.socket.recv(262_144)
        if len(data) == len(self.tail):
            raise Failed("the node has closed the stream of writes")
        if self.answered == 0 and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
            raise Failed(f"the node refuses writes: {data[:15].decode()}")
        whole, _, self.tail = data.rpartition(b"\n")
        self.done += whole.count(b'"result":"done"')
        self.answered += whole.count(b'"result":"')
        now = time.monotonic()
        while self.waiting and self.waiting[0][0] <= self.answered:
            latencies.append(now - self.waiting.pop(0)[1])


class Writes:
    """Statuses of test residents of ours, at a rate."""

    def __init__(self, node):
        self.node, self.number, self.version, self.wrote = node, 0, 0, False
        self.tests_before = node.metric("onecode_residents_test")
        self.names = [id_number(number) for number in range(WRITTEN)]

    def lines(self, count):
        made = []
        for _ in range(count):
            self.number = (self.number + 1) % WRITTEN
            # Each round through all of them states something newer than the one before.
            self.version += self.number == 0
            made.append(f'{{"id_number":"{self.names[self.number]}","status":"green","version":{self.version},"reason":"capacity","test":true}}\n')
        return made

    def run(self, rate, seconds):
        """Lines at a rate for so long, and a bounded wait for their answers."""
        self.version = max(self.version + 1, int(time.time() * 1e3))
        self.wrote = True
        streams, latencies, sent, late_s = [Stream(self.node) for _ in range(STREAMS)], [], 0, 0.0
        selector = selectors.DefaultSelector()
        for stream in streams:
            selector.register(stream.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, stream)
        began = time.monotonic()
        try:
            while True:
                elapsed = time.monotonic() - began
                due = int(min(elapsed, seconds) * rate)
                if due > sent and (elapsed * rate - sent >= rate * TICK_S or elapsed >= seconds):
                    # When the last of them was due, and not when we come to it.
                    at = began + due / rate
                    late_s = max(late_s, elapsed - (sent + 1) / rate - TICK_S)
                    for index, stream in enumerate(streams):
                        count = (due - sent) // STREAMS + (index < (due - sent) % STREAMS)
                        if count:
                            stream.add(self.lines(count), at)
                    sent = due
                answered = sum(stream.answered for stream in streams)
                if elapsed >= seconds and (answered >= sent or elapsed >= seconds + PATIENCE_S):
                    break
                for key, events in selector.select(TICK_S / 4):
                    if events & selectors.EVENT_READ:
                        key.data.read(latencies)
                    if events & selectors.EVENT_WRITE:
                        key.data.write()
                for stream in streams:
                    wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if stream.out else 0)
                    selector.modify(stream.socket, wanted, stream)
        finally:
            for stream in streams:
                stream.socket.close()
        took_s, done = time.monotonic() - began, sum(stream.done for stream in streams)
        latencies += [PATIENCE_S] * sum(len(stream.waiting) for stream in streams)
        latencies.sort()
        return {"offered_per_s": sent / seconds, "goodput_per_s": done / max(took_s, seconds), "errors": 1 - done / max(sent, 1),
                "p99_ms": latencies[int(0.99 * (len(latencies) - 1))] * 1e3 if latencies else 0.0, "generator_busy": 1.0 if late_s > GENERATOR_LATE_S else 0.0}

    def remove(self):
        """Takes all of it away again. Returns what is said about it."""
        if not self.wrote:
            return "nothing was written"
        if self.tests_before == 0:
            # Nobody else's test data is there: of ours no byte is left.
            answer = self.ask("DELETE", "/admin/test-data")
            return f"removed by DELETE /admin/test-data: {answer}"
        version = max(self.version + 1, int(time.time() * 1e3))
        lines = [f'{{"id_number":"{name}","remove":true,"version":{version},"reason":"capacity","test":true}}\n' for name in self.names]
        told = self.ask("POST", "/admin/residents", "".join(lines))
        gone = told.count('"result":"done"')
        if gone < WRITTEN:
            raise Failed(f"of {WRITTEN} test residents of ours {gone} were removed")
        return f"{gone} test residents of ours removed line by line, for there are others that are marked as test"

    def ask(self, method, path, body=None):
        parts = urllib.parse.urlsplit(self.node.admin)
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=70)
        fields = {"Content-Type": "application/x-ndjson"} if body else {}
        if self.node.token:
            fields["Authorization"] = f"Bearer {self.node.token}"
        try:
            connection.request(method, path, body, fields)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise Failed(f"{method} {path} answered {answer.status}: what was written may still be there, as test residents 999999190001010000 and on")
        return text.strip()


def reads(chosen, node, rate, seconds):
    """Refreshes of residents drawn at random, each over a new connection."""
    pinned = ["taskset", "-c", str(chosen.client_cpu)] if chosen.client_cpu is not None else []
    command = [*pinned, servers.built(os.path.join(ROOT, "target", "bench"), "load"), "--crowd", "--url", node.url + cases.REFRESH, "--sessions", node.sessions,
               "--plan", f"0:{rate},{seconds}:{rate}", "--patience", PATIENCE_S, "--reloads", 0, "--connections", chosen.connections]
    if urllib.parse.urlsplit(node.url).hostname == "127.0.0.1":
        command += ["--sources", "127.77.0.0/256"]
    before = node.metric("onecode_sent_bytes_total")
    result = servers.ended(servers.start_piped([str(word) for word in command]), seconds + PATIENCE_S + 30)
    whole = result["seconds"][:int(seconds)]
    return {"offered_per_s": result["arrived"] / seconds, "goodput_per_s": result["served"] / seconds, "errors": 1 - result["served"] / max(result["arrived"], 1),
            "p99_ms": result["latency_us"]["p99"] / 1e3, "open": int(result["served"] / seconds * result["latency_us"]["p99"] / 1e6),
            "generator_busy": 1 - sum(second["idle_us"] for second in whole) / 1e6 / len(whole),
            "sent_bits_per_s": (node.metric("onecode_sent_bytes_total") - before) * 8 / seconds}


def climb(kind, peak, chosen, run):
    """Step by step, until goodput falls, or p99 or errors are above their bound. Returns the last step that held, and why no other did."""
    held, best, again = None, 0.0, False
    for step in [step for step in STEPS for _ in range(2)]:
        if held and held["step"] == step:
            continue
        found = {"step": step, **run(peak * step, chosen.seconds)}
        busy = "" if found["generator_busy"] < GENERATOR_BUSY_MAX else "; the generator was at its end"
        print(f"  {kind} {step:4g} × {peak:,}: {found['goodput_per_s']:10,.0f}/s of {found['offered_per_s']:,.0f}, p99 {found['p99_ms']:7.1f} ms, errors {found['errors']:.2%}{busy}",
              file=sys.stderr, flush=True)
        why = "errors" if found["errors"] > ERRORS_MAX else "p99" if found["p99_ms"] > chosen.p99_ms else \
            "goodput" if found["goodput_per_s"] < max(best, GOODPUT_MIN * found["offered_per_s"]) else None
        if why and again:
            return held, ("the generator" if busy else why)
        # One that does not hold is made once more: it may have been something else on this host.
        again = bool(why)
        if why:
            time.sleep(PAUSE_S)
            continue
        held, best = found, found["goodput_per_s"] * GOODPUT_MIN
        time.sleep(PAUSE_S)
    return held, "the last step"


def lines_for_gateway(read, read_end, write, write_end, chosen):
    """The configuration, each line with the figure that it comes from."""
    said = {"errors": "beyond it more than 0.1 % failed", "p99": f"beyond it p99 was above {chosen.p99_ms} ms", "goodput": "beyond it goodput fell",
            "the generator": "beyond it the generator was at its end: it may be more", "the last step": "no end up to 30 times the peak: it may be more"}
    lines = ["# nginx before one node, in http and in its location"]
    if read:
        rate, burst = int(MARGIN * read["goodput_per_s"]), max(int(MARGIN * read["goodput_per_s"] / 10), 1)
        lines += [f"limit_req_zone $server_name zone=reads:1m rate={max(rate, 1)}r/s;  # {MARGIN:.0%} of {read['goodput_per_s']:,.0f} reads/s; {said[read_end]}",
                  f"limit_req zone=reads burst={burst} nodelay;  # a tenth of a second of it",
                  f"limit_conn_zone $server_name zone=open:1m; limit_conn open {max(2 * read['open'], 64)};  # twice as many as come within a p99 of {read['p99_ms']:.1f} ms"]
    if write:
        rate = int(MARGIN * write["goodput_per_s"])
        lines += [f"limit_req_zone $server_name zone=writes:1m rate={max(rate, 1)}r/s;  # if each is one request: {MARGIN:.0%} of {write['goodput_per_s']:,.0f} "
                  f"statuses/s; {said[write_end]}"]
    lines += ["# onecode itself"]
    if read:
        lines += ["[bandwidth]",
                  f"egress_bits_per_s = {max(int(read['sent_bits_per_s'] / MARGIN), 100_000)}  # pages come on top: at {read['goodput_per_s']:,.0f} reads/s alone "
                  f"{read['sent_bits_per_s'] / 1e6:.1f} Mbit/s were sent; the link's own rate if that is less",
                  "[admission]",
                  f"deadline_ms = {min(max(1_000, int(4 * read['p99_ms'])), 60_000)}  # p99 was {read['p99_ms']:.1f} ms at that rate"]
    return lines


def options():
    parser = bench_main.Parser(prog="scripts/capacity.sh", description="Finds out how many reads and writes a node carries, and prints what a gateway is to be told. "
                               "Without URL of a demo that it starts itself; else of a node that must be spared nothing: not one that serves people now.", allow_abbrev=False)
    parser.add_argument("target", nargs="?", metavar="URL", help="the node's public address, such as http://10.0.0.1:8080")
    parser.add_argument("--admin", help="its admin address, such as http://10.0.0.1:8081; test residents are written there, and removed")
    parser.add_argument("--token-file", help="a file whose first line is a token with the scopes read and residents, sent to --admin alone")
    parser.add_argument("--sessions", help="its sessions.txt, copied here")
    parser.add_argument("--peak", type=bench_main.positive, default=1_000, help="openings a second that are expected at most (1000); steps go up to 30 times as many")
    parser.add_argument("--writes", type=bench_main.positive, help="statuses a second that are expected at most (a tenth of --peak)")
    parser.add_argument("--p99-ms", type=bench_main.positive, default=250, help="the p99 that is borne (250)")
    parser.add_argument("--seconds", type=float, default=STEP_S, help="of each step (2.5)")
    parser.add_argument("--residents", type=bench_main.positive, default=DEMO_RESIDENTS, help="of the demo (300000)")
    parser.add_argument("--profile", choices=["release", "debug"], default="release", help="which build, for tests (release)")
    parser.add_argument("--port-base", type=bench_main.positive, default=18_700, help="the first of the ports used (18700)")
    parser.add_argument("--no-install", action="store_true", help="install nothing: name what is missing and exit 1")
    parser.add_argument("--check", action="store_true", help="look at the options, and at the node, and end")
    chosen = parser.parse_args()
    if not 1 <= chosen.seconds <= 10:
        parser.error("--seconds is from 1 to 10")
    bench_main.check_target(parser, chosen)
    chosen.writes = chosen.writes or max(chosen.peak // 10, 1)
    chosen.client_cpu = None
    return chosen


def measure(chosen, folder):
    if chosen.target:
        found = elsewhere.Elsewhere(chosen)
        if chosen.check:
            return
        node = Node(found.url, found.admin, os.path.abspath(chosen.sessions), found.token)
    elif chosen.check:
        return
    servers.BUILD.profile = chosen.profile
    bench_main.raise_files(FILES)
    # As many as may be out within the patience, as far as files go.
    chosen.connections = min(int(chosen.peak * STEPS[-1] * PATIENCE_S), stage.files() - 256)
    if not chosen.target:
        target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
        chosen.client_cpu = 1
        server = servers.Onecode("onecode", target, folder, chosen.port_base, 0, chosen.residents, all_cpus="0,1")
        node = Node(f"http://127.0.0.1:{server.port}", server.admin_url, server.sessions)
    print(f"{chosen.target or 'a demo of our own, one shard on CPU 0, the generator on CPU 1'}:", file=sys.stderr, flush=True)
    read, read_end = climb("reads ", chosen.peak, chosen, lambda rate, seconds: reads(chosen, node, rate, seconds))
    writes = Writes(node)
    try:
        write, write_end = climb("writes", chosen.writes, chosen, writes.run)
    finally:
        # However this ends.
        print(f"  {writes.remove()}", file=sys.stderr, flush=True)
    if not read and not write:
        raise Failed("not even the expected peak was carried")
    print("\n".join(lines_for_gateway(read, read_end, write, write_end, chosen)))


if __name__ == "__main__":
    asked = options()
    sys.exit(stage.perform("capacity", lambda folder: measure(asked, folder)))
