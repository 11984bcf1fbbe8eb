"""From the results to a Markdown table with its verdicts, and to plots. The JSON beside them has every run."""

import html

import figures

# What issue and README promise, row by row.
WARM_FLOOR_MAX = 1.10
WARM_NGINX_MAX = 0.88
COLD_SIGNATURES_MAX = 1.35
COLD_RATE_MIN = 33_000
COLD_P99_US_MAX = 5_000
CHURN_MAX = 1.0
STATIC_MAX = 0.75
MATRIX_NS_MAX = 1_000
MATRIX_GAIN_MIN = 15
MEMORY_BYTES_MAX = 1024
MONOIO_SAVING_MIN = 0.08
AHEAD_MAX = 0.90
TLS_MAX = {"full": 0.50, "resumed": 0.50, "keepalive": 0.75}
TLS_MEMORY_BYTES_MAX = 12 * 1024

COLOURS = ["#1b6ca8", "#8a8a8a", "#b8541a", "#3f7d3a", "#7a4fa0"]
RATIO_CASES = {"warm": "warm refresh, keep-alive", "cold": "cold refresh, matrix included",
               "churn": "new TCP connection per request", "static": "static page"}


def us(figure):
    return f"{figure['median']:.2f} µs [{figure['low']:.2f}, {figure['high']:.2f}]"


def ratio(figure):
    return "no valid pair" if figure is None else f"{figure['median']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def reached(holds):
    return {True: "yes", False: "**no**", None: ""}[holds]


def cpu_us(results, case, server):
    found = results.get(case, {}).get("servers", {}).get(server)
    return found["cpu_us"]["median"] if found else None


def target_rows(results):
    """The rows to reach: case, figure, target, found, reached. A case that was not run has no row."""
    rows = []

    def row(case, target, found, holds):
        rows.append((case, target, found, reached(holds)))

    def ratio_row(case, text, other, most):
        figure = results[case]["ratios"].get(other)
        if results[case]["void"]:
            text += f" ({len(results[case]['void'])} void runs)"
        row(text, f"≤ {most:.2f} × {other}", ratio(figure), figure is not None and figure["median"] <= most)

    if "warm" in results:
        ratio_row("warm", "warm refresh, keep-alive: CPU per request", "floor", WARM_FLOOR_MAX)
        ratio_row("warm", "warm refresh, keep-alive: CPU per request", "nginx-return", WARM_NGINX_MAX)
    if "cold" in results:
        cold_rows(results, row)
    if "churn" in results:
        ratio_row("churn", "new TCP connection per request: CPU per request", "nginx-deferred", CHURN_MAX)
    if "static" in results:
        text = f"static page of {results['static']['bytes']:,} bytes in all: CPU per request"
        ratio_row("static", text, "nginx-static", STATIC_MAX)
    if "parts" in results:
        matrix_rows(results["parts"], row)
    if results.get("latency"):
        half = next(point for point in results["latency"] if point["share"] == 50)
        ours, theirs = half["servers"]["onecode"]["p99"], half["servers"]["nginx-return"]["p99"]
        row(f"p99 at half of maximum ({half['rate']:,}/s)", "≤ nginx at the same rate",
            f"{ours:.0f} µs against {theirs:.0f} µs", ours <= theirs)
    if "ahead" in results:
        found = results["ahead"]
        figure, failed = found["p99_ratio"], {name: side["failed"] for name, side in found["servers"].items()}
        row(f"residents who return at {found['rate']:,}/s, 75 % of the maximum: p99 with signatures made ahead",
            f"≤ {AHEAD_MAX:.2f} × p99 without, and the interval below 1, to stay the default",
            f"{ratio(figure)}; failed: {failed['ahead']} with, {failed['off']} without",
            figure is not None and figure["median"] <= AHEAD_MAX and figure["high"] < 1)
    if "tls" in results:
        tls_rows(results["tls"], row)
    if results.get("memory"):
        each = results["memory"]["onecode"]
        row(f"user-space memory of an idle connection, {each['connections']:,} of them", "≤ 1,024 bytes",
            f"{each['bytes_each']:.0f} bytes", each["bytes_each"] <= MEMORY_BYTES_MAX)
    if "warm" in results:
        figure = results["warm"]["ratios"].get("onecode-monoio")
        row("uring against monoio, warm: CPU per request", f"≤ {1 - MONOIO_SAVING_MIN:.2f} × monoio, to stay the default",
            ratio(figure), figure is not None and figure["median"] <= 1 - MONOIO_SAVING_MIN)
    return rows


