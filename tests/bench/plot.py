"""The plot: bars on a logarithmic scale, as SVG by hand."""
import math
from xml.sax.saxutils import escape

LABEL, WIDTH, BAR, RIGHT = 330, 430, 17, 80
STYLE = ("text{font:12px sans-serif;fill:#222}.t{font-weight:bold}.n{font-size:10px}.o{fill:#2a7f62}.p{fill:#9aa5b1}.w{stroke:#222}.g{stroke:#ddd}"
         "@media(prefers-color-scheme:dark){text{fill:#ddd}.w{stroke:#ddd}.g{stroke:#444}}")


def panel(title, bars, y):
    """bars: (label, median, low, high, text, ours). The SVG of one panel and where the next may begin."""
    low = min(b[2] for b in bars) / 1.3
    scale = WIDTH / math.log(max(b[3] for b in bars) / low)

    def x(v):
        return LABEL + scale * math.log(v / low)
    out = ['<text class="t" x="0" y="%d">%s</text>' % (y, escape(title))]
    bottom = y + 10 + len(bars) * (BAR + 4)
    for e in range(-3, 7):
        if low < 10.0 ** e < max(b[3] for b in bars):
            out.append('<line class="g" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>' % (x(10.0 ** e), x(10.0 ** e), y + 6, bottom))
            out.append('<text class="n" x="%.1f" y="%d" text-anchor="middle">%g</text>' % (x(10.0 ** e), bottom + 12, 10.0 ** e))
    for i, (label, median, lo, hi, text, ours) in enumerate(bars):
        top = y + 10 + i * (BAR + 4)
        mid = top + BAR / 2
        out.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>' % (LABEL - 6, mid + 4, escape(label)))
        out.append('<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>' % ("o" if ours else "p", LABEL, top, x(median) - LABEL, BAR))
        out.append('<line class="w" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>' % (x(lo), x(hi), mid, mid))
        out.append('<text x="%.1f" y="%.1f">%s</text>' % (x(max(hi, median)) + 6, mid + 4, escape(text)))
    return out, bottom + 42


def svg(results, interval, number):
    out, y = [], 20
    for title, pick in (("Starting Debian's true, ms (logarithmic; the line is the interval)", "d-"), ("POST one true, requests per second", "rate-")):
        bars = []
        for k, r in results.rows.items():
            if k.startswith(pick) and not k.endswith("-verdict"):
                low, high = interval(r.medians())
                bars.append((r.label, r.median(), low, high, number(r.median()), "cgibox" in r.label))
        if bars:
            more, y = panel(title, bars, y)
            out += more
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d"><style>%s</style>\n%s\n</svg>\n' %
            (LABEL + WIDTH + RIGHT, y, LABEL + WIDTH + RIGHT, y, STYLE, "\n".join(out)))
