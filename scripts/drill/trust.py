"""Drills of what is trusted: the clock, the certificate, the key."""

import http.client
import json
import os
import ssl
import threading
import time

import cases
import clients
import faults
import link
from processes import tell_ledger
from stand import AFTER_S

HOUR_S = 3_600
# Promised. A code is asked for anew within two windows of 45 s.
WINDOWS_S, TAKEN_UP_S_MAX = 90, 0.5
READ_AGAIN, STAY = "sign-in read again", "sign-in stay as they were"
# A certificate that is taken up by SIGHUP and ends so soon after it was made.
CERTIFICATE_S = 3


def clock_off(stand, account):
    clock = faults.Clock(stand.folder)
    stand.asking = 300
    stand.make(clock.environment())
    phones, doors, operators = stand.people(per_s=150, scans_per_s=30)
    time.sleep(0.7)
    began, refused, judged, away, seen = time.monotonic(), {}, {}, [], []
    for hours, name in ((1, "ahead"), (-1, "behind")):
        clock.set(hours * HOUR_S)
        set_at = time.monotonic()
        time.sleep(2.5)
        shown = [code for code in phones.shown.values() if code["at"] > set_at + 0.3]
        seen.append(stand.metric("process_clock_seconds") - time.time())
        results = stand.verify([code["code"] for code in shown])
        refused[name] = (sum(result not in ("valid", "valid_in_grace") for result in results), len(results), sorted(set(results)))
        away += [code["refresh_at"] - http_time(code["date"]) for code in shown]
        online = [result for at, text, result in doors.verdicts if at > set_at + 0.3 and abs(clients.Code(text).iat - time.time() - hours * HOUR_S) < 300]
        judged[name] = sum(result == "valid" for result in online) / max(len(online), 1)
        clock.set(0)
        time.sleep(0.7)
    account.made(f"the server's clock an hour ahead, right, an hour behind, each for seconds; it said itself {seen[0]:+,.0f} and {seen[1]:+,.0f} s beside the machine's")
    account.followed("the clock set right; no restart")
    right = time.monotonic()
    time.sleep(2.5)
    over = stand.stop_callers()
    account.without = "nobody; doors without a network refuse everybody until the clock is right"
    account.share("residents served all the time", 1, phones.share(began, over), phones.words(began, over))
    account.share("statuses taken all the time", 1, operators.share(began, over), operators.words(began, over))
    for name, share in judged.items():
        account.share(f"doors on the server that had \"valid\" for codes made while the clock was an hour {name}", 1, share)
    account.row("what an hour wrong does to doors without a network, whose clocks are right", "they refuse", "; ".join(
        f"{name}: {count} of {of} refused ({', '.join(words)})" for name, (count, of, words) in refused.items()), all(count == of for count, of, _ in refused.values()))
    account.most_s("until every page has come for a code of the right hour, by what its last answer told it", WINDOWS_S, max(away))
    fresh = [code["code"] for code in phones.shown.values() if code["at"] > right + 0.3]
    results = stand.verify(fresh)
    account.none("codes made once the clock was right that a door without a network refuses", sum(result != "valid" for result in results), len(results))
    tell_ledger(stand, account, operators, [doors])
    clock.set(HOUR_S)
    results = stand.verify(fresh[:50], clock)
    account.row("a door whose own clock is an hour ahead", "it refuses, and says why", f"{sum(result == 'expired' for result in results)} of {len(results)} expired", set(results) == {"expired"})
    account.note("the clock is that of the process alone (libfaketime, the time of day; timers go by the monotonic clock, as they do when a time server sets it); the machine's own was left alone. "
                 "Doors on the server: its own clock judges, so what it made is good there, and what it made before the leap is not: " + doors.words(began, over))