TLS_CASES = {"full": "TLS: whole handshake and one request, X25519", "resumed": "TLS: resumed handshake and one request, X25519",
             "keepalive": "TLS: warm refresh, keep-alive", "full-pq": "TLS: whole handshake and one request, X25519MLKEM768",
             "opening": "opening: whole handshake (X25519MLKEM768), page, session, refresh",
             "return": "return: resumed handshake (X25519MLKEM768) and a refresh"}


def tls_rows(found, row):
    for name, case in found["cases"].items():
        figure, ours = case["ratios"].get("nginx-return"), case["servers"].get("onecode")
        void = f" ({len(case['void'])} void runs)" if case["void"] else ""
        if name in TLS_MAX:
            row(TLS_CASES[name] + ": CPU" + void, f"≤ {TLS_MAX[name]:.2f} × nginx-return", ratio(figure),
                figure is not None and figure["median"] <= TLS_MAX[name])
        else:
            row(TLS_CASES[name] + ": CPU" + void, "none", us(ours["cpu_us"]) if ours else "no valid run", None)
    each = found["idle"]["onecode"]["bytes_each"]
    row(f"user-space memory of an idle TLS connection, {found['idle']['onecode']['connections']:,} of them",
        f"≤ {TLS_MEMORY_BYTES_MAX:,} bytes", f"{each:,.0f} bytes; nginx {found['idle']['nginx-return']['bytes_each']:,.0f}",
        each <= TLS_MEMORY_BYTES_MAX)


def cold_rows(results, row):
    case = results["cold"]
    void = f" ({len(case['void'])} void runs)" if case["void"] else ""
    ours, floor = cpu_us(results, "cold", "onecode"), cpu_us(results, "cold", "floor")
    if ours is None or floor is None:
        row("cold refresh" + void, "", "no valid run", False)
    elif "parts" in results:
        most = floor + COLD_SIGNATURES_MAX * results["parts"]["sign_aws_lc_ns"] / 1000
        row("cold refresh, matrix included: CPU per request" + void,
            f"≤ floor + {COLD_SIGNATURES_MAX} × one aws-lc signature = {most:.2f} µs", f"{ours:.2f} µs", ours <= most)
    at = case["at_33000"]
    row("cold refreshes from one core", f"≥ {COLD_RATE_MIN:,}/s with p99 < 5 ms",
        f"{at['answered_per_s']:,.0f}/s of {at['rate']:,}/s offered, p99 {at['p99_us'] / 1000:.2f} ms, "
        f"{at['failed']} failed", at["answered_per_s"] >= 0.995 * COLD_RATE_MIN and at["p99_us"] < COLD_P99_US_MAX
        and at["failed"] == 0)
    for other in ("informed", "obvious"):
        figure = case["ratios"].get(other)
        row(f"cold refresh against `{other}`: CPU per request", "none", ratio(figure), None)


