#!/usr/bin/python3
"""Random trees, random edits: the patch applied by git to the archive must give what git says the tree is then.

SEED and CASES in the environment choose the run; a failure prints the seed of its case."""
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import trees  # noqa: E402

CASES = int(os.environ.get("CASES", 320))
# CI judges the change at hand and so repeats one run; everybody else explores.
SEED = int(os.environ.get("SEED", 0)) or (1000 if os.environ.get("CI") else random.SystemRandom().randrange(1, 10 ** 9))


def age(ws):
    """Moves the moment of the baseline on, as if it had taken long to record: then its times are trusted. What
    follows comes more than a clock tick later: an interpreter starts first."""
    try:
        with open(os.path.join(ws, "base.idx"), "r+b") as h:
            h.seek(24)
            at, = struct.unpack("=q", h.read(8))
            h.seek(24)
            h.write(struct.pack("=q", at + 10 ** 9))
    except FileNotFoundError:
        pass                                                # the overlay form has none


def one_call(c, judge, ws, r, tree):
    tar = os.path.join(c.top, "a.tar")
    trees.write_tar(r, tree, tar)
    c.do("add", ws, tar)
    if r.random() < .6:
        age(ws)
    script = [sys.executable, os.path.join(c.top, "trees.py"), str(r.randrange(10 ** 9))]
    after = pickle.loads(c.run_in(ws, script, stdout=subprocess.PIPE).stdout)
    patch = c.patch(ws)
    return judge.verdict(tree, after, patch)


def case(c, judge, seed):
    r = random.Random(seed)
    ws = os.path.join(c.top, "ws%d" % seed)
    overlay = r.random() < .5
    os.mkdir(ws)
    c.do("limits", 0 if overlay else 20000, 1 << 28, 1 << 27)
    c.do("create", ws)
    tree, changed = None, 0
    for call in range(r.choice((1, 1, 1, 2, 4))):
        if call and r.random() < .15:                       # the next archive falls into the other form
            c.do("limits", 20000 if overlay else 0, 1 << 28, 1 << 27)
        tree = trees.make(r, tree)
        wrong, change = one_call(c, judge, ws, r, tree)
        if wrong:
            return "call %d: %s" % (call + 1, wrong), changed, overlay
        changed += change
    c.do("delete", ws)
    left = os.listdir(ws)
    os.rmdir(ws)
    return ("delete left %r" % left if left else None), changed, overlay


def main():
    top = trees.start()
    c = trees.Control(top)
    judge = trees.Judge(top)
    print("# SEED=%d CASES=%d" % (SEED, CASES), flush=True)
    failed = changed = overlays = 0
    for k in range(CASES):
        try:
            wrong, n, overlay = case(c, judge, SEED + k)
        except (RuntimeError, subprocess.CalledProcessError, OSError) as e:
            wrong, n, overlay = "%s: %s" % (type(e).__name__, e), 0, False
        changed += n
        overlays += overlay
        if wrong:
            failed += 1
            print("# SEED=%d CASES=1: %s" % (SEED + k, wrong.replace("\n", "\n#   ")), flush=True)
    tests = ((not failed, "%d random sessions: each patch, applied by git, gives the tree" % CASES),
             (changed >= CASES // 2, "%d calls changed something" % changed),
             (CASES < 20 or CASES // 4 < overlays < CASES - CASES // 4, "%d sessions began in the overlay form" % overlays),
             (c.close() == 0, "the tree server ended when its keeper did"))
    for k, (good, what) in enumerate(tests, 1):
        print("%sok %d - %s" % ("" if good else "not ", k, what))
    print("1..%d" % len(tests))
    if not failed:
        subprocess.run(["chmod", "-R", "u+rwX", top], check=False)
        shutil.rmtree(top, ignore_errors=True)
    return failed != 0


sys.exit(main())
