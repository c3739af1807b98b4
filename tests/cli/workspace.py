#!/usr/bin/python3
"""A session's workspace through its tree helpers: forms, several archives, hostile trees, limits."""
import io
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import trees  # noqa: E402
from trees import Tree  # noqa: E402

count = failed = 0
PLAIN, OVERLAY = 1, 2


def ok(good, what):
    global count, failed
    count += 1
    failed += not good
    print("%sok %d - %s" % ("" if good else "not ", count, what), flush=True)
    return good


def is_(got, want, what):
    if not ok(got == want, what):
        print("#      got: %r\n# expected: %r" % (got, want))


def f(data=b"x\n", mode=0o644):
    return ("f", data, mode)


class Session:
    """One workspace in one form; the judge looks at every patch."""

    def __init__(self, c, judge, name, overlay):
        self.c, self.judge, self.overlay = c, judge, overlay
        self.form = OVERLAY if overlay else PLAIN
        self.name = "%s, %s form" % (name, "overlay" if overlay else "plain")
        self.ws = os.path.join(c.top, "ws")
        if os.path.exists(self.ws):
            c.do("delete", self.ws)
            os.rmdir(self.ws)
        os.mkdir(self.ws)
        c.do("create", self.ws)
        self.tree = None

    def limits(self, patch=1 << 27):
        self.c.do("limits", 0 if self.overlay else 20000, 1 << 28, patch)

    def add(self, tree, how="add"):
        self.limits()
        tar = os.path.join(self.c.top, "s.tar")
        trees.write_tar(random.Random(1), tree, tar)
        self.tree = tree
        return self.c.do(how, self.ws, tar)[1]

    def sh(self, script, check=True):
        """A shell script with the workspace as its directory."""
        return self.c.run_in(self.ws, ["sh", "-c", 'cd "$1" && %s' % ("{ %s\n}" % script), "sh"])

    def holds(self):
        r = self.c.run_in(self.ws, ["sh", "-c", 'cd "$1" && find . ! -type d | sort', "sh"], stdout=subprocess.PIPE)
        return r.stdout.decode().split()

    def check(self, after, what):
        """The patch leads git from this call's archive to `after`. Returns the patch."""
        patch = self.c.patch(self.ws)
        wrong, _ = self.judge.verdict(self.tree, Tree(after), patch)
        if not ok(wrong is None, "%s: %s" % (self.name, what)):
            print("# " + str(wrong).replace("\n", "\n# "))
        return patch


def one_archive(c, judge, overlay):
    s = Session(c, judge, "one archive", overlay)
    t = Tree({b"a": f(b"1\n2\n"), b"d/x": f(b"x\n" * 50), b"d/y": f(b"y", 0o755), b"bin": f(bytes(range(256)) * 9)})
    is_(s.add(t), s.form, s.name + ": the form follows the limits")
    is_(s.check(t, "nothing changed"), b"", s.name + ": no change, no patch")
    s.sh("printf '1\\n2\\n3\\n' > a; rm d/y; echo new > n")
    after = Tree(t)
    after[b"a"] = f(b"1\n2\n3\n")
    after[b"n"] = f(b"new\n")
    del after[b"d/y"]
    p = s.check(after, "edit, delete, add")
    ok(b"--- a/a\n+++ b/a\n@@ -1,2 +1,3 @@\n 1\n 2\n+3\n" in p, s.name + ": a hunk as git writes it")
    ok(b"deleted file mode 100755" in p and b"new file mode 100644" in p, s.name + ": modes in the headers")
    s.sh("touch d/x; cat bin > b2; mv b2 bin; chmod 644 bin")
    s.check(after, "a new time, a new inode: still the same file")


