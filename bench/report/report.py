#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the JSON report of `compare` into one self-contained HTML page with charts.

usage: report.py compare.json compare.html

Without matplotlib the page is written with its tables alone and the exit status is 3.
"""

import html
import io
import json
import math
import re
import sys

NO_MATPLOTLIB = 3
NAME = re.compile(
    r"(?P<mixer>\w+)/(?P<call>scan|step|backward)/(?P<policy>[\w-]+)/M:(?P<M>\d+)/T:(?P<T>\d+)/D:(?P<D>\d+)"
    r"/(?P<form>[\w-]+)(?:/(?P<order>natural|grouped))?(?:/B:(?P<B>\d+))?"
    r"(?:/threads:(?P<threads>\d+))?$")

MACHINE = re.compile(r"machine/(?P<kind>[\w-]+)(?:/(?P<stores>plain|streaming))?(?:/(?P<level>\w+))?$")

# One colour a mixer, in every chart; those of the first chart that compares orders.
COLOURS = {"diagonal": "#4477aa", "hlru": "#ee6677", "bdlru": "#228833"}
MORE_COLOURS = {"complex_diagonal": "#77aadd", "rglru": "#99ddff", "generalized": "#ccbb44",
                "generalized_scores": "#ee8866", "selective_ssm": "#aa3377", "causal_conv": "#ffaabb",
                "attention": "#222222", "linear_attention": "#66ccee", "delta_rule": "#bbbbbb"}
LIBRARY = ("sequential", "chunked", "automatic")
CROSSOVER = "crossover"
# One colour a pattern, and how its time a token grows with the length in theory.
PATTERNS = {"power2": ("#4477aa", "log n"), "cached-power2": ("#66ccee", "log n"),
            "square1": ("#ee6677", "n^0.5"), "cached-square1": ("#aa3377", "n^0.5")}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2rem }
table { border-collapse: collapse; font-size: 13px }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
th { position: sticky; top: 0; background: #fff }
td:first-child, th:first-child { text-align: left; font-family: ui-monospace, monospace }
.failed { color: #b00 }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 1rem }
svg { width: 100%; height: auto } figcaption { color: #555; font-size: 13px } figure { margin: 0 }
dl { display: grid; grid-template-columns: 7rem 1fr } dt { color: #555 } dd { margin: 0 }
"""


class Row:
    """One line of the table: the medians of a benchmark, and what its name says."""

    def __init__(self, entry, match):
        self.name = entry["run_name"]
        self.label = entry.get("label", "")
        self.entry = entry
        self.mixer, self.call, self.policy = match["mixer"], match["call"], match["policy"]
        self.M, self.T, self.D = int(match["M"]), int(match["T"]), int(match["D"])
        self.form, self.order = match["form"], match["order"]
        self.B, self.threads = int(match["B"] or 1), int(match["threads"] or 1)
        self.best = self.microseconds

    def counter(self, name):
        return self.entry.get(name)

    @property
    def microseconds(self):
        return self.entry["real_time"]

    @property
    def usual(self):
        """Whether this is what a user gets without asking: one thread, the faster layout."""
        return self.threads == 1 and self.B == 1 and self.order in (None, "grouped")


class Machine:
    """The limits of one thread: bytes a second of the best triad of each level, FMA slots a second."""

    def __init__(self):
        self.triad, self.slots = {}, None

    def read(self, entry, match):
        if match["kind"] == "fma":
            self.slots = entry.get("slots_per_second")
        elif match["kind"] == "triad":
            rate = entry.get("bytes_per_second", 0)
            self.triad[match["level"]] = max(self.triad.get(match["level"], 0), rate)


def load(path):
    """Context, timed rows, names of rows that failed, spread and best time of each row, the machine."""
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    rows, failed, spread, best, machine = [], {}, {}, {}, Machine()
    for entry in report["benchmarks"]:
        limit = MACHINE.match(entry["run_name"])
        if limit and entry.get("aggregate_name") == "median":
            machine.read(entry, limit)
        match = NAME.match(entry["run_name"])
        if not match:
            continue
        if entry.get("error_occurred"):
            failed[entry["run_name"]] = entry.get("error_message", "")
        elif entry.get("aggregate_name") == "median":
            rows.append(Row(entry, match))
        elif entry.get("aggregate_name") == "cv":
            spread[entry["run_name"]] = entry["real_time"]
        elif entry.get("aggregate_name") == "best":
            best[entry["run_name"]] = entry["real_time"]
    for row in rows:
        row.best = best.get(row.name, row.best)
    return report["context"], rows, failed, spread, best, machine


