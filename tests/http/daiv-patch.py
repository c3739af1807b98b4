#!/usr/bin/python3
"""The patch: applied by git to the original it gives the tree that the commands left behind."""
import base64
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

import client
from client import MANIFEST, b64, create, delete, eq, ok, run, skip, tar

TOP = os.path.dirname(os.path.dirname(client.HERE))
GIT_ENV = dict(os.environ, GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null", LC_ALL="C",
               GIT_CEILING_DIRECTORIES=tempfile.gettempdir())
SHOW = "python3 - <<'END'\n%s\nEND" % MANIFEST


def manifest(where):
    return subprocess.run([sys.executable, "-c", MANIFEST], cwd=where, stdout=subprocess.PIPE, check=True).stdout.decode()


def patch_of(a):
    p = a.json["patch"]
    return None if p is None else base64.b64decode(p, validate=True)


def apply_to(archive, patch):
    """A directory with the archive and the patch applied by git; and what git said."""
    d = tempfile.mkdtemp(prefix="patch-")
    p = os.path.join(d, "p.tar")
    with open(p, "wb") as f:
        f.write(archive)
    os.mkdir(os.path.join(d, "t"))
    subprocess.run(["tar", "-xf", p, "-C", os.path.join(d, "t")], check=True)
    r = subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], cwd=os.path.join(d, "t"), input=patch, env=GIT_ENV,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return d, os.path.join(d, "t"), r


def check(name, archive, commands, sid=None, keep_session=False, hidden=()):
    """The whole round. hidden: path prefixes that the patch leaves out on purpose."""
    own = sid or create(extract_patch=True)
    a = run(own, list(commands) + [SHOW], archive=b64(archive))
    if not ok(a.status == 200 and all(x["exit_code"] == 0 for x in a.json["results"]), "%s: commands" % name, a):
        return None
    there = a.json["results"][-1]["output"]
    for h in hidden:
        there = "\n".join(x for x in there.splitlines() if " b'%s" % h not in x) + "\n"
    patch = patch_of(a)
    if patch is None:
        ok(False, "%s: there is a patch" % name)
        return None
    try:
        patch.decode("utf-8")
        pure = patch.startswith(b"diff --git ") and b"\nwarning:" not in patch
    except UnicodeDecodeError:
        pure = False
    ok(pure, "%s: UTF-8 and nothing but patch" % name, patch[:500])
    d, tree, r = apply_to(archive, patch)
    ok(r.returncode == 0, "%s: git apply" % name, r.stdout.decode("utf-8", "replace"), patch[:1500])
    here = manifest(tree)
    if not eq(here.splitlines(), there.splitlines(), "%s: the trees are the same" % name):
        client.note("differ: %s" % sorted(set(here.splitlines()) ^ set(there.splitlines()))[:6])
    shutil.rmtree(d, ignore_errors=True)
    if not keep_session:
        delete(own)
    return patch


