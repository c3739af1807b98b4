#!/usr/bin/python3
"""Root emulation: what succeeds, what it does (nothing), what stays denied; packages inside a Debian root from this
machine's mirror; the resolver of a sandbox on the machine's network; a session with run_uid = 0. TAP."""
import os
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import debian  # noqa: E402
from box import HERE, UID, Box  # noqa: E402
from fcgi import request  # noqa: E402

b = Box("root-emulation")
ok, eq, run, out = b.ok, b.eq, b.run, b.out
ROOT = os.getuid() == 0
NET = {"CGIBOX_NETWORK": "host"}


def skip(why, n=1):
    for _ in range(n):
        b.count += 1
        print("ok %d # SKIP %s" % (b.count, why), flush=True)
    if os.environ.get("MUST_WORK") == "1":
        b.failed += 1


def sh(script, *args, **kw):
    """A shell in the machine's own image: (exit code, output, errors)."""
    return run(*args, "--", "sh", "-c", script, **kw)


# --- calls that succeed and do nothing

CALLS = """
import ctypes, errno, os, stat
libc = ctypes.CDLL(None, use_errno=True)
open("/tmp/f", "w").close()
os.symlink("f", "/tmp/l")
fd = os.open("/tmp/f", os.O_RDONLY)
def code(f, *a):
    try:
        r = f(*a)
        return "ok" if r in (None, 0) else str(r)
    except OSError as e:
        return errno.errorcode[e.errno]
def raw(f, *a):
    return "ok" if f(*a) == 0 else errno.errorcode[ctypes.get_errno()]
head = (ctypes.c_uint32 * 2)(0x20080522, 0)
data = (ctypes.c_uint32 * 6)(*[0xffffffff] * 6)
print(*[code(os.chown, "/tmp/f", 7, 8), code(os.fchown, fd, 7, 8), code(os.lchown, "/tmp/l", 7, 8),
        raw(libc.fchownat, -100, b"/tmp/f", 7, 8, 0), code(os.setgroups, [5]), code(os.setregid, 7, 7), code(os.setreuid, 7, 7),
        code(os.setresgid, 7, 7, 7), code(os.setresuid, 7, 7, 7), code(os.setgid, 7), code(os.setuid, 7), raw(libc.capset, head, data),
        code(os.mknod, "/tmp/c", stat.S_IFCHR | 0o666, os.makedev(1, 3)), code(os.mknod, "/tmp/b", stat.S_IFBLK | 0o600, 0)])
print(*[code(os.mknod, "/tmp/p", stat.S_IFIFO | 0o666), code(os.mknod, "/tmp/r", stat.S_IFREG | 0o666)])
print(os.stat("/tmp/f").st_uid, os.stat("/tmp/f").st_gid, os.getresuid(), os.getresgid(), 5 in os.getgroups(), sorted(os.listdir("/tmp")))
print(*[raw(libc.unshare, 0x10000000), raw(libc.mount, b"none", b"/tmp", b"tmpfs", 0, None), raw(libc.chroot, b"/tmp"),
        raw(libc.setns, fd, 0), raw(libc.sethostname, b"x", 1), raw(libc.umount2, b"/dev", 2)])
print([x.split()[1] for x in open("/proc/self/status") if x[:3] == "Cap" or x[:8] in ("NoNewPri", "Seccomp:")])
"""
PY = ["--", "/usr/bin/python3", "-c", CALLS]
DENIED = "EPERM EPERM EPERM EPERM EPERM EPERM"
NO_CAPS = str(["0" * 16] * 5 + ["1", "2"])


def calls(*args, **kw):
    """The lines of CALLS."""
    return (out(*args, "--tmpfs", "/tmp", *PY, **kw) or "").splitlines() + [""] * 5


on = calls()
eq(on[0], " ".join(["ok"] * 14), "uid 0: owner, user, groups, capabilities and devices: success")
eq(on[1], "ok ok", "a fifo and a file are made as ever")
eq(on[2], "0 0 (0, 0, 0) (0, 0, 0) False ['f', 'l', 'p', 'r']",
   "and nothing has changed: owner, ids, groups; no device is there")
