#!/usr/bin/python3
"""network = pasta: what a sandbox reaches and what it does not, and that pasta ends with it. TAP.

Runs in network and mount namespaces of its own: "here" is the machine, with the public-looking
address 198.51.100.1; behind a veth pair lies the rest of the world, with a public server, private
networks, a metadata service and the resolver. CGIBOX, CGIBOX_BUILD: the programs. As root the
sandboxes are an ordinary user's; without root a user namespace has to do.
"""
import errno
import json
import os
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from tap import done, eq, ok, skip_all  # noqa: E402

BUILD = os.environ.get("CGIBOX_BUILD") or os.path.join(HERE, "../../build")
PROGRAM = os.environ.get("CGIBOX") or os.path.join(BUILD, "cgibox")
UID = 12345
MY_UID = os.environ.get("PASTA_TEST_ROOT")


# --- a machine and a world of our own ---

if not shutil.which("pasta"):
    skip_all("pasta is not installed (package passt)")
if not MY_UID:
    root = os.getuid() == 0
    if not root:
        try:
            os.close(os.open("/dev/net/tun", os.O_RDWR))
        except OSError as e:
            skip_all("/dev/net/tun: %s, and not root" % e.strerror)
    how = ["unshare", "-m", "-n"] if root else ["unshare", "-U", "-r", "-m", "-n"]
    if subprocess.run(how + ["true"], capture_output=True).returncode:
        skip_all("no namespaces of our own: %s" % " ".join(how))
    os.environ["PASTA_TEST_ROOT"] = "1" if root else "0"
    os.execvp(how[0], how + [sys.executable, os.path.abspath(__file__)])
ROOT = MY_UID == "1"


def sh(*args, **kw):
    p = subprocess.run(args, capture_output=True, text=True, **kw)
    if p.returncode:
        raise SystemExit("Bail out! %s: %s" % (" ".join(args), p.stderr.strip()))
    return p.stdout


top = tempfile.mkdtemp(prefix="cgibox-pasta.")
os.chmod(top, 0o755)
if ROOT:
    sh("mount", "-t", "tmpfs", "tmpfs", "/dev/net")
    if subprocess.run(["mknod", "-m", "666", "/dev/net/tun", "c", "10", "200"]).returncode:
        skip_all("no /dev/net/tun can be made")
try:
    os.close(os.open("/dev/net/tun", os.O_RDWR))
except OSError as e:
    skip_all("/dev/net/tun: " + e.strerror)
with open(os.path.join(top, "resolv.conf"), "w") as f:
    f.write("nameserver 10.1.2.3\n")
sh("mount", "--bind", os.path.join(top, "resolv.conf"), os.path.realpath("/etc/resolv.conf"))

world = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
world.stdout.readline()
FAR = ["nsenter", "-t", str(world.pid), "-n"]
if subprocess.run(["ip", "link", "add", "h0", "type", "veth", "peer", "name", "o0"],
                  capture_output=True).returncode:
    world.kill()
    skip_all("no veth pairs")
sh("ip", "link", "set", "o0", "netns", str(world.pid))
for args in ("link set lo up", "link set h0 up", "addr add 198.51.100.1/24 dev h0",
             "addr add 10.9.9.9/32 dev h0", "addr add 2001:db8::1/64 dev h0 nodad",
             "route add default via 198.51.100.2", "-6 route add default via 2001:db8::2"):
    sh("ip", *args.split())
PRIVATE = ["10.1.2.3", "172.16.5.5", "192.168.7.7", "100.64.1.1", "169.254.169.254", "192.0.0.8",
           "198.18.0.9"]
for args in ["link set lo up", "link set o0 up", "addr add 198.51.100.2/24 dev o0",
             "addr add 198.51.100.77/32 dev o0", "addr add 203.0.113.200/32 dev o0",
             "addr add 2001:db8::2/64 dev o0 nodad",
             "addr add fd00:1::1/64 dev o0 nodad"] + \
        ["addr add %s/32 dev o0" % a for a in PRIVATE]:
    sh(*FAR, "ip", *args.split())