def library(rows, **wanted):
    """The library's default policy, restricted to rows with these properties."""
    return [r for r in rows if r.policy == "sequential" and r.usual
            and all(getattr(r, key) == value for key, value in wanted.items())]


def plain(rows, like):
    """The plain loop over the problem of `like`."""
    for r in rows:
        if (r.policy, r.mixer, r.call, r.M, r.T, r.D, r.form, r.B) == (
                "naive", like.mixer, like.call, like.M, like.T, like.D, like.form, like.B):
            return r
    return None


def mixers(rows):
    return [m for m in COLOURS if any(r.mixer == m for r in rows)]


def figure_svg(figure):
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight")
    text = out.getvalue()
    # The metadata name outside addresses; the page is to stand alone.
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg"):], flags=re.DOTALL)


def draw(plt, title, xlabel, ylabel, caption, lines, logx=True, logy=True, ticks=None):
    """One chart; `lines` are (label, style, colour, xs, ys). None without points."""
    lines = [line for line in lines if line[3]]
    if not lines:
        return None
    figure, axes = plt.subplots(figsize=(6.2, 4))
    for label, style, colour, xs, ys in lines:
        axes.plot(xs, ys, style, color=colour, label=label, markersize=5)
    if logx:
        axes.set_xscale("log", base=2)
    if logy:
        axes.set_yscale("log")
    if ticks:
        axes.set_xticks(ticks)
        axes.set_xticklabels([str(t) for t in ticks])
        axes.minorticks_off()
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize=8, ncol=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return finished(plt, figure, caption)


def finished(plt, figure, caption):
    svg = figure_svg(figure)
    plt.close(figure)
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def streaming_rows(rows, mixer, form):
    """The rows of one mixer and form at the size that is timed for every M, in the order of M."""
    chosen = library(rows, mixer=mixer, call="scan", form=form, D=1024)
    return sorted(chosen, key=lambda r: r.M)


def throughput_against_order(plt, rows, _):
    lines, ticks = [], set()
    for mixer in mixers(rows):
        for form, style in (("given", "o-"), ("log", "s--"), ("fused", "s--")):
            chosen = streaming_rows(rows, mixer, form)
            ticks.update(r.M for r in chosen)
            lines.append((f"{mixer} {form}", style, COLOURS[mixer], [r.M for r in chosen],
                          [r.counter("tokens_per_second") for r in chosen]))
            loops = [p for p in (plain(rows, r) for r in chosen) if p]
            lines.append((f"plain loop, {mixer} {form}", "x:", COLOURS[mixer], [p.M for p in loops],
                          [p.counter("tokens_per_second") for p in loops]))
    return draw(plt, "Prefill throughput against M", "M", "tokens / s",
                "1024 numbers of state, one thread, from memory. Diagonal: M = 1.", lines,
                ticks=sorted(ticks))


def limit_against_order(plt, rows, _):
    lines, ticks = [], set()
    for mixer in mixers(rows):
        for form, style in (("given", "o-"), ("log", "s--"), ("fused", "s--"), ("fused-l1", "^:")):
            chosen = streaming_rows(rows, mixer, form)
            ticks.update(r.M for r in chosen)
            lines.append((f"{mixer} {form}", style, COLOURS[mixer], [r.M for r in chosen],
                          [r.counter("fraction_of_limit") for r in chosen]))
    return draw(plt, "Part of the machine's limit", "M", "limit / time",
                "The limit is measured beside each call: memory, or FMA pipes where exps dominate.",
                lines, logy=False, ticks=sorted(ticks))


