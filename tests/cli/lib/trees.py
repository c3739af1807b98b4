"""Random trees, edits of them, and git as the judge of a patch. Paths are bytes throughout."""
import io
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GIT_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
           "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "t", "XDG_CONFIG_HOME": "/nonexistent"}
NAMES = [b"a", b"b", b"dir", b"src", b"lib", b"main.c", b"Makefile", b"README", b"x.o", b"build", b"a b", b"end ",
         b"-dash", b"q\"uote", b"back\\slash", b"new\nline", b"tab\there", b"caf\xc3\xa9", b"latin\xe9", b"bell\x07",
         b"L" * 200, b"{}", b"...", b".hidden", b"a-b", b"a.b", b"A", b"#hash", b"!bang", b"*", b"[x]", b" lead"]
REFUSED = [b".git", b".GIT", b"git~1", b".git ", b".git."]
IGNORES = [b"*.o\n", b"build/\n", b"/a\n", b"x.o\n!x.o\n", b"lib/*\n!lib/b\n", b"**/b\n", b"src/**\n", b"\\#hash\n",
           b"\\!bang\r\n# c\n\n", b"*\n!.gitignore\n", b"a\\ b\nend\\ \n", b"[a-b]\n", b"dir/**/b\n", b"\\*\n"]


def content(r):
    kind = r.randrange(9)
    lines = r.randrange(1, 60)
    text = b"".join(b"line %d %d\n" % (k, r.randrange(1000)) for k in range(lines))
    if kind == 0:
        return b""
    if kind == 1:
        return bytes(r.randrange(256) for _ in range(r.randrange(1, 3000)))
    if kind == 2:
        return text[:-1]
    if kind == 3:
        return text.replace(b"\n", b"\r\n")
    if kind == 4:
        return text + b"caf\xe9\n"
    if kind == 5:
        return text + "r\u00e9sum\u00e9 \u4e16\n".encode()
    if kind == 6:
        return b"y" * r.randrange(1, 70000) + (b"\n" if r.random() < .5 else b"")
    if kind == 7:
        return text + b"a\0b\n"
    return text


def mutate(r, data):
    if not data or r.random() < .2:
        return content(r)
    lines = data.split(b"\n")
    for _ in range(r.randrange(1, 4)):
        k = r.randrange(len(lines))
        what = r.randrange(4)
        if what == 0:
            lines[k] = b"changed %d" % r.randrange(10 ** 6)
        elif what == 1:
            lines.insert(k, b"inserted")
        elif what == 2 and len(lines) > 1:
            del lines[k]
        else:
            lines[k] += b"\xff" if r.random() < .2 else b"+"
    return b"\n".join(lines)


def refused(path):
    for c in path.split(b"/"):
        low = c.lower()
        for head in (b".git", b"git~1"):
            if low.startswith(head):
                rest = low[len(head):].lstrip(b" .")
                if not rest or rest[:1] in b":\\":
                    return True
    return False


class Tree(dict):
    """path -> ("f", bytes, mode) or ("l", target); directories are implied."""

    def fits(self, path):
        if path in self or any(p.startswith(path + b"/") for p in self):
            return False
        parts = path.split(b"/")
        return not any(b"/".join(parts[:k]) in self for k in range(1, len(parts)))


def new_path(r):
    names = NAMES if r.random() < .97 else REFUSED
    return b"/".join(r.choice(names) for _ in range(r.choice((1, 1, 2, 2, 3, 5))))


def make(r, old=None):
    t = Tree()
    for p, v in (old or {}).items():
        what = r.random()
        if what < .6 and t.fits(p):
            t[p] = v
        elif what < .8 and v[0] == "f" and t.fits(p):
            t[p] = ("f", mutate(r, v[1]), r.choice((0o644, 0o755)))
    for _ in range(r.randrange(0, 25)):
        p = new_path(r)
        if not t.fits(p):
            continue
        if r.random() < .1:
            t[p] = ("l", r.choice((b"a/../a", b"b/x", b"main.c/x")))   # never a loop: git apply refuses to look past one
        else:
            t[p] = ("f", content(r), r.choice((0o644, 0o755)))
    if r.random() < .35:
        where = r.choice([b""] + [os.path.dirname(p) for p in t])
        p = os.path.join(where, b".gitignore")
        if t.fits(p):
            t[p] = ("f", r.choice(IGNORES), 0o644)
    return t


