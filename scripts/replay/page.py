"""From the raw data of the replays to one page with plots, the README's picture and the table of the maxima."""

import html
import json
import math
import os

import figures
from report import svg, table, text

# Okabe and Ito's colours, which those who see few colours tell apart; widths differ, so that lines that lie on one another are both
# seen, and each has its name at its end.
LINES = {"old": ("old design", "#d55e00", 3), "informed": ("informed", "#e69f00", 6), "onecode": ("onecode", "#0072b2", 2.5)}
# Narrow, so that the letters are of a size to be read where the picture is a telephone's.
LEFT, RIGHT, TOP, HEIGHT, WIDTH = 68, 116, 40, 200, 640
# More of a CPU than this taken by others spoils a run; it is counted, and said.
OTHERS_MAX = 0.05
# To reach: first visits and returns, to those of the others.
FIRST_TO_OLD_MIN, FIRST_TO_INFORMED_MIN, CPU_TO_INFORMED_MAX = 30, 1.0, 0.5
RETURN_TO_OLD_MIN, RETURN_TO_INFORMED_MIN, BOUND_BUSY_MIN = 200, 2.0, 0.95


def read_json(folder, name):
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def write(folder):
    """The page of whatever is in the folder, and the picture if there was a replay."""
    replayed, maxima = read_json(folder, "replay.json"), read_json(folder, "replay-maxima.json")
    for crowd in replayed["crowds"] if replayed else []:
        crowd["length"] = replayed["crowd"]["seconds"]
    files = {"replay.html": document(replayed, maxima)}
    if replayed:
        files["replay.svg"] = picture(replayed)
    for name, content in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(content)


def nice_step(most, steps=5):
    raw = most / steps
    power = 10 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)


class Chart:
    """One panel: time along, a figure up; straight or by powers of ten."""

    def __init__(self, title, length, most, unit, least=None, base=0):
        self.title, self.length, self.unit, self.least = title, length, unit, least
        self.top, self.parts = TOP + base, []
        self.most = most
        self.parts.append(text(16, base + 22, title, 16, weight="bold"))
        self.grid()

    def x(self, second):
        return LEFT + (WIDTH - LEFT - RIGHT) * second / self.length

    def y(self, value):
        if self.least:
            share = math.log10(max(value, self.least) / self.least) / math.log10(self.most / self.least)
        else:
            share = value / self.most
        return self.top + HEIGHT * (1 - min(max(share, 0), 1))

    def grid(self):
        if self.least:
            values = [self.least * 10 ** power for power in range(round(math.log10(self.most / self.least)) + 1)]
        else:
            step = nice_step(self.most)
            values = [step * number for number in range(int(self.most / step + 0.001) + 1)]
        for value in values:
            self.parts.append(f'<path d="M{LEFT} {self.y(value):.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
            self.parts.append(text(LEFT - 6, self.y(value) + 4, self.unit(value), 12, "end"))
        step = nice_step(self.length, 8)
        for number in range(int(self.length / step) + 1):
            self.parts.append(text(self.x(number * step), self.top + HEIGHT + 17, f"{number * step:g} s", 12, "middle"))

    def area(self, values, colour):
        points = "".join(f"L{self.x(second):.1f} {self.y(value):.1f}" for second, value in values)
        self.parts.append(f'<path d="M{self.x(values[0][0]):.1f} {self.y(0):.1f}{points}L{self.x(values[-1][0]):.1f} {self.y(0):.1f}Z" '
                          f'fill="{colour}"/>')

    def line(self, values, colour, width, opacity=1.0):
        """Seconds without a value leave a gap."""
        path, down = "", False
        for second, value in values:
            if value is None:
                down = False
                continue
            path += f"{'L' if down else 'M'}{self.x(second):.1f} {self.y(value):.1f}"
            down = True
        self.parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round" '
                          f'stroke-opacity="{opacity}"/>')

    def level(self, value, words):
        self.parts.append(f'<path d="M{LEFT} {self.y(value):.1f}H{WIDTH - RIGHT}" stroke="#555555" stroke-dasharray="5 4"/>')
        self.parts.append(text(LEFT + 6, self.y(value) - 5, words, 12))

    def names(self, ends):
        """The lines' names at their ends, moved apart where they would lie on one another."""
        ends = sorted(ends.items(), key=lambda end: self.y(end[1]))
        places, lowest = [], self.top + HEIGHT
        for _, value in reversed(ends):
            lowest = min(self.y(value), lowest) + 4
            places.append(lowest)
            lowest -= 20
        for (name, _), y in zip(reversed(ends), places):
            label, colour, width = LINES[name]
            self.parts.append(f'<rect x="{WIDTH - RIGHT + 6}" y="{y - 4 - width / 2:.1f}" width="14" height="{width}" fill="{colour}"/>')
            self.parts.append(text(WIDTH - RIGHT + 24, y, label, 13, weight="bold"))


