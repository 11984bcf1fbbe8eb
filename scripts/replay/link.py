"""Two network namespaces, a veth pair between them, and `tc tbf` at the exit of each: a line of a rate that we choose.

The namespaces have no names. This process moves into one, which becomes the server's side, and a child holds the
other, the crowd's. The kernel removes both, and the pair with them, once the last process inside is gone, however this one ends;
whatever it starts dies with it (servers.start).
"""

import os
import re
import socket
import struct
import subprocess
import time

import servers
from servers import Failed

CLONE_NEWNET = 0x40000000
# Of linux/netlink.h and linux/rtnetlink.h.
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 1, 0x300, 2, 3
RTM_NEWQDISC, RTM_GETQDISC, TCA_STATS = 36, 38, 3
SERVER_ADDRESS, CROWD_ADDRESS = "10.77.0.1", "10.77.0.2"
# Everyone in the crowd comes from an address of their own, as from their own line.
SOURCES, SOURCES_ROUTE = "10.78.0.0/4096", "10.78.0.0/16"
# What a port of a switch holds at most: then packets are lost. Below a burst the kernel's timer would lose rate.
QUEUE_MS = 20
BURST_MS, BURST_BYTES_MIN = 1, 16_000
RATE = re.compile(r"^(\d+(?:\.\d+)?)(k|m|g)bit$")
UNITS = {"k": 1e3, "m": 1e6, "g": 1e9}
# What matters of a host's settings and is each namespace's own.
SETTINGS = {"net/ipv4/ip_local_port_range": "1024 65535", "net/core/somaxconn": "65535",
            "net/ipv4/tcp_max_syn_backlog": "65535"}


def bits_per_s(text):
    found = RATE.match(text)
    if not found or float(found[1]) <= 0:
        raise ValueError(text)
    return float(found[1]) * UNITS[found[2]]


def refused():
    """Why this host makes no namespaces for us, in one line, or nothing."""
    probe = subprocess.run(["unshare", "--net", "sh", "-c", "ip link add exit type veth peer name city && "
                            "tc qdisc add dev exit root tbf rate 1mbit burst 16k latency 20ms"], capture_output=True, text=True)
    return (probe.stderr.strip().splitlines() or ["no reason given"])[-1] if probe.returncode else None


class Link:
    """The line. `exit` is the server's end of it."""

    def __init__(self, rate, server_cpu, client_cpu):
        self.rate, self.bits_per_s = rate, bits_per_s(rate)
        if servers.LIBC.unshare(CLONE_NEWNET):
            raise Failed("no network namespace can be made here: that needs root (CAP_SYS_ADMIN)")
        self.holder = servers.start(["unshare", "--net", "sleep", "infinity"])
        self.wait_for_holder()
        inside = self.crowd_side()
        # Each side's packets are received on its own CPU: else a sender does its receiver's work.
        self.steers = self.set([], "net/core/rps_default_mask", f"{1 << server_cpu:x}") and \
            self.set(inside, "net/core/rps_default_mask", f"{1 << client_cpu:x}")
        for name, value in SETTINGS.items():
            for side in ([], inside):
                if not self.set(side, name, value):
                    raise Failed(f"/proc/sys/{name} cannot be set")
        self.do("ip", "link", "add", "exit", "type", "veth", "peer", "name", "city", "netns", str(self.holder.pid))
        for side, device, address in (([], "exit", SERVER_ADDRESS), (inside, "city", CROWD_ADDRESS)):
            self.do(*side, "ip", "link", "set", "lo", "up")
            self.do(*side, "ip", "address", "add", f"{address}/24", "dev", device)
            self.do(*side, "ip", "link", "set", device, "up")
            burst = max(int(self.bits_per_s / 8 * BURST_MS / 1e3), BURST_BYTES_MIN)
            self.do(*side, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", rate, "burst", str(burst),
                    "latency", f"{QUEUE_MS}ms")
        self.exit_index = socket.if_nametoindex("exit")
        self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.netlink.settimeout(5)
        self.do("ip", "route", "add", SOURCES_ROUTE, "via", CROWD_ADDRESS)
        self.do(*inside, "ip", "route", "add", "local", SOURCES_ROUTE, "dev", "lo")

    def wait_for_holder(self):
        own, until = os.stat("/proc/self/ns/net").st_ino, time.monotonic() + 5
        while os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino == own:
            if time.monotonic() > until or self.holder.poll() is not None:
                raise Failed("the crowd's network namespace did not come up")
            time.sleep(0.01)

    def crowd_side(self):
        """What a command begins with that is to run on the crowd's side."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def enter(self):
        """Takes the thread that calls, and no other, to the crowd's side."""
        with open(f"/proc/{self.holder.pid}/ns/net", "rb") as file:
            if servers.LIBC.setns(file.fileno(), CLONE_NEWNET):
                raise Failed("the crowd's network namespace cannot be entered")

    @staticmethod
    def set(side, name, value):
        return subprocess.run([*side, "sh", "-c", f"echo {value} > /proc/sys/{name}"], stderr=subprocess.DEVNULL).returncode == 0

    @staticmethod
    def do(*command):
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
        if found.returncode:
            raise Failed(f"{' '.join(command)}: {found.stderr.strip()}")
        return found.stdout

    def counters(self):
        """Of the queue at the server's exit since it is up: bytes with the headers of every packet, and packets that found it
        full. Asked of the kernel itself (rtnetlink(7)): a process twice a second would be felt by the crowd's p99."""
        asked = struct.pack("=IHHII", 36, RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + struct.pack("=BxxxiIII", 0, 0, 0, 0, 0)
        self.netlink.send(asked)
        found, done = None, False
        while not done:
            data = self.netlink.recv(65_536)
            while data and not done:
                length, kind = struct.unpack_from("=IH", data)
                done = kind in (NLMSG_DONE, NLMSG_ERROR)
                if kind == RTM_NEWQDISC and struct.unpack_from("=i", data, 20)[0] == self.exit_index:
                    found = self.stats(data[36:length]) or found
                data = data[(length + 3) & ~3:]
        if not found:
            raise Failed("the kernel tells nothing of the queue at the exit")
        return found

    @staticmethod
    def stats(attributes):
        """`struct tc_stats` of a message's attributes: bytes, packets, drops."""
        while len(attributes) >= 4:
            length, kind = struct.unpack_from("=HH", attributes)
            if kind == TCA_STATS:
                sent, _, drops = struct.unpack_from("=QII", attributes, 4)
                return sent, drops
            attributes = attributes[(length + 3) & ~3:]
        return None

    def described(self):
        with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="ascii") as file:
            congestion = file.read().strip()
        return (f"{self.rate} both ways by tc tbf (queue {QUEUE_MS} ms, burst {BURST_MS} ms), MTU 1500, no delay, {congestion}; "
                + ("each side's packets received on its own CPU" if self.steers else "packets received on the sender's CPU"))