def matrix_rows(parts, row):
    """The target is of AVX2, whatever else this CPU has."""
    avx2, avx512, crate = parts.get("matrix_avx2_ns"), parts.get("matrix_avx512_ns"), parts["matrix_qrcode_fixed_ns"]
    missing = "this CPU does not have it"
    row("QR matrix, AVX2", "≤ 1.0 µs", missing if avx2 is None else f"{avx2 / 1000:.2f} µs", avx2 and avx2 <= MATRIX_NS_MAX)
    row("QR matrix, AVX-512", "none", missing if avx512 is None else f"{avx512 / 1000:.2f} µs", None)
    row("QR matrix, AVX2, same version and mask", f"≥ {MATRIX_GAIN_MIN} × as fast as the `qrcode` crate",
        missing if avx2 is None else f"{crate / avx2:.1f} ×", avx2 and crate / avx2 >= MATRIX_GAIN_MIN)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def markdown(results):
    machine = results["machine"]
    lines = ["# What a request costs", ""]
    lines += [f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, loopback with an MTU of "
              f"{machine['mtu']}, {machine['congestion']}; commit {machine['commit']}; {machine['rustc']}, "
              f"{machine['nginx']}, {machine['wrk']}; {machine['time']}.", ""]
    lines += ["One shard on CPU 0, wrk with one thread and 64 connections on CPU 1, runs in palindromic order "
              f"({machine['pairs']} rounds of {machine['seconds']} s). CPU is what the kernel charges all threads of the "
              "server. Brackets are 95 % bootstrap intervals of the median. Loopback charges a sender with its "
              "receiver's TCP, so only ratios between servers with equal bytes mean anything.", ""]
    if machine["quick"]:
        lines += ["**A quick run: it shows that everything works and proves nothing.**", ""]
    lines += [f"- {note}" for note in results.get("notes", [])] + [""]
    if "noise" in results:
        noise = results["noise"]["ratios"]["onecode-again"]
        lines += [f"Noise: two processes of the same server differ by {ratio(noise)}; nothing below twice that is "
                  "claimed.", ""]
    lines += ["## To reach", ""] + table(["case", "target", "found", "reached"], target_rows(results)) + [""]
    for case, text in RATIO_CASES.items():
        if case in results:
            lines += [f"## CPU per request: {text}", ""] + case_table(results[case]) + [""]
    if results.get("latency"):
        lines += ["## Latency at fixed rates, from the planned send time", ""] + latency_table(results["latency"]) + [""]
    if "ahead" in results:
        lines += ["## Residents who come back when they are told", ""] + ahead_table(results["ahead"]) + [""]
    if "tls" in results:
        lines += [f"Over TLS all servers spoke alike: {results['tls']['spoken']}.", ""]
        for name, case in results["tls"]["cases"].items():
            lines += [f"## CPU per request: {TLS_CASES[name]}", ""] + case_table(case) + [""]
    if "parts" in results:
        rows = [(name, f"{value / 1000:.3f} µs") for name, value in sorted(results["parts"].items())]
        lines += ["## Parts, alone", ""] + table(["part", "time"], rows) + [""]
    if "instructions" in results:
        rows = [(name, f"{value:,}") for name, value in results["instructions"].items()]
        lines += ["## Instructions a call, under callgrind", ""] + table(["part", "instructions"], rows) + [""]
    lines += ["Scaling over many cores cannot be measured on two. On a machine with more, with a load generator "
              "elsewhere: `scripts/bench.sh --target http://HOST:8080 --admin http://HOST:8081 --token-file FILE "
              "--sessions FILE`.", ""]
    return "\n".join(lines)


def ahead_table(found):
    most = found["maximum_per_s"]
    lines = [f"At {found['rate']:,}/s, 75 % of what cold refreshes reach at most without signatures made ahead, "
             f"{most['median']:,.0f}/s [{most['low']:,.0f}, {most['high']:,.0f}], measured just before. {found['pairs']} rounds "
             f"in ABBA order, {found['seconds']} s of each run count, after a window in which everyone comes for the first "
             "time; CPU, signatures and failures are of all of it.", ""]
    rows = [(name, f"{side['p50']:.0f}", f"{side['p99']:.0f}", f"{side['p99_9']:.0f}", f"{side['cpu_us']:.2f}",
             f"{median(side, 'found_share'):.0%}", f"{median(side, 'signed_share'):.0%}", side["failed"])
            for name, side in found["servers"].items()]
    return lines + table(["signatures", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/request", "found made, of returns",
                          "signed, of requests", "failed"], rows)


def median(found, name):
    return figures.median([run[name] for run in found["runs"]])


def case_table(case):
    rows = []
    for name, server in case["servers"].items():
        own = "" if name == case["ours"] else ratio(case["ratios"].get(name))
        further = ", ".join(case["equal"].get(name, {}).get("further_fields", []))
        rows.append((name, us(server["cpu_us"]), f"{server['per_s']['median']:,.0f}", own,
                     f"{server['client_busy']['median']:.0%}", server["marked_runs"],
                     f"{server['signed_share']:.1%}" if "signed_share" in server else "", further))
    head = ["server", "CPU per request", "requests/s at most", "onecode to it", "wrk busy", "runs with steal > 1 %",
            "signed all the same", "fields it adds itself"]
    lines = table(head, rows)
    return lines + [""] + [f"- void: {void}" for void in case["void"]] if case["void"] else lines