def time_against_length(plt, rows, _):
    lines = []
    for mixer in mixers(rows):
        form = "log" if mixer == "diagonal" else "fused"
        chosen = sorted(library(rows, mixer=mixer, call="scan", form=form, D=256),
                        key=lambda r: r.T)
        label = f"{mixer} {form}" + ("" if mixer == "diagonal" else " M=4")
        if len(chosen) > 2:
            label += f": T^{exponent([r.T for r in chosen], [r.microseconds for r in chosen]):.2f}"
        lines.append((label, "o-", COLOURS[mixer], [r.T for r in chosen],
                      [r.microseconds / 1e3 for r in chosen]))
        loops = [p for p in (plain(rows, r) for r in chosen) if p]
        lines.append((f"plain loop, {label}", "x:", COLOURS[mixer], [p.T for p in loops],
                      [p.microseconds / 1e3 for p in loops]))
    return draw(plt, "Prefill time against length", "T", "ms",
                "256 numbers of state, one thread; fitted exponents.", lines)


def decode_latency(plt, rows, _):
    lines, ticks = [], set()
    for mixer in mixers(rows):
        for form, style in (("given", "o-"), ("log", "s--"), ("fused", "s--")):
            chosen = sorted(library(rows, mixer=mixer, call="step", form=form, D=1024),
                            key=lambda r: r.M)
            ticks.update(r.M for r in chosen)
            lines.append((f"{mixer} {form}", style, COLOURS[mixer], [r.M for r in chosen],
                          [r.microseconds for r in chosen]))
            loops = [p for p in (plain(rows, r) for r in chosen) if p]
            lines.append((f"plain loop, {mixer} {form}", "x:", COLOURS[mixer], [p.M for p in loops],
                          [p.microseconds for p in loops]))
    return draw(plt, "Decode latency", "M", "us a token",
                "One token of 1024 numbers of state, gates and state in cache.", lines,
                ticks=sorted(ticks))


def state_bytes(plt, rows, _):
    lines, ticks = [], set()
    for mixer in mixers(rows):
        chosen = {}
        for r in library(rows, mixer=mixer, call="step", D=1024):
            chosen[r.M] = r.counter("cache_bytes") / 1024
        ticks.update(chosen)
        orders = sorted(chosen)
        lines.append((mixer, "o-", COLOURS[mixer], orders, [chosen[m] for m in orders]))
    return draw(plt, "State of a sequence", "M", "KiB",
                "Whatever the length of the sequence. 1024 numbers of output a token.", lines,
                logy=False, ticks=sorted(ticks))


def exponent(xs, ys):
    """The slope of log y against log x, least squares."""
    a, b = [math.log(x) for x in xs], [math.log(y) for y in ys]
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    run = sum((x - mean_a) ** 2 for x in a)
    return sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b)) / run if run else 0.0


def pattern_growth(plt, rows, _):
    lines = []
    for pattern, (colour, theory) in PATTERNS.items():
        chosen = sorted((r for r in rows if r.mixer == "generalized" and r.policy == "sequential"
                         and r.form == pattern + "-growth" and r.D == 64), key=lambda r: r.T)
        if len(chosen) < 2:
            continue
        xs = [r.T for r in chosen]
        ys = [1e3 * r.microseconds / r.T for r in chosen]
        lines.append((f"{pattern}: n^{exponent(xs, ys):.2f}, theory {theory}", "o-", colour, xs, ys))
    return draw(plt, "Time a token against length, by pattern", "n", "ns a token",
                "Generalised mixer, given coefficients, 64 channels, one thread; fitted exponents.",
                lines)


def flops(row):
    """Operations a second, 2 for a slot of an FMA pipe; 0 where a row counts none."""
    return 2 * (row.counter("slots_per_second") or 0)


