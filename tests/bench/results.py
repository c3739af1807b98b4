"""Samples of the passes of one run, what follows from them, and the verdicts on floors and goals."""
import math
import statistics


def interval(values):
    """The narrowest pair of order statistics that holds the median with at least 95 %, by the binomial distribution and
    without any assumption about the values; for up to 8 of them that is the lowest and the highest."""
    v, n, k = sorted(values), len(values), 0
    while k + 1 < n - k - 2 and 1 - 2 * sum(math.comb(n, i) for i in range(k + 2)) / 2 ** n >= 0.95:
        k += 1
    return v[k], v[n - 1 - k]


class Row:
    def __init__(self, group, label, unit):
        self.group, self.label, self.unit = group, label, unit
        self.passes = {}  # number of the pass -> samples

    def medians(self):
        return [statistics.median(v) for _, v in sorted(self.passes.items())]

    def median(self):
        return statistics.median(self.medians())

    def p99(self):
        v = sorted(x for p in self.passes.values() for x in p)
        return v[min(len(v) - 1, len(v) * 99 // 100)] if len(v) >= 20 else None

    def lowest(self):
        return min(min(v) for v in self.passes.values())

    def count(self):
        return sum(map(len, self.passes.values()))


class Results:
    def __init__(self):
        self.rows, self.skips, self.notes = {}, [], []
        self.bodies = []   # (what, request line, body)
        self.versions = {}

    def add(self, number, key, group, label, unit, samples):
        self.rows.setdefault(key, Row(group, label, unit)).passes.setdefault(number, []).extend(samples)

    def skip(self, what, why):
        """Said at once, and in the report."""
        if (what, why) not in self.skips:
            self.skips.append((what, why))
            print("# SKIP %s: %s" % (what, why), flush=True)

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def ratios(self, of, *keys):
        """of(medians of one pass...) for each pass that has all the rows."""
        rows = [self.rows.get(k) for k in keys]
        if None in rows:
            return []
        passes = set.intersection(*(set(r.passes) for r in rows))
        return [of(*(statistics.median(r.passes[p]) for r in rows)) for p in sorted(passes)]


class Claim:
    """One line of "must show": a ratio or a number, its floor and its goal."""

    def __init__(self, what, of, keys, floor, goal, more_is_better=False, unit=""):
        self.what, self.of, self.keys = what, of, keys
        self.floor, self.goal, self.more, self.unit = floor, goal, more_is_better, unit

    def measure(self, results):
        """(median, low, high, verdict) or None. A floor is missed only when the whole interval is worse."""
        v = results.ratios(self.of, *self.keys)
        if not v:
            return None
        m, (low, high) = statistics.median(v), interval(v)
        best = high if self.more else low

        def reaches(x, bound):
            return x >= bound if self.more else x <= bound
        if self.floor is None:
            verdict = "for comparison"
        elif self.goal is not None and reaches(m, self.goal):
            verdict = "goal"
        elif reaches(m, self.floor):
            verdict = "floor holds"
        else:
            verdict = "floor within the interval" if reaches(best, self.floor) else "**MISSED**"
        return m, low, high, verdict