def series(crowd, name, key):
    """While the crowd keeps coming; after that only the last are waited for."""
    return [(number + 0.5, key(second)) for number, second in enumerate(crowd["days"][name]["seconds"][:crowd["length"]])]


def lines(chart, crowd, key):
    last = {}
    for name in [name for name in LINES if name in crowd["days"]]:
        values = series(crowd, name, key)
        chart.line(values, LINES[name][1], LINES[name][2])
        known = [value for _, value in values if value is not None]
        last[name] = figures.median(known[-8:]) if known else chart.least or 0
    chart.names(last)


def most_of(crowd, key, least=1.0):
    values = [value for name in crowd["days"] for _, value in series(crowd, name, key) if value is not None]
    return max(values + [least])


def served_chart(crowd, title, base=0):
    most = max(most_of(crowd, lambda second: second["served"]), most_of(crowd, lambda second: second["arrived"])) * 1.05
    chart = Chart(title, crowd["length"], most, lambda value: f"{value:,.0f}", base=base)
    coming = series(crowd, next(iter(crowd["days"])), lambda second: second["arrived"])
    chart.area(coming, "#d9d9d9")
    lines(chart, crowd, lambda second: second["served"])
    chart.parts.append(text(chart.x(crowd["length"] * 0.58), chart.top + HEIGHT * 0.55, "people who come", 13, "middle"))
    return chart


def time_words(value_us):
    if value_us is None:
        return "nobody ended"
    return f"{value_us / 1e6:.3g} s" if value_us >= 1e6 else f"{value_us / 1e3:.3g} ms"


def recovery_words(day):
    if day["quiet_p99_us"] is None:
        return "never was quiet"
    return f"not within {day['watched_s']} s" if day["recovered_s"] is None else f"after {day['recovered_s']} s"


def charts(crowd, rate_bits_per_s):
    ended = lambda key: lambda second: second[key] if second["served"] + second["gave_up"] else None
    length = crowd["length"]
    found = [served_chart(crowd, "Openings served each second")]
    for key, title in (("p50_us", "From coming to the code, or giving up: p50"),
                       ("p99_us", "The same: p99")):
        chart = Chart(title, length, 100e6, time_words, least=100)
        lines(chart, crowd, ended(key))
        found.append(chart)
    chart = Chart("Success: of those who came then, who got a code in the end", length, 1.05, lambda value: f"{value:.0%}")
    lines(chart, crowd, lambda second: second["served_of_arrived"] / second["arrived"] if second["arrived"] else None)
    found.append(chart)
    chart = Chart("On the wire, out of the server's exit, Mbit/s", length, rate_bits_per_s / 1e6 * 1.15, lambda value: f"{value:,.0f}")
    chart.level(rate_bits_per_s / 1e6, "the line")
    lines(chart, crowd, lambda second: second["wire_bits"] / 1e6)
    found.append(chart)
    chart = Chart("CPU of the server's processes, of one core", length, 1.05, lambda value: f"{value:.0%}")
    lines(chart, crowd, lambda second: second["server_cpu"])
    found.append(chart)
    for key, title in (("reloads", "Reloads each second"), ("refused", "Refusals each second")):
        most = most_of(crowd, lambda second: second[key], 0)
        if most:
            chart = Chart(title, length, max(most, 10) * 1.05, lambda value: f"{value:,.0f}")
            lines(chart, crowd, lambda second: second[key])
            found.append(chart)
    return found


def rendered(chart):
    """As wide as the page, whatever that is."""
    width, height = WIDTH, TOP + HEIGHT + 30
    return svg(width, height, chart.parts).replace(f' width="{width}" height="{height}"', "", 1)


def rate_words(rate):
    for unit in ("k", "m", "g"):
        rate = rate.replace(f"{unit}bit", f" {unit.upper() if unit != 'k' else unit}bit/s")
    return rate


def picture(results):
    """For the README: a panel for each crowd."""
    parts, base = [], 0
    for crowd in results["crowds"]:
        title = f"{crowd['base_per_s']:,} people a second become {crowd['peak_per_s']:,}: openings served each second"
        chart = served_chart(crowd, title, base)
        below = chart.top + HEIGHT + 38
        of = lambda name: crowd["days"][name]["served"] / max(crowd["days"][name]["arrived"], 1)
        words = [f"{LINES[name][0]} {math.floor(of(name) * 1000) / 10:g} %" for name in LINES if name in crowd["days"]]
        chart.parts.append(text(LEFT, below, "Have a code in the end: " + ", ".join(words), 13))
        parts += chart.parts
        base = below + 14
    crowd = results["crowd"]
    parts.append(text(16, base + 14, f"A line of {rate_words(results['rate'])}, one core for each, plain HTTP. Who waits for {crowd['patience_s']} s reloads, at most "
                      f"{crowd['reloads']} times.", 13))
    return svg(WIDTH, base + 28, parts)