def modes_and_text(c, judge, overlay):
    s = Session(c, judge, "text", overlay)
    t = Tree({b"u": f("gr\u00fc\u00df\n".encode() * 5), b"crlf": f(b"a\r\nb\r\n"), b"l": f(b"q\n"),
              b"phrase": f(b"a\n"), b"long": f(b"    def f():\n" + "\u00e9".encode() * 60 + b"\n" + b"k\n" * 20)})
    s.add(t)
    s.sh("printf 'gr\\374\\337\\n' >> u; printf 'a\\r\\nB\\r\\n' > crlf; rm l; ln -s 'to nowhere' l; "
         "echo 'nothing to commit, working tree clean' >> phrase; : > empty; printf 'no end' > noend; "
         "mkfifo p; mkdir -p e/e; echo z >> long")
    after = Tree(t)
    after[b"u"] = f(t[b"u"][1] + b"gr\xfc\xdf\n")
    after[b"crlf"] = f(b"a\r\nB\r\n")
    after[b"l"] = ("l", b"to nowhere")
    after[b"phrase"] = f(b"a\nnothing to commit, working tree clean\n")
    after[b"empty"] = f(b"")
    after[b"noend"] = f(b"no end")
    after[b"long"] = f(t[b"long"][1] + b"z\n")
    p = s.check(after, "Latin-1, CRLF, type change, empty, no newline, FIFO, empty directory")
    is_(p.count(b"GIT binary patch"), 1, s.name + ": what is not UTF-8 is a binary patch")
    ok(b"deleted file mode 100644" in p and b"new file mode 120000" in p, s.name + ": type change is delete and add")


def renames(c, judge, overlay):
    s = Session(c, judge, "renames", overlay)
    body = b"".join(b"line %d\n" % k for k in range(80))
    t = Tree({b"dir/%d" % k: f(body + b"%d\n" % k) for k in range(20)})
    t[b"keep"] = f()
    s.add(t)
    if overlay:
        r = s.c.run_in(s.ws, [sys.executable, "-c", "import os, sys\ntry:\n    os.rename(sys.argv[1] + '/dir', sys.argv[1] + '/to')"
                              "\nexcept OSError as e:\n    print(e.errno)"], stdout=subprocess.PIPE)
        is_(r.stdout, b"18\n", s.name + ": os.rename of an archive's directory is EXDEV, as documented")
        s.sh("mv dir to")
    else:
        s.c.run_in(s.ws, [sys.executable, "-c", "import os, sys; os.rename(sys.argv[1] + '/dir', sys.argv[1] + '/to')"])
    after = Tree({b"to/%d" % k: v for k, v in ((int(p[4:]), v) for p, v in t.items() if p != b"keep")})
    after[b"keep"] = f()
    p = s.check(after, "a directory renamed")
    is_(p.count(b"similarity index 100%\n"), 20, s.name + ": 20 renames, none of them delete and add")
    s.sh("echo more >> to/3; chmod +x to/4")
    after[b"to/3"] = f(after[b"to/3"][1] + b"more\n")
    after[b"to/4"] = f(after[b"to/4"][1], 0o755)
    p = s.check(after, "renamed and changed")
    is_(p.count(b"rename from"), 20, s.name + ": a change does not hide a rename")
    if not overlay and shutil.which("git"):
        s.add(t, "replace")
        s.sh("git init -q . && git add -A . && git mv dir gone && rm -rf .git")
        s.check({p.replace(b"dir/", b"gone/"): v for p, v in t.items()}, "git mv DIR")


