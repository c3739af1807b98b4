"""The tables, as text and as Markdown, and the file that holds them."""
import os
import platform
import re
import time

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def number(x):
    if x is None:
        return ""
    return "%.0f" % x if abs(x) >= 100 else "%.1f" % x if abs(x) >= 10 else "%.2f" % x


def machine():
    model = ""
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "")
    return "%d processors (%s), Linux %s" % (os.cpu_count(), model, platform.release())


def table(head, rows):
    """Markdown that is readable as text too: columns of one width."""
    cells = [head] + rows
    width = [max(len(str(r[i])) for r in cells) for i in range(len(head))]
    last = len(head) - 1 if head[-1] == "verdict" else -1

    def line(r):
        return "| " + " | ".join(str(c).ljust(w) if i in (0, last) else str(c).rjust(w)
                                 for i, (c, w) in enumerate(zip(r, width))) + " |"
    ruler = "|" + "|".join("-" * (w + 2) if i in (0, last) else "-" * (w + 1) + ":" for i, w in enumerate(width)) + "|"
    return "\n".join([line(head), ruler] + [line(r) for r in rows])


OTHERS_MAX = 25  # percent of the processors


def claims_table(results, claims, doubt):
    rows = []
    for c in claims:
        m = c.measure(results)
        bound = [number(x) if x is not None else "" for x in (c.floor, c.goal)]
        if m is None:
            rows.append([c.what, "", "", *bound, "not measured"])
        else:
            rows.append([c.what, number(m[0]) + c.unit, "%s to %s" % (number(m[1]), number(m[2])), *bound, m[3] + doubt])
    return table(["what", "median", "interval", "floor", "goal", "verdict"], rows)


BASES = {"s-": "s-spawn", "d-": "d-spawn", "p-": "p-spawn"}


def group_table(results, group, interval):
    """One group: a row each, with its ratio to the group's base where there is one."""
    keys = [k for k, r in results.rows.items() if r.group == group]
    base = BASES.get(keys[0][:2])
    rows = []
    for k in keys:
        r = results.rows[k]
        low, high = interval(r.medians())
        row = [r.label, "%s %s" % (number(r.median()), r.unit), "%s to %s" % (number(low), number(high)), number(r.lowest()), number(r.p99()), r.count()]
        if base:
            ratio = sorted(results.ratios(lambda a, b: a / b, k, base))
            row.append(number(ratio[len(ratio) // 2]) if ratio else "")
        rows.append(row)
    return table(["what", "median", "interval", "lowest", "p99", "samples"] + (["x base"] if base else []), rows)


def text(results, claims, options, interval, passes, seconds, others, plot):
    doubt = " (quick)" if options.quick else " (disturbed)" if others > OTHERS_MAX else ""
    out = ["## Floors and goals", "",
           "`make bench`, %s: %d passes, in each of which all rows take turns, %.0f s; %s. Others, with threads of the kernel, used %.0f %% of the processors meanwhile%s.%s" %
           (time.strftime("%Y-%m-%d"), passes, seconds, machine(), others, ", **too much for verdicts**" if others > OTHERS_MAX else "",
            " **A quick run: too short for verdicts.**" if options.quick else ""),
           "A ratio is formed within a pass. The interval holds the median of the passes with 95 % or more (lowest and highest of up to 8). A floor "
           "is missed only when the whole interval is worse.", "", claims_table(results, claims, doubt), ""]
    if plot:
        out += ["![launch times and requests per second](%s)" % plot, ""]
    for group in dict.fromkeys(r.group for r in results.rows.values()):
        out += ["### " + group, "", group_table(results, group, interval), ""]
    if results.bodies:
        out += ["### Request bodies", ""] + ["- %s: `%s` `%s`" % (what, line, body) for what, line, body in dict.fromkeys(results.bodies)] + [""]
    out += ["### Compared with", ""] + ["- %s: %s" % v for v in sorted(results.versions.items(), key=lambda v: v[0].lower())] + [""]
    if results.skips:
        out += ["### Not compared", ""] + ["- %s: %s" % s for s in results.skips] + [""]
    if results.notes:
        out += ["### Notes", ""] + ["- " + n for n in results.notes] + [""]
    return "\n".join(out)


def write(path, new):
    """Replaces what lies between the marks; leaves the rest of the file alone."""
    with open(path) as f:
        old = f.read()
    block = "%s\n%s\n%s" % (BEGIN, new.rstrip(), END)
    if BEGIN in old:
        old = re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: block, old, flags=re.S)
    else:
        old = old.rstrip() + "\n\n" + block + "\n"
    with open(path + ".new", "w") as f:
        f.write(old)
    os.replace(path + ".new", path)