def http_time(text):
    return time.mktime(time.strptime(text, "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone


class Kept(threading.Thread):
    """Connections over TLS that stay open and ask again and again."""

    def __init__(self, stand, count=20):
        super().__init__(daemon=True)
        self.stand, self.count, self.over, self.dropped, self.answers = stand, count, threading.Event(), 0, 0
        self.start()

    def run(self):
        self.stand.enter()
        connections = [http.client.HTTPSConnection(self.stand.address, self.stand.port, timeout=3, context=self.stand.tls) for _ in range(self.count)]
        for one in connections:
            one.connect()
            # From now on nobody connects again unseen.
            one.auto_open = 0
        while not self.over.wait(0.3):
            for number, one in enumerate(connections):
                try:
                    one.request("GET", cases.REFRESH, headers={"Authorization": f"Bearer {self.stand.sessions[number]}"})
                    answer = one.getresponse()
                    answer.read()
                    self.answers += answer.status == 200
                    self.dropped += answer.status != 200
                except (OSError, http.client.HTTPException):
                    self.dropped += 1

    def stop(self):
        self.over.set()
        self.join(10)


def certificate(stand, clock, seconds):
    """One of our own that ends so soon, in the place where the server looks. Returns when it ends."""
    clock.set(seconds - 86_400)
    ends, new = time.time() + seconds, os.path.join(stand.folder, "new")
    subject = ["-subj", "/CN=drill", "-addext", f"subjectAltName=IP:{link.SERVER_ADDRESS},IP:127.0.0.1"]
    found = faults.do("env", *(f"{key}={value}" for key, value in clock.environment().items()), "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                      "-noenc", "-days", "1", "-keyout", f"{new}.key", "-out", f"{new}.pem", *subject)
    os.chmod(f"{new}.key", 0o600)
    for end in ("key", "pem"):
        os.replace(f"{new}.{end}", os.path.join(stand.folder, f"tls.{end}"))
    stand.tls.load_verify_locations(os.path.join(stand.folder, "tls.pem"))
    return ends


def certificate_expired(stand, account):
    clock, path = faults.Clock(stand.folder), lambda name: os.path.join(stand.folder, name)
    stand.tls = ssl.create_default_context()
    certificate(stand, clock, 86_400)
    stand.make({"ONECODE_TLS_CERTIFICATES": path("tls.pem"), "ONECODE_TLS_KEYS": path("tls.key")})
    phones, doors, operators = stand.people()
    kept, warned = Kept(stand), "certificate" in stand.said()
    over_at = certificate(stand, clock, CERTIFICATE_S)
    stand.reload(READ_AGAIN)
    left = stand.metric("onecode_tls_certificate_expires_seconds") - time.time()
    time.sleep(max(0.0, over_at + 1.2 - time.time()))
    expired = time.monotonic() - (time.time() - over_at)
    shown = [code["code"] for code in phones.shown.values()]
    offline = stand.verify(shown)
    account.made(f"the certificate, put in place by SIGHUP, ended {CERTIFICATE_S} s after it was made, while the server ran: strict clients said \"{phones.words(expired, time.monotonic())}\"")
    refused_before = stand.metric("onecode_reloads_refused_total")
    stand.reload(STAY)
    account.row("SIGHUP while the file is the ended one: refused by name, the server goes on", "1 refused", f"{stand.metric('onecode_reloads_refused_total') - refused_before:.0f} refused",
                stand.metric("onecode_reloads_refused_total") == refused_before + 1)
    share = phones.share(expired + 0.3, time.monotonic())
    certificate(stand, clock, 86_400)
    renewed = time.monotonic()
    stand.reload(READ_AGAIN)
    account.followed("a new certificate put in the place of the old one, SIGHUP")
    time.sleep(AFTER_S)
    kept.stop()
    over = stand.stop_callers()
    account.without = "who connects anew, until a new one is in place; codes on the phones went on"
    account.row("the operator was told before: a line at start, and a metric", "both", f"{'a line' if warned else 'no line'}, {left:.1f} s left", warned and 0 < left <= CERTIFICATE_S)
    account.row("the fault was there: new clients that check certificates, once it had ended", "0 served", f"{share:.1%} served", share == 0)
    account.none(f"of {kept.count} connections that were open, over the end and both SIGHUPs: answers that failed", kept.dropped, kept.answers)
    account.none("codes on phones that a door without a network did not take meanwhile", sum(result != "valid" for result in offline), len(offline))
    first = min((one.ended for one in phones.asked if one.result == "ok" and one.began >= renewed), default=float("inf"))
    account.most_s("from SIGHUP with the new one to the first code over a new connection", TAKEN_UP_S_MAX, first - renewed)
    account.share("new connections from then on", 1, phones.share(first, over), phones.words(first, over))
    tell_ledger(stand, account, operators, [doors])
    account.note(f"nobody who checks was served for {phones.gap_s(expired, over):.1f} s, until a person had put a new one in place; the drill's own took {renewed - expired:.1f} s")


def key_revoked(stand, account):
    stand.asking = 300
    stand.make()
    phones, doors, operators = stand.people(per_s=150, scans_per_s=120)
    time.sleep(0.7)
    listed = json.loads(stand.onecode("keys", "list", "--data", stand.data, "--json"))["keys"]
    kid = next(key["kid"] for key in listed if key["env"] == "test" and key["state"] == "active")
    began = time.monotonic()
    stand.onecode("keys", "revoke", kid, "--data", stand.data)
    revoked = time.monotonic()
    stand.reload(READ_AGAIN)
    taken_up = time.monotonic()
    before = dict(phones.shown)
    account.made(f"the key {kid}, which signs all codes here, revoked under {phones.per_s} refreshes and {doors.per_s} verdicts a second")
    account.followed("onecode keys revoke, SIGHUP; a new key was made and signs at once")
    time.sleep(3.5)
    over = stand.stop_callers()
    judged = [(at - taken_up, clients.Code(text).kid == kid, result) for at, text, result in doors.verdicts]
    late = [at for at, old, result in judged if old and result == "valid"]
    account.most_s("the last \"valid\" for a code of that key, after the process said that it had read its keys", TAKEN_UP_S_MAX, max([0.0, *late]))
    account.none("wrong verdicts: a code of that key that was not revoked later than that", sum(old and result != "revoked" for at, old, result in judged if at > TAKEN_UP_S_MAX),
                 sum(old for at, old, _ in judged if at > TAKEN_UP_S_MAX))
    account.none("wrong verdicts: a code of the new key that was not valid", sum(result != "valid" for _, old, result in judged if not old), sum(not old for _, old, _ in judged))
    account.none("wrong verdicts: anything but valid or revoked for a code of that key", sum(result not in ("valid", "revoked") for _, old, result in judged if old), sum(old for _, old, _ in judged))
    made_late = [code for code in phones.shown.values() if code["at"] > taken_up + TAKEN_UP_S_MAX]
    account.none("codes given out later than that by the old key", sum(clients.Code(code["code"]).kid == kid for code in made_late), len(made_late))
    account.share("residents served all the time", 1, phones.share(began, over), phones.words(began, over))
    account.without = "nobody; codes of that key are refused at once, and every page has a new one within two windows"
    waits = [code["refresh_at"] - http_time(code["date"]) - (taken_up - code["at"]) for code in before.values() if clients.Code(code["code"]).kid == kid]
    account.most_s("until every page has come for a code of the new key, by what its last answer told it", WINDOWS_S, max(waits, default=float("inf")))
    olds, news = [code["code"] for code in before.values() if clients.Code(code["code"]).kid == kid], [code["code"] for code in made_late]
    with_old = stand.verify(olds[:50]), stand.verify(news[:50])
    stand.fetch_keys()
    with_new = stand.verify(olds[:50]), stand.verify(news[:50])
    account.row("doors without a network once they have fetched the keys again", "old refused, new valid", f"old: {', '.join(sorted(set(with_new[0])))}; new: {', '.join(sorted(set(with_new[1])))}",
                "valid" not in with_new[0] and set(with_new[1]) == {"valid"})
    tell_ledger(stand, account, operators, [doors])
    account.note(f"doors without a network that have not fetched the keys again still say of the old {', '.join(sorted(set(with_old[0])))} and of the new {', '.join(sorted(set(with_old[1])))}")
    account.note(f"from the command to the process's word {taken_up - began:.2f} s, of which the command {revoked - began:.2f} s")
