"""TAP: numbered assertions, the plan at the end."""
import os
import sys

_count = _failed = 0
SHOWN = 2500  # characters of a detail


def ok(good, what, *detail):
    """One assertion; the details are shown when it fails."""
    global _count, _failed
    _count += 1
    print("%sok %d - %s" % ("" if good else "not ", _count, what), flush=True)
    if not good:
        _failed += 1
        for d in detail:
            text = d if isinstance(d, str) else repr(d)
            print("#", text[-SHOWN:].rstrip("\n").replace("\n", "\n# "), flush=True)
    return bool(good)


def eq(got, want, what):
    return ok(got == want, what, "     got: %r" % (got,), "expected: %r" % (want,))


def done():
    print("1..%d" % _count, flush=True)
    sys.exit(_failed != 0)


def skip_all(why):
    """Before any assertion. A failure with MUST_WORK=1."""
    if os.environ.get("MUST_WORK") == "1":
        print("1..1\nnot ok 1 - cannot run: " + why, flush=True)
        sys.exit(1)
    print("1..0 # SKIP " + why, flush=True)
    sys.exit(0)