eq(on[3:5], [DENIED, NO_CAPS], "what the filter denies it denies; no capability, no_new_privs")
off = calls("--root-emulation", "off")
eq(off[0].split()[:4], ["EINVAL"] * 4, "off: an owner that is not mapped is EINVAL")
eq(off[0].split()[4], "EPERM", "setgroups is EPERM")
eq(set(off[0].split()[5:11]), {"EINVAL"}, "ids that are not mapped are EINVAL")
eq(off[0].split()[11], "EPERM", "capset is EPERM")
ok(set(off[0].split()[12:]) <= {"EPERM", "EACCES"}, "devices are EPERM, EACCES where Landlock says it", off[0])
eq(off[1:5], on[1:5], "all else is the same")
eq(calls("--uid", "1000", "--gid", "1000")[0], off[0], "auto: another uid than 0 has none")
eq(calls("--uid", "1000", "--gid", "1000", "--root-emulation", "on")[0], on[0], "on: every uid")
eq(calls(env={"CGIBOX_ROOT_EMULATION": "off"})[0], off[0], "root_emulation = off in sandbox.conf")
eq(calls("--root-emulation", "auto", env={"CGIBOX_ROOT_EMULATION": "off"})[0], on[0], "the option is stronger")
rc, _, err = run("--root-emulation", "maybe", "true")
ok(rc == 64 and "none of: auto on off" in err, "a wrong word is a wrong command line", rc, err)

# --- programs
eq(sh("cd /tmp && touch a && chown -R 5:6 . && install -o 5 -g 6 -m 640 a b && stat -c '%u:%g %a' a b")[0:2], (0, "0:0 644\n0:0 640\n"),
   "chown -R and install -o: they are done, the owner is 0:0")
tar = b.path("owned.tar")
with open(b.path("member"), "w") as f:
    f.write("x")
subprocess.run(["tar", "-C", b.top, "--owner=41:41", "--group=42:42", "--numeric-owner", "-cf", tar, "member"], check=True)
T = "cd /tmp && tar --same-owner -xf /owned.tar && stat -c %u:%g member"
eq(sh(T, "--bind", tar + ":/owned.tar")[0:2], (0, "0:0\n"), "tar --same-owner -x")
rc, text, err = sh(T, "--bind", tar + ":/owned.tar", "--root-emulation", "off")
ok(rc != 0 and "Cannot change ownership to uid 41" in err, "control: without emulation it fails", rc, err)
eq(sh("cd /tmp; chown 1 gone")[0], 1, "chown(1) still finds out that a file is missing, by stat(2)")


# --- places below /etc, in roots of all kinds

def programs(root):
    """sh, cat, ls, rm and grep of this machine with their libraries."""
    os.makedirs(root + "/bin", exist_ok=True)
    for name in ("sh", "cat", "ls", "rm", "grep"):
        path = os.path.realpath(shutil.which(name))
        ldd = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
        shutil.copy(path, root + "/bin/" + name)
        for lib in re.findall(r"(/\S+) \(0x", ldd):
            os.makedirs(root + os.path.dirname(lib), exist_ok=True)
            shutil.copy(lib, root + lib)


base = b.path("base")
programs(base)
n_roots = 0


def root(*links, files=(), dirs=(), own=True):
    """A copy of base with directories, then files (path, text), then links (path, target)."""
    global n_roots
    n_roots += 1
    path = b.path("root%d" % n_roots)
    shutil.copytree(base, path, symlinks=True)
    for d in dirs:
        os.makedirs(path + d, exist_ok=True)
    for name, text in files:
        with open(path + name, "w") as f:
            f.write(text)
    for name, target in links:
        os.symlink(target, path + name)
    return b.own(path) if own else path


def kept():
    """A fresh directory for --upper."""
    global n_roots
    n_roots += 1
    return b.dir("upper%d" % n_roots)


def made(upper):
    """What the run made in its root, but what all runs make."""
    found = []
    for d, dirs, files in os.walk(upper):
        found += [os.path.relpath(os.path.join(d, n), upper) for n in dirs + files]
    return sorted(x.split("/", 1)[1] for x in found if x.startswith("upper/") and x not in ("upper/dev", "upper/proc"))


with open("/etc/resolv.conf") as f:
    RESOLV = f.read()
HOST = ["--network", "host"]
SHOW = ["--", "sh", "-c", "cat /etc/resolv.conf"]
for what, r in (("no /etc", root()), ("none", root(dirs=["/etc"])), ("an empty one", root(dirs=["/etc"], files=[("/etc/resolv.conf", "")])),
                ("one of its own", root(dirs=["/etc"], files=[("/etc/resolv.conf", "nameserver 192.0.2.1\n")])),
                ("a link to nowhere", root(("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"), dirs=["/etc"])),
                ("a link to a file", root(("/etc/resolv.conf", "/etc/other"), dirs=["/etc"], files=[("/etc/other", "other\n")])),
                ("a link to itself", root(("/etc/resolv.conf", "resolv.conf"), dirs=["/etc"]))):
    eq(out("--rootfs", r, *HOST, *SHOW, env=NET), RESOLV, "network = host, a root with %s: the machine's resolver" % what)
