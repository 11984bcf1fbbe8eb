"""Who uses the server while something happens to it: residents, doors, operators. Each remembers what it was told, and when.

They ask at a rate, each time over a new connection, and give up after their patience. What was acknowledged to them is a ledger,
against which the journal is read in the end.
"""

import base64
import collections
import http.client
import json
import os
import random
import threading
import time

import cases
import recovery
from servers import Failed

# When it was begun and when it ended, by this machine's monotonic clock, and "ok" or what it was instead.
Asked = collections.namedtuple("Asked", "began ended result")
# Who was served is served again within this.
SERVED_S = 1.0
BASE45 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
# Whom operators write about: nobody whom a demo of this size has.
WRITTEN_FIRST, WRITTEN = 20_001, 300


def ask(address, port, method, path, body=None, fields=None, patience_s=2.0, tls=None):
    """One request over a connection of its own: status, fields and body."""
    make = http.client.HTTPSConnection if tls else http.client.HTTPConnection
    connection = make(address, port, timeout=patience_s, **({"context": tls} if tls else {}))
    try:
        connection.request(method, path, body, fields or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def word(error):
    """What a failed call was, in a word or two."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, (http.client.HTTPException, ConnectionResetError, BrokenPipeError)):
        return "cut off"
    return getattr(error, "verify_message", None) or getattr(error, "strerror", None) or type(error).__name__


def problem(status, body):
    """A refusal by its type."""
    try:
        return f"{status} {json.loads(body)['type'].rpartition(':')[2]}"
    except (ValueError, KeyError, TypeError):
        return str(status)


class Code:
    """What is in a code, by its fixed places (src/code/claims.rs)."""

    def __init__(self, text):
        digits, raw = [BASE45.index(one) for one in text.removeprefix("OC1:")], b""
        for at in range(0, len(digits), 3):
            three = digits[at:at + 3]
            number = sum(digit * 45 ** place for place, digit in enumerate(three))
            raw += number.to_bytes(len(three) - 1, "big")
        # Behind the issuer's name.
        claims = 22 + (raw[21] & 0x1f)
        self.kid = base64.urlsafe_b64encode(raw[8:16]).decode().rstrip("=")
        self.iat = int.from_bytes(raw[claims + 8:claims + 12], "big")
        self.cti = raw[claims + 14:claims + 30].hex()


class Callers:
    """So many threads that ask a number of times a second together."""

    on_crowds_side = True

    def __init__(self, stand, threads, per_s, patience_s=2.0):
        self.stand, self.per_s, self.patience_s, self.asked, self.failed = stand, per_s, patience_s, [], None
        self.over, self.count = threading.Event(), threads
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(threads)]
        stand.callers.append(self)
        for thread in self.threads:
            thread.start()

    def run(self, number):
        try:
            if self.on_crowds_side:
                self.stand.enter()
            pause_s, turn = self.count / self.per_s, 0
            due = time.monotonic() + pause_s * number / self.count
            while not self.over.wait(max(0.0, due - time.monotonic())):
                began = time.monotonic()
                result = self.attempt(number + turn * self.count)
                self.asked.append(Asked(began, time.monotonic(), result))
                # Who was late does not hurry afterwards.
                due, turn = max(due + pause_s, time.monotonic()), turn + 1
        except Exception as error:
            self.failed = error

    def attempt(self, turn):
        try:
            return self.one(turn)
        except (OSError, http.client.HTTPException) as error:
            return word(error)

    def one(self, turn):
        raise NotImplementedError

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(self.patience_s + 10)
        if self.failed:
            raise Failed(f"{type(self).__name__.lower()}: {self.failed!r}")

    def between(self, begins, ends):
        return [one for one in self.asked if begins <= one.began <= ends]

    def share(self, begins, ends):
        """Of those who asked meanwhile, the share that was served."""
        asked = self.between(begins, ends)
        if not asked:
            raise Failed(f"{type(self).__name__.lower()}: nobody asked")
        return sum(one.result == "ok" for one in asked) / len(asked)

    def gap_s(self, begins, ends):
        """The longest time in which nobody was served, of those that touch this time; infinite if it lasts to its end."""
        times = sorted(one.ended for one in list(self.asked) if one.result == "ok" and one.ended <= ends)
        if not times or times[-1] < ends - SERVED_S:
            return float("inf")
        pairs = zip(times, times[1:] + [ends])
        return max((after - before for before, after in pairs if after >= begins and before <= ends), default=float("inf"))

    def words(self, begins, ends):
        """What happened to those who were not served."""
        counted = collections.Counter(one.result for one in self.between(begins, ends) if one.result != "ok")
        return ", ".join(f"{count} × {result}" for result, count in counted.most_common()) or "none"

    def p99_s(self, begins, ends):
        took = sorted(one.ended - one.began for one in self.between(begins, ends) if one.result == "ok")
        return took[int(len(took) * 0.99)] if took else float("inf")


class Residents(Callers):
    """Phones that ask for their codes."""

    def __init__(self, stand, threads=8, per_s=100, patience_s=2.0):
        # What was shown, by resident; and every code that ever was, by resident and time: there is one.
        self.shown, self.made, self.differing = {}, {}, 0
        super().__init__(stand, threads, per_s, patience_s)

    def one(self, turn):
        number = turn % self.stand.asking
        status, fields, body = ask(self.stand.address, self.stand.port, "GET", cases.REFRESH, fields={"Authorization": f"Bearer {self.stand.sessions[number]}"},
                                   patience_s=self.patience_s, tls=self.stand.tls)
        if status != 200:
            return problem(status, body)
        code = json.loads(body)
        # Another process, another shard, another hour: within its window the code is the same.
        self.differing += self.made.setdefault((number, code["iat"]), code["code"]) != code["code"]
        self.shown[number] = {**code, "date": fields["Date"], "at": time.monotonic()}
        return "ok"

    def a_code(self):
        return self.shown[random.choice(list(self.shown))]["code"]


class Doors(Callers):
    """Scanners that show the residents' codes to the server, and bring later what was not recorded."""

    def __init__(self, stand, residents, threads=4, per_s=20, patience_s=2.0):
        self.residents, self.verdicts, self.recorded, self.kept, self.tried = residents, [], set(), {}, 0
        super().__init__(stand, threads, per_s, patience_s)

    def one(self, turn):
        if not self.residents.shown:
            return "ok"
        text, began = self.residents.a_code(), time.monotonic()
        status, _, body = self.post("/scan/verify", json.dumps({"code": text, "place": f"Door {turn % 7}"}), "application/json")
        if status != 200:
            return problem(status, body)
        verdict = json.loads(body)
        self.verdicts.append((began, text, verdict["result"]))
        if verdict.get("recorded"):
            self.recorded.add(verdict["id"])
        elif "id" in verdict:
            self.kept[verdict["id"]] = {"id": verdict["id"], "at": int(time.time() * 1e3), "place": f"Door {turn % 7}", "cti": Code(text).cti,
                                        "result": verdict["result"], "test": verdict.get("env") == "test"}
        return "ok" if verdict["result"] == "valid" else verdict["result"]

    def post(self, path, body, kind):
        fields = {"Authorization": f"Bearer {self.stand.token}", "Content-Type": kind}
        return ask(self.stand.address, self.stand.port, "POST", path, body, fields, self.patience_s, self.stand.tls)

    def bring(self):
        """What was kept goes to the server, as often as it takes: the same one twice is one. Returns whether all of it is there."""
        sent = list(self.kept.values())
        self.tried += 1
        status, _, body = self.post("/scan/records", "".join(json.dumps(each) + "\n" for each in sent), "application/x-ndjson")
        if status != 200:
            return False
        for line in body.splitlines():
            told = json.loads(line)
            if told["result"] == "done":
                one = sent[told["line"] - 1]["id"]
                self.recorded.add(one)
                self.kept.pop(one, None)
        return not self.kept


class Bringers(Doors):
    """Scanners that were offline: each scan has an id of the scanner's own, and is sent until the server says that it has it."""

    def __init__(self, stand, residents, threads=4, per_s=20, patience_s=2.0):
        self.lock = threading.Lock()
        self.again = 0
        super().__init__(stand, residents, threads, per_s, patience_s)

    def one(self, turn):
        if not self.residents.shown:
            return "ok"
        with self.lock:
            # The oldest that nobody has taken the word for, or a new one.
            scan = self.kept.pop(next(iter(self.kept)), None) if len(self.kept) > 2 else None
        self.again += scan is not None
        scan = scan or {"id": os.urandom(16).hex(), "at": int(time.time() * 1e3), "place": "Gate", "cti": Code(self.residents.a_code()).cti,
                        "result": "valid", "test": True}
        done = False
        try:
            status, _, body = self.post("/scan/records", json.dumps(scan) + "\n", "application/x-ndjson")
            done = status == 200 and json.loads(body)["result"] == "done"
        finally:
            if done:
                self.recorded.add(scan["id"])
            else:
                self.kept[scan["id"]] = scan
        return "ok" if done else problem(status, body)


class Operators(Callers):
    """The health bureau's program, which states one status after the other on the admin listener."""

    on_crowds_side = False

    def __init__(self, stand, per_s=50, patience_s=5.0):
        self.acknowledged, self.numbers = {}, [recovery.id_number(n) for n in range(WRITTEN_FIRST, WRITTEN_FIRST + WRITTEN)]
        self.version = int(time.time() * 1e3)
        # One after the other, so that none comes before an older one.
        super().__init__(stand, 1, per_s, patience_s)

    def line(self):
        """The next one: its version, and what is sent."""
        self.version += 1
        number, status = self.numbers[self.version % WRITTEN], ("green", "yellow", "red")[self.version % 3]
        return self.version, json.dumps({"id_number": number, "status": status, "version": self.version, "reason": "drill"}) + "\n"

    def one(self, turn):
        version, line = self.line()
        status, _, body = ask("127.0.0.1", self.stand.port + 1, "POST", "/admin/residents", line, {"Content-Type": "application/x-ndjson"}, self.patience_s)
        if status != 200:
            return problem(status, body)
        told = json.loads(body)
        if told["result"] != "done":
            return told.get("type", told["result"]).rpartition(":")[2]
        self.acknowledged[version] = time.monotonic()
        return "ok"
