#!/usr/bin/python3
"""Hostile images: each root of tests/unit/roots.h imported from an archive, and planted in the layer of
an image behind the importer's back. Whatever runs in it has a /dev and a /proc of its own, or `cgibox
run` says why not; nothing outside is opened or changed. The same without openat2(2). TAP.

As root it becomes an ordinary user first.
"""
import ctypes
import errno
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from tap import done, ok  # noqa: E402

BUILD = os.environ.get("CGIBOX_BUILD") or os.path.join(HERE, "../../build")
UID = 12345
DEADLINE_S = 100
libc = ctypes.CDLL(None, use_errno=True)


# --- a copy of the programs that an ordinary user may execute
top = tempfile.mkdtemp(prefix="cgibox-roots.")
os.chmod(top, 0o755)
os.mkdir(os.path.join(top, "libexec"))
for name in ("cgibox", "libexec/image", "rootctl", "root-probe"):
    shutil.copy(os.path.join(BUILD, name), os.path.join(top, name))
state, canary, stage = (os.path.join(top, d) for d in ("state", "canary", "stage"))
if os.getuid() == 0:
    for path in (top, os.path.join(top, "libexec"), os.path.join(top, "root-probe")):
        os.chown(path, UID, UID)
    os.setgroups([])
    os.setgid(UID)
    os.setuid(UID)
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which setuid(2) cleared
for d in (canary, os.path.join(canary, "d"), stage):
    os.mkdir(d, 0o700)
for f in ("f", "d/g"):
    open(os.path.join(canary, f), "w").write("canary")
os.mkfifo(os.path.join(canary, "pipe"))
rootctl, probe = os.path.join(top, "rootctl"), os.path.join(top, "root-probe")

# --- what lies outside, and a watch on it
LOST = ("/mark", "/tmp/mark", "/tmp/f", "/repo", "/workdir", "/home/daiv-sandbox", "/no", "/inside", "/tmp/inside")
watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
IN_ATTRIB = 4
for d in (canary, os.path.join(canary, "d")):
    assert libc.inotify_add_watch(watch, os.fsencode(d), 0xfff & ~0x10) >= 0


def describe(path):
    try:
        s = os.lstat(path)
    except OSError as x:
        return x.errno
    if stat.S_ISDIR(s.st_mode):
        return s.st_mode, s.st_uid
    return s.st_mode, s.st_uid, s.st_size, s.st_mtime_ns


def outside(but=()):
    """The canary and the state with modes, sizes and times; names that a lost path would make."""
    seen = {path: describe(path) for path in LOST}
    for start in (canary, state):
        for at, dirs, files in os.walk(start):
            dirs[:] = [d for d in dirs if os.path.join(at, d) not in but]
            seen.update((os.path.join(at, n), describe(os.path.join(at, n))) for n in dirs + files)
    return seen


def touched(links=False):
    """The canary's events since the last call. Making and removing a hard link is an ATTRIB of the test's own."""
    events = []
    while True:
        try:
            block = os.read(watch, 65536)
        except BlockingIOError:
            return [e for e in events if not (links and e[0] & IN_ATTRIB)]
        while block:
            _, mask, _, n = struct.unpack_from("iIII", block)
            events.append((mask, block[16:16 + n].rstrip(b"\0")))
            block = block[16 + n:]


def cgibox(*args, filter=None):
    try:
        p = subprocess.run([os.path.join(top, "cgibox"), "--state", state, *args], stdin=subprocess.DEVNULL,
                           capture_output=True, timeout=DEADLINE_S, env={"PATH": "/usr/bin:/bin"}, preexec_fn=filter)
    except subprocess.TimeoutExpired:
        return None, "", "no answer"
    return p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")


def fate(rc, out, err):
    if rc == 0 and out == "private\n":
        return "private"
    return "refused" if rc is not None and rc not in (0, 1) and out == "" and err.startswith("cgibox: ") else "not private"


def plant(n, where):
    p = subprocess.run([rootctl, "plant", str(n), where, canary, probe], capture_output=True, text=True)
    return p.returncode == 0 or print("#", p.stderr)