def ignored(c, judge, overlay):
    s = Session(c, judge, "ignore", overlay)
    t = Tree({b".gitignore": f(b"*.o\n/out/\n!keep.o\n"), b"old.o": f(b"tracked\n"), b"sub/.gitignore": f(b"/local\n"), b"s/f": f()})
    s.add(t)
    s.sh("echo 1 > new.o; echo 2 > keep.o; mkdir out; echo 3 > out/keep.o; echo 4 > sub/local; echo 5 > s/local; "
         "echo changed > old.o; mkdir -p node_modules/m; echo 6 > node_modules/m/i; echo node_modules >> .gitignore; "
         "ln -s /dev/zero s/.gitignore")
    after = Tree(t)
    after[b"old.o"] = f(b"changed\n")
    after[b"keep.o"] = f(b"2\n")
    after[b"s/local"] = f(b"5\n")
    after[b".gitignore"] = f(t[b".gitignore"][1] + b"node_modules\n")
    after[b"s/.gitignore"] = ("l", b"/dev/zero")
    s.check(after, "rules of the tree as it is left, nested ones, re-inclusion; baseline never ignored")
    s.add(t)
    s.sh("mkdir -p .git/info n/.git/objects; echo '*' > .git/info/exclude; echo x > n/.git/HEAD; echo y > n/src; echo z > new")
    patch = s.c.patch(s.ws)
    ok(b"b/n/src" in patch and b"b/new" in patch, s.name + ": files beside .git are in the patch, info/exclude is not asked")
    ok(b".git/" not in patch, s.name + ": nothing called .git is, at any depth")


def several(c, judge, overlay):
    s = Session(c, judge, "several archives", overlay)
    t = Tree({b"a": f(b"1\n"), b"d/b": f(b"2\n"), b"d/c": f(b"3\n")})
    s.add(t)
    s.sh("echo left > l; rm d/b; echo changed > a")
    s.add(t)
    s.check({**t, b"l": f(b"left\n")}, "the same archive again: leftovers are additions, its own files are back")
    small = Tree({b"a": f(b"1\n")})
    s.add(small)
    s.check({**t, b"l": f(b"left\n")}, "a smaller one: what it lacks stays and is an addition")
    s.sh("rm -r d; echo 9 > l")
    s.check({b"a": f(b"1\n"), b"l": f(b"9\n")}, "a leftover deleted, another changed")
    swap = Tree({b"a/in": f(b"file became directory\n"), b"d": f(b"directory became file\n")})
    s.add(swap)
    s.check({**swap, b"l": f(b"9\n")}, "file and directory swapped by an archive")
    s.sh("rm -r a d; echo f > a; mkdir d; echo g > d/g")
    s.check({b"a": f(b"f\n"), b"d/g": f(b"g\n"), b"l": f(b"9\n")}, "and back by the commands")
    s.sh("chmod 000 d/g d a")
    s.add(swap)
    s.check({**swap, b"l": f(b"9\n")}, "an archive over a tree of mode 000")
    s.add(small, "replace")
    s.check(small, "ephemeral: nothing of before is left")
    is_(s.holds(), ["./a"], s.name + ": and nothing of it on disk")
    is_(sorted(n for n in os.listdir(s.ws) if n.startswith(("old", "new"))), [], s.name + ": no work files are left")


def many(c, judge, overlay):
    n = 70 if overlay else 30                               # 64 layers are compacted
    s = Session(c, judge, "%d archives" % n, overlay)
    left = {}
    bad = 0
    for k in range(n):
        t = Tree({b"common": f(b"%d\n" % k), b"only/%d" % k: f(b"k%d\n" % k)})
        s.add(t)
        s.sh("echo w%d > w%d; rm -f only/%d" % (k, k, k - 3))
        left.pop(b"only/%d" % (k - 3), None)
        left[b"w%d" % k] = f(b"w%d\n" % k)
        wrong, _ = judge.verdict(t, Tree({**t, **left}), s.c.patch(s.ws))
        bad += wrong is not None
        if wrong:
            print("# call %d: %s" % (k, wrong))
        left[b"only/%d" % k] = t[b"only/%d" % k]
    is_(bad, 0, s.name + ": every patch leads to the tree")
    is_(len(s.holds()), len(left) + 1, s.name + ": nothing got lost on the way")
    ok(len(os.listdir(s.ws)) < 140, s.name + ": the directories stay bounded")


