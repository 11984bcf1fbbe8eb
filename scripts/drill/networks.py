"""Drills of the network: the interface down, a firewall that drops everything, loss and resets."""

import time

import clients
import faults
import link
from processes import tell_ledger
from stand import AFTER_S

# Promised. A connection that is made anew is answered as soon as the network is back, but for one lost packet of TCP's.
BACK_S_MAX = 2
GONE_S = 4
# A page waits for 12 s (web/src/api.ts) before it tries again. Who was reset was not served; of some hundred, by chance a few more are.
PAGE_PATIENCE_S, LOSS_P, RESETS_P, CHANCE = 12.0, 10, 10, 0.08
LOSS_S = 4


def network_down(stand, account):
    stand.make()

    def up():
        stand.link.do("ip", "link", "set", "exit", "up")

    def down():
        stand.link.do("ip", "link", "set", "exit", "down")
        state = stand.link.do("ip", "-brief", "link", "show", "exit").split()[1]
        return f"`ip link set exit down` on the server's only interface for {GONE_S} s: the kernel says {state}"

    without_network(stand, account, down, up, "`ip link set exit up`; nothing on the server, which was not touched")


def firewall(stand, account):
    stand.make()
    wall = faults.Firewall("exit")
    counted = []

    def drop():
        wall.drop_all()
        return f"nftables drops every packet in and out, of connections that are open, too, for {GONE_S} s"

    def back():
        counted.extend(wall.counted())
        wall.take_away()

    without_network(stand, account, drop, back, "the rules taken away (`nft delete table`); nothing on the server, which was not touched")
    account.fault += f"; it dropped {counted[0]} packets in and {counted[1]} out"


def without_network(stand, account, begin, end, done):
    """Nobody reaches the server for a while. Its operators, on the machine, do, and the codes on the phones go on."""
    phones, doors, operators = stand.people(patience_s=1.0)
    doors.patience_s = 1.0
    time.sleep(0.7)
    process = stand.server.process.pid
    gone = time.monotonic()
    account.made(begin())
    # The pages show what they have; a door without a network looks at its signature.
    shown, wrong, looked = [code["code"] for code in phones.shown.values()], 0, 0
    while time.monotonic() < gone + GONE_S:
        results = stand.verify(shown)
        wrong, looked = wrong + sum(result != "valid" for result in results), looked + len(results)
        time.sleep(0.5)
    served = sum(one.result == "ok" for one in phones.between(gone + 0.2, time.monotonic() - 1))
    back = time.monotonic()
    end()
    account.followed(done)
    time.sleep(max(AFTER_S, BACK_S_MAX))
    over = stand.stop_callers()
    account.without = f"everybody while it was gone, and {first_ok(phones, back) - back:.1f} s more; codes on the phones went on"
    account.row("residents who were served while it was gone: the fault was there", "0", str(served), served == 0)
    account.none("codes on phones that a door without a network did not take meanwhile", wrong, looked)
    account.most_s("from the network's return to the first code", BACK_S_MAX, first_ok(phones, back) - back)
    account.most_s("from the network's return to the first verdict", BACK_S_MAX, first_ok(doors, back) - back)
    account.share("residents served from then on", 1, phones.share(first_ok(phones, back) + 0.2, over - 0.2), phones.words(first_ok(phones, back) + 0.2, over - 0.2))
    account.share("statuses taken meanwhile, on the machine itself", 1, operators.share(gone, back), operators.words(gone, back))
    account.row("the process goes on", "the same", "the same" if stand.server.process.poll() is None and stand.server.process.pid == process else "ended",
                stand.server.process.poll() is None)
    tell_ledger(stand, account, operators, [doors])
    account.note(f"not served meanwhile: residents {phones.words(gone, over)}; doors {doors.words(gone, over)}")


def first_ok(callers, after):
    """When the first was served who began and ended after this; infinite if nobody was."""
    return min((one.ended for one in list(callers.asked) if one.result == "ok" and one.ended >= after), default=float("inf"))


def network_loss(stand, account):
    stand.make()
    wall = faults.Firewall("exit")
    phones = clients.Residents(stand, threads=60, per_s=60, patience_s=PAGE_PATIENCE_S)
    faults.wait_until("a first code", 5, lambda: len(phones.shown) > 20)
    scanners = clients.Bringers(stand, phones, threads=20, per_s=40, patience_s=2.0)
    operators = clients.Operators(stand)
    time.sleep(1)
    began = time.monotonic()
    wall.lose(LOSS_P, RESETS_P)
    time.sleep(LOSS_S)
    counted = wall.counted()
    wall.take_away()
    over = time.monotonic()
    account.made(f"nftables loses {LOSS_P} % of all packets each way and answers {RESETS_P} % of those with a request by a reset for {LOSS_S} s: "
                 f"{counted[0]} lost in, {counted[1]} reset, {counted[2]} lost out")
    account.followed("nothing: clients try again, and the same record twice is one")
    time.sleep(AFTER_S)
    stand.stop_callers()
    while scanners.kept and scanners.tried < 5:
        scanners.bring()
    # Who gives up or is reset tries again, as the page does.
    account.without = f"nobody for more than {phones.gap_s(began, over):.1f} s at a time; 1 in 10 had to ask again"
    first, tries = phones.between(began, over), phones.share(began, over)
    account.row("the fault was there: packets lost and connections reset", "> 0", f"{counted[0] + counted[2]}, {counted[1]}", min(counted) > 0)
    account.share(f"residents served at their first try, within the page's {PAGE_PATIENCE_S:.0f} s", 1 - RESETS_P / 100 - CHANCE, tries, phones.words(began, over))
    account.most_s("longest time in which nobody had a code", BACK_S_MAX, phones.gap_s(began, over))
    account.row("p99 of those served, of which lost packets are sent again", "told", f"{phones.p99_s(began, over):.2f} s", len(first) > 50)
    account.none("scans that are not on disk in the end", len(scanners.kept), len(scanners.recorded))
    tell_ledger(stand, account, operators, [scanners])
    account.note(f"{scanners.again} scans were sent once more because no answer came: {scanners.words(began, over)}")
    account.note(f"a link of {link.CROWD_ADDRESS} to {link.SERVER_ADDRESS} without delay of its own; the server hears nothing of a reset that was made for a client")