eq(out("--rootfs", r, "--", "sh", "-c", "cat /etc/resolv.conf 2>/dev/null; ls -a /etc") or "", ".\n..\nresolv.conf\n",
   "control: no network, no file of ours")
r = root(("/etc/resolv.conf", "/etc/other"), dirs=["/etc"], files=[("/etc/other", "other\n")])
eq(out("--rootfs", r, *HOST, "--", "sh", "-c", "cat /etc/other", env=NET), "other\n", "a link's target is not covered")
rc, _, err = run("--rootfs", r, *HOST, "--", "sh", "-c", "echo x > /etc/resolv.conf; rm /etc/resolv.conf", env=NET)
ok("Read-only file system" in err and rc != 0, "it cannot be written or removed", rc, err)
mine = b.file("mine", "mine\n")
eq(out("--rootfs", r, *HOST, "--bind", mine + ":/etc/resolv.conf", *SHOW, env=NET), "mine\n", "--bind is stronger")
r = root(dirs=["/etc/resolv.conf"])
eq(run("--rootfs", r, *HOST, "--", "ls", "/etc/resolv.conf", env=NET), (0, "", ""), "a directory in its place stays")
u = kept()
r = root(("/etc", "elsewhere"), dirs=["/elsewhere"])
eq(run("--rootfs", r, *HOST, "--upper", u, "--", "ls", "/elsewhere", env=NET), (0, "", ""), "/etc is a link: no file")
eq(made(u), [], "nothing is made in what it names")
eq(out("--rootfs", root(dirs=["/etc"]), *HOST, "--hostname", "h1", "--", "cat", "/etc/hosts", env=NET),
   "127.0.0.1\tlocalhost h1\n::1\tlocalhost ip6-localhost ip6-loopback\n", "a root without /etc/hosts gets one")
r = root(dirs=["/etc"], files=[("/etc/hosts", "127.0.0.9 own\n")])
eq(out("--rootfs", r, *HOST, "--", "cat", "/etc/hosts", env=NET), "127.0.0.9 own\n", "one of its own stays")
if ROOT:
    r = root(dirs=["/etc/apt/apt.conf.d"], own=False)
    os.chmod(r + "/etc", 0o755)
    eq(run("--rootfs", r, *HOST, "--", "ls", "/etc", env=NET), (0, "apt\n", ""), "somebody else's root, where nothing can be made: no file")
else:
    skip("a root of another user needs root to make")

# --- settings of apt and dpkg
NAME, APT, DPKG = "zz-cgibox-root", "/etc/apt/apt.conf.d", "/etc/dpkg/dpkg.cfg.d"
BOTH = ["--", "sh", "-c", "cat %s/%s %s/%s" % (APT, NAME, DPKG, NAME)]
r, u = root(dirs=[APT, DPKG]), kept()
eq(out("--rootfs", r, "--upper", u, *BOTH), 'APT::Sandbox::User "root";\nforce-unsafe-io\n', "the settings, where there are such directories")
eq([os.path.getsize(u + "/upper" + d + "/" + NAME) for d in (APT, DPKG)], [0, 0], "what stays in the root is two empty files")
eq(out("--rootfs", r, "--upper", u, *BOTH), 'APT::Sandbox::User "root";\nforce-unsafe-io\n', "the next run finds them there")
eq(run("--rootfs", r, "--upper", u, "--root-emulation", "off", *BOTH), (0, "", ""), "off: only those")
eq(run("--rootfs", r, "--uid", "5", "--", "ls", APT), (0, "", ""), "another uid: none")
eq(run("--rootfs", root(dirs=["/etc/apt"]), "--", "ls", "/etc/apt"), (0, "", ""), "no such directory: none")
eq(out("--rootfs", r, "--read-only", *BOTH), 'APT::Sandbox::User "root";\nforce-unsafe-io\n', "--read-only")
for what, links, dirs in (("apt.conf.d is a link", [(APT, "/elsewhere")], ["/etc/apt", "/elsewhere"]),
                          ("apt.conf.d is a link to itself", [(APT, "apt.conf.d")], ["/etc/apt", "/elsewhere"]),
                          ("/etc/apt is a link", [("/etc/apt", "../elsewhere")], ["/etc", "/elsewhere/apt.conf.d"]),
                          ("/etc is a link", [("/etc", "elsewhere")], ["/elsewhere/apt/apt.conf.d"]),
                          ("apt.conf.d is a link to /proc/self", [(APT, "/proc/self")], ["/etc/apt", "/elsewhere"])):
    u = kept()
    rc, text, err = run("--rootfs", root(*links, dirs=dirs), "--upper", u, "--", "ls", "/elsewhere")
    ok(rc == 0 and made(u) == [], "%s: nothing is made" % what, rc, err, made(u))