def day_rows(crowd):
    """A line for each figure, a column for each service."""
    percent = lambda day: f"{math.floor(day['served'] / max(day['arrived'], 1) * 1000) / 10:g} %"
    figures_of = {
        "people": lambda day: f"{day['arrived']:,}",
        "have a code in the end": lambda day: f"{day['served']:,}, {percent(day)}",
        "reloads": lambda day: f"{day['reloads']:,}",
        "refused": lambda day: f"{day['refused']:,}",
        "openings/s at the peak": lambda day: f"{day['peak_served_per_s']:,.0f}",
        "p99 at the peak": lambda day: time_words(day["peak_p99_us"]),
        "p99 while calm": lambda day: time_words(day["quiet_p99_us"]) if day["quiet_p99_us"] else "never was calm",
        "quiet again, once as few come as before": recovery_words,
        "Mbit/s at the peak": lambda day: f"{day['peak_wire_bits'] / 1e6:,.0f}",
        "server CPU at the peak": lambda day: f"{day['peak_server_cpu']:.0%}",
        "generator busy at the peak": lambda day: f"{day['peak_crowd_busy']:.0%}",
        "of a CPU taken by others": lambda day: f"{day['others']:.0%}" + (", disturbed" if day["others"] > OTHERS_MAX else ""),
        "bytes of the page and a code, with heads": lambda day: f"{day['page_bytes'] + day['refresh_bytes']:,}",
    }
    names = [name for name in LINES if name in crowd["days"]]
    rows = [[title, *(of(crowd["days"][name]) for name in names)] for title, of in figures_of.items()]
    return ["", *(LINES[name][0] for name in names)], rows


def figure(found, digits=0):
    return f"{found['median']:,.{digits}f} [{found['low']:,.{digits}f}, {found['high']:,.{digits}f}]"


def maxima_rows(maxima):
    """Each case and server: visits a second, CPU, what binds."""
    rows = []
    for case, servers in maxima["rows"].items():
        for name, found in servers.items():
            rows.append((case, LINES[name][0], figure(found["per_s"]), figure(found["cpu_us"], 1), figure(found["busy_us"], 1), f"{found['wire_bytes_each']['median']:,.0f}",
                         f"{found['wire_bits_per_s']['median'] / 1e6:,.0f}", f"{found['server_cpu_all']['median']:.0%}", f"{found['crowd_cpu_all']['median']:.0%}",
                         bound(found, maxima["rate_bits_per_s"]), f"{found['p99_us']['median'] / 1e3:,.1f} ms", f"{max(run['failed'] for run in found['runs'])}",
                         f"{sum(run['others'] > OTHERS_MAX for run in found['runs'])} of {len(found['runs'])}"))
    return ["case", "server", "visits/s", "server CPU µs each", "with all interrupts", "bytes out each", "Mbit/s out", "server's CPU busy", "generator's CPU busy", "bound by", "p99", "failed", "runs disturbed by others"], rows


def bound(found, rate):
    """What was at its end: the line, the server's CPU or the generator's."""
    names = {"the line": found["wire_bits_per_s"]["median"] / rate, "the server's CPU": found["server_cpu_all"]["median"],
             "the generator's CPU": found["crowd_cpu_all"]["median"]}
    at_end = [name for name, share in names.items() if share >= BOUND_BUSY_MIN]
    return " and ".join(at_end) or "nothing alone"