def pack(directory, archive):
    with tarfile.open(archive, "w") as t:
        for at, dirs, files in os.walk(directory, onerror=lambda e: None):
            for name in dirs + files:
                path = os.path.join(at, name)
                i = t.gettarinfo(path, os.path.relpath(path, directory))
                if i is None:  # a socket
                    continue
                if i.isreg() or i.islnk():
                    i.type = tarfile.REGTYPE
                    i.size = os.lstat(path).st_size
                    t.addfile(i, open(path, "rb"))
                else:
                    t.addfile(i)


def report(what, how, began, before, but=(), links=False, detail=""):
    """Reading of directories is left out: it may be whoever reads all of /tmp."""
    events = [e for e in touched(links) if not (e[0] & 0x40000000 and e[0] & 0x21)]
    after = outside(but)
    changed = sorted(k for k in set(before) | set(after) if before.get(k) != after.get(k))
    return ok(how in ("private", "refused") and not events and not changed and time.monotonic() - began < DEADLINE_S,
              "%s: %s" % (what, how), events, changed, detail)


roots = [line.split("\t") for line in subprocess.check_output([rootctl, "list"], text=True).splitlines()]
fates = {}

# --- an image of the probe alone; then each root in its layer
plant(roots.index(next(r for r in roots if r[1:] == ["opt", "a file"])), stage)
pack(stage, os.path.join(top, "base.tar"))
rc, out, err = cgibox("image", "import", "base", os.path.join(top, "base.tar"))
ok(rc == 0, "an image of the probe", rc, err)
images = os.path.join(state, "images")
layers = os.path.join(images, "layers")
layer = next(os.path.join(layers, d, "fs") for d in os.listdir(layers))
rc, out, err = cgibox("run", "--image", "base", "/probe", canary)
ok((rc, out) == (0, "private\n"), "it runs", rc, out, err)
p = subprocess.run([probe, canary], capture_output=True, text=True)
ok(p.returncode == 1, "control: the probe notices that it is not in a sandbox", p.stdout)
touched()
open(os.path.join(canary, "f")).close()
ok(touched(), "control: the watch sees a file of the host opened")
before = outside(but=(layer,))
for n, place, kind in roots:
    began = time.monotonic()
    how, detail = "not planted", ""
    if plant(n, layer):
        touched()
        how = fate(*(detail := cgibox("run", "--image", "base", "/probe", canary)))
    report("layer: /%s: %s" % (place, kind), how, began, before, (layer,), "hard link" in kind, detail)
    fates[how] = fates.get(how, 0) + 1
ok(fates.get("private", 0) > len(roots) / 2 and fates.get("refused", 0) > len(roots) / 20, "roots in a layer: %r" % fates)
plant(roots.index(next(r for r in roots if r[1:] == ["opt", "a file"])), layer)

# --- without openat2: plain roots go on working, links are refused and nothing else changes


def without_openat2(errnum):
    """A filter that is there before cgibox starts, as a container's or a unit's would be."""
    code = b"".join(struct.pack("HBBI", *i) for i in (
        (0x20, 0, 0, 0), (0x15, 0, 1, 437), (6, 0, 0, 0x50000 | errnum), (6, 0, 0, 0x7fff0000)))
    program = ctypes.create_string_buffer(code, len(code))
    fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(program)))

    def load():
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, fprog, 0, 0):
            os._exit(99)
        if libc.syscall(437, -100, b"/", fprog, 24) != -1 or ctypes.get_errno() != errnum:
            os._exit(98)
    load.keep = program
    return load


