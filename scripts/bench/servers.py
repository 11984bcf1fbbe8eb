"""Servers that the bench starts, pins, asks once, watches and stops.

Every process is started here, remembered, and ended by its own id; the kernel ends those that are left when this
process dies. CPU time is what the kernel charges the processes themselves: the run time of all their threads
(/proc/PID/task/*/schedstat, in nanoseconds), workers of nginx included.
"""

import ctypes
import glob
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
STARTED = []


class Failed(Exception):
    """Something that ends the bench, in one line."""


def start(command, orphaned=signal.SIGTERM, **options):
    """Starts a process that does not outlive this one: the kernel sends it that signal then."""
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, orphaned), **options)
    STARTED.append(process)
    return process


def stop(process, patience_s=5):
    """Ends one process that was started here."""
    if process.poll() is None:
        process.terminate()
        # One that was paused would not hear of it.
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process in STARTED:
        STARTED.remove(process)


def stop_all():
    for process in list(STARTED):
        stop(process)


def start_piped(command, **options):
    """One whose output is read at its end."""
    return start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def output(process, timeout_s):
    """What it has said at its end, for which there is a bound."""
    try:
        return process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"{process.args[0]}: no end after {timeout_s:.0f} s") from None
    finally:
        stop(process)


def run(command, timeout_s, **options):
    """Runs a process to its end, with a bound, and returns its output; it may fail."""
    process = start_piped(command, **options)
    out, err = output(process, timeout_s)
    return process.returncode, out, err


def ended(process, timeout_s):
    """The report of a load generator at its end."""
    out, err = output(process, timeout_s)
    if not out.startswith("{"):
        raise Failed(f"load: {err.strip()}")
    return json.loads(out)


def user_s():
    """User time of all that was started here and has not ended, children included."""
    ticks = 0
    for pid in [process.pid for process in STARTED]:
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                family = [pid] + [int(child) for child in file.read().split()]
            for member in family:
                with open(f"/proc/{member}/stat", encoding="ascii") as file:
                    # utime, behind the name in brackets.
                    ticks += int(file.read().rpartition(")")[2].split()[11])
        except (OSError, IndexError):
            # It has just ended, and is counted as a child of this process.
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def others_s():
    """Seconds of both CPUs that went to programs that are none of ours, or to the host."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, _, _, _, _, _, steal = [int(field) for field in file.readline().split()[1:9]]
    times = os.times()
    return (user + nice + steal) / os.sysconf("SC_CLK_TCK") - times.user - times.children_user - user_s()


def check_free(port):
    """A port that someone else holds is named before anything is started."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(f"port {port} is not free ({error.strerror}); choose another range with --port-base") from None


class Answer:
    """One answer as it went over the wire."""

    def __init__(self, raw):
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = re.match(r"HTTP/1\.[01] ([1-5][0-9]{2})( |$)", lines[0])
        if not status:
            raise Failed("the answer is not HTTP/1.1")
        self.status = int(status[1])
        self.fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.fields[name.lower()] = value.strip()

    @property
    def head_bytes(self):
        return len(self.raw) - len(self.body)