r = root((APT + "/" + NAME, "/victim"), dirs=[APT], files=[("/victim", "v\n")])
eq(out("--rootfs", r, "--", "sh", "-c", "cat %s/%s /victim" % (APT, NAME)), 'APT::Sandbox::User "root";\nv\n', "the name is a link: covered, not followed")
r = root(dirs=[APT + "/" + NAME])
eq(run("--rootfs", r, "--", "ls", APT), (0, NAME + "\n", ""), "the name is a directory: it stays")
r = root(dirs=[APT])
os.mkfifo(r + APT + "/" + NAME)
b.own(r)
eq(out("--rootfs", r, "--", "cat", APT + "/" + NAME), 'APT::Sandbox::User "root";\n', "the name is a fifo: covered, not opened")
etc = b.dir("etc")
b.dir("etc", "apt", "apt.conf.d")
eq(run("--rootfs", root(dirs=[APT]), "--bind", etc + ":/etc:rw", "--", "ls", APT), (0, "", ""), "a directory of the host over it: none,")
eq(os.listdir(etc + "/apt/apt.conf.d"), [], "and nothing is made there")


# --- this machine's resolver file at its bounds
def with_resolver(text):
    """A run while /etc/resolv.conf is another file: exit code, what it saw, errors."""
    path = b.file("resolver", text) if text is not None else "/dev/null"
    where = os.path.realpath("/etc/resolv.conf")
    p = subprocess.run(["unshare", "-m", "sh", "-c", 'mount --bind "$1" "$2" && shift 2 && exec "$@"', "sh", path, where, *b.command,
                        *HOST, "--rootfs", base, *SHOW], capture_output=True, env=dict(NET, PATH="/usr/bin:/bin"))
    return p.returncode, p.stdout.decode(), p.stderr.decode()


if ROOT:
    most = "#" * 32767 + "\n"
    eq(with_resolver(most), (0, most, ""), "32768 bytes of resolv.conf")
    rc, _, err = with_resolver(most + "\n")
    ok(rc == 69 and "is over 32768 bytes" in err, "one more is a limit", rc, err)
    eq(with_resolver("nameserver 192.0.2.9\n\0junk"), (0, "nameserver 192.0.2.9\n", ""), "up to a NUL byte")
    ok("is no file" in with_resolver(None)[2], "a device is no file")
else:
    skip("another resolv.conf needs root", 4)

# --- packages
MIRROR_TESTS = 23
tarball, why = debian.root()
AGAIN = ("hello", "adduser", "postgresql-client-common", "sudo", "openssh-client")
INSTALL = "apt-get update && apt-get install -y --no-install-recommends " + " ".join(AGAIN)


def image(state):
    """The Debian root as image deb in a state directory."""
    tool = b.path("libexec", "image")
    if not os.path.exists(tool):
        b.dir("libexec")
        shutil.copy(os.path.join(os.environ.get("CGIBOX_BUILD") or os.path.join(HERE, "../../../build"), "libexec/image"), tool)
        os.chmod(tool, 0o755)
    return subprocess.run(b.become + [b.program, "--state", state, "image", "import", "deb", tarball], capture_output=True, text=True)


def in_debian(script, *args, env=NET, upper=True):
    return run("--image", "deb", *HOST, *(("--upper", b.path("debian")) if upper else ()), "--timeout", "1000", *args, "--", "sh", "-ec",
               script, env=env, timeout=1100)


