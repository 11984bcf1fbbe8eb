#!/usr/bin/env python3
"""What three settings of settings.toml are worth, measured in a network namespace of its own: nothing outside it is touched.

Run as root: unshare --net kernel-tuning/measure.py. Counts and bytes, not times, so a busy machine changes nothing.
"""

import pathlib
import resource
import select
import socket
import subprocess
import time

BURST, BACKLOG, SILENT = 1000, 1024, 100
IPV4 = pathlib.Path("/proc/sys/net/ipv4")


def put(path, value):
    pathlib.Path(path).write_text(value)


def listener(backlog=BACKLOG):
    server = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    return server


def held_up(somaxconn):
    """Of a burst of connections, those that are not there after half a second: SYNs are sent again after one."""
    put("/proc/sys/net/core/somaxconn", str(somaxconn))
    server = listener()
    clients = [socket.socket() for _ in range(BURST)]
    waiting = select.poll()
    for client in clients:
        client.setblocking(False)
        client.connect_ex(server.getsockname())
        waiting.register(client, select.POLLOUT)
    time.sleep(0.5)
    there = sum(1 for _, event in waiting.poll(0) if event & select.POLLOUT)
    for client in clients:
        client.close()
    server.close()
    return (BURST - there) / BURST


def kernel_bytes():
    """What TCP holds in memory, by /proc/net/sockstat."""
    line = next(line for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    return int(line.split()[-1]) * resource.getpagesize()


def held(name, value):
    """Bytes in the kernel for each of a hundred connections into which one side writes and of which the other reads nothing."""
    put(IPV4 / name, value)
    other = "tcp_wmem" if name == "tcp_rmem" else "tcp_rmem"
    put(IPV4 / other, "4096 16384 16384")
    server, before = listener(), kernel_bytes()
    pairs = []
    for _ in range(SILENT):
        client = socket.create_connection(server.getsockname())
        # As onecode's listeners have it.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 131072)
        pairs.append((client, server.accept()[0]))
    for _ in range(20):
        for client, _ in pairs:
            client.setblocking(False)
            try:
                while client.send(b"x" * 65536):
                    pass
            except BlockingIOError:
                pass
        time.sleep(0.05)
    found = (kernel_bytes() - before) / SILENT
    for pair in pairs:
        for one in pair:
            one.close()
    server.close()
    time.sleep(0.2)
    return found


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    print(f"burst of {BURST}, held up: somaxconn 128 {held_up(128):.0%}, 4096 {held_up(4096):.0%}")
    for name, default, wanted in [("tcp_rmem", "4096 131072 6291456", "4096 16384 262144"),
                                  ("tcp_wmem", "4096 16384 4194304", "4096 16384 1048576")]:
        before, after = held(name, default), held(name, wanted)
        print(f"{name}: {before:.0f} bytes a silent connection by default, {after:.0f} as wanted, {before / after:.1f} x less")


main()
