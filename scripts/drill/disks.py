"""Drills of the disk: full, failing, and lost with all that was on it."""

import http.client
import json
import os
import shutil
import threading
import time

import clients
import faults
from processes import RESTART_S_MAX, tell_ledger
from stand import AFTER_S, RESTART_S

# Promised. A verdict waits for its record for a second at most (src/limits.rs), then goes out without it.
TOLD_S_MAX, VERDICT_S_MAX, HANGS_S = 1, 1.5, 3
# Scans at a place with so long a name, until the journal's files have taken all that was left to them.
BATCH, PLACE, WRITERS, FILL_S_MAX = 3_000, "p" * 250, 3, 15
FAILED = "503 journal-failed"


def reads_go_on(account, phones, doors, begins, ends):
    account.share("residents served meanwhile", 1, phones.share(begins, ends), phones.words(begins, ends))
    account.share("doors that had a verdict meanwhile", 1, doors.share(begins, ends), doors.words(begins, ends))


def bring_what_was_kept(account, doors):
    """The doors' part: what was not recorded is brought, and is then there once."""
    kept = len(doors.kept)
    faults.wait_until("the doors' scans to be taken", 5, doors.bring)
    account.row("verdicts that went out unrecorded, kept by the doors and brought afterwards", "all", f"{kept - len(doors.kept)} of {kept}", not doors.kept and kept > 0)


def disk_full(stand, account):
    stand.make({"ONECODE_ADMISSION_DEVICE_REQUESTS_PER_MINUTE": "60000"})
    phones, doors, operators = stand.people(writes_per_s=20)
    filler = stand.disk.fill()
    free, filled = stand.disk.free_bytes(), time.monotonic()
    results, records = flood(doors)
    faults.wait_until("/readyz to say so", TOLD_S_MAX + 1, lambda: stand.ready()[0] == 503)
    told = time.monotonic()
    account.made(f"an ext4 of its own filled to {free:,} bytes, then {records:,} records of scans written, until the journal found no room, {told - filled:.1f} s later "
                 f"({', '.join(sorted(results))})")
    time.sleep(AFTER_S)
    during = time.monotonic()
    status, fields, body = clients.ask("127.0.0.1", stand.port + 1, "POST", "/admin/residents", operators.line()[1], {"Content-Type": "application/x-ndjson"})
    account.row("a write is refused in words", f"{FAILED}, Retry-After", f"{clients.problem(status, body)}, {fields['Retry-After']} s",
                clients.problem(status, body) == FAILED and fields["Retry-After"])
    first_refused = min((one.ended for one in operators.between(filled, during) if one.result != "ok"), default=told)
    account.most_s("from the first refusal to 503 of /readyz", TOLD_S_MAX, max(0.0, told - first_refused))
    reads_go_on(account, phones, doors, filled, during)
    account.row("acknowledged after the first refusal", "0", str(sum(at > told for at in operators.acknowledged.values())), not any(at > told for at in operators.acknowledged.values()))
    repair(stand, account, lambda: os.remove(filler), f"room made (the file that filled it removed), the server restarted {RESTART_S} s after its orderly end",
           phones, doors, operators, filled)