def write_tar(r, tree, file):
    fmt = r.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(file, "w:" + r.choice(("", "gz", "xz")), format=fmt, errors="surrogateescape") as tf:
        for p, v in sorted(tree.items()):
            ti = tarfile.TarInfo(os.fsdecode(p))
            if v[0] == "l":
                ti.type, ti.linkname = tarfile.SYMTYPE, os.fsdecode(v[1])
                tf.addfile(ti)
            else:
                ti.size, ti.mode = len(v[1]), v[2]
                tf.addfile(ti, io.BytesIO(v[1]))


def write_dir(tree, where):
    where = os.fsencode(where)
    for p, v in tree.items():
        f = os.path.join(where, p)
        os.makedirs(os.path.dirname(f), exist_ok=True)
        if v[0] == "l":
            os.symlink(v[1], f)
        else:
            with open(f, "wb") as h:
                h.write(v[1])
            os.chmod(f, v[2])


def unlock(where):
    """Makes what an earlier call locked accessible again, as its owner may."""
    os.chmod(where, 0o755)
    for d, dirs, files in os.walk(where):
        for n in dirs + files:
            f = os.path.join(d, n)
            if not os.path.islink(f):
                os.chmod(f, stat.S_IMODE(os.lstat(f).st_mode) | (0o700 if n in dirs else 0o600))


def snapshot(where):
    t = Tree()
    where = os.fsencode(where)
    for d, dirs, files in os.walk(where):
        for n in dirs + files:
            f = os.path.join(d, n)
            st = os.lstat(f)
            p = os.path.relpath(f, where)
            if stat.S_ISLNK(st.st_mode):
                t[p] = ("l", os.readlink(f))
            elif stat.S_ISREG(st.st_mode):
                with open(f, "rb") as h:
                    t[p] = ("f", h.read(), stat.S_IMODE(st.st_mode))
    return t


def remove(f):
    if os.path.isdir(f) and not os.path.islink(f):
        shutil.rmtree(f)
    else:
        os.unlink(f)


def pick(r, where, dirs=True, files=True):
    found = []
    for d, ds, fs in os.walk(where):
        found += [os.path.join(d, n) for n in (ds if dirs else []) + (fs if files else [])]
    return r.choice(sorted(found)) if found else None


def edit_once(r, where):
    what = r.randrange(12)
    f = pick(r, where)
    if what == 0 and f:
        remove(f)
    elif what == 1 and f:                                   # move, into a new place or over another
        to = os.path.join(where, new_path(r))
        os.makedirs(os.path.dirname(to), exist_ok=True)
        if not os.path.lexists(to) and not (to + b"/").startswith(f + b"/"):
            subprocess.run(["mv", "-T", "--", f, to], stderr=subprocess.DEVNULL)  # copies what an overlay cannot rename
    elif what == 2 and f:                                   # swap the type
        remove(f)
        kind = r.randrange(4)
        if kind == 0:
            # long, but no component over NAME_MAX: git takes the error of looking through it for a file that is there
            os.symlink(r.choice((b"nowhere", b"/etc/passwd", b"../..", b"caf\xe9", b"x/" * 150)), f)
        elif kind == 1:
            os.mkdir(f)
            with open(os.path.join(f, r.choice(NAMES)), "wb") as h:
                h.write(content(r))
        elif kind == 2:
            os.mkfifo(f)
        else:
            with open(f, "wb") as h:
                h.write(content(r))
    elif what in (3, 4, 5):                                 # new files
        to = os.path.join(where, new_path(r))
        os.makedirs(os.path.dirname(to), exist_ok=True)
        if not os.path.isdir(to) or os.path.islink(to):
            if os.path.lexists(to):
                os.unlink(to)
            with open(to, "wb") as h:
                h.write(content(r))
            os.chmod(to, r.choice((0o644, 0o755, 0o600)))
    elif what in (6, 7, 8):                                 # change in place
        f = pick(r, where, dirs=False)
        if f and os.path.isfile(f) and not os.path.islink(f):
            with open(f, "rb") as h:
                data = h.read()
            with open(f, "wb") as h:
                h.write(mutate(r, data))
    elif what == 9:
        f = pick(r, where, dirs=False)
        if f and not os.path.islink(f):
            os.chmod(f, r.choice((0o644, 0o755)))
    elif what == 10:
        d = pick(r, where, files=False) if r.random() < .5 else where
        if d and os.path.isdir(d) and not os.path.islink(d):
            f = os.path.join(d, b".gitignore")
            if not os.path.lexists(f) or os.path.isfile(f):
                with open(f, "wb") as h:
                    h.write(r.choice(IGNORES))
    elif f and os.path.isfile(f) and not os.path.islink(f):  # same bytes, new time and inode
        with open(f, "rb") as h:
            data = h.read()
        mode = stat.S_IMODE(os.lstat(f).st_mode)
        os.unlink(f)
        with open(f, "wb") as h:
            h.write(data)
        os.chmod(f, mode)


