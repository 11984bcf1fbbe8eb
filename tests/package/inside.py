"""What a person does with the package, in a container of its own that systemd has booted: install, import, upgrade while
others ask, let a process hang, keep keys as credentials, remove, purge. Run by run.py; ends with 1 at the first surprise."""

import http.client
import os
import pwd
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

DATA = Path("/var/lib/onecode")
CONFIG = Path("/etc/onecode/onecode.toml")
DROP_IN = Path("/etc/systemd/system/onecode.service.d")
FIRST, SECOND, THIRD = sys.argv[1:4]


def run(*command, good=True, **more):
    print("+", *command, flush=True)
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **more)
    print(done.stdout, end="", flush=True)
    assert (done.returncode == 0) == good, f"{command} ended with {done.returncode}"
    return done.stdout


def shown(name):
    return subprocess.check_output(["systemctl", "show", "--value", "--property", name, "onecode"], text=True).strip()


def wait_until(what, is_so, within_s=30):
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


def ask(path, port=8080):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def metric(name):
    lines = ask("/metrics", 8081)[1].splitlines()
    return next(float(line.split(" ")[1]) for line in lines if line.split(" ")[0] == name)


def drop_in(name, text):
    DROP_IN.mkdir(parents=True, exist_ok=True)
    (DROP_IN / name).write_text(text)
    run("systemctl", "daemon-reload")


def is_active():
    return shown("ActiveState") == "active" and shown("SubState") == "running"


def mode(path):
    status = path.stat()
    return pwd.getpwuid(status.st_uid).pw_name, oct(stat.S_IMODE(status.st_mode))


class Crowd:
    """Asks until it is told to stop, by a connection a request and by one as long as the server keeps it."""

    def __init__(self):
        self.over, self.answered, self.failed = threading.Event(), 0, []
        self.threads = [threading.Thread(target=self.ask, args=[keeps]) for keeps in (False, False, True)]
        for thread in self.threads:
            thread.start()

    def ask(self, keeps):
        connection = None
        while not self.over.is_set():
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)
                connection.request("GET", "/.well-known/jwks.json")
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, answer.status
                self.answered += 1
                if not keeps or answer.getheader("Connection") == "close":
                    connection.close()
                    connection = None
            except Exception as error:  # noqa: BLE001: whatever it is, nobody is to see it
                self.failed.append(repr(error))
                connection = None
            time.sleep(0.001)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        print(f"{self.answered} answered, {len(self.failed)} failed", flush=True)
        assert self.answered > 100 and not self.failed, self.failed[:5]


def install():
    run("dpkg", "--install", FIRST)
    wait_until("it serves", is_active)
    assert ask("/healthz")[0] == 200
    assert run("systemctl", "is-enabled", "onecode").strip() == "enabled"
    assert mode(DATA) == ("onecode", "0o700") and mode(CONFIG.parent) == ("root", "0o750")
    pid = shown("MainPID")
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) & ~IPC_LOCK == 1 << 10, status["CapEff"]  # CAP_NET_BIND_SERVICE
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    print("driver:", [line for line in ask("/metrics", 8081)[1].splitlines() if "build_info{" in line])
    assert 'driver="uring"' in ask("/metrics", 8081)[1] or "io_uring" in JOURNAL(), "which driver, and why not uring"


def import_residents():
    rows = "".join(f"{number},green,1700000000000\n" for number in IDS)
    Path("/srv/residents.csv").write_text("id_number,status,updated_at\n" + rows)
    run("systemctl", "stop", "onecode")
    run("runuser", "-u", "onecode", "--", "onecode", "import", "/srv/residents.csv", "--config", str(CONFIG), cwd="/srv")
    run("systemctl", "start", "onecode")
    assert metric("onecode_residents") == len(IDS)


def reload():
    refused = metric("onecode_reloads_refused_total")
    run("systemctl", "reload", "onecode")
    wait_until("SIGHUP is heard", lambda: "read again" in JOURNAL())
    CONFIG.write_text(CONFIG.read_text() + "\nno_such_key = 1\n")
    run("systemctl", "reload", "onecode")
    wait_until("it is refused", lambda: metric("onecode_reloads_refused_total") == refused + 1)
    CONFIG.write_text(CONFIG.read_text().replace("\nno_such_key = 1\n", "\n# The site's own line.\n"))


def upgrade():
    pid, keys = shown("MainPID"), ask("/.well-known/jwks.json")[1]
    crowd = Crowd()
    time.sleep(0.5)
    run("dpkg", "--install", SECOND)
    time.sleep(0.5)
    crowd.stop()
    assert is_active() and shown("MainPID") != pid and shown("NRestarts") == "0"
    assert not Path(f"/proc/{pid}").exists() and "takeover: done" in JOURNAL()
    assert metric("onecode_residents") == len(IDS) and ask("/.well-known/jwks.json")[1] == keys
    assert "The site's own line." in CONFIG.read_text()
    assert "0.1.0-2" in run("dpkg-query", "--show", "onecode")