SERVER = r'''
import socket, struct, sys, threading
log = open(sys.argv[1], "a", buffering=1)
def tcp():
    s = socket.socket(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", 8000)); s.listen(64); print("up", flush=True)
    def talk(c):
        d = c.recv(65536)
        while d:
            c.sendall(d); d = c.recv(65536)
        c.close()
    while True:
        c, peer = s.accept()
        log.write("tcp %s %s\n" % (c.getsockname()[0], peer[0]))
        threading.Thread(target=talk, args=(c,), daemon=True).start()
def udp(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, 8, 1) # IP_PKTINFO
    s.bind(("", port))
    if port == 5353:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                     socket.inet_aton("224.0.0.251") + socket.inet_aton(sys.argv[2]))
    print("up", flush=True)
    while True:
        d, anc, _, peer = s.recvmsg(2048, 256)
        to = [socket.inet_ntoa(x[8:12]) for l, t, x in anc if t == 8]
        reply = [(socket.IPPROTO_IP, 8, struct.pack("=i4s4s", 0, socket.inet_aton(to[0]), b"\0" * 4))] \
            if to and not to[0].startswith(("224.", "255.")) else []
        log.write("udp%d %s %s %r\n" % (port, to[0] if to else "?", peer[0], d[:20]))
        if port == 53 and len(d) > 12: # one A record: 198.51.100.77, or internal.test 10.1.2.3
            name = d[12:d.index(b"\0", 12)]
            kind = d[12 + len(name) + 1:12 + len(name) + 3]
            a = b"\x0a\x01\x02\x03" if b"internal" in name else b"\xc6\x33\x64\x4d"
            head = d[:2] + b"\x81\x80\0\1" + (b"\0\1" if kind == b"\0\1" else b"\0\0") + b"\0\0\0\0"
            q = d[12:12 + len(name) + 5]
            d = head + q + (b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + a if kind == b"\0\1" else b"")
            s.sendmsg([d], reply, 0, peer)
        else:
            s.sendmsg([d], reply, 0, peer)
for port in (53, 5353, 8001):
    threading.Thread(target=udp, args=(port,), daemon=True).start()
tcp()
'''
far_log = os.path.join(top, "far.log")
open(far_log, "w").close()
far = subprocess.Popen(FAR + [sys.executable, "-c", SERVER, far_log, "198.51.100.2"], stdout=subprocess.PIPE)
near_log = os.path.join(top, "near.log")
open(near_log, "w").close()
near = subprocess.Popen([sys.executable, "-c", SERVER, near_log, "198.51.100.1"], stdout=subprocess.PIPE)
for p in (far, near):
    for _ in range(4):
        p.stdout.readline()


def text(path):
    with open(path) as f:
        return f.read()