def packages():
    began = time.monotonic()
    rc, text, err = in_debian(INSTALL)
    if not ok(rc == 0, "apt-get update and install: files with set-gid bits, users, chown in scripts", rc, text[-700:], err):
        return
    print("# apt-get took %.1f s" % (time.monotonic() - began))
    ok("W:" not in err and "E:" not in err, "without a warning of apt's", err)
    eq(in_debian("dpkg --audit; dpkg-query -W -f '${db:Status-Status}\\n' %s | sort -u" % " ".join(AGAIN))[0:2], (0, "installed\n"),
       "dpkg --audit has nothing to say")
    eq(in_debian("hello")[1], "Hello, world!\n", "hello runs")
    ok("OpenSSH" in in_debian("ssh -V")[2], "ssh runs")
    eq(in_debian("ssh-keygen -q -t ed25519 -N '' -f /tmp/k && ls /tmp/k.pub")[1], "/tmp/k.pub\n", "ssh-keygen makes a key")
    eq(in_debian("sudo -n id -u; sudo -u nobody id -u")[1], "0\n0\n", "sudo runs; who asks it for another user stays 0")
    eq(in_debian("su nobody -s /bin/sh -c 'id -u'")[1], "0\n", "so does su")
    eq(in_debian("stat -c '%a %u:%g' /usr/bin/ssh-agent /etc/sudoers")[1], "2755 0:0\n440 0:0\n",
       "modes are what the packages say, owners are 0:0")
    eq(in_debian("useradd -m bob; id -u bob; stat -c %u:%g /home/bob; grep -c ^bob: /etc/passwd /etc/shadow")[0:2],
       (0, "1000\n0:0\n/etc/passwd:1\n/etc/shadow:1\n"), "useradd")
    eq(in_debian("adduser --disabled-password --gecos '' eve >/dev/null; groupadd g; usermod -aG g eve; id -Gn eve")[0:2],
       (0, "eve users g\n"), "adduser, groupadd, usermod")
    ok(in_debian("apt-get remove -y sudo >/dev/null; apt-get purge -y hello >/dev/null; dpkg --audit; dpkg -l hello")[0] != 0,
       "remove and purge")
    rc, text, err = in_debian("cd /tmp; apt-get download -q hello >/dev/null; dpkg -i hello_*.deb; hello")
    ok(rc == 0 and text.endswith("Hello, world!\n"), "apt-get download and dpkg -i", rc, text, err)
    eq(in_debian("getent hosts localhost | grep -c localhost; getent ahostsv4 sandbox | head -1")[0], 0, "names of this machine")


def control():
    off = ("--root-emulation", "off")
    rc, text, err = in_debian(INSTALL, *off, upper=False)
    ok(rc == 100 and "setgroups 65534 failed - setgroups (1: Operation not permitted)" in err, "control: without emulation apt ends at setgroups",
       rc, err)
    by_hand = "echo 'APT::Sandbox::User \"root\";' >%s/x; echo force-unsafe-io >%s/x; " % (APT, DPKG)
    rc, text, err = in_debian(by_hand + INSTALL, *off, upper=False)
    ok(rc == 100 and "chgrp: changing group of '/usr/bin/ssh-agent': Invalid argument" in text + err,
       "and with apt's own setting a package's script at chgrp", rc, text[-900:], err)
    rc, text, err = in_debian("rm -f /x; touch /x; chown 1:1 /x", *off, upper=False)
    ok(rc == 1 and "changing ownership of '/x': Invalid argument" in err, "as chown alone does", rc, err)


def service():
    """A session whose user is root."""
    state = b.dir("service")
    program = shutil.copy(os.path.join(os.environ.get("CGIBOX_BUILD") or os.path.join(HERE, "../../../build"), "cgibox.fcgi"),
                          b.path("cgibox.fcgi"))
    os.chmod(program, 0o755)
    p = image(state)
    conf = b.file("sandbox.conf", "run_uid = 0\nrun_gid = 0\nrun_home = /root\nnetwork = host\n")
    log = open(b.path("service.log"), "wb")
    server = subprocess.Popen(b.become + [program, "--conf", conf, "--state", state], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                              env={"PATH": "/usr/bin:/bin", "CGIBOX_API_KEY": "key"}, cwd="/")
    sock = state + "/cgibox.sock"
    try:
        for _ in range(2400):
            if os.path.exists(sock) and request(sock, "GET", "/-/health/")[0] == 200 or server.poll() is not None:
                break
            time.sleep(0.05)
        status, answer = request(sock, "POST", "/session/", {"base_image": "deb", "network_enabled": True})
        if not ok(status == 200, "a session with run_uid = 0", p.stderr, status, answer):
            return
        where = "/session/%s/" % answer["session_id"]
        status, answer = request(sock, "POST", where, {"commands": [
            "apt-get update && apt-get install -y --no-install-recommends hello openssh-client",
            "hello; id -u; chown -R 5:5 /repo; stat -c %u:%g /repo; dpkg --audit", "grep -c ^Cap.*:.0000000000000000$ /proc/self/status"]})
        r = [(x["exit_code"], x["output"]) for x in answer["results"]] if status == 200 else [(status, str(answer))] * 3
        ok(r[0][0] == 0, "apt-get in it", r[0][1][-900:])
        eq(r[1:], [(0, "Hello, world!\n0\n0:0\n"), (0, "5\n")], "what it installed runs; chown; no capability")
        status, answer = request(sock, "POST", where, {"commands": ["ssh -V; cat %s/%s" % (APT, NAME)]})
        ok(status == 200 and "OpenSSH" in answer["results"][0]["output"] and "Sandbox" in answer["results"][0]["output"],
           "the next request finds it", status, answer)
        eq(request(sock, "DELETE", where)[0], 204, "the session is deleted")
    finally:
        server.terminate()
        server.wait()


