"""Faults, made for real and taken back: a firewall, a thread that stands, a disk, a clock. Each can prove that it was there."""

import ctypes
import fcntl
import glob
import json
import os
import struct
import subprocess
import time

import servers
from servers import Failed

# Of linux/ptrace.h, linux/wait.h, linux/sched.h, linux/fs.h and fs/ext4/ext4.h.
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000
CLONE_NEWNS, FIFREEZE, FITHAW = 0x00020000, 0xC0045877, 0xC0045878
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"


def do(*command, said=None):
    """A command that must not fail; returns what it says."""
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, input=said)
    if found.returncode:
        raise Failed(f"{' '.join(command)}: {found.stderr.strip()}")
    return found.stdout


class Firewall:
    """Rules of nftables in the server's own network namespace, on the device that its clients come through. They go with it."""

    def __init__(self, device):
        self.device = device

    def put(self, into, out):
        chain = "type filter hook {} priority 0;\n{}\n"
        rules = (f"table inet drill {{\nchain in {{ {chain.format('input', into)} }}\n"
                 f"chain out {{ {chain.format('output', out)} }}\n}}\n")
        do("nft", "-f", "-", said=rules)

    def drop_all(self):
        self.put(f'iifname "{self.device}" counter drop', f'oifname "{self.device}" counter drop')

    def lose(self, percent, resets_percent):
        """Of all packets so many are lost each way; of those with data from a client so many are answered with a reset instead,
        of which the server hears nothing, as when a carrier's box has forgotten a connection."""
        lost = f"numgen random mod 100 < {percent} counter drop"
        # Longer than any head of IPv4 and TCP that carries nothing.
        reset = f'iifname "{self.device}" tcp flags & (syn | fin | rst) == 0 meta length > 100 ' \
                f"numgen random mod 100 < {resets_percent} counter reject with tcp reset"
        self.put(f'iifname "{self.device}" {lost}\n{reset}', f'oifname "{self.device}" {lost}')

    def counted(self):
        """Packets that each rule has met, in their order."""
        rules = [each["rule"]["expr"] for each in json.loads(do("nft", "-j", "list", "table", "inet", "drill"))["nftables"] if "rule" in each]
        return [part["counter"]["packets"] for rule in rules for part in rule if "counter" in part]

    def take_away(self):
        do("nft", "delete", "table", "inet", "drill")


class StandingThread:
    """One thread of a process that does not go on until it is let, while the others do (ptrace(2), PTRACE_SEIZE). The kernel lets it
    go when the process that holds it ends."""

    def __init__(self, pid, name):
        self.held = False
        self.tid = next((int(tid) for tid in os.listdir(f"/proc/{pid}/task") if thread_name(pid, tid) == name), None)
        if self.tid is None:
            raise Failed(f"process {pid} has no thread {name}")
        self.path = f"/proc/{pid}/task/{self.tid}/status"
        for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
            self.ptrace(request)
        self.held = True
        os.waitpid(self.tid, WALL)

    def ptrace(self, request):
        call = servers.LIBC.ptrace
        call.argtypes, call.restype = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p], ctypes.c_long
        if call(request, self.tid, None, None):
            raise Failed(f"thread {self.tid} cannot be held: ptrace(2) was refused")

    def state(self):
        """What the kernel says of it."""
        with open(self.path, encoding="ascii") as file:
            return next(line.split(None, 1)[1].strip() for line in file if line.startswith("State:"))

    def let_go(self):
        if self.held:
            self.held = False
            self.ptrace(PTRACE_DETACH)

    def bury(self):
        """Once its process was killed: who held it has to hear of its end before the process can be gone."""
        self.held = False
        try:
            while not os.WIFSIGNALED(os.waitpid(self.tid, WALL)[1]):
                pass
        except ChildProcessError:
            pass


def thread_name(pid, tid):
    try:
        with open(f"/proc/{pid}/task/{tid}/comm", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


class Disk:
    """An ext4 of its own over a loop device, in a mount namespace of this process, which takes it along when it ends."""

    def __init__(self, folder, mebibytes):
        self.image, self.path, self.frozen = os.path.join(folder, "disk.image"), os.path.join(folder, "disk"), False
        if servers.LIBC.unshare(CLONE_NEWNS):
            raise Failed("no mount namespace can be made here: that needs root (CAP_SYS_ADMIN)")
        do("mount", "--make-rprivate", "/")
        os.mkdir(self.path)
        with open(self.image, "wb") as file:
            file.truncate(mebibytes << 20)
        do("mkfs.ext4", "-q", "-m", "0", self.image)
        self.mount()

    def mount(self):
        do("mount", "-o", "loop", self.image, self.path)

    def unmount(self):
        if os.path.ismount(self.path):
            self.thaw()
            do("umount", self.path)

    def control(self, request, argument=0):
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, request, argument)
        finally:
            os.close(folder)

    def free_bytes(self):
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self):
        """Takes all that is left. Synced, since a file system may promise more than it has."""
        path = os.path.join(self.path, "filler")
        with open(path, "ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(b"\1" * size)
                        os.fsync(file.fileno())
                except OSError:
                    continue
        return path

    def freeze(self):
        """Every write to it waits from now on (FIFREEZE, as fsfreeze(8) does). A frozen file system outlives all its mounts, so a process
        stands by that thaws it when this one ends, however it does."""
        self.guard = subprocess.Popen(["sh", "-c", 'read -r _; fsfreeze --unfreeze "$0"', self.path], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        self.control(FIFREEZE)
        self.frozen = True

    def thaw(self):
        if self.frozen:
            self.control(FITHAW)
            self.frozen = False
            self.guard.stdin.close()
            self.guard.wait()

    def fail(self):
        """Every read and write is an I/O error from now on, and what is not on the device by now never will be: what ext4 itself does
        when its device fails (EXT4_IOC_SHUTDOWN, without a flush of its log)."""
        self.control(EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))

    def gives_errors(self):
        try:
            with open(os.path.join(self.path, "probe"), "wb") as file:
                file.write(b"1")
                os.fsync(file.fileno())
        except OSError as error:
            return error.strerror
        return None


class Clock:
    """A clock of one process that can be set while it runs (libfaketime, preloaded): the time of day only, as when an operator or
    a time server sets it. The machine's own clock stays."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "clock")
        self.set(0)

    @staticmethod
    def library():
        return next(iter(glob.glob(FAKETIME)), None)

    def environment(self):
        return {"LD_PRELOAD": self.library(), "FAKETIME_TIMESTAMP_FILE": self.path, "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1"}

    def set(self, seconds):
        """So many seconds beside the machine's. Renamed, so that nobody reads half of it."""
        with open(self.path + ".new", "w", encoding="ascii") as file:
            file.write(f"{seconds:+d}\n")
        os.replace(self.path + ".new", self.path)


def wait_until(what, patience_s, is_true, every_s=0.02):
    """Waits for something that must come, and returns how long that was."""
    began = time.monotonic()
    while not is_true():
        if time.monotonic() - began > patience_s:
            raise Failed(f"{what}: not within {patience_s} s")
        time.sleep(every_s)
    return time.monotonic() - began