for errnum in (errno.ENOSYS, errno.EPERM):
    name = errno.errorcode[errnum]
    filter = without_openat2(errnum)
    before = outside(but=(images,))
    ok(fate(*cgibox("run", "--image", "base", "/probe", canary, filter=filter)) == "private", name + ": a plain image works")
    rc, out, err = cgibox("run", "--cwd", "/usr/share", "--bind", canary + ":/a/b/c", "--", "/bin/sh", "-c", "pwd; ls /a/b/c", filter=filter)
    ok((rc, out) == (0, "/usr/share\nd\nf\npipe\n"), name + ": so does this machine's /usr, with a bind", rc, out, err)
    touched()
    rc, out, err = cgibox("run", "--bind", canary + ":/bin/x", "true", filter=filter)
    ok(rc == 71 and "ymbolic link" in err, name + ": a link on the way to a mount target is refused", rc, err)
    rc, out, err = cgibox("run", "--bind", canary + ":/var/run/x", "true")
    ok(rc == 0, "control: with openat2 a link is followed", rc, err)
    rc, out, err = cgibox("run", "--bind", canary + ":/var/run/x", "true", filter=filter)
    ok(rc == 71 and "ymbolic link" in err, name + ": which is refused without it", rc, err)
    rc, out, err = cgibox("run", "--cwd", "/bin", "true", filter=filter)
    ok(rc == 65 and "ymbolic link" in err, name + ": a link on the way to the working directory too", rc, err)
    with tarfile.open(os.path.join(top, "merged.tar"), "w") as t:
        for name_, kind, to in (("usr/lib", tarfile.DIRTYPE, ""), ("lib", tarfile.SYMTYPE, "usr/lib"), ("lib/f", tarfile.REGTYPE, "")):
            i = tarfile.TarInfo(name_)
            i.type, i.linkname, i.mode = kind, to, 0o755
            t.addfile(i)
    rc, out, err = cgibox("image", "import", "merged", os.path.join(top, "merged.tar"), filter=filter)
    ok(rc == 71 and "openat2" in err, name + ": a layer that writes by its own link is not unpacked wrongly", rc, err)
    rc, out, err = cgibox("image", "import", "plain", os.path.join(top, "base.tar"), filter=filter)
    ok(rc == 0, name + ": one without is", rc, err)
    ok(not touched() and outside(but=(images,)) == before, name + ": nothing changes outside")
rc, out, err = cgibox("image", "import", "merged", os.path.join(top, "merged.tar"))
ok(rc == 0, "control: with openat2 the layer is imported", rc, err)
filter = without_openat2(errno.ENOSYS)
fates = {}
before = outside(but=(layer,))
for n, place, kind in roots:
    if not int(n) % 2 or place in ("dev", "proc"):
        began = time.monotonic()
        touched()
        how, detail = "not planted", ""
        if plant(n, layer):
            touched()
            how = fate(*(detail := cgibox("run", "--image", "base", "/probe", canary, filter=filter)))
        if place in ("dev", "proc") and "link" in kind and kind != "a hard link to a file of the host" and how == "private":
            how = "not refused" if "parent" not in kind or not os.path.lexists(os.path.join(layer, place)) else how
        report("no openat2: /%s: %s" % (place, kind), how, began, before, (layer,), "hard link" in kind, detail)
        fates[how] = fates.get(how, 0) + 1
ok(fates.get("private", 0) > len(roots) / 4, "roots without openat2: %r" % fates)
plant(roots.index(next(r for r in roots if r[1:] == ["opt", "a file"])), layer)

# --- the same as archives; the importer may leave out what an image has no use for. A third of them, all
# with ALL_ROOTS=1.
fates = {}
before = outside(but=(images,))
for n, place, kind in roots:
    if int(n) % 3 and not os.environ.get("ALL_ROOTS"):
        continue
    began = time.monotonic()
    how, detail = "not planted", ""
    if plant(n, stage):
        pack(stage, os.path.join(top, "root.tar"))
        touched()
        detail = cgibox("image", "import", "root", os.path.join(top, "root.tar"))
        how = "refused" if detail[0] else fate(*(detail := cgibox("run", "--image", "root", "/probe", canary)))
    report("archive: /%s: %s" % (place, kind), how, began, before, (images,), "hard link" in kind, detail)
    cgibox("image", "rm", "root")
    fates[how] = fates.get(how, 0) + 1
ok(fates.get("private", 0) > sum(fates.values()) / 2, "roots in archives: %r" % fates)

shutil.rmtree(top, ignore_errors=True)
subprocess.run(["chmod", "-R", "u+rwX", top], stderr=subprocess.DEVNULL)
shutil.rmtree(top, ignore_errors=True)
ok(not os.path.exists(top), "and all of it can be removed")
done()