def own_tree():
    """The archive of the project's own tree: of the commit, else of the checkout."""
    r = subprocess.run(["git", "-c", "safe.directory=*", "-C", TOP, "archive", "HEAD"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if r.returncode == 0 and b"README.md\0" in r.stdout and b"LICENSE\0" in r.stdout:
        return r.stdout

    def wanted(ti):
        first = ti.name.split("/")[1:2]
        skipped = first and (first[0] in (".git", "state") or first[0].startswith("build"))
        if skipped or "__pycache__" in ti.name or not (ti.isfile() or ti.isdir() or ti.issym()):
            return None
        ti.name = ti.name[2:] if ti.name.startswith("./") else ti.name
        ti.mode = 0o755 if ti.isdir() or ti.mode & 0o100 else 0o644
        return ti
    import io
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        t.add(TOP, arcname=".", filter=wanted)
    return out.getvalue()


# --- a real repository ---
project = own_tree()
names = tarfile.open(fileobj=__import__("io").BytesIO(project)).getnames()
ok(len(names) > 30 and "README.md" in names and "isolate/conf.c" in names, "the archive of the project's own tree", len(names))
patch = check("own tree", project, [
    "sed -i 's/return/RETURN/' isolate/conf.c && echo '// end' >> isolate/buf.c",
    "rm LICENSE && rm -r docs",
    "mv README.md READ.me && mkdir moved && mv isolate/buf.h moved/",
    "head -c 3000 /dev/urandom > blob.bin && printf 'a\\0b' > isolate/small.bin",
    "chmod +x isolate/conf.h && chmod -x scripts/serve",
    "printf 'no newline' > new.txt && ln -s new.txt link && : > empty"])
if patch:
    ok(b"GIT binary patch" in patch, "binary files as GIT binary patch")
    ok(b"rename from README.md\nrename to READ.me" in patch, "renames are renames")
    ok(b"new mode 100755" in patch and b"new mode 100644" in patch, "mode changes")
    ok(b"deleted file mode 100644" in patch, "deletions")
check("git mv DIR", project, ["git init -q . && git -c user.name=x -c user.email=x@x add -A && git mv isolate isolate2 && rm -rf .git",
                              "python3 -c 'import os; os.rename(\"images\", \"pictures\")'"])

# --- nothing changed, or nothing asked ---
small = tar({"a.txt": b"one\ntwo\n", "dir/b.txt": b"b\n", "x.sh": (b"#!/bin/sh\n", 0o755)})
sid = create(extract_patch=True)
a = run(sid, "cat a.txt", archive=b64(small))
eq((a.status, (a.json or {}).get("patch", 0)), (200, None), "no change: null")
a = run(sid, "touch a.txt; sed -i s/one/ONE/ a.txt; sed -i s/ONE/one/ a.txt", archive=b64(small))
eq((a.json or {}).get("patch", 0), None, "rewritten with the same bytes: null")
a = run(sid, "mkdir only; mkfifo pipe", archive=b64(small))
eq((a.json or {}).get("patch", 0), None, "only an empty directory and a FIFO: null")
a = run(sid, "echo more > more.txt")
eq((a.json or {}).get("patch", 0), None, "no archive in this call: null")
delete(sid)
sid = create()
a = run(sid, "echo x > a.txt", archive=b64(small))
eq((a.json or {}).get("patch", 0), None, "extract_patch was not asked for: null")
delete(sid)

# --- each kind of change; the defects of the original are here too ---
CASES = {
    "edit": (small, ["echo three >> a.txt"]),
    "delete all": (small, ["rm -r a.txt dir x.sh; true"]),
    "empty baseline": (tar({}), ["echo new > n; mkdir -p d/e; echo x > d/e/f"]),
    "Latin-1 text": (small, ["printf 'gr\\374n\\n' >> a.txt"]),
    "new binary": (small, ["head -c 100000 /dev/urandom > r"]),
    "changed binary": (tar({"b": bytes(range(256)) * 40}), ["printf '\\0\\1\\2' | dd of=b bs=1 seek=500 conv=notrunc 2>/dev/null"]),
    "symlink added, changed, removed": (tar({"l": ("link", "a"), "m": ("link", "b"), "a": b"1"}), ["rm l; ln -sfn c m; ln -s a n"]),
    "file to symlink": (small, ["rm a.txt; ln -s dir a.txt"]),
    "symlink to file": (tar({"l": ("link", "a"), "a": b"1\n"}), ["rm l; echo 1 > l"]),
    "file to directory": (small, ["rm a.txt; mkdir a.txt; echo x > a.txt/y"]),
    "directory to file": (small, ["rm -r dir; echo x > dir"]),
    "chmod only": (small, ["chmod +x a.txt; chmod -x x.sh"]),
    "pure rename": (tar({"old": b"".join(b"line %d\n" % i for i in range(50))}), ["mv old new"]),
    "rename and edit": (tar({"old": b"".join(b"line %d\n" % i for i in range(50))}), ["mv old new; echo x >> new"]),
    "empty new file": (small, [": > e"]),
    "no newline at the end": (tar({"f": b"a\nb"}), ["printf '\\nc' >> f; printf x > g"]),
    "CRLF": (tar({"f": b"a\r\nb\r\n"}), ["printf 'c\\r\\n' >> f"]),
    "CRLF under .gitattributes": (tar({".gitattributes": b"* text=auto\n", "f": b"a\r\nb\r\n"}), ["printf 'c\\r\\n' >> f; printf 'x\\r\\n' > g"]),
    "odd names": (small, ["echo 1 > 'a b'; echo 2 > $'n\\nl'; echo 3 > ü€; echo 4 > '\"q\"'; echo 5 > $'t\\tb'; echo 6 > $'\\377'; echo 7 > -x; echo 8 > 'a\\b'"]),
    "git's own phrase": (small, ["echo 'nothing to commit, working tree clean' >> a.txt"]),
    "nested git init": (small, ["mkdir sub; cd sub; git init -q .; echo x > f"], ("sub/.git/",)),
    "nested repository": (small, ["mkdir sub; cd sub; git init -q .; echo x > f; git -c user.name=x -c user.email=x@x add f; "
                                  "git -c user.name=x -c user.email=x@x commit -q -m m"], ("sub/.git/",)),
    "ignored files": (tar({".gitignore": b"*.o\n/out/\n", "a.c": b"x\n", "kept.o": b"1\n"}),
                      ["echo 2 >> kept.o; echo y > new.o; mkdir out; echo z > out/f; echo y >> a.c"], ("new.o", "out/")),
    "ignore rule made by a command": (small, ["echo '*.log' > .gitignore; echo x > x.log; echo y > y.txt"], ("x.log",)),
    "modes of 000": (small, ["chmod 644 a.txt; echo z >> a.txt; mkdir shut; echo k > shut/f; chmod 755 shut"]),
    "many files": (tar({"d%d/f%d" % (i % 20, i): b"%d\n" % i for i in range(3000)}), ["for i in 3 500 2999; do f=$(echo d*/f$i); echo x >> $f; done; rm d1/f1"]),
}
for name, case in CASES.items():
    check(name, case[0], case[1], hidden=case[2] if len(case) > 2 else ())

# --- several archives in one session ---
sid = create(extract_patch=True)
first, second = tar({"a": b"1\n", "b": b"1\n"}), tar({"a": b"2\n"})
check("first archive", first, ["echo x >> a; echo new > n"], sid, True)
p = check("second archive, smaller", second, ["echo y >> a"], sid, True)
if p:
    ok(b"+++ b/n" in p and b"+++ b/b" in p, "leftovers of earlier calls are additions", p)
a = run(sid, "true", archive=b64(tar({"a": b"3\n", "b": b"1\n", "n": b"new\n"})))
eq((a.json or {}).get("patch", 0), None, "an archive that holds all: null")
delete(sid)
sid = create(extract_patch=True, ephemeral=True)
check("ephemeral, first", first, ["echo x >> a"], sid, True)
p = check("ephemeral, second", second, ["echo y >> a"], sid, True)
if p:
    ok(b"b/b" not in p, "ephemeral: nothing of the first call", p)
delete(sid)

# --- a tree that the tenant closed ---
sid = create(extract_patch=True)
a = run(sid, "echo z >> a.txt; chmod 000 a.txt dir/b.txt dir .", archive=b64(small))
ok(a.status == 200 and a.json["patch"] is not None and b"+z" in patch_of(a), "a tree of mode 000 is patched", a)
eq(delete(sid).status, 204, "and deleted")

# --- the large form, when this service makes it at this size ---
client.note("forms: archives over plain_entries_max entries are mounted as overlay")
client.done()