def odd_names(c, judge, overlay):
    s = Session(c, judge, "odd names", overlay)
    t = Tree({p: f(b"%d\n" % k) for k, p in enumerate(trees.NAMES)})
    deep = b"/".join([b"%03d" % k + b"n" * 40 for k in range(60)])
    t[deep + b"/end"] = f(b"deep\n")
    s.add(t)
    script = "import os, sys\nw = os.fsencode(sys.argv[1])\nfor d, ds, fs in os.walk(w):\n    for n in fs:\n" \
             "        open(os.path.join(d, n), 'ab').write(b'more\\n')\n"
    s.c.run_in(s.ws, [sys.executable, "-c", script])
    p = s.check({p: f(v[1] + b"more\n") for p, v in t.items()}, "newline, quote, tab, dash, blanks, long, deep, not UTF-8")
    ok(all(x < 0x80 for x in p), s.name + ": quoted, the patch is ASCII")


def locked(c, judge, overlay):
    s = Session(c, judge, "mode 000", overlay)
    t = Tree({b"d/e/f": f(b"1\n"), b"d/g": f(b"2\n", 0o755)})
    s.add(t)
    s.sh("echo changed > d/e/f; echo n > d/e/n; chmod 000 d/e/f d/g d/e d .")
    s.check({b"d/e/f": f(b"changed\n", 0), b"d/e/n": f(b"n\n"), b"d/g": f(b"2\n", 0)}, "everything locked: the patch is whole")
    if not overlay:
        is_(stat.S_IMODE(os.lstat(os.path.join(s.ws, "tree")).st_mode), 0, s.name + ": the patch did not touch the modes")
    s.c.do("delete", s.ws)
    is_(os.listdir(s.ws), [], s.name + ": and it is deleted")


