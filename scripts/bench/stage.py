"""What the scripts that measure share beside their servers: a folder that goes when they end, threads that watch, a CPU quota."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import servers
from servers import Failed

CGROUP_V1, CGROUP_V2 = "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"


def perform(name, work, parent=None):
    """Calls `work` with a folder of its own, in `parent` if not among the temporary ones, and returns the exit status. However it
    ends, all that it started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = tempfile.mkdtemp(prefix=f"onecode-{name}-", dir=parent)
    # nginx's worker runs as another user and must find its files; what is secret in here has modes of its own.
    os.chmod(folder, 0o711)
    servers.LOGS.folder = folder
    try:
        return work(folder) or 0
    except (Failed, OSError, subprocess.SubprocessError) as error:
        print(f"onecode: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("onecode: interrupted, nothing is written", file=sys.stderr)
        return 130
    finally:
        servers.stop_all()
        for quota in list(Quota.made):
            quota.remove()
        shutil.rmtree(folder, ignore_errors=True)


def files():
    """How many files this process and those that it starts may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Watcher:
    """A thread that looks at something beside a run: `look` is called every `every_s`, once at the start and once at the end at
    least. What it could not do is an error of the run."""

    def __init__(self, every_s):
        self.every_s, self.over, self.failed = every_s, threading.Event(), None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.look()
            over = False
            while not over:
                over = self.over.wait(self.every_s)
                self.look()
        except (Failed, OSError, ValueError, KeyError, IndexError) as error:
            self.failed = error

    def stop(self):
        self.over.set()
        self.thread.join(10)
        if self.failed:
            raise Failed(f"{type(self).__name__.lower()}: {self.failed}")


class Samples(Watcher):
    """Rows of figures, each with its time."""

    def __init__(self, read, every_s):
        self.read, self.rows = read, []
        super().__init__(every_s)

    def look(self):
        self.rows.append((time.time(), *self.read()))

    def at(self, when, column):
        """A counter at a time, between two samples by a straight line; the first column is 1."""
        before = max((row for row in self.rows if row[0] <= when), default=self.rows[0])
        after = min((row for row in self.rows if row[0] > when), default=self.rows[-1])
        if after[0] <= before[0]:
            return before[column]
        return before[column] + (after[column] - before[column]) * (when - before[0]) / (after[0] - before[0])


class Peak(Watcher):
    """The most that a figure was."""

    def __init__(self, read, every_s):
        self.read, self.most = read, 0
        super().__init__(every_s)

    def look(self):
        self.most = max(self.most, self.read())


class Quota:
    """A group of processes that together have a part of a CPU (cgroups(7), the controller `cpu` of either version)."""

    made = []

    def __init__(self, quota_us, period_us):
        self.version = 1 if os.path.exists(f"{CGROUP_V1}/cpu.cfs_quota_us") or os.path.isdir(CGROUP_V1) else 2
        self.path = os.path.join(CGROUP_V1 if self.version == 1 else CGROUP_V2, f"onecode-{os.getpid()}-{len(self.made)}")
        os.mkdir(self.path)
        self.made.append(self)
        if self.version == 1:
            self.write("cpu.cfs_period_us", period_us)
            self.write("cpu.cfs_quota_us", quota_us)
        else:
            self.write("cpu.max", f"{quota_us} {period_us}")
        self.described = f"{quota_us:,} µs of every {period_us:,} by cgroup v{self.version}"

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as file:
            file.write(str(value))

    def add(self, server):
        self.write("cgroup.procs", server.process.pid)

    def remove(self):
        """Once those in it have ended."""
        os.rmdir(self.path)
        self.made.remove(self)