def latency_table(points):
    rows = []
    for point in points:
        for name, found in point["servers"].items():
            rows.append((f"{point['share']} %: {point['rate']:,}/s", name, f"{found['p50']:.0f}", f"{found['p99']:.0f}",
                         f"{found['p99_9']:.0f}", f"{found['cpu_us']:.2f}", f"{found['answered_per_s']:,.0f}",
                         found["failed"]))
    return table(["rate", "server", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/request", "answered/s", "failed"], rows)


def text(x, y, words, size=13, anchor="start", weight="normal"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">'
            f"{html.escape(words)}</text>")


def svg(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="sans-serif"><rect width="100%" height="100%" fill="#ffffff"/>' + "".join(parts) + "</svg>\n")


def bars(results):
    """CPU per request of each server, case by case, with its interval; each case has a scale of its own."""
    parts, y, left, width = [text(20, 28, "Server CPU per request", 18, weight="bold")], 50, 190, 480
    for case, title in RATIO_CASES.items():
        servers = results.get(case, {}).get("servers", {})
        if not servers:
            continue
        # The one that takes a millisecond would leave nothing to see of the others; its bar is cut, its figure stands.
        ordinary = [found["cpu_us"]["high"] for found in servers.values()]
        most = sorted(ordinary)[-2] * 1.6 if len(ordinary) > 2 else max(ordinary)
        most = min(max(ordinary), most)
        parts.append(text(20, y + 14, title, 14, weight="bold"))
        y += 26
        for index, (name, found) in enumerate(servers.items()):
            cpu = found["cpu_us"]
            scale = [min(value / most, 1) * width for value in (cpu["median"], cpu["low"], cpu["high"])]
            parts.append(text(left - 8, y + 13, name, anchor="end"))
            parts.append(f'<rect x="{left}" y="{y}" width="{scale[0]:.1f}" height="16" '
                         f'fill="{COLOURS[index % len(COLOURS)]}"/>')
            parts.append(f'<path d="M{left + scale[1]:.1f} {y + 8}H{left + scale[2]:.1f}" stroke="#000000" '
                         'stroke-width="2"/>')
            parts.append(text(left + max(scale[0], scale[2]) + 8, y + 13, f"{cpu['median']:.2f} µs"))
            y += 22
        y += 14
    return svg(800, y + 6, parts)


def ratios(results):
    """Ours to each of the others: a dot, its interval, and the line at 1."""
    parts, y, left, width, most = [text(20, 28, "onecode to others: CPU per request", 18, weight="bold")], 52, 250, 460, 1.5
    for case, title in RATIO_CASES.items():
        for name, figure in results.get(case, {}).get("ratios", {}).items():
            if figure is None:
                continue
            at = [left + min(figure[key], most) / most * width for key in ("median", "low", "high")]
            parts.append(text(left - 10, y + 5, f"{case}: to {name}", anchor="end"))
            parts.append(f'<path d="M{at[1]:.1f} {y}H{at[2]:.1f}" stroke="{COLOURS[0]}" stroke-width="3"/>')
            parts.append(f'<circle cx="{at[0]:.1f}" cy="{y}" r="4" fill="{COLOURS[0]}"/>')
            parts.append(text(left + width + 10, y + 5, f"{figure['median']:.3f}"))
            y += 22
    one = left + width / most
    parts.insert(1, f'<path d="M{one:.1f} 40V{y - 8}" stroke="#b0b0b0" stroke-dasharray="4 3"/>')
    parts.append(text(one, y + 10, "1.0", 12, "middle"))
    return svg(800, y + 20, parts)


def latencies(points):
    """p50, p99 and p99.9 over the rate, one panel each, on a logarithmic scale."""
    import math
    names = list(points[0]["servers"])
    values = [found[key] for point in points for found in point["servers"].values() for key in ("p50", "p99", "p99_9")]
    low, high = math.floor(math.log10(max(min(values), 1))), math.ceil(math.log10(max(max(values), 10)))
    high = max(high, low + 1)
    parts = [text(20, 28, "Latency from the planned send time", 18, weight="bold")]
    for panel, (key, title) in enumerate([("p50", "p50"), ("p99", "p99"), ("p99_9", "p99.9")]):
        left, top, width, height = 70 + panel * 250, 60, 190, 220
        parts.append(text(left + width / 2, top - 8, title, 14, "middle", "bold"))
        for power in range(low, high + 1):
            y = top + height * (high - power) / (high - low)
            parts.append(f'<path d="M{left} {y:.0f}h{width}" stroke="#dddddd"/>')
            parts.append(text(left - 6, y + 4, f"{10 ** power:,} µs" if power < 3 else f"{10 ** (power - 3):,} ms", 11, "end"))
        for point in points:
            parts.append(text(left + width * point["share"] / 100, top + height + 16, f"{point['share']} %", 11, "middle"))
        for index, name in enumerate(names):
            places = [(left + width * point["share"] / 100,
                       top + height * (high - math.log10(max(point["servers"][name][key], 1))) / (high - low))
                      for point in points]
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            parts.append(f'<path d="{path}" fill="none" stroke="{COLOURS[index]}" stroke-width="2"/>')
    for index, name in enumerate(names):
        parts.append(f'<rect x="{70 + index * 180}" y="316" width="14" height="14" fill="{COLOURS[index]}"/>')
        parts.append(text(90 + index * 180, 328, name))
    parts.append(text(70, 354, "Share of onecode's own maximum; all servers at the same rates.", 12))
    return svg(830, 370, parts)