def hostile(c, judge, overlay):
    s = Session(c, judge, "hostile tree", overlay)
    t = Tree({b"a": f()})
    s.add(t)
    script = ("import os, sys\nos.chdir(sys.argv[1])\nfor k in range(%d):\n    os.mkdir('d')\n    os.chdir('d')\n" % 3000)
    s.c.run_in(s.ws, [sys.executable, "-c", script])
    s.sh("ln -s /etc e; ln -s ../.. up; mkdir loop; ln -s ../loop loop/loop")
    s.check({b"a": f(), b"e": ("l", b"/etc"), b"up": ("l", b"../.."), b"loop/loop": ("l", b"../loop")},
            "3,000 levels and links out of the tree: nothing is followed")
    us = s.c.do("delete", s.ws)[0]
    is_(os.listdir(s.ws), [], s.name + ": 3,000 levels are deleted (%d ms)" % (us // 1000))


def deepest(c):
    """On tmpfs where there is one: the point is our memory and descriptors, not a disk's journal."""
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else c.top
    ws = tempfile.mkdtemp(prefix="cgibox-deep-", dir=shm)
    levels = 100000
    subprocess.run([sys.executable, "-c", "import os, sys\nos.chdir(sys.argv[1])\nfor k in range(%d):\n    os.mkdir('d')\n"
                    "    os.chdir('d')\n" % levels, ws], check=True)
    us = c.do("delete", ws)[0]
    is_(os.listdir(ws), [], "%d levels are deleted (%d ms)" % (levels, us // 1000))
    os.rmdir(ws)


def bad_archive(c, judge, overlay):
    s = Session(c, judge, "bad archive", overlay)
    t = Tree({b"a": f(b"1\n")})
    s.add(t)
    s.sh("echo mine > m")
    before = s.holds()
    bad = os.path.join(c.top, "bad.tar")
    with tarfile.open(bad, "w") as tf:
        for name in ("new", "../escape"):
            ti = tarfile.TarInfo(name)
            ti.size = 1
            tf.addfile(ti, io.BytesIO(b"x"))
    for how in ("add", "replace"):
        a = c.ask(how, s.ws, bad)
        ok(a.startswith("error 2 Archive contains a parent-directory traversal path"), "%s: %s is refused: %s" % (s.name, how, a[:60]))
        is_(s.holds(), before, "%s: %s left the workspace as it was" % (s.name, how))
    is_(sorted(n for n in os.listdir(s.ws) if n.startswith("new")), [], s.name + ": nothing half unpacked is left")
    c.do("limits", 0 if overlay else 20000, 1 << 28, 1 << 27)
    is_(additions(c.patch(s.ws)), [b"m"], s.name + ": before any archive everything is an addition")


def additions(patch):
    """Names of the files that a patch makes; [] too when it does anything else."""
    lines = patch.split(b"\n")
    heads = [x for x in lines if x.startswith(b"diff --git ")]
    made = [x for x in lines if x.startswith(b"new file mode ")]
    return sorted(x.split(b" b/")[1] for x in heads) if len(heads) == len(made) else []


def limits(c, judge, overlay):
    s = Session(c, judge, "limits", overlay)
    t = Tree({b"a": f(b"1\n"), b"big": f(os.urandom(1 << 20))})
    s.add(t)
    out = os.path.join(c.top, "o")
    s.limits(patch=4096)
    is_(c.do("patch", s.ws, out)[2], 0, s.name + ": a large file that did not change does not count")
    s.sh("touch big")
    is_(c.do("patch", s.ws, out)[2], 0, s.name + ": nor does one that was only touched")
    s.sh("seq 1 1500 > seq")
    a = c.ask("patch", s.ws, out)
    ok(a.startswith("error 4 ") and "patch_max_bytes = 4096" in a, s.name + ": a patch over the limit: " + a)
    s.sh("rm seq; head -c 9000 /dev/urandom > r")
    a = c.ask("patch", s.ws, out)
    ok(a.startswith("error 4 ") and "patch_max_bytes = 4096" in a, s.name + ": a file over the limit: " + a)
    s.sh("rm r; truncate -s 3G sparse")
    s.limits()
    a = c.ask("patch", s.ws, out)
    ok(a.startswith("error 4 ") and "\"sparse\"" in a, s.name + ": 3 GB of nothing: " + a)
    s.sh("rm sparse; head -c 50000000 /dev/zero > zeros; seq 1 3000000 > seq")
    p = c.patch(s.ws)
    after = Tree(t)
    after[b"zeros"], after[b"seq"] = f(b"\0" * 50000000), f(b"".join(b"%d\n" % k for k in range(1, 3000001)))
    wrong, _ = judge.verdict(t, after, p)
    ok(wrong is None, s.name + ": 50 MB of zeros and 23 MB of text: %s" % wrong)


def empty_baseline(c, judge, overlay):
    s = Session(c, judge, "empty baseline", overlay)
    s.add(Tree())
    s.sh("echo 1 > a; mkdir d; echo 2 > d/b")
    s.check({b"a": f(b"1\n"), b"d/b": f(b"2\n")}, "all files are additions")


def before_archive(c, judge, overlay):
    s = Session(c, judge, "files before the first archive", overlay)
    s.sh("echo early > e; mkdir d; echo x > d/x")
    is_(additions(c.patch(s.ws)), [b"d/x", b"e"], s.name + ": before any archive everything is an addition")
    t = Tree({b"d/y": f(b"y\n")})
    s.add(t)
    s.check({**t, b"e": f(b"early\n"), b"d/x": f(b"x\n")}, "they stay and are additions")


def main():
    top = trees.start()
    c = trees.Control(top)
    judge = trees.Judge(top)
    os.environ.update(HOME=top, XDG_CONFIG_HOME=top)
    for test in (one_archive, modes_and_text, renames, ignored, several, many, odd_names, locked, hostile, bad_archive, limits,
                 empty_baseline, before_archive):
        for overlay in (False, True):
            began = time.monotonic()
            try:
                test(c, judge, overlay)
            except (RuntimeError, subprocess.CalledProcessError) as e:
                ok(False, "%s, overlay %s: %s" % (test.__name__, overlay, e))
            print("# %s: %.1f s" % (test.__name__, time.monotonic() - began))
    deepest(c)
    is_(c.close(), 0, "the tree server ended when its keeper did")
    print("1..%d" % count)
    subprocess.run(["chmod", "-R", "u+rwX", top], check=False)
    subprocess.run(["rm", "-rf", top], check=False)
    return failed != 0


sys.exit(main())
