#!/usr/bin/python3
"""Every mechanism counts: with it off, the promise behind it breaks. TAP.

Runs in a build with switches (make MUTATION=1; isolate/mutate.h), which this test makes when it is not there.
For each row of rows.py: with nothing off the attack is HELD; with all mechanisms of the row off it says
BREACH; with all but one off, each one alone holds. Arguments: words that a row's promise must contain.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import rows  # noqa: E402

MUTATION = os.environ.get("CGIBOX_MUTATION_BUILD") or os.path.join(lab.TREE, "build-mutation")


def switches(mechanisms):
    return [s for m in mechanisms for s in m.split("+")]


def make():
    """The programs of the test build, unless somebody else made them."""
    if os.environ.get("CGIBOX_MUTATION_BUILD"):
        return
    subprocess.run(["make", "-s", "-C", lab.TREE, "MUTATION=1", "B=build-mutation", "build-mutation/cgibox",
                    "build-mutation/cgibox.fcgi", "build-mutation/libexec/image", "build-mutation/atk"], check=True, stdout=sys.stderr)


def try_row(row, box):
    used = set(switches(row.mechanisms))
    out = row.run(box)
    lab.ok(out.word == "HELD", "%s: holds (%s)" % (row.promise, row.attack), out)
    out = row.run(box, switches(row.mechanisms))
    want = row.broken
    what = {"BREACH": "breaks without", "REFUSES": "nothing starts without", "HELD": "holds even without"}[want]
    lab.ok(out.word == want, "%s: %s %s%s" % (row.promise, what, " and ".join(row.mechanisms),
                                              ": " + row.partner if row.partner else ""), out)
    if out.word == want:
        lab.note(out.why)
    if len(row.mechanisms) > 1:
        for alone in row.mechanisms:
            off = used - set(switches([alone]))
            out = row.run(box, sorted(off))
            # refusing to start is holding: a missing mechanism was noticed
            lab.ok(out.word in ("HELD", "REFUSES"), "%s: %s alone holds it" % (row.promise, alone), out)
    return used


def try_calls(box):
    """Each denied call: with its rule off the kernel sees it, unless the kernel asks for a privilege first."""
    listed = box.attack("calls").out.split()
    calls = dict(zip(listed[::2], listed[1::2]))
    lab.ok(len(calls) > 45, "the calls that the filter denies are listed", listed)
    for name, asks in calls.items():
        if name in ("newer-than-the-table", "setxattrat"):
            continue
        out = box.attack("surface", name, mutate=["sys-" + name])
        if asks == "1":
            lab.note("%s: without its rule: %s" % (name, out.why or "the kernel refuses by itself (no capability)"))
        elif out.word == "HELD" and "ENOSYS" in out.out:
            lab.note("%s: this kernel has no such call" % name)
        else:
            lab.ok(out.word == "BREACH", "%s: reaches the kernel without its rule" % name, out)


def check_complete(known):
    """Every switch of the sources is in a row, and in docs/promises.md."""
    there, text = set(), open(os.path.join(lab.TREE, "docs/promises.md")).read()
    for d in ("isolate", "fcgi"):
        for f in os.listdir(os.path.join(lab.TREE, d)):
            if f.endswith((".c", ".h")):
                with open(os.path.join(lab.TREE, d, f)) as h:
                    there |= set(re.findall(r'MUTATED?\("([^"]+)"', h.read()))
    lab.eq(sorted(there - known), [], "every switch is in a row")
    named = {s for s in known if "`%s`" % s in text or s.startswith("sys-")}
    lab.eq(sorted(known - named), [], "and in docs/promises.md")


def strings(path):
    with open(path, "rb") as f:
        return f.read()


make()
box = lab.Lab(MUTATION)
words = sys.argv[1:]
lab.note("kernel %s, Landlock ABI %d" % (os.uname().release, rows.ABI))
for name in ("cgibox", "cgibox.fcgi", "cgibox-init"):
    path = os.path.join(lab.BUILD, name)
    if os.path.exists(path):
        lab.ok(b"CGIBOX_MUTATE" not in strings(path), "%s has no switches" % name)
lab.ok(b"CGIBOX_MUTATE" in strings(os.path.join(MUTATION, "cgibox")), "control: the test build has them")
known = set()
for row in rows.ROWS:
    known |= set(switches(row.mechanisms))
    if not all(w in row.promise for w in words):
        continue
    if not row.when:
        # Not a skip of what run.t tests: there is nothing to take away here.
        lab.note("NOT BROKEN HERE: %s: %s" % (row.promise, row.why_not))
        continue
    try_row(row, box)
if not words:
    try_calls(box)
    check_complete(known)
box.close()
lab.done()