def ask(port, path, fields, host="127.0.0.1", tls=None):
    """Sends one request, over TLS in this context if there is one, and reads its whole answer."""
    named = f"[{host}]" if ":" in host else host
    lines = [f"GET {path} HTTP/1.1", f"Host: {named}:{port}"] + [f"{name}: {value}" for name, value in fields.items()]
    raw = b""
    with socket.create_connection((host, port), timeout=5) as plain, \
            (tls.wrap_socket(plain, server_hostname=host) if tls else plain) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        while True:
            head, end, body = raw.partition(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
            if end and length and len(body) >= int(length[1]):
                return Answer(raw)
            piece = connection.recv(65536)
            if not piece:
                raise Failed(f"{host}:{port}{path}: the answer ended early")
            raw += piece


class Server:
    """One server of a case, on a port of its own."""

    # nginx ends its workers on this one.
    orphaned = signal.SIGTERM

    def __init__(self, name, command, port, cpu, ready="/", patience_s=120, environment=None, ready_port=None, tls=None):
        check_free(port)
        self.name, self.port, self.ready_port, self.tls = name, port, ready_port or port, tls
        self.log = open(os.path.join(LOGS.folder, f"{name}-{port}.log"), "w+", encoding="utf-8")
        pinned = ["taskset", "-c", str(cpu)] + command
        self.process = start(pinned, self.orphaned, stdout=self.log, stderr=self.log, env={**os.environ, **(environment or {})})
        self.wait_until_it_answers(ready, patience_s)

    def wait_until_it_answers(self, path, patience_s):
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                ask(self.ready_port, path, {"Connection": "close"}, tls=self.tls)
                return
            except (OSError, Failed):
                time.sleep(0.1)
        self.log.flush()
        self.log.seek(0)
        text = self.log.read()[-2000:]
        self.stop()
        raise Failed(f"{self.name} did not come up:\n{text}")

    def processes(self):
        """Its own process and the children of that."""
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
            return [pid] + [int(child) for child in file.read().split()]

    def cpu_s(self):
        total_ns = 0
        for pid in self.processes():
            for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
                with open(path, encoding="utf-8") as file:
                    total_ns += int(file.read().split()[0])
        return total_ns / 1e9

    def resident_bytes(self):
        total = 0
        for pid in self.processes():
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                total += int(re.search(r"^VmRSS:\s+(\d+) kB", file.read(), re.M)[1]) * 1024
        return total

    def stop(self):
        stop(self.process, patience_s=15)
        self.log.close()


class Logs:
    """Where servers write what they say; set once at the start."""

    folder = "/tmp"


LOGS = Logs()


class Build:
    """Which build is started; a test may set it."""

    profile = "release"


BUILD = Build()


def built(target, name):
    """Where the build left a program. The server's own may be named instead."""
    named = os.environ.get("ONECODE_BIN") if name == "onecode" else None
    return os.path.abspath(named) if named else os.path.join(target, BUILD.profile, name)


class Onecode(Server):
    """Our own server, one shard unless more are wanted; its other threads may run on `all_cpus`. A demo in a folder of its own,
    unless `data` is a folder that has residents."""

    # Nothing else reaches one that is paused.
    orphaned = signal.SIGKILL

    def __init__(self, name, target, folder, port, cpu, residents, driver="auto", environment=None, all_cpus=None, data=None,
                 tls=None, address="127.0.0.1", shards=1, flags=()):
        check_free(port + 1)
        self.admin_url = f"http://127.0.0.1:{port + 1}"
        self.data = data or os.path.join(folder, f"data-{port}")
        command = [built(target, "onecode"), "serve"]
        command += [] if data else ["--demo", "--residents", str(residents)]
        command += ["--shards", str(shards), "--cpus", str(cpu), "--driver", driver, "--data", self.data]
        command += ["--listen", f"{address}:{port}", "--admin", f"127.0.0.1:{port + 1}", *flags]
        if tls:
            environment = {**(environment or {}), "ONECODE_TLS_CERTIFICATES": tls[0], "ONECODE_TLS_KEYS": tls[1]}
        super().__init__(name, command, port, all_cpus or cpu, "/readyz", 300, environment, port + 1)
        self.sessions = os.path.join(self.data, "sessions.txt")

    def pause(self):
        """Takes the CPU from it until `resume`."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def driver_line(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8") as file:
            return next((line.strip() for line in file if "driver" in line), "")

    def metric(self, name):
        """The sum over its labels, unless it is named with them."""
        return metrics(self.admin_url, [name])[0]


def metrics(admin_url, names, token=None):
    """The sum of each metric over its labels. A token goes to this address alone: no redirect is followed, no proxy asked."""
    parts = urllib.parse.urlsplit(admin_url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=5)
    try:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        raise Failed(f"{admin_url}/metrics: {getattr(error, 'strerror', None) or error or type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status in (401, 403):
        raise Failed(f"{admin_url}/metrics answered {answer.status}: --token-file names a token with the scope read")
    if answer.status != 200:
        raise Failed(f"{admin_url}/metrics answered {answer.status}")
    found = []
    for name in names:
        values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? ([0-9.e+-]+)$", text, re.M)
        if not values:
            raise Failed(f"{admin_url}/metrics has no {name}")
        found.append(sum(float(value) for value in values))
    return found


def floor(bench, name, folder, port, cpu, answer, closing=False):
    path = os.path.join(folder, f"answer-{port}")
    with open(path, "wb") as file:
        file.write(answer.raw)
    command = [os.path.join(bench, "release", "floor"), "--port", str(port), "--answer", path]
    return Server(name, command + (["--close"] if closing else []), port, cpu)


def peer(bench, kind, port, cpu, sessions):
    command = [built(bench, kind), "--port", str(port), "--sessions", sessions]
    return Server(kind, command, port, cpu)


# What a server adds of itself and cannot be told to leave out; the body is as much shorter.
UNAVOIDABLE = {"nginx": {"server", "connection"}}
# Made by nginx itself, from its configuration.
NOT_ADDED = {"date", "content-type", "content-length", "connection", "content-encoding"}


def nginx(name, location, folder, port, cpu, ours, path, fields, deferred=False, tls=None):
    """nginx with our fields; its body is cut until the whole answer has as many bytes as ours."""
    folder = os.path.join(folder, f"nginx-{port}")
    os.makedirs(os.path.join(folder, "root"))
    # Workers started by root run as another user, and all they need of the folder is to read it.
    os.chmod(folder, 0o755)
    body_bytes = len(ours.body)
    for _ in range(3):
        write_nginx(folder, location, port, ours, body_bytes, deferred, tls)
        trusted = ssl.create_default_context(cafile=tls[0]) if tls else None
        command = ["nginx", "-c", os.path.join(folder, "nginx.conf"), "-p", folder]
        server = Server(name, command, port, cpu, path, tls=trusted)
        over = len(ask(port, path, fields, tls=trusted).raw) - len(ours.raw)
        if over == 0:
            return server
        server.stop()
        body_bytes -= over
    raise Failed(f"{name} cannot be made to answer {len(ours.raw)} bytes")


def write_nginx(folder, location, port, ours, body_bytes, deferred, tls):
    body = ours.body[:body_bytes].ljust(body_bytes)
    values = {"TYPE": ours.fields["content-type"], "FIELDS": nginx_fields(ours, NOT_ADDED)}
    if location == "return":
        # A dollar begins a variable and cannot be escaped; another character is as long.
        values["BODY"] = body.decode().replace("$", "+").replace("'", "+").replace("\\", "+")
    else:
        for end in ["", ".gz"]:
            with open(os.path.join(folder, "root", "page.html" + end), "wb") as file:
                file.write(body)
    fill_nginx(folder, location, port, values, deferred, tls)


def nginx_fields(ours, left_out):
    """What makes nginx add the fields of our answer."""
    added = [(name, value) for name, value in ours.fields.items() if name not in left_out]
    return "\n".join(f"            add_header {titled(name)} '{value}';" if "'" not in value else
                     f'            add_header {titled(name)} "{value}";' for name, value in added)


def fill_nginx(folder, location, port, values, deferred, tls, upstream=False, address="127.0.0.1"):
    """Writes nginx.conf from the templates."""

    def template(name):
        with open(os.path.join(ROOT, "benches", "peers", "nginx", name), encoding="utf-8") as file:
            return file.read()

    listen = ("ssl " if tls else "") + ("deferred" if deferred else "")
    certificate, key = tls or ("", "")
    values = {**values, "FOLDER": folder, "ADDRESS": address, "PORT": str(port), "LISTEN": listen, "CERTIFICATE": certificate,
              "KEY": key}
    server = (template("tls.conf") if tls else "") + template(location + ".conf").rstrip()
    text = template("nginx.conf").replace("@LOCATION@", server)
    text = text.replace("@UPSTREAM@\n", template("upstream.conf") if upstream else "")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    with open(os.path.join(folder, "nginx.conf"), "w", encoding="utf-8") as file:
        file.write(text)


def titled(name):
    return {"etag": "ETag"}.get(name, "-".join(part.capitalize() for part in name.split("-")))


def check_equal(ours, theirs, name):
    """Equal work: the same fields with the same values, and as many bytes in all. Returns what is said about it."""
    extra = set(theirs.fields) - set(ours.fields)
    allowed = UNAVOIDABLE.get(name.split("-")[0], set())
    different = [field for field, value in ours.fields.items()
                 if field not in ("date", "content-length") and theirs.fields.get(field) != value]
    if theirs.status != ours.status or len(theirs.raw) != len(ours.raw) or different or extra - allowed:
        raise Failed(f"{name} does not answer as we do: status {theirs.status}, {len(theirs.raw)} bytes for "
                     f"{len(ours.raw)}, other fields {sorted(different)}, further fields {sorted(extra - allowed)}")
    return {"bytes": len(theirs.raw), "further_fields": sorted(extra)}
