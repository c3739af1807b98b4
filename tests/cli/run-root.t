#!/usr/bin/python3
"""cgibox run --rootfs: a directory as the root, also one made to do harm, and users of its own. TAP."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from box import Box  # noqa: E402

b = Box("run-root")
ok, eq, run, out = b.ok, b.eq, b.run, b.out


def programs(root, *names):
    """Copies programs of this machine with the libraries they need, as a small distribution would have them."""
    for name in names:
        path = os.path.realpath(shutil.which(name))
        ldd = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
        os.makedirs(root + "/bin", exist_ok=True)
        shutil.copy(path, root + "/bin/" + name)
        for lib in re.findall(r"(/\S+) \(0x", ldd):
            os.makedirs(root + os.path.dirname(lib), exist_ok=True)
            shutil.copy(lib, root + lib)


base = b.path("base")
programs(base, "sh", "cat", "ls", "touch", "id", "readlink", "rm", "mkdir", "df", "grep")
for d in ("etc", "root", "home/u"):
    os.makedirs(base + "/" + d, exist_ok=True)
with open(base + "/etc/passwd", "w") as f:
    f.write("root:x:0:0:root:/root:/bin/sh\nu:x:77:78::/home/u:/bin/sh\nshort:x:5\nbad:x:5x:6::/:\nbig:x:65534:1::/:\nrel:x:9:9::home:/\n"
            "neg:x:-1:1::/:\nnogid:x:5::/:/\nlast:x:11:12::/root")
with open(base + "/etc/group", "w") as f:
    f.write("root:x:0:\nstaff:x:50:u\nbad:x::\n")
b.own(base)


def tree(name):
    """A copy of the small distribution, to be spoiled."""
    path = b.path(name)
    shutil.copytree(base, path, symlinks=True)
    return b.own(path)


def snapshot(path):
    found = {}
    for d, dirs, files in os.walk(path):
        for n in dirs + files:
            p = os.path.join(d, n)
            st = os.lstat(p)
            found[os.path.relpath(p, path)] = (st.st_mode, st.st_size, os.readlink(p) if os.path.islink(p) else st.st_mtime_ns)
    return found


# --- an ordinary one
before = snapshot(base)
R = ["--rootfs", base]
eq(out(*R, "cat", "/etc/group").split("\n")[0], "root:x:0:", "--rootfs DIR is the root")
eq(run(*R, "sh", "-c", "touch /etc/x && rm -r /home && mkdir /home && ls /home && ls /etc/x")[0:2], (0, "/etc/x\n"), "which is writable")
eq(snapshot(base), before, "and not changed")
eq(sorted(out(*R, "ls", "/").split()), ["bin", "dev", "etc", "home", "lib", "lib64", "proc", "root"], "nothing but it, /dev and /proc")
eq(out("--rootfs", "base", "cat", "/etc/group").split("\n")[0], "root:x:0:", "a relative name is the caller's")
eq(run(*R, "--read-only", "touch", "/x")[0], 1, "with --read-only")
eq(run(*R, "--upper", "kept", "touch", "/etc/kept")[0], 0, "with --upper")
eq(out(*R, "--upper", "kept", "ls", "/etc/kept"), "/etc/kept\n", "which keeps")
eq(run("--rootfs", "gone", "true")[0::2], (64, run("--rootfs", "gone", "true")[2]), "a missing directory is a wrong command line")
ok("gone" in run("--rootfs", "gone", "true")[2], "which it names")
eq(run("--rootfs", "base/etc/passwd", "true")[0], 64, "so is a file")
b.dir("empty")
eq(run("--rootfs", "empty", "sh")[0], 127, "an empty directory has no program")
b.dir("a:b,c\\d")
eq(run("--rootfs", "a:b,c\\d", "sh")[0], 127, "a name with what mount options are made of")

# --- users
WHO = ["sh", "-c", "id -u; id -g; echo $HOME"]
eq(out(*R, "--user", "u", *WHO), "77\n78\n/home/u\n", "--user NAME from the root's own passwd")
eq(out(*R, "--user", "u:staff", *WHO), "77\n50\n/home/u\n", "--user NAME:GROUP")
eq(out(*R, "--user", "u:3", *WHO), "77\n3\n/home/u\n", "--user NAME:GID")
eq(out(*R, "--user", "3:staff", *WHO), "3\n50\n/\n", "--user UID:GROUP")
eq(out(*R, "--user", "last", *WHO), "11\n12\n/root\n", "a last line without its end")
eq(out(*R, "--user", "rel", *WHO), "9\n9\n/\n", "a home directory that is no absolute path is none")
eq(out(*R, "--user", "u", "--env", "HOME=/x", *WHO), "77\n78\n/x\n", "HOME can be given")
for name in ("short", "bad", "big", "neg", "nogid", "u:bad", "U", "roo", "root:x"):
    rc, o, err = run(*R, "--user", name, "id")
    ok(rc in (65, 66) and o == "" and "--user" in err, "refused: --user %s" % name, rc, err)


def passwd_is(name, make, want=None):
    root = tree("pw-" + name)
    p = root + "/etc/passwd"
    os.unlink(p)
    make(p)
    rc, o, err = run("--rootfs", root, "--user", "u", *WHO, timeout=100)
    if want:
        eq((rc, o), (0, want), "passwd: " + name)
    else:
        ok(rc in (65, 66, 69, 71) and o == "" and "passwd" in err, "passwd refused: " + name, rc, o, err)
    eq(run("--rootfs", root, "--user", "1", "sh", "-c", "id -u")[0:2], (0, "1\n"), "  and numbers need none")


real = b.file("outside-passwd", "u:x:77:78::/home/u:/bin/sh\n")
passwd_is("absent", lambda p: None)
passwd_is("a link out", lambda p: os.symlink(real, p))
passwd_is("a link inside", lambda p: (shutil.copy(real, p + "2"), os.symlink("passwd2", p)))
passwd_is("a fifo", os.mkfifo)
passwd_is("a directory", os.mkdir)
passwd_is("over 1 MiB", lambda p: open(p, "w").write("x" * (1 << 20) + "\nu:x:1:1::/:\n"))
passwd_is("of 1 MiB", lambda p: open(p, "w").write("u:x:1:2::/h:\n" + "x" * ((1 << 20) - 13)), "1\n2\n/h\n")
passwd_is("empty", lambda p: open(p, "w"))
passwd_is("binary", lambda p: open(p, "wb").write(bytes(range(256)) * 16))
passwd_is("with NUL in the home directory", lambda p: open(p, "wb").write(b"u:x:1:2::/a\0b:\n"), "1\n2\n/\n")
passwd_is("with a long home directory", lambda p: open(p, "w").write("u:x:1:2::/%s:\n" % ("h" * 255)), "1\n2\n/\n")
root = tree("pw-etc-link")
shutil.rmtree(root + "/etc")
os.symlink(b.dir("outside-etc"), root + "/etc")
shutil.copy(real, b.path("outside-etc/passwd"))
rc, o, err = run("--rootfs", root, "--user", "u", "sh", "-c", "id -u")
ok(rc == 65 and o == "", "passwd refused: /etc is a link out", rc, o, err)

# --- hostile: mount points that lead elsewhere. Nothing outside changes, nothing of the host is seen.
canary = b.dir("canary")
b.file("canary/secret", "secret")
b.dir("canary/sub")
mark = snapshot(canary)
PROBE = ("cat /proc/self/comm; cat /dev/null && echo null; readlink /proc/1/ns/pid >/dev/null; "
         "cat %s/secret; ls /oldroot; cat /../kcore; cat /../proc/kcore 2>/dev/null | grep -c .; echo end" % canary)


def hostile(what, spoil, *options):
    """Runs in a spoiled root: it is refused with a message, or holds like any other."""
    root = tree("h%d" % b.count)
    spoil(root)
    rc, o, err = run("--rootfs", root, *options, "sh", "-c", PROBE, timeout=100)
    if rc == 0:
        # it may hide its own /proc; then there is none
        good = "secret" not in o and "end" in o and ("cat\nnull\n" in o or (
            o == "null\n0\nend\n" and "/proc/self/comm: No such file" in err))
    else:
        good = rc in (71, 126, 127) and o == "" and err.startswith("cgibox: ")
    ok(good and snapshot(canary) == mark, "%s: %s" % (what, "holds" if rc == 0 else err.strip()[:110]), rc, o, err)
    return rc


eq(hostile("control: an unspoiled root", lambda root: None), 0, "and it runs")


def put(name, target):
    def spoil(root):
        path = root + name
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)
    return spoil


def node(name, make):
    def spoil(root):
        make(root + name)
    return spoil


TARGETS = (canary, "/", ".", "..", "/../../../../.." + canary, "/proc", "/dev", "/dev/shm", "/dev/pts", "/proc/self/root", "/proc/1/root",
           "/proc/self/cwd", "/proc/self/fd/4", "/etc", "/no/such", "proc", "/oldroot" + canary, "/bin")
for point in ("/dev", "/proc"):
    for target in TARGETS:
        hostile("%s -> %s" % (point, target), put(point, target))
    hostile("%s is a file" % point, node(point, lambda p: open(p, "w")))
    hostile("%s is a fifo" % point, node(point, os.mkfifo))
    hostile("%s is of mode 000" % point, node(point, lambda p: os.mkdir(p, 0)))
    hostile("%s is full" % point, node(point, lambda p: (os.mkdir(p), [os.symlink(canary, p + "/" + n) for n in (
        "null", "pts", "shm", "ptmx", "fd", "self", "sys", "kcore", "keys")])))
for target in TARGETS:
    hostile("--bind through /mnt -> %s" % target, put("/mnt", target), "--bind", b.dir("empty") + ":/mnt")
    hostile("--bind below /mnt -> %s" % target, put("/mnt", target), "--bind", b.path("empty") + ":/mnt/deep/er")
    hostile("--bind of a file below /mnt -> %s" % target, put("/mnt", target), "--bind", real + ":/mnt/file")
    hostile("--tmpfs through /mnt -> %s" % target, put("/mnt", target), "--tmpfs", "/mnt")
hostile("a loop of links", lambda root: (put("/a", "/c")(root), put("/c", "/a")(root)), "--tmpfs", "/a/x")
hostile("40 levels of links", lambda root: [put("/l%d" % i, "/l%d" % (i + 1))(root) for i in range(45)], "--tmpfs", "/l0")
hostile("a file where a directory must be", node("/mnt", lambda p: open(p, "w")), "--tmpfs", "/mnt")
hostile("a device node's name", node("/mnt", os.mkfifo), "--bind", real + ":/mnt")
root = tree("cwd")
put("/w", canary)(root)
rc, o, err = run("--rootfs", root, "--cwd", "/w", "ls")
eq((rc, o), (65, ""), "--cwd through a link out finds nothing")
put("/w2", "/proc/1/root")(root)
rc, o, err = run("--rootfs", root, "--cwd", "/w2", "ls")
eq((rc, o), (65, ""), "nor through /proc/1/root")
for attr in ("opaque", "redirect", "whiteout", "origin", "metacopy", "upper", "impure"):
    root = tree("x-" + attr)
    try:
        os.setxattr(root + "/etc", "user.overlay." + attr, canary.encode())
    except OSError as x:
        print("# no user.overlay.%s here: %s" % (attr, x))
        continue
    rc, o, err = run("--rootfs", root, "sh", "-c", "ls /etc /etc/*; " + PROBE)
    ok("secret" not in o and snapshot(canary) == mark, "a root with user.overlay.%s shows nothing else" % attr, rc, o, err)
eq(snapshot(base), before, "the root is as it was")
b.done()
