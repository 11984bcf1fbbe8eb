"""From the accounts of drills to files: JSON with everything, Markdown and one page with the tables."""

import html
import os
import platform
import re
import time

import figures
import main as bench_main
import page
import report
import servers
import takeover

MANUAL = "manual/en/operators.md"
INTRODUCTION = ("Each fault was made for real on a test instance of its own, under load: residents who ask for codes, doors that check them, an operator who states statuses. Then the manual was followed, "
                "and what was promised stands beside what was measured. What is simulated is said.")


def machine():
    """Where it was, and which program: ONECODE_BIN may name another than this commit's."""
    program = servers.built(os.environ.get("CARGO_TARGET_DIR", os.path.join(servers.ROOT, "target")), "onecode")
    cpu = re.search(r"^model name\s*: (.*)$", bench_main.read("/proc/cpuinfo"), re.M)
    return {"cpu": cpu[1] if cpu else platform.machine(), "cpus": os.cpu_count(), "kernel": platform.release(), "commit": bench_main.said("git", "rev-parse", "--short", "HEAD"),
            "program": takeover.hash_of(program) if os.path.exists(program) else "", "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}


def verdict(found):
    return "the promise held" if found["held"] else f"THE PROMISE DID NOT HOLD{': ' + found['failed'] if found['failed'] else ''}"


def about(found):
    host = found["machine"]
    return f"{host['cpu']}, {host['cpus']} CPUs, Linux {host['kernel']}; commit {host['commit']}, program {host['program']}; {host['time']}; {found['took_s']} s"


def rows(found):
    return ["what", "promised", "measured", "held"], [(row["what"], row["promise"], row["measured"], report.reached(row["holds"])) for row in found["rows"]]


def overview(all_found):
    """A line for each: what was lost, for how long, and how much of its promise held."""
    lines = [(one["name"], one["fault"], one["lost"], one["without"], f"{sum(row['holds'] for row in one['rows'])} of {len(one['rows'])}", report.reached(one["held"])) for one in all_found]
    return ["drill", "what is wrong", "lost of what was acknowledged", "who had no code, and for how long", "rows that held", "held"], lines


def words(found):
    """What is told beside the table: the fault, what was done, what else was seen."""
    return [(name, text) for name, text in [("The fault", found["made"]), ("What was done", "; ".join(found["followed"])), ("It failed", found["failed"] or "")]
            + [("Besides", note) for note in found["notes"]] if text]


def markdown(all_found):
    lines = ["# Drills", "", INTRODUCTION, ""]
    if len(all_found) > 1:
        head, cells = overview(all_found)
        lines += report.table(head, [(f"[{name}](#{name})", *rest) for name, *rest in cells]) + [""]
    for found in all_found:
        lines += [f"## {found['name']}", "", f"{found['fault'][0].upper()}{found['fault'][1:]}: {verdict(found)}. In the manual: `{MANUAL}#{found['name']}`.", ""]
        lines += report.table(*rows(found)) + [""] if found["rows"] else []
        lines += [f"- {name}: {text}." for name, text in words(found)] + [f"- {about(found)}.", ""]
    return "\n".join(lines)


def document(all_found):
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'><title>Drills</title><style>{page.STYLE}</style>"
             f"<h1>Drills</h1><p>{INTRODUCTION}</p>", page.html_table(*overview(all_found))]
    for found in all_found:
        parts += [f"<h2 id='{found['name']}'>{found['name']}</h2><p>{html.escape(found['fault'])}: <b>{html.escape(verdict(found))}</b>. "
                  f"In the manual: <code>{MANUAL}#{found['name']}</code>.</p>"]
        parts += [page.html_table(*rows(found))] if found["rows"] else []
        parts += ["<ul>"] + [f"<li><b>{name}</b>: {html.escape(text)}.</li>" for name, text in words(found)] + [f"<li>{html.escape(about(found))}.</li></ul>"]
    return "".join(parts) + "</html>\n"


def write(folder, name, all_found, with_page):
    files = {"md": markdown(all_found)}
    if with_page:
        files["html"] = document(all_found)
    for end, content in files.items():
        with open(os.path.join(folder, f"{name}.{end}"), "w", encoding="utf-8") as file:
            file.write(content)
    figures.write_json(os.path.join(folder, f"{name}.json"), all_found)