def roofline(plt, rows, machine):
    """Arithmetic intensity against achieved arithmetic, under the ceilings of one thread."""
    if not machine.slots or "dram" not in machine.triad:
        return None
    peak = 2 * machine.slots
    chosen = [r for r in rows if r.policy in LIBRARY and r.threads == 1 and r.form != CROSSOVER
              and flops(r) > 0 and r.order in (None, "grouped")]
    if not chosen:
        return None
    known = [flops(r) / r.counter("bytes_per_second") for r in chosen if r.counter("bytes_per_second")]
    left, right = min(known + [0.1]) / 2, 4 * max(known + [peak / machine.triad["dram"]])
    figure, axes = plt.subplots(figsize=(6.2, 5))
    for level, rate in machine.triad.items():
        xs = [left, min(peak / rate, right), right]
        axes.plot(xs, [min(x * rate, peak) / 1e9 for x in xs], "-", color="#999999", linewidth=1)
        axes.annotate(f"{level} {rate / 1e9:.0f} GB/s", (left, left * rate / 1e9), fontsize=7,
                      color="#555555")
    axes.annotate(f"FMA pipes {peak / 1e9:.0f} GFLOP/s", (right / 3, peak / 1e9), fontsize=7,
                  color="#555555", ha="right", va="bottom")
    colours, markers = {**COLOURS, **MORE_COLOURS}, {"scan": "o", "step": "^", "backward": "s"}
    named = set()
    for r in chosen:
        rate = r.counter("bytes_per_second")
        axes.plot([flops(r) / rate if rate else right], [flops(r) / 1e9], markers[r.call],
                  color=colours.get(r.mixer, "#000000"), markersize=4,
                  label=None if r.mixer in named else r.mixer)
        named.add(r.mixer)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title("Roofline, one thread")
    axes.set_xlabel("FLOP a byte")
    axes.set_ylabel("GFLOP/s")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize=8, ncol=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    return finished(plt, figure, "Slots of the FMA pipes count 2, an exp 18 slots; bytes that a call must "
                    "move. Lines: measured triads and FMA rate. At the right edge: rows that are not charged "
                    "for memory. Circles: scans, triangles: steps, squares: gradients.")


def thread_scaling(plt, rows, _):
    groups = {}
    for r in rows:
        if r.policy in LIBRARY and r.form != CROSSOVER:
            groups.setdefault(re.sub(r"/threads:\d+$", "", r.name), []).append(r)
    groups = {name: sorted(g, key=lambda r: r.threads) for name, g in groups.items() if len(g) > 1}
    counts = sorted({r.threads for g in groups.values() for r in g})
    colours = {**COLOURS, **MORE_COLOURS}
    styles = iter(["o-", "s--", "^:", "v-.", "D-", "x--"] * len(groups))
    lines = [("as many as threads", ":", "#999999", counts, counts)] if groups else []
    for group in groups.values():
        first = group[0]
        label = f"{first.mixer} {first.call} {first.form}, D={first.D}" + (
            f", B={first.B}" if first.B > 1 else "")
        lines.append((label, next(styles), colours.get(first.mixer, "#000000"),
                      [r.threads for r in group], [first.microseconds / r.microseconds for r in group]))
    return draw(plt, "Speedup against threads", "threads", "time of one thread / time",
                "Policies: automatic for one sequence of diagonal and bdlru, else sequential.", lines,
                logy=False, ticks=counts)


def crossover(plt, rows, _):
    """Where chunks of time are faster than time in order, and what exec::automatic makes of it."""
    drawn = []
    for mixer in mixers([r for r in rows if r.form == CROSSOVER]):
        times = {}
        for r in rows:
            if r.form == CROSSOVER and r.mixer == mixer:
                times[r.T, r.D, r.policy, r.threads] = r.best
        lengths, widths = sorted({k[0] for k in times}), sorted({k[1] for k in times})
        figure, axes = plt.subplots(figsize=(6.2, 0.6 * len(lengths) + 1.6))
        gain = [[math.nan] * len(widths) for _ in lengths]
        for i, T in enumerate(lengths):
            for j, D in enumerate(widths):
                here = {k[2:]: v for k, v in times.items() if k[:2] == (T, D)}
                if ("sequential", 1) not in here or ("chunked", 1) not in here:
                    continue
                gain[i][j] = math.log2(here["sequential", 1] / here["chunked", 1])
                best = min(v for (policy, _), v in here.items() if policy != "automatic")
                chosen = min((v for (policy, _), v in here.items() if policy == "automatic"),
                             default=math.nan)
                axes.text(j, i, f"{2 ** gain[i][j]:.2f}x\n{chosen / best:.2f}", ha="center",
                          va="center", fontsize=8)
        axes.imshow(gain, cmap="RdYlGn", vmin=-2, vmax=2, aspect="auto")
        axes.set_xticks(range(len(widths)), [str(w) for w in widths])
        axes.set_yticks(range(len(lengths)), [str(t) for t in lengths])
        axes.set_xlabel("numbers of state")
        axes.set_ylabel("T")
        axes.set_title(f"Chunks of time, {mixer}")
        drawn.append(finished(plt, figure, "Above: sequential / chunked, one thread (green: chunks win). "
                              "Below: time of automatic over the best policy of all threads. Best times."))
    return "".join(drawn) or None


