#!/usr/bin/python3
"""cgibox run: every option, its edges and its errors. TAP."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from box import Box  # noqa: E402

b = Box("run-options")
ok, eq, run, out = b.ok, b.eq, b.run, b.out


def refused(args, *words, code=64):
    """The run ends with code, prints nothing, and its message has all the words."""
    rc, o, err = run(*args)
    first = err.split("\n")[0]
    ok(rc == code and o == "" and all(w in first for w in words), "refused: %s" % repr(" ".join(args))[:100], rc, o, err, words)


# --- the command line itself
refused(["--nonsense", "true"], "unknown option", "--nonsense")
refused(["--time", "1", "true"], "unknown option", "--time")
refused(["-x", "true"], "unknown option", "-x")
refused(["--=x", "true"], "unknown option")
refused(["--image"], "--image needs a value")
refused(["--image", "", "true"], "--image needs a value")
refused(["--image=", "true"], "--image needs a value")
refused(["--read-only=yes", "true"], "--read-only takes no value")
refused(["--"], "no program")
refused([], "no program")
refused(["--", ""], "no program")
for name, value in (("image", "host"), ("rootfs", "/"), ("upper", "u"), ("cwd", "/"), ("user", "1"), ("uid", "1"), ("gid", "1"),
                    ("hostname", "a"), ("network", "none"), ("timeout", "1"), ("json", "/dev/null"), ("json-fd", "2")):
    refused(["--" + name, value, "--%s=%s" % (name, value), "true"], "--%s is given twice" % name)
for name in ("read-only", "tty", "no-tty", "die-with-parent"):
    refused(["--" + name, "--" + name, "true"], "--%s is given twice" % name)
for a, c in ((["--image", "host"], ["--rootfs", "/"]), (["--read-only"], ["--upper", "u"]), (["--uid", "1"], ["--user", "1"]),
             (["--gid", "1"], ["--user", "1"]), (["--tty"], ["--no-tty"]), (["--json", "x"], ["--json-fd", "1"])):
    for args in (a + c, c + a):
        refused(args + ["true"], a[0], c[0], "contradict")
ok(not os.path.exists(b.path("u")) and not os.path.exists(b.path("x")), "a refused command line makes no file")
eq(run("--", "echo", "--", "--tty")[1], "-- --tty\n", "-- ends the options once; the rest is the command's")
eq(run("echo", "--hostname", "x")[1], "--hostname x\n", "so does the program")
eq(run("--hostname=a.b-C9", "uname", "-n")[1], "a.b-C9\n", "--name=value")
rc, o, err = run("--help")
ok(rc == 0 and o.startswith("usage") and err == "", "--help")

# --- bind
share = b.dir("share")
b.file("share/f", "x")
b.file("co:lon", "colon")
b.file("back\\slash", "back")
eq(out("--bind", share + ":/in", "cat", "/in/f"), "x", "--bind SRC:DST")
eq(run("--bind", share + ":/in:ro", "touch", "/in/g")[0], 1, "--bind :ro is read-only")
eq(run("--bind", share + ":/in:rw", "touch", "/in/g")[0], 0, "--bind :rw is not")
ok(os.path.exists(share + "/g"), "and writes to the caller's directory")
eq(out("--bind", "share:/in", "cat", "/in/f"), "x", "a relative source is the caller's")
eq(out("--bind", "co\\:lon:/a\\:b", "cat", "/a:b"), "colon", "\\: is a colon, on both sides")
eq(out("--bind", "back\\\\slash:/a\\\\b", "cat", "/a\\b"), "back", "\\\\ is a backslash")
fd = os.open(b.path("share/f"), os.O_RDONLY)
eq(out("--bind", "/dev/fd/%d:/in" % fd, "cat", "/in", pass_fds=(fd,)), "x", "an open file can be the source")
os.close(fd)
eq(out("--bind", share + ":/usr/share", "ls", "/usr/share"), "f\ng\n", "a bind lies over what the image binds")
eq(out("--bind", share + ":/a", "--bind", share + "/f:/a/g", "cat", "/a/g"), "x", "binds are made in the order given")
eq(out("--bind", share + ":/a", "--tmpfs", "/a", "ls", "/a"), "", "the later one covers the earlier")
for bad in ("share", ":/in", "share:", "share:in", "share:/", "share://", "share:/a/../b", "share:/..", "share:/in:rx",
            "share:/in:rw:", "share:/in:", "sh\\are:/in", "share:/in\\", "share:/" + "a/" * 2100):
    refused(["--bind", bad, "true"], "--bind")
refused(["--bind", "gone:/in", "true"], "--bind", "gone", "No such file")
refused(["--bind-try", "share/f/x:/in", "true"], "--bind-try", "share/f/x")
eq(out("--bind-try", "gone:/in", "--bind-try", "share:/here", "ls", "/here", "-d"), "/here\n", "--bind-try passes a missing source over")
eq(run("--bind-try", "gone:/in", "ls", "/in")[0], 2, "and makes nothing for it")
refused(sum((["--tmpfs", "/t%d" % i] for i in range(257)), []) + ["true"], "--tmpfs", "more than 256")
eq(run(*sum((["--tmpfs", "/t%d:64k" % i] for i in range(256)), []), "true")[0], 0, "256 mounts are fine")

# --- tmpfs, read-only, upper
eq(out("--tmpfs", "/t:1M", "sh", "-c", "df -B1 --output=size /t | tail -n 1").strip(), "1048576", "--tmpfs DST:SIZE")
eq(out("--limit", "tmpfs=2M", "--tmpfs", "/t", "sh", "-c", "df -B1 --output=size /t | tail -n 1").strip(), "2097152",
   "without a size it is --limit tmpfs")
eq(out("--tmpfs", "/t", "--limit", "tmpfs=2M", "sh", "-c", "df -B1 --output=size /t | tail -n 1").strip(), "2097152",
   "wherever that stands")
for bad in ("t", "/", "/t:", "/t:x", "/t:1", "/t:1P", "/t:-1", "/t:1M:", "/a/../t", "/t:99999999999999999999"):
    refused(["--tmpfs", bad, "true"], "--tmpfs")
eq(run("--read-only", "touch", "/x")[1:], ("", "touch: cannot touch '/x': Read-only file system\n"), "--read-only")
eq(run("--read-only", "--tmpfs", "/new/tmp", "--bind", "share:/also/new", "sh", "-c", "touch /new/tmp/x && cat /also/new/f")[0:2],
   (0, "x"), "mount points are made all the same")
eq(run("--upper", "kept", "sh", "-c", "echo 1 > /etc/mine; rm /etc/passwd")[0], 0, "--upper DIR")
eq(out("--upper", "kept", "sh", "-c", "cat /etc/mine; ls /etc/passwd || echo gone"), "1\ngone\n", "keeps what was changed")
eq(sorted(os.listdir(b.path("kept"))), ["upper", "work"], "in two directories")
eq(run("ls", "/etc/mine")[0], 2, "of this directory alone")
FILL = "i=0; while test $i -lt 64; do head -c 1000000 /dev/zero > /var/tmp/$i || exit; i=$((i+1)); done"
for limit, text in (("disk=8M", "8388608 bytes in its writable layer"), ("disk-files=20", "20 files in its writable layer")):
    rc, o, err = run("--upper", "filled", "--limit", limit, "sh", "-c", FILL + "; sleep 1000")
    ok(rc == 137 and "ended over " + text in err, "--limit %s holds for --upper" % limit, rc, o, err)
eq(run("--upper", "roomy", "--limit", "disk=80M", "--limit", "disk-files=200", "sh", "-c", FILL)[0], 0, "control: under the limits")
eq(run("--upper", "roomy", "--limit", "disk=8M", "sh", "-c", "sleep 1; echo x > /var/tmp/x")[0], 0, "what was there before does not count")
refused(["--upper", "no/such", "true"], "no/such", code=71)
refused(["--upper", "share/f", "true"], "share/f", code=71)
os.symlink("/etc", b.path("share", "upper"))
refused(["--upper", "share", "true"], "share", code=71)
os.unlink(b.path("share", "upper"))

# --- environment
E = {"MINE": "a=b", "SECRET": "s"}
eq(sorted(out("env", env=E).split("\n")),
   ["", "HOME=/", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "nothing of the caller's environment")
eq(out("--env", "MINE", "printenv", "MINE", env=E), "a=b\n", "--env NAME passes the caller's")
eq(run("--env", "ABSENT", "printenv", "ABSENT", env=E)[0], 1, "and nothing when it has none")
eq(out("--env", "A=", "printenv", "A"), "\n", "an empty value is a value")
eq(out("--env", "A=1", "--env", "A=2", "sh", "-c", "env | grep ^A="), "A=2\n", "the last one of a name holds, alone")
eq(out("--env", "PATHS=1", "printenv", "PATH", "PATHS").count("\n"), 2, "a longer name is another")
eq(out("--env", "PATH=/x:/usr/bin:/bin", "printenv", "PATH"), "/x:/usr/bin:/bin\n", "PATH can be given")
for bad in ("=x", "="):
    refused(["--env", bad, "true"], "--env", "NAME")
eq(run("--env-file", b.file("max", "B=%s\n" % ("x" * 131069)), "sh", "-c", "echo ${#B}")[0:2], (0, "131069\n"), "131071 bytes fit")
refused(["--env-file", b.file("over", "B=%s\n" % ("x" * 131070)), "true"], "--env-file", "line 1", "131071")
refused(["--env-file", b.file("all", "".join("B%d=%s\n" % (i, "x" * 130000) for i in range(9))), "true"], "--env-file", "1048576")
f = b.file("vars", "# a comment\n\nA=1\nB=two words \nMINE\nABSENT\nC=a=b#c\n#D=1\nLAST=x")
eq(sorted(x for x in out("--env-file", f, "env", env=E).split("\n") if x[:4] not in ("PATH", "HOME")),
   ["", "A=1", "B=two words ", "C=a=b#c", "LAST=x", "MINE=a=b"], "--env-file")
eq(out("--env", "A=0", "--env-file", f, "--env", "B=3", "sh", "-c", "echo $A $B"), "1 3\n", "the order of --env and --env-file counts")
refused(["--env-file", "gone", "true"], "--env-file", "gone")
refused(["--env-file", ".", "true"], "--env-file")
refused(["--env-file", b.file("bad", "A=1\n=x\n"), "true"], "--env-file", "line 2")
refused(["--env-file", b.file("nul", "A=1\0\n"), "true"], "--env-file", "NUL")
refused(["--env-file", b.file("long", "A" * 2000000), "true"], "--env-file", "1048576")
eq(out("--env-file", b.file("empty", ""), "echo", "x"), "x\n", "an empty file says nothing")

# --- cwd, ids, hostname, network
eq(out("--cwd", "/usr/bin", "pwd"), "/usr/bin\n", "--cwd")
refused(["--cwd", "usr", "true"], "--cwd")
refused(["--cwd", "/no/such", "true"], "workdir", "/no/such", code=65)
for bad in ("-1", "+1", "1x", "0x1", " 1", "65534", "99999999999999999999"):
    refused(["--uid", bad, "true"], "--uid", "65533")
    refused(["--gid", bad, "true"], "--gid", "65533")
eq(out("--uid", "65533", "--gid", "0", "sh", "-c", "id -u; id -g"), "65533\n0\n", "--uid and --gid at their edges")
eq(out("--user", "7", "sh", "-c", "id -u; id -g"), "7\n7\n", "--user UID")
eq(out("--user", "7:8", "sh", "-c", "id -u; id -g"), "7\n8\n", "--user UID:GID")
eq(out("--user", "root", "sh", "-c", "id -u; id -g; echo $HOME"), "0\n0\n/root\n", "--user NAME, with its home directory")
for bad in ("65534", "1:65534", ":1", "1:", ":", "no-such", "1:no-such", "-1", "1:2:3", "nobody"):
    rc, o, err = run("--user", bad, "true")
    ok(rc in (65, 66) and "--user" in err and o == "", "refused: --user %s" % bad, rc, err)
refused(["--user", "x" * 256, "true"], "--user", "255")
eq(run("--hostname", "h" * 64, "uname", "-n")[1], "h" * 64 + "\n", "64 bytes of --hostname")
for bad in ("h" * 65, "a b", "a/b", "a\n", "\u00e4"):
    refused(["--hostname", bad, "true"], "--hostname")
refused(["--network", "maybe", "true"], "--network", "none, host, pasta")
refused(["--network", "host", "true"], "--network", "sandbox.conf")
refused(["--network", "pasta", "true"], "--network", "sandbox.conf")
c = b.file("host.conf", "network = host\n")
eq(os.readlink("/proc/self/ns/net"), run("--network", "host", "readlink", "/proc/self/ns/net", conf=["--conf", c])[1].strip(),
   "--network host where sandbox.conf allows it")
ok(run("readlink", "/proc/self/ns/net", conf=["--conf", c])[1].strip() != os.readlink("/proc/self/ns/net"), "and only when asked for")

# --- timeout
for bad in ("0", "0.0", "0.0001", "-1", "+1", "1e3", "inf", "nan", "1.", ".5", "1.2.3", "0x1", " 1", "1s", "86400.001", "9" * 30):
    refused(["--timeout", bad, "true"], "--timeout", "86400")
for good in ("86400", "86400.000", "0.9", "00001"):
    eq(run("--timeout", good, "true")[0], 0, "--timeout %s" % good)
eq(run("--timeout", "0.001", "sleep", "60")[0], 124, "--timeout 0.001")
eq(run("--timeout=0.25", "sh", "-c", "trap '' TERM; sleep 1000")[0], 124, "--timeout 0.25")

# --- limits
LIMITS = {"processes": "ulimit -u", "open-files": "ulimit -n", "cpu-time": "ulimit -t"}
for name, ask in LIMITS.items():
    eq(out("--limit", name + "=77", "bash", "-c", ask), "77\n", "--limit %s" % name)
eq(out("--limit", "file-size=128k", "bash", "-c", "ulimit -f"), "128\n", "--limit file-size, k")
eq(out("--limit", "process-memory=3M", "--limit", "address-space=1G", "bash", "-c", "ulimit -d -v | grep -o '[0-9]*$'"), "3072\n1048576\n",
   "--limit process-memory, address-space; M and G")
eq(out("--limit", "tmpfs-files=64", "--tmpfs", "/t", "sh", "-c", "df --output=itotal /t /dev/shm | tail -n 2 | xargs"), "64 64\n", "--limit tmpfs-files")
rc, o, err = run("--limit", "file-size=64k", "sh", "-c", "head -c 65536 /dev/zero > /a && head -c 65537 /dev/zero > /b; echo $?; stat -c %s /a /b")
eq(o, "153\n65536\n65536\n", "a file may have 65536 bytes and no more (SIGXFSZ)")
eq(run("--limit", "cpu-time=1", "sh", "-c", "while :; do :; done")[0], 128 + 24, "processor time: SIGXCPU")
for bad in ("processes", "processes=", "=1", "processes=3", "processes=1k", "processes=-4", "processes=+4", "processes= 4",
            "processes=4x", "processes=1048577", "file-size=65535", "file-size=1Q", "file-size=1kk", "file-size=k",
            "file-size=99999999999999999999", "file-size=99999999T", "none=1", "output=0", "tmpfs=64K "):
    refused(["--limit", bad, "true"], "--limit")
refused(["--limit", "processes=10", "--limit", "processes=10", "true"], "--limit", "processes", "twice")
for name in ("memory=1G", "socket-memory=1M", "cpu-percent=50", "io=1M"):
    rc, o, err = run("--limit", name, "true")
    ok(rc in (0, 69) and (rc == 0 or ("--limit" in err and name.split("=")[0] in err)),
       "--limit %s is held or refused, never ignored" % name, rc, err)

# --- output
eq(run("--limit", "output=10", "sh", "-c", "printf 0123456789")[0:2], (0, "0123456789"), "--limit output: 10 bytes of 10")
rc, o, err = run("--limit", "output=10", "sh", "-c", "printf 0123456789a; sleep 1000")
ok((rc, o) == (137, "0123456789") and "--limit output=10" in err, "the 11th ends the run", rc, o, err)
rc, o, err = run("--limit", "output=10", "sh", "-c", "printf 0123; printf 4567 >&2; sleep 0.1; printf 89a; exec sleep 1000")
ok(rc == 137 and len(o) + len(err.split("cgibox")[0]) == 10, "both outputs are counted together", rc, o, err)
rc, o, err = run("--limit", "output=3M", "sh", "-c", "head -c 3145728 /dev/zero; exit 9")
ok(rc == 9 and len(o) == 3145728, "3 MiB pass unharmed", rc, len(o), err)
rc, o, err = run("--limit", "output=1M", "sh", "-c", "setsid sh -c 'yes & yes' & yes")
ok(rc == 137 and len(o) == 1 << 20, "a flood from several processes ends at the byte", rc, len(o), err)
b.done()