def flood(doors):
    """One batch of scans, again and again: each is a record, and the same one twice is one scan. Returns how the end was said."""
    results, began, told = set(), time.monotonic(), []
    scans = [{"id": os.urandom(16).hex(), "at": int(time.time() * 1e3), "place": PLACE, "cti": os.urandom(16).hex(), "result": "valid", "test": True} for _ in range(BATCH)]
    body = "".join(json.dumps(scan) + "\n" for scan in scans)

    def write():
        while not results and time.monotonic() < began + FILL_S_MAX:
            try:
                status, _, answer = doors.post("/scan/records", body, "application/x-ndjson")
            except (OSError, http.client.HTTPException) as error:
                results.add(clients.word(error))
                return
            told.append(answer.count(b'"done"'))
            if status != 200:
                results.add(clients.problem(status, answer))
            elif told[-1] + answer.count(b'"retry"') < BATCH:
                results.update(each["type"].rpartition(":")[2] for each in map(json.loads, answer.splitlines()) if each["result"] == "error")

    threads = [threading.Thread(target=write) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if sum(told) >= BATCH:
        doors.recorded.update(scan["id"] for scan in scans)
    return results, sum(told)


def repair(stand, account, mend, done, phones, doors, operators, since):
    """An orderly end, whatever is to be mended, a start; and what is there afterwards."""
    stopped = time.monotonic()
    stand.server.stop()
    code = stand.server.process.returncode
    mend()
    time.sleep(RESTART_S)
    stand.start()
    account.followed(done)
    time.sleep(AFTER_S)
    bring_what_was_kept(account, doors)
    over = stand.stop_callers()
    account.without = f"everybody for {phones.gap_s(stopped, over):.1f} s, while it was restarted"
    account.most_s("longest time without a code, for the restart", RESTART_S_MAX, phones.gap_s(stopped, over))
    account.share("statuses taken again afterwards", 1, operators.share(over - 1, over - 0.2), operators.words(over - 1, over - 0.2))
    tell_ledger(stand, account, operators, [doors])
    account.note(f"no status was taken for {operators.gap_s(since, over):.1f} s, until a person had mended it; the end had exit status {code}")


def journal_device(stand, account):
    stand.make()
    phones, doors, operators = stand.people(writes_per_s=20)
    time.sleep(0.5)
    stand.disk.freeze()
    hung = time.monotonic()
    time.sleep(HANGS_S)
    waiting, said = stand.metric("onecode_journal_waiting_seconds"), stand.ready()[0]
    stand.disk.thaw()
    thawed = time.monotonic()
    faults.wait_until("writes to go on", 3, lambda: any(at > thawed for at in list(operators.acknowledged.values())))
    back_s = time.monotonic() - thawed
    verdict_s = max(one.ended - one.began for one in doors.between(hung, thawed))
    time.sleep(0.3)
    failed = time.monotonic()
    stand.disk.fail()
    error = stand.disk.gives_errors()
    account.made(f"first the file system under the journal frozen for {HANGS_S} s (FIFREEZE: every write hangs; waiting {waiting:.1f} s by the server's own word), then "
                 f"shut down without a flush (EXT4_IOC_SHUTDOWN): \"{error}\" for whoever touches it, and what was not on the device is gone")
    told_s = faults.wait_until("/readyz to say so", 3, lambda: stand.ready()[0] == 503)
    told = time.monotonic()
    time.sleep(AFTER_S)
    during = time.monotonic()
    account.most_s("the slowest verdict while the disk hung", VERDICT_S_MAX, verdict_s)
    account.most_s("from the disk's return to the first status on it", TOLD_S_MAX, back_s)
    reads_go_on(account, phones, doors, hung, during)
    account.most_s("from the failure to 503 of /readyz", TOLD_S_MAX, told_s)
    account.row("acknowledged once it said so", "0", str(sum(at > told for at in operators.acknowledged.values())), not any(at > told for at in operators.acknowledged.values()))

    def mend():
        stand.disk.unmount()
        stand.disk.mount()

    account.note(f"while it hung /readyz said {said}: a disk that hangs is told by onecode_journal_waiting_seconds alone")
    repair(stand, account, mend, f"the server ended, the file system unmounted and mounted again, which replays its own log, the server started {RESTART_S} s later",
           phones, doors, operators, failed)


def restore(stand, account):
    stand.make()
    path = lambda name: os.path.join(stand.folder, name)
    with open(path("sentence"), "w", encoding="ascii") as file:
        file.write("a sentence kept in the safe\n")
    os.chmod(path("sentence"), 0o600)
    stand.onecode("keys", "export", "--data", stand.data, "--out", path("keys.sealed"), "--passphrase-file", path("sentence"))
    phones, doors, operators = stand.people(writes_per_s=100)
    time.sleep(1)
    began, scans_before = time.monotonic(), set(doors.recorded)
    told = json.loads(stand.onecode("backup", path("backup"), "--data", stand.data, "--json"))
    took_s = time.monotonic() - began
    time.sleep(1)
    before = sum(at < began for at in operators.acknowledged.values())
    lost = time.monotonic()
    stand.kill()
    shutil.rmtree(stand.data)
    account.made(f"kill -9, and the whole data folder removed, keys included, {lost - began:.1f} s after a backup was begun that took {took_s:.2f} s under load")
    restored = json.loads(stand.onecode("restore", path("backup"), "--data", stand.data, "--json"))
    stand.onecode("keys", "import", path("keys.sealed"), "--passphrase-file", path("sentence"), "--data", stand.data)
    commands_s = time.monotonic() - lost
    again = json.loads(stand.onecode("backup", path("again"), "--data", stand.data, "--json"))
    spared_s = time.monotonic() - lost - commands_s
    stand.start()
    account.followed("onecode restore, onecode keys import, and the server started")
    time.sleep(AFTER_S)
    over = stand.stop_callers()
    hashes = [each["state_sha256"] for each in (told, restored, again) if "state_sha256" in each]
    account.row("the state's hash: of the backup, and of a backup of what was restored", "the same", f"{hashes[0][:16]}…, {hashes[-1][:16]}…", len(hashes) > 1 and len(set(hashes)) == 1)
    account.most_s("from the loss to the first code", RESTART_S_MAX, phones.gap_s(lost, over) - spared_s)
    account.share("sessions that go on afterwards", 1, phones.share(over - 1, over - 0.1), phones.words(over - 1, over - 0.1))
    account.none("codes that differ from what the server before made in the same window", phones.differing, len(phones.made))
    missing, _, doubled = stand.lost(operators, before=began)
    ids = {json.loads(line)["id"] for line in stand.onecode("journal", "export", "scans", "--json", "--test", "--data", stand.data).splitlines()}
    account.none("statuses acknowledged before the backup began that are lost", missing, before)
    account.none("scans recorded before the backup began that are lost", len(scans_before - ids), len(scans_before))
    account.none("scans that are there twice", doubled)
    gone, _, _ = stand.lost(operators, before=lost)
    account.lost = f"what came after the backup: {gone} statuses"
    account.without = f"everybody for {phones.gap_s(lost, over) - spared_s:.1f} s, without a person's time"
    account.row("statuses acknowledged after the backup began", "lost, and said so", f"{gone} of {sum(began <= at < lost for at in operators.acknowledged.values())} lost", True)
    account.note(f"the time from the loss leaves out {spared_s:.2f} s for the second backup, which only the drill makes, and has no person's time in it")
