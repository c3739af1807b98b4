#!/usr/bin/python3
"""cgibox bench: what things cost, against others, on this machine. See cgibox(1).

Every section prepares, then all passes go through all sections in turn, so that a disturbance meets all alike.
"""
import argparse
import os
import signal
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bodies  # noqa: E402
import claims  # noqa: E402
import engine as engines  # noqa: E402
import launches  # noqa: E402
import memory  # noqa: E402
import peers  # noqa: E402
import place as places  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402
import results as res  # noqa: E402
import trees  # noqa: E402
import warm  # noqa: E402
import web  # noqa: E402

SECTIONS = [m.Section for m in (launches, warm, web, bodies, memory, trees)]


def parse():
    names = [s.name for s in SECTIONS]
    quick = os.environ.get("QUICK", "") not in ("", "0")
    p = argparse.ArgumentParser(prog="cgibox bench", description="Measures what things cost on this machine, against others that are installed.")
    p.add_argument("--quick", action="store_true", default=quick, help="few rounds: plausible numbers, no verdicts")
    p.add_argument("--passes", type=int, default=int(os.environ.get("BENCH_PASSES") or 0), metavar="N", help="default 7, with --quick 2")
    p.add_argument("--write", metavar="FILE", help="put the tables into this Markdown file, a plot beside it")
    p.add_argument("section", nargs="*", help="of %s; default: all" % ", ".join(names))
    o = p.parse_args()
    o.passes = o.passes or (2 if o.quick else 7)
    o.section = o.section or names
    for s in o.section:
        if s not in names:
            p.error("%s: no section of this name; there are %s" % (s, ", ".join(names)))
    if o.write and not os.path.isfile(o.write):
        p.error("--write: no file %s" % o.write)
    return o


def say(text):
    print("# %s" % text, file=sys.stderr, flush=True)


def start_engine(place, results, options):
    if "launch" not in options.section:
        return None
    engine = engines.Engine(place)
    why = engine.missing()
    if why is None:
        try:
            engine.start()
            return engine
        except Exception as e:
            engine.stop()
            why = str(e)
    results.skip("docker run, docker exec", why)
    return None


def attempt(results, failed, section, step, *args):
    """A section that fails is left out from then on, and the others go on."""
    if section in failed:
        return
    try:
        step(*args)
    except Exception as e:
        traceback.print_exc()
        results.skip("the section %s, which failed" % section.name, str(e))
        failed.append(section)


def measure(results, options, sections):
    """The sections that failed."""
    failed = []
    for s in sections:
        say("%s: prepares" % s.name)
        attempt(results, failed, s, s.setup)
    for number in range(options.passes):
        for s in sections:
            say("pass %d of %d: %s" % (number + 1, options.passes, s.name))
            attempt(results, failed, s, s.measure, number)
    return failed


class Processors:
    """How much of the processors others used."""

    def __init__(self):
        self.begin, self.own = self.read(), sum(os.times()[:4])

    @staticmethod
    def read():
        """(busy, all) in seconds, of all processors."""
        with open("/proc/stat") as f:
            v = [int(x) / os.sysconf("SC_CLK_TCK") for x in f.readline().split()[1:9]]
        return sum(v) - v[3] - v[4], sum(v)

    def others(self):
        """Percent; to be asked when everything that we started has ended and been waited for."""
        busy, everything = (b - a for a, b in zip(self.begin, self.read()))
        return max(0, 100 * (busy - (sum(os.times()[:4]) - self.own)) / everything)


def finish(results, options, seconds, others):
    name = None
    if options.write:
        name = os.path.splitext(os.path.basename(options.write))[0] + ".svg"
        with open(os.path.join(os.path.dirname(os.path.abspath(options.write)), name), "w") as f:
            f.write(plot.svg(results, res.interval, report.number))
    text = report.text(results, claims.claims(), options, res.interval, options.passes, seconds, others, name)
    print(text)
    if options.write:
        report.write(options.write, text)


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begin, processors = time.monotonic(), Processors()
    results = res.Results()
    results.versions = peers.versions()
    place = places.Place()
    engine, sections, failed = None, [], []
    try:
        place.install()
        place.make_root()
        engine = start_engine(place, results, options)
        sections = [s(place, results, options, engine) for s in SECTIONS if s.name in options.section]
        failed = measure(results, options, sections)
    finally:
        for s in sections:
            try:
                s.close()
            except Exception:
                traceback.print_exc()
        if engine:
            engine.stop()
        place.clear()
    finish(results, options, time.monotonic() - begin, processors.others())
    return bool(failed)


sys.exit(main())
