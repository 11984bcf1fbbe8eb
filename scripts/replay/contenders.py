"""The three who meet the crowd, each alone on the servers' CPU: the old design, an informed one, and onecode."""

import os
import random

import cases
import servers
from servers import ask

PORT, PEER_PORT = 8080, 9080
OLD_PAGE_BYTES = 500_000
# Everyone is from this many; each comes with a session of their own.
RESIDENTS = 100_000
# Said by nginx itself of a file, or said otherwise where pages are kept for good.
NOT_ADDED = servers.NOT_ADDED | {"etag", "cache-control", "accept-ranges"}
TITLES = {"old": "old design: nginx, a page of 500 kB each time, codes made the obvious way",
          "informed": "informed: nginx, our page with gzip_static and immutable, codes by an informed peer",
          "onecode": "onecode"}
PAGES_KEPT = {"old": False, "informed": True, "onecode": True}


class Cast:
    """Starts one of them at a time."""

    def __init__(self, folder, target, bench, cpu):
        self.folder, self.target, self.bench, self.cpu = folder, target, bench, cpu
        # The first start makes residents and sessions, and tells what the page is.
        first = self.onecode()
        try:
            self.sessions = first.servers[0].sessions
            self.page, self.zipped = ask(PORT, "/", {}), ask(PORT, "/", {"Accept-Encoding": "gzip"})
        finally:
            first.stop()

    def start(self, name, tls=None):
        return {"old": self.old, "informed": self.informed, "onecode": self.onecode}[name](tls)

    def onecode(self, tls=None):
        server = servers.Onecode("onecode", self.target, self.folder, PORT, self.cpu, RESIDENTS, tls=tls, address="0.0.0.0")
        return Contender("onecode", [server])

    def old(self, tls=None):
        letters = random.Random(1).choices(b"abcdefghijklmnopqrstuvwxyz ", k=OLD_PAGE_BYTES)
        return self.nginx("old", "obvious", {"old.html": bytes(letters)}, {}, tls)

    def informed(self, tls=None):
        files = {"page.html": self.page.body, "page.html.gz": self.zipped.body}
        return self.nginx("informed", "informed", files, {"FIELDS": servers.nginx_fields(self.page, NOT_ADDED)}, tls)

    def nginx(self, name, kind, files, values, tls):
        """nginx with a page, before a peer that makes the codes."""
        folder = os.path.join(self.folder, f"nginx-{name}")
        os.makedirs(os.path.join(folder, "root"), exist_ok=True)
        # Its worker runs as another user.
        os.chmod(folder, 0o755)
        for file, content in files.items():
            with open(os.path.join(folder, "root", file), "wb") as to:
                to.write(content)
        servers.fill_nginx(folder, name, PORT, {**values, "PEER": str(PEER_PORT)}, True, tls, upstream=True, address="0.0.0.0")
        peer = servers.peer(self.bench, kind, PEER_PORT, self.cpu, self.sessions)
        try:
            trusted = servers.ssl.create_default_context(cafile=tls[0]) if tls else None
            if trusted:
                trusted.check_hostname = False
            front = servers.Server(f"nginx-{name}", ["nginx", "-c", os.path.join(folder, "nginx.conf"), "-p", folder], PORT,
                                   self.cpu, tls=trusted)
        except servers.Failed:
            peer.stop()
            raise
        return Contender(name, [front, peer])


class Contender:
    """One of them, running: one process or several."""

    def __init__(self, name, its_servers):
        self.name, self.servers = name, its_servers

    def cpu_s(self):
        return sum(server.cpu_s() for server in self.servers)

    def check(self, tls=None):
        """One visit by hand: the page and a refresh are there. Returns their bytes."""
        fields = {"Authorization": f"Bearer {cases.first_session(self.sessions_file)}"}
        page = ask(PORT, "/", {"Accept-Encoding": "gzip, deflate, br"}, tls=tls)
        refresh = ask(PORT, cases.REFRESH, fields, tls=tls)
        if page.status != 200 or refresh.status != 200 or b'"code":"OC1:' not in refresh.body:
            raise servers.Failed(f"{self.name} does not answer: {page.status}, {refresh.status}")
        return {"page_bytes": len(page.raw), "refresh_bytes": len(refresh.raw)}

    sessions_file = None

    def stop(self):
        for server in self.servers:
            server.stop()