def targets_chart(plt, rows, title, field, caption, line):
    chosen = [r for r in rows if r.label and r.counter(field)]
    if not chosen:
        return None
    chosen = chosen[::-1]
    figure, axes = plt.subplots(figsize=(6.2, 0.17 * len(chosen) + 1))
    colours = {**COLOURS, **MORE_COLOURS}
    axes.barh(range(len(chosen)), [r.counter(field) for r in chosen],
              color=[colours.get(r.mixer, "#000000") for r in chosen])
    axes.set_yticks(range(len(chosen)), [r.label for r in chosen], fontsize=6)
    axes.axvline(line, color="#999999", linewidth=1)
    axes.set_title(title)
    axes.margins(y=0.01)
    return finished(plt, figure, caption)


def limit_of_all(plt, rows, _):
    return targets_chart(plt, rows, "Part of the limit, every named size", "fraction_of_limit",
                         "limit / time, both of the same rounds.", 1)


def plain_loops_of_all(plt, rows, _):
    return targets_chart(plt, rows, "Against the plain loop, every named size", "speedup_vs_naive",
                         "time of the faster plain loop / time.", 1)


CHARTS = (throughput_against_order, time_against_length, decode_latency, state_bytes,
          limit_against_order, pattern_growth, roofline, thread_scaling, crossover, limit_of_all,
          plain_loops_of_all)


def charts(rows, machine):
    """The charts as HTML; None without matplotlib."""
    try:
        import matplotlib
        matplotlib.use("svg")
        import matplotlib.pyplot as plt
    except ImportError:
        return None
    plt.rcParams["svg.fonttype"] = "none"
    drawn = [chart(plt, rows, machine) for chart in CHARTS]
    return "<div class=charts>" + "".join(d for d in drawn if d) + "</div>"


def number(value, pattern):
    return "" if value is None else pattern.format(value)


def table(rows, failed, spread, best):
    out = ["<table><tr><th>row</th><th>target</th><th>median us</th><th>best us</th><th>spread</th>"
           "<th>tokens/s</th><th>GB/s</th><th>of limit</th><th>vs plain loop</th>"
           "<th>state bytes</th></tr>"]
    for r in rows:
        bandwidth = r.counter("bytes_per_second")
        cells = [html.escape(r.name), html.escape(r.label), f"{r.microseconds:.4g}",
                 number(best.get(r.name), "{:.4g}"), number(spread.get(r.name), "{:.1%}"),
                 number(r.counter("tokens_per_second"), "{:.3g}"),
                 number(bandwidth and bandwidth / 1e9, "{:.1f}"),
                 number(r.counter("fraction_of_limit"), "{:.3f}"),
                 number(r.counter("speedup_vs_naive"), "{:.2f}"),
                 number(r.counter("cache_bytes"), "{:.0f}")]
        out.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    for name, why in failed.items():
        out.append(f"<tr class=failed><td>{html.escape(name)}</td>"
                   f"<td colspan=9>FAILED: {html.escape(why)}</td></tr>")
    out.append("</table>")
    return "\n".join(out)


def page(context, rows, failed, spread, best, drawn):
    prefix = "maslin_"
    facts = "".join(f"<dt>{html.escape(key[len(prefix):])}</dt><dd>{html.escape(str(value))}</dd>"
                    for key, value in context.items() if key.startswith(prefix))
    missing = "" if drawn else "<p>Charts are missing: they need matplotlib.</p>"
    return (f"<!doctype html><html lang=en><meta charset=utf-8><title>maslin compare</title>"
            f"<style>{STYLE}</style><h1>maslin compare</h1><p>{html.escape(context['date'])}</p>"
            f"<dl>{facts}</dl>{drawn or missing}<h2>All rows</h2>"
            f"<p>Medians over rounds; the limit of a row is measured in the same rounds.</p>"
            f"{table(rows, failed, spread, best)}</html>\n")


def main(arguments):
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    loaded = load(arguments[1])
    *loaded, machine = loaded
    drawn = charts(loaded[1], machine)
    with open(arguments[2], "w", encoding="utf-8") as file:
        file.write(page(*loaded, drawn))
    return NO_MATPLOTLIB if drawn is None else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
