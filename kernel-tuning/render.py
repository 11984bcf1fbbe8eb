#!/usr/bin/env python3
"""Writes README.md and files/ beside this from settings.toml; with --check it only says whether they agree with it."""

import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
TABLE = tomllib.loads((HERE / "settings.toml").read_text())
GROUPS = {
    "nic": "Network cards",
    "accept": "What waits before a shard sees it",
    "tcp": "Memory and pace of connections",
    "process": "Limits of the service",
    "memory": "Memory",
    "cpu": "Processors",
    "kernel": "What taxes each packet or call",
}
COMPARE = {
    "equal": "`{}`", "at-least": "at least `{}`", "at-most": "at most `{}`", "contains": "a word that begins `{}`",
    "lacks": "none of `{}`", "one-of": "one of `{}`", "mask": "the mask `{}`",
}
INTRO = """# Tuning the host

Written from `settings.toml` by `render.py`: change that file, and run this one. Each setting says how it is read, set and set back by
hand, and what speaks for it; `files/` has them for the usual tools.

Nothing here is magic. On the small virtual machine where onecode is measured most of it is right already or cannot apply; on metal
the order of worth is: queues, IRQs and XPS; connection tracking; coalescing and deferred IRQs; the rest. Measure before and after
on your own machine (`scripts/bench.sh --target`).

- **required**: without it the service fails when it is needed.
- **Evidence**: measured here, by the command named; cited, from the address named; or advice, which is to be measured before it is believed.
- `{shards}` is the number of shards, `{cpu}` and `{mask}` the CPU of the shard that a queue is for, `{interface}` each network interface
  with a device whose driver is listed, `{irq}` each IRQ of its queues.
- By hand is what is a decision of the site, or a boot line.

`files/` has what Ansible and its like want: `90-onecode.conf` for `/etc/sysctl.d`, `10-onecode.link` for `/etc/systemd/network`,
`tuned.conf` for `/etc/tuned/onecode`. They say what `settings.toml` says, not what a host has: where yours has more, raise them. Advice
stands in them as comments. A .link file is taken in place of the distribution's, so it repeats how interfaces are named. IRQs and queues
change with the hardware, so they are in no file: set them at each start by the commands below.
"""


def lines(text):
    """Wrapped to the width of this repository's pages."""
    import textwrap
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def page():
    text = INTRO
    for group, title in GROUPS.items():
        text += f"\n## {title}\n"
        for row in (row for row in TABLE["setting"] if row["group"] == group):
            command = not row["read"].startswith("/")
            how = f"by hand: {row['by_hand']}" if "by_hand" in row else f"`{row['set']}`" if "set" in row else "write the file"
            undo = f"`{row['revert']}`" if "revert" in row else "the former value"
            names = {place["name"]: place["because"] for place in TABLE["place"]}
            places = [names[name].replace("{interface}: {driver}, ", "") for name in row.get("not_where", "").split()] + [f"no such file ({row['missing']})" if "missing" in row else ""]
            places = "; ".join(dict.fromkeys(place for place in places if place))
            text += f"\n### {row['id']}\n" + lines(row["why"])
            text += lines(f"- {row['severity']}: {COMPARE[row['compare']].format(row['want'])}; read " + ("by " if command else "from ")
                          + f"`{row['read']}`" + (f", `{row['pick']}`" if "pick" in row else ""))
            text += lines(f"- set: {how}" + ("" if "by_hand" in row else f"; revert: {undo}"))
            text += lines(f"- {row['evidence']}") + (lines(f"- cannot apply: {places}") if places else "")
    return text


def entries(line):
    text = ""
    for row in TABLE["setting"]:
        if "by_hand" not in row and (entry := line(row)):
            want = row["want"].split()[0] if row["compare"] == "one-of" else row["want"]
            text += ("# " if row["evidence"] == "advice" else "") + entry + want + "\n"
    return text


def files():
    sysctl = entries(lambda row: row["read"].startswith("/proc/sys/") and row["read"][10:].replace("/", ".") + " = ")
    sysfs = entries(lambda row: row["read"].startswith("/sys/") and "{" not in row["read"] + row["want"] and row["read"] + "=")
    link = entries(lambda row: "link" in row and row["link"] + "=")
    head = "# Written from kernel-tuning/settings.toml, which says why.\n"
    return {
        "90-onecode.conf": head + sysctl,
        "10-onecode.link": f"{head}[Match]\nDriver={' '.join(TABLE['drivers'])}\n\n[Link]\n"
                           "NamePolicy=keep kernel database onboard slot path\nAlternativeNamesPolicy=database onboard slot path\n"
                           f"MACAddressPolicy=persistent\n{link}",
        "tuned.conf": f"{head}[main]\nsummary=What onecode wants of its host\n\n[sysctl]\n{sysctl}\n[sysfs]\n{sysfs}",
    }


def main():
    wanted = {HERE / "README.md": page()} | {HERE / "files" / name: text for name, text in files().items()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(path.name for path in stale)}: run kernel-tuning/render.py" if stale else 0)
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted[path])


main()