def edit(where, seed):
    """Changes the tree; returns what it holds then. At the end some modes become 000."""
    r = random.Random(seed)
    where = os.fsencode(where)
    unlock(where)
    for _ in range(r.choice((0, 1, 2, 5, 12))):
        try:
            edit_once(r, where)
        except OSError:
            pass                                            # the draw does not fit this tree
    t = snapshot(where)
    if r.random() < .3:
        for d, dirs, files in os.walk(where, topdown=False):
            for n in files:
                f = os.path.join(d, n)
                if r.random() < .3 and os.path.isfile(f) and not os.path.islink(f):
                    os.chmod(f, 0)
                    p = os.path.relpath(f, where)
                    t[p] = ("f", t[p][1], 0)
            if r.random() < .3:
                os.chmod(d, 0)
    return t


class Judge:
    """What git makes of a baseline, an outcome and a patch."""

    def __init__(self, top):
        self.repo = os.path.join(top, "judge.git")
        self.n = 0
        self.git("init", "-q", "--bare", self.repo, cwd=top)
        with open(os.path.join(self.repo, "info", "attributes"), "w") as h:
            h.write("* -text -ident -filter -working-tree-encoding\n")
        with open(os.path.join(self.repo, "info", "exclude"), "w"):
            pass
        self.top = top

    def git(self, *args, cwd, env=(), data=None, check=True):
        p = subprocess.run(("git", "-c", "core.bare=false", "-c", "core.excludesFile=/dev/null", "-c", "gc.auto=0") + args,
                           cwd=cwd, env=dict(GIT_ENV, GIT_CEILING_DIRECTORIES=os.path.dirname(cwd), **dict(env)),
                           input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if check and p.returncode:
            raise RuntimeError("git %s: %s" % (args, p.stderr.decode(errors="replace")))
        return p

    def tree_id(self, work, index, force):
        env = {"GIT_DIR": self.repo, "GIT_WORK_TREE": work, "GIT_INDEX_FILE": index}
        self.git("add", "-A", *(("-f",) if force else ()), ".", cwd=work, env=env)
        return self.git("write-tree", cwd=work, env=env).stdout.strip().decode()

    def git_fails_too(self, base, was, want):
        """Whether git cannot apply its own patch either: where a looping link becomes a directory, it cannot."""
        own = self.git("diff-tree", "-p", "--binary", "-M", was, want, cwd=self.top, env={"GIT_DIR": self.repo}).stdout
        return self.git("apply", "--whitespace=nowarn", "--check", "-", cwd=base, data=own, check=False).returncode != 0

    def verdict(self, baseline, after, patch):
        """(None or what is wrong, whether anything changed in git's eyes)."""
        self.n += 1
        index = os.path.join(self.top, "index")
        dirs = [os.path.join(self.top, "%s%d" % (n, self.n)) for n in ("base", "after", "applied")]
        for d, t in zip(dirs, (baseline, after, baseline)):
            os.mkdir(d)
            write_dir({p: v if v[0] == "l" else ("f", v[1], 0o755 if v[2] & 0o100 else 0o644)
                       for p, v in t.items() if not refused(p)}, d)
        try:
            if os.path.exists(index):
                os.unlink(index)
            was = self.tree_id(dirs[0], index, True)
            want = self.tree_id(dirs[1], index, False)
            try:
                patch.decode("utf-8")
            except UnicodeDecodeError as e:
                return "not UTF-8: %s" % e, True
            if not patch:
                return (None if was == want else "no patch, but git sees changes"), was != want
            p = self.git("apply", "--whitespace=nowarn", "-", cwd=dirs[2], data=patch, check=False)
            if p.returncode and self.git_fails_too(dirs[0], was, want):
                return None, True
            if p.returncode:
                return "git apply: " + p.stderr.decode(errors="replace"), True
            os.unlink(index)
            got = self.tree_id(dirs[2], index, True)
            if got != want:
                env = {"GIT_DIR": self.repo}
                d = self.git("diff-tree", "-r", "--name-status", want, got, cwd=self.top, env=env)
                return "the trees differ: " + d.stdout.decode(errors="replace"), True
            return (None if was != want else "a patch, but git sees no change"), True
        finally:
            for d in dirs:
                shutil.rmtree(os.fsencode(d))


class Control:
    """The tree server, by way of the program treectl."""

    def __init__(self, top):
        self.top = top
        self.p = subprocess.Popen([os.path.join(top, "treectl")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *words):
        self.p.stdin.write(" ".join(str(w) for w in words).encode() + b"\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().decode(errors="replace").strip()

    def do(self, *words):
        a = self.ask(*words)
        if not a.startswith("ok "):
            raise RuntimeError("%s: %s" % (words, a))
        return [int(x) for x in a.split()[1:]]

    def patch(self, ws):
        out = os.path.join(self.top, "out.patch")
        n = self.do("patch", ws, out)[2]
        with open(out, "rb") as h:
            data = h.read()
        if len(data) != n:
            raise RuntimeError("%d bytes announced, %d written" % (n, len(data)))
        return data

    def run_in(self, ws, args, **kw):
        """Runs a program in the workspace as a sandbox would see it: its directory is the last argument."""
        plan = self.ask("plan", ws)
        if plan == "tree":
            return subprocess.run(args + [os.path.join(ws, "tree")], check=True, **kw)
        upper, work, lowers = plan.split(" ", 2)
        mnt = os.path.join(self.top, "mnt")
        os.makedirs(mnt, exist_ok=True)
        script = ('cd "$1" && mount -t overlay overlay -o "userxattr,lowerdir=$2,upperdir=$3,workdir=$4" "$5" && '
                  'mnt=$5 && shift 5 && exec "$@" "$mnt"')
        return subprocess.run(["unshare", "-Urm", "sh", "-c", script, "sh", ws, lowers, upper, work, mnt] + args,
                              check=True, **kw)

    def close(self):
        self.p.stdin.close()
        return self.p.wait()


def start():
    """A scratch directory of an ordinary user (root becomes one), with treectl in it."""
    for tool in ("git", "unshare", "mount"):
        if not shutil.which(tool):
            print("1..0 # SKIP %s is not installed" % tool)
            sys.exit(os.environ.get("MUST_WORK") == "1")
    build = os.environ.get("CGIBOX_BUILD", os.path.join(HERE, "../../../build"))
    top = tempfile.mkdtemp(prefix="cgibox-trees-")
    os.chmod(top, 0o755)
    shutil.copy(os.path.join(build, "treectl"), top)
    shutil.copy(os.path.join(HERE, "trees.py"), top)
    if os.getuid() == 0:
        for f in (top, os.path.join(top, "treectl"), os.path.join(top, "trees.py")):
            os.chown(f, 12345, 12345)
        os.setgroups([])
        os.setresgid(12345, 12345, 12345)
        os.setresuid(12345, 12345, 12345)
    os.chdir(top)
    os.umask(0o022)
    return top


if __name__ == "__main__":                                  # trees.py SEED DIR: the edit, its outcome on stdout
    import pickle
    sys.stdout.buffer.write(pickle.dumps(dict(edit(sys.argv[2], int(sys.argv[1])))))