def refused_upgrade():
    """Another number of shards cannot be taken over: the former process serves on, and dpkg is content."""
    pid = shown("MainPID")
    CONFIG.write_text(CONFIG.read_text().replace("# shards = 4", "shards = 3"))
    said = run("dpkg", "--install", THIRD)
    assert "the former version serves on" in said and "runtime.shards" in JOURNAL()
    assert is_active() and shown("MainPID") == pid and ask("/healthz")[0] == 200
    run("systemctl", "restart", "onecode")
    assert is_active() and shown("MainPID") != pid


def hang():
    """The watchdog of the process that has taken over, too."""
    run("touch", "/run/onecode/takeover")
    run("systemctl", "reload", "onecode")
    time.sleep(7)
    pid = shown("MainPID")
    assert is_active() and shown("NRestarts") == "0"
    run("kill", "-STOP", pid, executable="/bin/kill") if Path("/bin/kill").exists() else os.kill(int(pid), 19)
    wait_until("systemd starts it again", lambda: shown("NRestarts") == "1" and is_active())
    assert "watchdog" in JOURNAL().lower() and metric("onecode_residents") == len(IDS)


def low_port():
    drop_in("port.conf", "[Service]\nEnvironment=ONECODE_LISTEN_ADDRESS=127.0.0.1:443\n")
    run("systemctl", "restart", "onecode")
    assert ask("/healthz", 443)[0] == 200
    (DROP_IN / "port.conf").unlink()
    run("systemctl", "daemon-reload")


def credentials():
    """As contrib/systemd/credentials.conf says."""
    keys = ask("/.well-known/jwks.json", 443)[1]
    source, credential = DATA / "keys/keyring.json", "/etc/onecode/keyring.cred"
    run("systemd-creds", "encrypt", "--with-key=host", "--name=keyring.json", str(source), credential)
    run("rm", "-r", str(DATA / "keys"))
    drop_in("credentials.conf", Path("/usr/share/doc/onecode/examples/credentials.conf").read_text())
    run("systemctl", "restart", "onecode")
    assert ask("/.well-known/jwks.json")[1] == keys and not (DATA / "keys").exists()
    run("touch", "/run/onecode/takeover")
    run("systemctl", "reload", "onecode")
    assert is_active() and ask("/.well-known/jwks.json")[1] == keys
    run("systemctl", "stop", "onecode")
    assert not Path("/run/onecode").exists()
    run("systemd-creds", "decrypt", "--name=keyring.json", credential, "/srv/keyring.json")
    run("install", "-d", "-o", "onecode", "-g", "onecode", "-m", "700", str(DATA / "keys"))
    run("install", "-o", "onecode", "-g", "onecode", "-m", "600", "/srv/keyring.json", str(source))
    (DROP_IN / "credentials.conf").unlink()
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "onecode")


def remove():
    run("dpkg", "--remove", "onecode")
    assert not is_active() and (DATA / "registry.snapshot").exists() and CONFIG.exists()
    run("dpkg", "--install", THIRD)
    wait_until("it serves", is_active)
    assert metric("onecode_residents") == len(IDS)
    run("dpkg", "--purge", "onecode")
    assert not DATA.exists() and not CONFIG.exists() and shown("LoadState") == "not-found"
    run("dpkg", "--install", FIRST)
    wait_until("it serves", is_active)
    assert metric("onecode_residents") == 0
    run("dpkg", "--purge", "onecode")


def JOURNAL():  # noqa: N802: what all of it says
    return subprocess.check_output(["journalctl", "--boot", "--unit", "onecode", "--no-pager", "--output", "cat"], text=True)


# Assigned to nobody: region 999999; with the check digit of GB 11643.
IDS = []
for first in ("99999919000101001", "99999919000101002", "99999919000101003"):
    IDS.append(first + "10X98765432"[sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(first)) % 11])
IPC_LOCK = 1 << 14
LIMITS = Path("/proc/1/limits").read_text()

if __name__ == "__main__":
    lines = "[Service]\nWatchdogSec=5\n"
    can_raise = int(next(line for line in Path("/proc/1/status").read_text().splitlines() if line.startswith("CapEff")).split()[1], 16) >> 24 & 1
    if not can_raise:
        print("this host lets nobody raise a limit (CAP_SYS_RESOURCE): CAP_IPC_LOCK stands in for LimitMEMLOCK=infinity")
        lines += "AmbientCapabilities=CAP_IPC_LOCK\nCapabilityBoundingSet=CAP_IPC_LOCK\n"
    drop_in("here.conf", lines)
    for step in (install, import_residents, reload, upgrade, refused_upgrade, hang, low_port, credentials, remove):
        began = time.monotonic()
        print(f"== {step.__name__}", flush=True)
        try:
            step()
        except BaseException:
            print("the journal:", JOURNAL(), flush=True)
            raise
        print(f"== {step.__name__}: ok, {time.monotonic() - began:.1f} s", flush=True)
    run("systemd-analyze", "--version")
    print("all passed", flush=True)
