"""TLS: what a handshake, a request behind it, an opening and an idle connection cost, beside nginx with the same
certificate, cipher and group. The load comes at a rate below what either can carry; CPU per request is what counts."""

import os
import ssl
import subprocess

import cases
import servers
from servers import Failed, ask

HANDSHAKES_PER_S = 1_000
OPENINGS_PER_S = 500
RESIDENTS = 100_000
IDLE_CONNECTIONS = 8_000
RESUMED = "onecode_tls_resumed_handshakes_total"


def make_certificate(folder, address="127.0.0.1"):
    """A P-256 certificate for an address that signs itself, and its key; nginx's worker reads neither."""
    chain, key = os.path.join(folder, "tls.pem"), os.path.join(folder, "tls.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "90",
               "-subj", f"/CN={address}", "-addext", f"subjectAltName=IP:{address}", "-addext", "basicConstraints=critical,CA:FALSE",
               "-keyout", key, "-out", chain]
    status, _, err = servers.run(command, 20)
    if status:
        raise Failed(f"openssl makes no certificate: {err.strip()}")
    os.chmod(key, 0o600)
    return chain, key


def context(chain):
    return ssl.create_default_context(cafile=chain)


def negotiated(server, chain):
    """Version, cipher and group, as OpenSSL sees them."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-groups", "X25519", "-ciphersuites",
               "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384", "-CAfile", chain, "-brief"]
    found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    lines = [line for line in (found.stdout + found.stderr).splitlines()
             if line.startswith(("Protocol version", "Ciphersuite", "Server Temp Key", "Verification"))]
    return ", ".join(line.partition(": ")[2] or line for line in lines)


def handshake_run(bench, chain, sessions, extra, rate):
    """A run of new connections, one request each, at a rate; every one must be answered."""

    def run(server):
        seconds = bench.options.seconds
        cases.wait_for_window(seconds + 1)
        url = f"https://127.0.0.1:{server.port}{cases.REFRESH}"
        arguments = ["--trust", chain, "--sessions", sessions, "--residents", cases.WARM_RESIDENTS]
        bench.load(url, arguments + ["--requests", cases.WARM_RESIDENTS, "--rate", 10_000, "--duration", 5], 20)
        resumed = lambda: server.metric(RESUMED) if hasattr(server, "metric") else 0
        before, cpu_before, resumed_before = cases.cpu_times(), server.cpu_s(), resumed()
        result = bench.load(url, arguments + extra + ["--rate", rate, "--duration", seconds], seconds + 20)
        found = finished(server, result, before, cpu_before)
        # Only the first of them have no ticket to come back with.
        least = 0.9 * result["answered"] if "--resume" in extra else 0
        if hasattr(server, "metric") and not least <= resumed() - resumed_before <= (result["answered"] if least else 0):
            found["void"] = f"{resumed() - resumed_before:.0f} of {result['answered']} handshakes were resumed"
        return found

    return run


def finished(server, result, before, cpu_before):
    cpu_s, after = server.cpu_s() - cpu_before, cases.cpu_times()
    found = {"cpu_us": cpu_s * 1e6 / max(result["answered"], 1), "per_s": result["answered_per_s"],
             "client_busy": 0.0, "steal": (after[1] - before[1]) / max(after[0] - before[0], 1),
             "p99_us": result["latency_us"]["p99"]}
    if result["failed"] or not result["answered"] or set(result["statuses"]) - {"200"}:
        found["void"] = f"{result['failed']} of {result['planned']} failed, statuses {result['statuses']}"
    return found


def keepalive_run(bench, chain, sessions):
    """wrk over TLS, as in the warm case."""

    def run(server):
        cases.wait_for_window(bench.options.seconds + 1)
        url = f"https://127.0.0.1:{server.port}"
        bench.load(url + cases.REFRESH, ["--trust", chain, "--sessions", sessions, "--residents", cases.WARM_RESIDENTS,
                                         "--requests", cases.WARM_RESIDENTS, "--rate", 10_000, "--duration", 5], 20)
        before, cpu_before = cases.cpu_times(), server.cpu_s()
        result = bench.wrk(url, "warm", [sessions])
        cpu_s, after = server.cpu_s() - cpu_before, cases.cpu_times()
        result["steal"] = (after[1] - before[1]) / max(after[0] - before[0], 1)
        result["cpu_us"] = cpu_s * 1e6 / max(result["requests"], 1)
        if result["failed"] or not result["requests"]:
            result["void"] = f"{result['failed']} of {result['requests']} requests failed"
        return result

    return run


def opening_run(bench, chain, extra):
    """Page, session and refresh over one new connection, of residents who come one after the other."""

    def run(server):
        seconds = bench.options.seconds
        url = f"https://127.0.0.1:{server.port}/"
        arguments = ["--trust", chain, "--opening", "--residents", RESIDENTS, "--rate", OPENINGS_PER_S, "--duration", seconds]
        before, cpu_before = cases.cpu_times(), server.cpu_s()
        result = bench.load(url, arguments + extra, seconds + 20)
        return finished(server, result, before, cpu_before)

    return run


def measure(bench):
    """All rows, over one pair of servers."""
    chain, key = make_certificate(bench.folder)
    trusted = context(chain)
    ours = servers.Onecode("onecode", bench.target, bench.folder, bench.port(), bench.server_cpu, RESIDENTS, tls=(chain, key))
    asked = {"Authorization": f"Bearer {cases.first_session(ours.sessions)}"}
    answer = ask(ours.port, cases.REFRESH, asked, tls=trusted)
    theirs = servers.nginx("nginx-return", "return", bench.folder, bench.port(), bench.server_cpu, answer, cases.REFRESH, asked,
                           deferred=True, tls=(chain, key))
    both = [ours, theirs]
    equal = cases.equal_all(answer, [theirs], cases.REFRESH, asked, trusted)
    spoken = {server.name: negotiated(server, chain) for server in both}
    if len(set(spoken.values())) != 1:
        raise Failed(f"the two do not speak alike: {spoken}")
    bench.say(f"  both: {spoken['onecode']}")
    new = ["--new-connections"]
    results = {"spoken": spoken["onecode"], "cases": {}}

    def case(name, contenders, one_run):
        found = cases.Case(bench, name, "onecode", contenders, equal)
        found.go(one_run, bench.options.pairs)
        results["cases"][name] = found.result()

    case("full", both, handshake_run(bench, chain, ours.sessions, new, HANDSHAKES_PER_S))
    case("resumed", both, handshake_run(bench, chain, ours.sessions, new + ["--resume"], HANDSHAKES_PER_S))
    case("keepalive", both, keepalive_run(bench, chain, ours.sessions))
    # OpenSSL 3.0, which nginx has here, knows no post-quantum group.
    case("full-pq", [ours], handshake_run(bench, chain, ours.sessions, new + ["--post-quantum"], HANDSHAKES_PER_S))
    case("opening", [ours], opening_run(bench, chain, ["--post-quantum"]))
    case("return", [ours], handshake_run(bench, chain, ours.sessions, new + ["--resume", "--post-quantum"], HANDSHAKES_PER_S))
    results["idle"] = cases.memory(bench, both, ours.sessions, IDLE_CONNECTIONS, "https", ["--trust", chain])
    cases.stop_servers(both)
    return results