def wait_for(test, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if test():
            return True
        time.sleep(0.02)
    return bool(test())


def pids(name):
    """Processes in our network namespace, or with it as ancestor, by the first word's base name."""
    found = []
    for d in os.listdir("/proc"):
        try:
            if d.isdigit():
                with open("/proc/%s/stat" % d) as f:
                    comm, rest = f.read().split("(", 1)[1].rsplit(")", 1)
                # zombies hold nothing
                if comm.startswith(name) and rest.split()[0] != "Z" and \
                        os.readlink("/proc/%s/ns/net" % d) == os.readlink("/proc/self/ns/net"):
                    found.append(int(d))
        except OSError:
            pass
    return found


def pasta():
    return pids("pas")  # pasta, passt.avx2, pasta-guard


# --- cgibox run ---

program = shutil.copy(PROGRAM, os.path.join(top, "cgibox"))
os.chmod(program, 0o755)
state = os.path.join(top, "state")
os.mkdir(state, 0o755)
become = []
if ROOT:
    os.chown(state, UID, UID)
    become = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
ENV = {"PATH": "/usr/bin:/bin", "CGIBOX_NETWORK": "pasta"}


def command(*args, net="pasta"):
    return become + [program, "--state", state, "run", "--network", net, *args]


def run(*args, net="pasta", env=None, timeout=400, before=()):
    p = subprocess.run([*before, *command(*args, net=net)], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, timeout=timeout, env=dict(ENV, **(env or {})))
    return p.returncode, p.stdout, p.stderr


PROBES = r'''
import errno, json, os, socket, struct, sys
socket.setdefaulttimeout(30)
def name(e):
    return "timeout" if isinstance(e, socket.timeout) else errno.errorcode.get(e.errno, str(e))
def tcp(addr, port=8000, device=None, family=socket.AF_INET, dontroute=False):
    s = socket.socket(family)
    try:
        if device:
            s.setsockopt(socket.SOL_SOCKET, 25, device)
        if dontroute:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
        s.connect((addr, port)); s.sendall(b"ping")
        return s.recv(9).decode()
    except OSError as e:
        return name(e)
    finally:
        s.close()
def udp(addr, port=8001, device=None, pktinfo=None, source=0, wait=2, data=b"ping"):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(wait)
    try:
        if device:
            s.setsockopt(socket.SOL_SOCKET, 25, device)
        if source:
            s.bind(("", source))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        anc = [(socket.IPPROTO_IP, 8, struct.pack("=i4s4s", pktinfo, b"\0" * 4, b"\0" * 4))] if pktinfo else []
        if not anc and not device:
            s.connect((addr, port)); s.send(data)
        else:
            s.sendmsg([data], anc, 0, (addr, port))
        return s.recv(600).hex() if data != b"ping" else s.recv(9).decode()
    except OSError as e:
        return name(e)
    finally:
        s.close()
def lookup(host):
    try:
        return socket.gethostbyname(host)
    except OSError as e:
        return str(e)
'''


def inside(expression, net="pasta", env=None):
    """Evaluates Python inside and returns the value."""
    rc, out, err = run("--", "/usr/bin/python3", "-c",
                       PROBES + "\nprint(json.dumps(%s))" % expression, net=net, env=env)
    if rc != 0:
        print("#", rc, err[-600:], flush=True)
    return json.loads(out or "null")


def here_reaches(addr, port=8000):
    s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
    s.settimeout(30)
    try:
        s.connect((addr, port))
        s.sendall(b"ping")
        return s.recv(9) == b"ping"
    except OSError as e:
        return e
    finally:
        s.close()


for a in ["198.51.100.2", "127.0.0.1", "198.51.100.1", "10.9.9.9", "2001:db8::2", "203.0.113.200"] + \
        PRIVATE:
    eq(here_reaches(a), True, "control: the machine itself reaches a server on %s" % a)

eq(inside('tcp("198.51.100.2")'), "ping", "a public server is reached over TCP")
ok("tcp ::ffff:198.51.100.2 ::ffff:198.51.100.1" in text(far_log), "it sees the machine's address")
eq(inside('lookup("outside.test")'), "198.51.100.77",
   "names are resolved, by the machine's own resolver in a private network")
eq(inside('[lookup("outside.test"), tcp(lookup("outside.test"))]'), ["198.51.100.77", "ping"],
   "and reached by name")
eq(inside('[lookup("internal.test"), tcp("10.1.2.3"), udp("10.1.2.3", 53)]'),
   ["10.1.2.3", "EHOSTUNREACH", "EHOSTUNREACH"],
   "internal names can be resolved (as the documentation says), what they name is not reached")

before = text(far_log)
for a in PRIVATE:
    eq(inside('[tcp("%s"), udp("%s")]' % (a, a)), ["EHOSTUNREACH", "EHOSTUNREACH"],
       "%s: EHOSTUNREACH at once, TCP and UDP" % a)
eq(inside('tcp("198.51.100.1")'), "EHOSTUNREACH", "the machine's own public address: EHOSTUNREACH")
eq(inside('tcp("10.9.9.9")'), "EHOSTUNREACH", "its second address too")
eq(inside('tcp("127.0.0.1")'), "ECONNREFUSED", "loopback is the sandbox's own: the listener there is not ours")
eq(inside('[tcp("203.0.113.1"), tcp("203.0.113.53", 53), tcp("203.0.113.254"), tcp("203.0.113.200")]')[1:],
   ["ENETUNREACH", "EHOSTUNREACH", "EHOSTUNREACH"],
   "nothing of the sandbox's own network leads to the machine or further")
eq(inside('tcp("203.0.113.1")'), "ECONNREFUSED", "its router has no service")
eq(inside('[tcp("255.255.255.255"), udp("224.0.0.251", 5353, wait=1), udp("203.0.113.3", wait=1)][1:2]'),
   ["EHOSTUNREACH"], "multicast is blocked")
# A process may name the interface and so get past the routes of its own namespace.
ways = inside('[tcp("10.1.2.3", device=b"eth0"), tcp("169.254.169.254", device=b"eth0"),'
              'udp("10.1.2.3", device=b"eth0"), udp("10.1.2.3", pktinfo=1000),'
              'udp("169.254.169.254", pktinfo=1000), udp("224.0.0.251", 5353, device=b"eth0"),'
              'udp("255.255.255.255", device=b"eth0"), tcp("198.51.100.1", device=b"eth0"),'
              'tcp("10.1.2.3", dontroute=True)]')
ok(ways and "ping" not in ways, "nothing private is reached by way of SO_BINDTODEVICE, IP_PKTINFO or "
   "SO_DONTROUTE", ways)
eq(inside('tcp("198.51.100.2", device=b"eth0")'), "ping", "control: a public server is, with SO_BINDTODEVICE")
eq(inside('udp("198.51.100.2")'), "timeout", "UDP but to the resolver is dropped, to public addresses too")
Q = r'b"\x12\x34\1\0\0\1\0\0\0\0\0\0\7outside\4test\0\0\1\0\1"'
ok(inside('udp("203.0.113.53", 53, data=%s, source=40000, wait=30)' % Q).startswith("1234"),
   "control: the resolver answers a query from port 40000")
ok(not inside('udp("203.0.113.53", 53, data=%s, source=5353)' % Q).startswith("1234"),
   "none from port 5353, which is a service's of the machine")
after = text(far_log)[len(before):].splitlines()
bad = [l for l in after if l.split()[1].replace("::ffff:", "") in
       [a for a in PRIVATE if a != "10.1.2.3"] + ["224.0.0.251", "255.255.255.255"] or
       (l.split()[1].endswith("10.1.2.3") and not l.startswith("udp53"))]
eq(bad, [], "nobody out there has seen a packet for a blocked address")
eq([l for l in text(near_log).splitlines() if not l.endswith(("127.0.0.1", "198.51.100.1", "10.9.9.9"))], [],
   "the machine's listeners have seen nobody but the machine")
eq(text(near_log).count("tcp"), 3, "and that three times, for the controls")
eq(inside('[tcp("2001:db8::2", family=socket.AF_INET6), tcp("fd00:1::1", family=socket.AF_INET6),'
          'tcp("2001:db8::1", family=socket.AF_INET6)]'), ["ENETUNREACH"] * 3,
   "IPv6: ENETUNREACH, whatever the address")
eq(inside('[tcp("198.51.100.2"), tcp("198.51.100.77")]', env={"CGIBOX_NETWORK_BLOCKED": "198.51.100.64/26"}),
   ["ping", "EHOSTUNREACH"], "network_blocked is blocked, its neighbours are not")
eq(inside('lookup("outside.test")[:3]', env={"CGIBOX_NETWORK_BLOCKED": "203.0.113.0/24"}), "198",
   "the sandbox's own network cannot be cut by mistake")
eq(inside('tcp("198.51.100.2")', net="none"), "ENETUNREACH", "control: without a network, ENETUNREACH")
rc, out, err = run("--", "true", env={"CGIBOX_NETWORK_BLOCKED": "10.0.0.1/8"})
ok(rc == 78 and "bits beyond its prefix" in err, "a bad network_blocked is an error of the configuration", rc, err)

# --- rights inside ---

posture = inside('[open("/etc/resolv.conf").read(), os.access("/etc/resolv.conf", os.W_OK),'
                 '[l.split()[1] for l in open("/proc/self/status") if l.startswith("Cap")],'
                 'len(os.listdir("/proc/self/fd")), [p for p in os.listdir("/proc") if p.isdigit() and '
                 '"past" in open("/proc/%s/comm" % p).read()]]')
eq(posture, ["nameserver 203.0.113.53\noptions edns0\n", False, ["0" * 16] * 5, 4, []],
   "the resolver's file is ours and read-only, no capability, no descriptor, pasta is not seen")
eq(inside('(lambda s: [s.send(struct.pack("=IHHIIBBBBBBBBIHH4s", 36, 25, 5, 1, 0, 2, 8, 0, 0, 254, 0, 0, 0, 0, 8, 1, '
          'bytes([10, 0, 0, 0]))), errno.errorcode[-struct.unpack_from("=i", s.recv(999), 16)[0]]])'
          '(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))'), [36, "EPERM"],
   "the routes cannot be removed: EPERM")

# --- ports from outside ---

p = subprocess.Popen(command("--", "/usr/bin/python3", "-c", "import socket; s = socket.socket(); "
                             "s.bind(('', 8123)); s.listen(1); u = socket.socket(socket.AF_INET, "
                             "socket.SOCK_DGRAM); u.bind(('', 40001)); print('up', flush=True); "
                             "u.connect(('203.0.113.53', 53)); u.send(b'\\0' * 20); u.recv(99); "
                             "u.close(); u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                             "u.bind(('', 40001)); print('up', flush=True); u.settimeout(1.5)\n"
                             "try: print(u.recv(99))\nexcept OSError as e: print(type(e).__name__)"),
                     stdout=subprocess.PIPE, env=ENV, text=True)
p.stdout.readline()
eq(getattr(here_reaches("127.0.0.1", 8123), "errno", None), errno.ECONNREFUSED,
   "a port that listens inside does not listen on the machine")
p.stdout.readline()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(5):
    u.sendto(b"hello", ("198.51.100.1", 40001))
eq(p.communicate()[0].strip(), "TimeoutError", "UDP from elsewhere to the port of a query does not come in")

# --- life and death ---

ok(wait_for(lambda: not pasta()), "no pasta is left of all these", pasta())
SLEEP = ("--", "sh", "-c", "echo up; exec sleep 1000")


def start(*args):
    q = subprocess.Popen(command(*args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV, text=True)
    q.stdout.readline()
    return q


p = start(*SLEEP)
eq(len(pasta()), 2, "control: a sandbox that runs has one pasta and its guard")
p.kill()
p.wait()
ok(wait_for(lambda: not pasta()), "kill -9 of cgibox run: pasta is gone")
p = start("--timeout", "1", *SLEEP)
eq(p.wait(), 124, "a timeout")
eq(pasta(), [], "pasta is gone when cgibox is")
p = start(*SLEEP)
for g in pids("pasta-guard"):
    os.kill(g, signal.SIGKILL)
ok(wait_for(lambda: not pasta()), "kill -9 of the guard: pasta is gone")
eq(p.poll(), None, "the sandbox is not")
p.kill()
p.wait()
p = subprocess.Popen(command("--", "/usr/bin/python3", "-c", PROBES + "\nprint(tcp('198.51.100.2'), flush=True);"
                             "sys.stdin.readline(); print(tcp('198.51.100.2'), flush=True)"),
                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV, text=True)
eq(p.stdout.readline(), "ping\n", "control: the network works")
for g in [x for x in pasta() if x not in pids("pasta-guard")]:
    os.kill(g, signal.SIGKILL)
ok(wait_for(lambda: not pasta()), "kill -9 of pasta: the guard ends")
out = p.communicate("\n")[0].strip()
ok(p.returncode == 0 and out in ("ENETUNREACH", "EHOSTUNREACH", "ENETDOWN", "timeout"),
   "the sandbox lives on, without a network", p.returncode, out)

# --- what may be missing ---

rc, out, err = run("--", "true", env={"CGIBOX_PASTA_PROGRAM": "/nonexistent/pasta"})
ok(rc != 0 and "pasta_program" in err, "no such pasta_program: a clear error", rc, err)
for name, body, want in (("silent", "exec sleep 1000", "did not start to serve within 10000 ms"),
                         ("broken", "echo broken on purpose >&2; exit 3",
                          "ended with status 3: broken on purpose"),
                         ("killed", "kill -9 $$", "killed by signal 9")):
    path = os.path.join(top, name)
    with open(path, "w") as f:
        f.write("#!/bin/sh\n%s\n" % body)
    os.chmod(path, 0o755)
    began = time.monotonic()
    rc, out, err = run("--", "true", env={"CGIBOX_PASTA_PROGRAM": path})
    ok(rc == 71 and want in err and time.monotonic() - began < 100, "a pasta that is %s: a clear error" % name,
       rc, err, time.monotonic() - began)
ok(wait_for(lambda: not pids("silent") and not pasta()), "none of them is left")
hide = ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /dev/net && exec \"$@\"", "sh"]
rc, out, err = run("--", "true", before=hide)
ok(rc != 0 and "needs /dev/net/tun (modprobe tun)" in err, "no /dev/net/tun: a clear error", rc, err)
bare = os.path.join(top, "bare")
os.mkdir(bare)
for tool in ("true", "sh"):
    os.symlink("/usr/bin/" + tool, os.path.join(bare, tool))
p = subprocess.run(become + ["/usr/bin/env", "PATH=" + bare, program, "--state", state, "run", "--network", "pasta",
                             "--", "true"], capture_output=True, text=True, env=ENV)
ok(p.returncode != 0 and "install the package passt" in p.stderr, "no pasta along PATH: a clear error", p.stderr)
rc, out, err = run("--", "true", env={"CGIBOX_NETWORK": "host"})
ok(rc == 64 or rc == 78, "network = host does not allow --network pasta", rc, err)

# --- the service ---

service = shutil.copy(os.path.join(BUILD, "cgibox.fcgi"), os.path.join(top, "cgibox.fcgi"))
os.chmod(service, 0o755)
srv_state = os.path.join(top, "service")
os.mkdir(srv_state, 0o755)
if ROOT:
    os.chown(srv_state, UID, UID)
srv_log = open(os.path.join(top, "service.log"), "ab")


def serve(**env):
    q = subprocess.Popen([*become, service, "--state", srv_state], stdin=subprocess.DEVNULL, stdout=srv_log,
                         stderr=srv_log, cwd="/", env=dict(ENV, CGIBOX_API_KEY="key", **env))
    wait_for(lambda: os.path.exists(srv_state + "/cgibox.sock") and q.poll() is None and
             request("GET", "/-/health/")[0] == 200, 120)
    return q


def send(method, path, data=None):
    """Sends one FastCGI request; returns the socket."""
    def part(kind, d):
        return struct.pack(">BBHHBB", 1, kind, 1, len(d), 0, 0) + d

    def pair(k, v):
        return bytes([len(k), len(v)]) + k.encode() + v.encode()
    body = b"" if data is None else json.dumps(data).encode()
    params = {"REQUEST_METHOD": method, "REQUEST_URI": path, "SERVER_PROTOCOL": "HTTP/1.1",
              "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json", "HTTP_X_API_KEY": "key",
              "REMOTE_ADDR": "127.0.0.1"}
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(300)
    s.connect(srv_state + "/cgibox.sock")
    s.sendall(part(1, struct.pack(">HB5x", 1, 0)) + part(4, b"".join(pair(*x) for x in params.items())) +
              part(4, b"") + (part(5, body) if body else b"") + part(5, b""))
    return s


def receive(s):
    raw, out = b"", b""
    while True:
        d = s.recv(65536)
        if not d:
            break
        raw += d
    while len(raw) >= 8:
        _, kind, _, n, pad, _ = struct.unpack(">BBHHBB", raw[:8])
        out += raw[8:8 + n] if kind == 6 else b""
        raw = raw[8 + n + pad:]
    head, _, body = out.partition(b"\r\n\r\n")
    status = int(head[8:11]) if head.startswith(b"Status: ") else 200 if head else None
    try:
        return status, json.loads(body)
    except ValueError:
        return status, body


def request(method, path, data=None):
    try:
        return receive(send(method, path, data))
    except OSError as e:
        return None, e


def session(**more):
    status, answer = request("POST", "/session/", dict({"base_image": "host", "network_enabled": True}, **more))
    return answer["session_id"] if status == 200 else (status, answer)


def code(expression):
    return "/usr/bin/python3 -c %s" % shlex.quote(PROBES + "\nprint(%s)" % expression)


def output(sid, expression):
    status, answer = request("POST", "/session/%s/" % sid, {"commands": [code(expression)]})
    return answer["results"][0]["output"].strip() if status == 200 else (status, answer)


srv = serve()
sid = session()
eq(output(sid, '[tcp("198.51.100.2"), tcp("10.1.2.3"), tcp("169.254.169.254"), lookup("outside.test")]'),
   "['ping', 'EHOSTUNREACH', 'EHOSTUNREACH', '198.51.100.77']", "a session with network_enabled")
eq(output(session(network_enabled=False), 'tcp("198.51.100.2")'), "ENETUNREACH", "control: one without")
ok(wait_for(lambda: not pasta()), "pasta ends with the request", pasta())
status, answer = request("POST", "/session/%s/" % sid, {"commands": [
    "rm -f /etc/resolv.conf; mount 2>&1 | grep -c resolv; ln -s ../run/nowhere/resolv.conf /tmp/x; readlink /tmp/x"]})
eq(status, 200, "a command that would replace the resolver's file")
upper = os.path.join(srv_state, "sessions", sid, "root", "upper", "etc")
os.makedirs(upper, exist_ok=True)
if ROOT:
    os.chown(upper, UID, UID)
for target in ("../run/systemd/resolve/stub-resolv.conf", "/etc/hosts", "resolv.conf"):
    link = os.path.join(upper, "resolv.conf")
    if os.path.lexists(link):
        os.unlink(link)
    os.symlink(target, link)
    eq(output(sid, '[open("/etc/resolv.conf").read()[:23], lookup("outside.test"), "203" in open("/etc/hosts").read()]'),
       "['nameserver 203.0.113.53', '198.51.100.77', False]", "/etc/resolv.conf is a link to %s" % target)
    eq(os.readlink(link), target, "and stays it")
os.unlink(link)
s = send("POST", "/session/%s/" % sid, {"commands": ["sleep 1000"], "timeout": 8})
ok(wait_for(lambda: len(pasta()) == 2), "control: pasta runs while a command does", pasta())
eq(receive(s)[1]["results"][0]["exit_code"], 124, "the command's time is over")
ok(wait_for(lambda: not pasta()), "pasta has gone with it", pasta())
repo = os.path.join(srv_state, "sessions", sid, "ws", "tree")
s = send("POST", "/session/%s/" % sid, {"commands": ["echo >up; until [ -e go ]; do sleep 0.1; done; " + code('tcp("198.51.100.2")'), "echo second"]})
ok(wait_for(lambda: os.path.exists(repo + "/up")), "control: the command runs")
for x in pasta():
    if x not in pids("pasta-guard"):
        os.kill(x, signal.SIGKILL)
ok(wait_for(lambda: not pasta()), "kill -9 of pasta in the middle", pasta())
eq(request("GET", "/-/health/")[0], 200, "the service answers")
open(repo + "/go", "w").close()
status, answer = receive(s)
ok(status == 200 and answer["results"][0]["output"].strip() != "ping" and
   answer["results"][1]["output"] == "second\n", "the session's commands go on without a network", status, answer)
eq(output(sid, 'tcp("198.51.100.2")'), "ping", "the next request has one again")
eq(request("DELETE", "/session/%s/" % sid)[0], 204, "the session is deleted")
ok(wait_for(lambda: not pasta()), "no pasta is left", pasta())
sid = session()
s = send("POST", "/session/%s/" % sid, {"commands": ["sleep 1000"]})
ok(wait_for(lambda: len(pasta()) == 2), "control: one runs")
for x in pids("cgibox-keeper"):
    os.kill(x, signal.SIGKILL)
ok(wait_for(lambda: not pasta()), "kill -9 of the keeper: pasta is gone", pasta())
s.close()
ok(wait_for(lambda: output(sid, 'tcp("198.51.100.2")') == "ping", 120), "the next keeper gives the session a network")
# An emulated machine starts no eight of them within the ten seconds that each has.
with open("/proc/cpuinfo") as f:
    together = 3 if "QEMU TCG" in f.read() else 8
sids = [session() for _ in range(together)]
many = [send("POST", "/session/%s/" % x, {"commands": [code('[tcp("198.51.100.2"), tcp("10.1.2.3")]')]}) for x in sids]
many = [receive(x) for x in many]
ok(all(x[0] == 200 and x[1]["results"][0]["output"].strip() == "['ping', 'EHOSTUNREACH']" for x in many),
   "%d at once" % together, many)
ok(wait_for(lambda: not pasta()), "none is left", pasta())
srv.terminate()
srv.wait()

silent = os.path.join(top, "silent")
srv = serve(CGIBOX_PASTA_PROGRAM=silent)
sid = session()
for _ in range(4):  # 10 s may pass here, too
    s = send("POST", "/session/%s/" % sid, {"commands": ["true"]})
    time.sleep(0.5)
    served = output(session(network_enabled=False), "1")
    meanwhile = not select.select([s], [], [], 0)[0]
    status, answer = receive(s)
    if meanwhile:
        break
eq(served, "1", "while a pasta does not start, others are served")
ok(meanwhile, "at once")
ok(status in (500, 503), "then that request fails", status, answer)
srv.terminate()
srv.wait()
srv_log.flush()
ok("did not start to serve within 10000 ms" in text(os.path.join(top, "service.log")), "and the log says why",
   text(os.path.join(top, "service.log"))[-800:])
srv = serve(CGIBOX_PASTA_PROGRAM="/nonexistent/pasta")
got = session()
ok(got[0] == 422 and "network_enabled" in json.dumps(got[1]) and "pasta_program" in json.dumps(got[1]),
   "no pasta: network_enabled is a 422 that says so", got)
srv.kill()
srv.wait()

world.kill()
far.kill()
near.kill()
shutil.rmtree(top, ignore_errors=True)
done()