def target_rows(maxima):
    """To reach, with what was found."""
    first, back = list(maxima["rows"])[:2]
    first, back = maxima["rows"][first], maxima["rows"][back]
    per_s = lambda row, name: row[name]["per_s"]["median"]
    to = lambda row, name: per_s(row, "onecode") / per_s(row, name)
    cpu = first["onecode"]["cpu_us"]["median"] / first["informed"]["cpu_us"]["median"]
    to_old = per_s(back, "onecode") / per_s(first, "old")
    bound_by = bound(back["onecode"], maxima["rate_bits_per_s"])
    yes = lambda holds: "yes" if holds else "**no**"
    return ["what", "aim", "found", "reached"], [
        ("first visits/s to the old design", f"≥ {FIRST_TO_OLD_MIN} ×", f"{to(first, 'old'):.1f} ×", yes(to(first, "old") >= FIRST_TO_OLD_MIN)),
        ("first visits/s to informed", f"≥ {FIRST_TO_INFORMED_MIN:.1f} ×", f"{to(first, 'informed'):.2f} ×", yes(to(first, "informed") >= FIRST_TO_INFORMED_MIN)),
        ("server CPU of a first visit to informed", f"≤ {CPU_TO_INFORMED_MAX} ×", f"{cpu:.2f} ×", yes(cpu <= CPU_TO_INFORMED_MAX)),
        ("returns/s to the old design, whose every visit has the page", f"≥ {RETURN_TO_OLD_MIN} ×, or CPU-bound",
         f"{to_old:.0f} ×, bound by {bound_by}; {to(back, 'old'):.1f} × its codes without a page", yes(to_old >= RETURN_TO_OLD_MIN or "CPU" in bound_by)),
        ("returns/s to informed", f"≥ {RETURN_TO_INFORMED_MIN:.0f} ×", f"{to(back, 'informed'):.2f} ×", yes(to(back, "informed") >= RETURN_TO_INFORMED_MIN))]


def maxima_table(maxima):
    return table(*maxima_rows(maxima)) + [""] + table(*target_rows(maxima))


def html_table(head, rows):
    cells = lambda row, tag: "".join(f"<{tag}>{html.escape(str(cell)).replace('**', '')}</{tag}>" for cell in row)
    return ("<div class=wide><table><thead><tr>" + cells(head, "th") + "</tr></thead><tbody>" +
            "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows) + "</tbody></table></div>")


STYLE = """body{font:16px/1.5 sans-serif;max-width:760px;margin:0 auto;padding:12px;color:#111;background:#fff}
svg{width:100%;max-width:700px;height:auto;display:block;margin:18px 0}.wide{overflow-x:auto}table{border-collapse:collapse;font-size:14px}
td,th{border:1px solid #ccc;padding:4px 8px;text-align:left;vertical-align:top}h1{font-size:24px}h2{font-size:19px;margin-top:32px}"""


def about(results):
    machine = results["machine"]
    settings = ", ".join(f"{name}={value}" for name, value in results["settings"].items())
    return (f"<p>{html.escape(machine['cpu'])}, {machine['cpus']} CPUs, Linux {machine['kernel']}; a line of {html.escape(results['link'])}; "
            f"commit {html.escape(machine['commit'])}, {html.escape(machine['nginx'])}; {machine['time']}. The server and its peer have CPU 0, the "
            f"crowd, one thread, CPU 1.{' Settings: ' + html.escape(settings) + '.' if settings else ''}</p>")


INTRODUCTION = """<h1>The Xi’an day again</h1><p>One crowd, one line, three services: <b>old design</b>, nginx with one page of 500 kB, not compressed
and fetched anew each time, and codes made the obvious way; <b>informed</b>, nginx with our own page, compressed beforehand and kept by browsers for good,
and codes by a peer that knows what it is doing; <b>onecode</b>. Between the first two lies what the diet alone gives, between the others what onecode adds.</p>"""


def crowd_words(crowd):
    return (f"<p>The people of a calm second become ten times as many, and fewer again. Each comes over a new connection of their own, has the page, then a "
            f"code, and goes; times are random and the same for all three. Who has no code after {crowd['patience_s']} s reloads, who is refused reloads after "
            f"{crowd['pause_s']} s, {crowd['reloads']} times at most; where browsers keep the page, a reload does not fetch it again. Times run from coming to having "
            f"the code, reloads included. At most {crowd['connections']:,} connections at once: who finds none waits, and loses patience like the others. Plain HTTP. "
            "Quiet again means: for three seconds p99 is at most twice its worst calm second, or 2 ms above, and nobody gives up.</p>")


def document(replayed, maxima):
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
             f"<title>The Xi’an day again</title><style>{STYLE}</style>{INTRODUCTION}"]
    if replayed:
        parts += [crowd_words(replayed["crowd"]), about(replayed)]
        for crowd in replayed["crowds"]:
            parts += [f"<h2>{crowd['base_per_s']:,} people a second become {crowd['peak_per_s']:,}</h2>", html_table(*day_rows(crowd))]
            parts += [rendered(chart) for chart in charts(crowd, replayed["rate_bits_per_s"])]
    if maxima:
        parts += ["<h2>How much each can carry</h2><p>As many people at once as there are connections, the next when one is done. Medians and 95 % bootstrap "
                  "intervals; CPU is what the kernel charges the server's processes; bytes are all that leaves through the server's exit.</p>",
                  about(maxima), html_table(*maxima_rows(maxima)), "<p></p>", html_table(*target_rows(maxima))]
    return "".join(parts) + "</html>\n"