if not tarball:
    skip(why, MIRROR_TESTS)
elif ok((p := image(b.state)).returncode == 0, "a Debian root as an image", p.stderr):
    if in_debian("apt-get update", upper=False)[0] != 0:
        skip("this machine's mirror does not answer", MIRROR_TESTS - 1)
    else:
        packages()
        control()
        service()


# --- npm and pip of this machine
def npm():
    if not shutil.which("npm", path="/usr/bin"):
        return skip("there is no /usr/bin/npm", 3)
    ask = {k: subprocess.run(["npm", "config", "get", k], capture_output=True, text=True, cwd="/").stdout.strip()
           for k in ("registry", "cafile", "https-proxy", "proxy")}
    given = ["--%s=%s" % x for x in ask.items() if x[1] not in ("", "null", "undefined")]
    if subprocess.run(["npm", "view", "ms", "version"], capture_output=True, cwd="/").returncode:
        return skip("this machine's npm registry does not answer", 3)
    script = 'mkdir -p /tmp/p && cd /tmp/p && npm install "$@" ms >&2 && node -p "require(\'ms\')(\'2 days\')" && stat -c %u:%g node_modules/ms'
    rc, text, err = run(*HOST, "--env", "HOME=/tmp", "--timeout", "600", "--", "sh", "-c", script, "sh", *given, env=NET, timeout=700)
    eq((rc, text), (0, "172800000\n0:0\n"), "npm install as root")
    made = 'mkdir -p /tmp/q && cd /tmp/q && echo \'{"name":"q","version":"1.0.0","scripts":{"postinstall":"id -u >ran; chown 9:9 ran"}}\' >package.json'
    rc, text, err = run("--env", "HOME=/tmp", "--", "sh", "-c", made + " && npm install >&2 && cat ran")
    ok((rc, text) == (0, "0\n"), "with a script that changes an owner", rc, text, err)
    rc, text, err = run("--env", "HOME=/tmp", "--root-emulation", "off", "--", "sh", "-c", made + " && npm install >&2 && cat ran")
    ok(rc != 0 and "Invalid argument" in err, "control: without emulation the script fails", rc, err)


def pip():
    if subprocess.run(["/usr/bin/python3", "-c", "import setuptools, wheel, pip"], capture_output=True).returncode:
        return skip("/usr/bin/python3 has no pip, setuptools or wheel")
    build = ('mkdir -p /tmp/s/thing && cd /tmp/s && echo "x = 42" >thing/__init__.py && '
             'printf \'[build-system]\\nrequires=["setuptools"]\\nbuild-backend="setuptools.build_meta"\\n[project]\\nname="thing"\\n'
             'version="1"\\n\' >pyproject.toml && chown -R 77:77 . && '
             '/usr/bin/python3 -c \'import setuptools.build_meta as b; b.build_sdist("/tmp")\' >&2 && cd / && '
             'tar --same-owner -tf /tmp/thing-1.tar.gz >&2 && '
             '/usr/bin/python3 -m pip install -q --no-index --no-build-isolation --break-system-packages /tmp/thing-1.tar.gz >&2 && '
             '/usr/bin/python3 -c "import thing; print(thing.x)"')
    rc, text, err = run("--env", "HOME=/root", "--", "sh", "-c", build)
    ok((rc, text) == (0, "42\n"), "pip install of an sdist as root", rc, err)


npm()
pip()
b.done()
