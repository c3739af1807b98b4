#!/usr/bin/python3
"""The engine broker against a real dockerd, and engines that misbehave. Root, for dockerd; the broker is an ordinary user's. TAP."""
import io, json, os, re, shutil, signal, socket, subprocess, sys, tarfile, tempfile, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import engine as E
from tap import done, eq, ok, skip_all  # noqa: E402

if os.getuid() != 0:
    skip_all("only root starts a dockerd")
for tool in "dockerd", "docker-registry", "htpasswd", "busybox", "openssl":
    if not shutil.which(tool):
        skip_all(tool + " is not installed (scripts/deps engine)")

top = tempfile.mkdtemp(prefix="cgi-eng.", dir="/var/tmp")
os.chmod(top, 0o755)


def refused(a, kind, words, what):
    ok(a["kind"] == kind and re.search(words, a.get("msg", "")), what, a)


def rootfs():
    """busybox and its names."""
    path = top + "/bb.tar"
    with tarfile.open(path, "w") as t:
        t.add(os.path.realpath(shutil.which("busybox")), "bin/busybox")
        for name in subprocess.run(["busybox", "--list"], capture_output=True, text=True).stdout.split():
            if name != "busybox":
                i = tarfile.TarInfo("bin/" + name)
                i.type, i.linkname = tarfile.SYMTYPE, "busybox"
                t.addfile(i)
        for d in "etc", "tmp", "proc", "sys", "dev":
            i = tarfile.TarInfo(d)
            i.type, i.mode = tarfile.DIRTYPE, 0o755
            t.addfile(i)
    return path


def broker(name, engine=None, **conf):
    d = "%s/%s" % (top, name)
    os.makedirs(d, exist_ok=True)
    return E.Broker(d, engine or "unix://" + docker.socket, **conf)


LOOK = """exec >/.cgibox/run/out 2>&1
id -u; id -g
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
echo args $0 $1
echo x >/.cgibox/init && echo init-written
echo x >/.cgibox/run/mine && echo run-written
echo x >/root-file && echo root-written
ls /sys/class/net | tr '\\n' ' '; echo
ls /var/run/docker.sock /run/docker.sock
grep -c docker.sock /proc/mounts
unshare -U true
ulimit -n
grep ' /tmp ' /proc/mounts
grep ' /dev/shm ' /proc/mounts
printf '#!/bin/sh\\necho tmp-executes\\n' >/tmp/x; chmod 755 /tmp/x; /tmp/x
exit 7
"""


def lines_of(text):
    return dict(x.split(":\t", 1) for x in text.splitlines() if ":\t" in x)


def containers(b):
    a = b.do("info")
    ok(a["kind"] == 0 and a["api"] == "1.41" and a["runtime"] == "runc" and "seccomp" in a["security"], "info", a)
    a = b.do("image-import image=test-bb:1 fd=" + rootfs())
    ok(a["kind"] == 0 and re.fullmatch("sha256:[0-9a-f]{64}", a["image"]), "an image is imported", a)
    image = a["image"]
    eq(b.do("image-resolve image=test-bb:1")["image"], image, "and found by its name")
    rows = json.loads(b.do("image-list")["text"])
    eq([(r["reference"], "sha256:" + r["id"]) for r in rows], [("test-bb:1", image)], "and listed")
    doc = json.loads(b.do("image-inspect image=" + image)["text"])
    ok(doc["names"] == ["test-bb:1"] and len(doc["lowers"]) == 1 and doc["workdir"] == "/", "and described", doc)
    refused(b.do("image-resolve image=test-none:1"), E.NOTFOUND, "(?i)no such image", "one that is not there is not found")
    refused(b.do("make %s image=test-none:1" % b.box("b0", "exit 0")), E.NOTFOUND, "(?i)no such image", "nor a container made of it")

    a = b.do("make %s image=%s memory=67108864 cpu=50 pids=20 shm=1048576 files=100 tmpfs=/tmp:1048576:1777" % (b.box("b1", LOOK), image))
    ok(a["kind"] == 0 and len(a["container"]) == 64, "a container is made", a, b.log())
    end = b.wait("ENDED", box="b1")
    ok(end.get("exit") == 7 and end.get("oom") == 0 and end["container"] == a["container"], "and its end is told", end)
    out = b.out("b1")
    f = lines_of(out)
    eq(out.splitlines()[:2], [str(E.UID)] * 2, "it runs as the service's user")
    eq([f.get(k) for k in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")], ["0" * 16] * 2 + ["1", "2"], "without capabilities, locked")
    ok("args /.cgibox/init container" in out, "its entrypoint is ours", out)
    ok("init-written" not in out and "run-written" in out, "which is read-only, and its directory is not", out)
    ok("root-written" not in out, "the user cannot write into root's root", out)
    ok("\nlo \n" in out, "no network", out)
    ok(out.count("docker.sock: No such file") == 2 and "\n0\n" in out, "no Engine's socket inside", out)
    ok("unshare(0x10000000): Operation not permitted" in out, "no user namespace", out)
    ok("\n100\n" in out, "descriptors are limited", out)
    ok("size=1024k" in out.split(" /tmp ")[1].split("\n")[0] and "tmp-executes" in out, "/tmp is a tmpfs of that size", out)
    ok("size=1024k" in out.split(" /dev/shm ")[1].split("\n")[0], "so is /dev/shm", out)

    h = docker.ask("GET", "/containers/cgibox-b1/json")[1]
    host = h["HostConfig"]
    ok(not host["Privileged"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Devices"] and not host["Binds"] and
       host["NetworkMode"] == "none" and host["IpcMode"] == "private" and host["PidMode"] == "" and host["LogConfig"]["Type"] == "none" and
       host["Memory"] == host["MemorySwap"] == 67108864 and host["NanoCpus"] == 500000000 and host["PidsLimit"] == 20 and
       host["CgroupnsMode"] == "private" and host["SecurityOpt"][0] == "no-new-privileges" and host["SecurityOpt"][1].startswith('seccomp={"'),
       "what the Engine was told grants nothing", host)
    ok(all(m["Propagation"] == "rprivate" for m in h["Mounts"] if m["Type"] == "bind"), "binds do not propagate", h["Mounts"])
    eq(h["Config"]["Labels"], {"cgibox.state": b.state, "cgibox.box": "b1"}, "labels")

    eq(b.do("start box=b1")["kind"], 0, "one that has ended is started again")
    eq(b.wait("ENDED", box="b1").get("exit"), 7, "and ends again")
    eq(b.do("remove box=b1")["kind"], 0, "removed")
    eq([n for n in docker.ours() if "b1" in n], [], "it is gone")
    eq(b.do("remove box=b1")["kind"], 0, "removed again: nothing to do")
    refused(b.do("start box=b1"), E.NOTFOUND, "(?i)no such container", "but not started")
    return image


def life(b, image):
    a = b.do("make create_only=1 %s image=%s" % (b.box("c1", "sleep 100"), image))
    eq(docker.ask("GET", "/containers/cgibox-c1/json")[1]["State"]["Status"], "created", "created only")
    eq(b.do("start box=c1")["container"], a["container"], "started later")
    a = b.do("stats box=c1")
    ok(a["kind"] == 0 and a["memory"] > 0 and a["processes"] >= 1, "measured", a)
    eq(b.do("kill box=c1")["kind"], 0, "killed")
    eq(b.wait("ENDED", box="c1").get("exit"), 137, "by SIGKILL")
    eq(b.do("kill box=c1")["kind"], 0, "killed again: nothing to do")
    b.do("make memory=33554432 %s image=%s" % (b.box("c2", "dd if=/dev/zero of=/dev/null bs=200M count=1; exit 5"), image))
    eq(b.wait("OOM", box="c2")["op"], "OOM", "memory: told that it was that")
    b.do("make memory=33554432 %s image=%s" % (b.box("c3", "dd if=/dev/zero of=/dev/null bs=2M count=1; exit 5"), image))
    end = b.wait("ENDED", box="c3")
    eq((end.get("exit"), end.get("oom")), (5, 0), "control: less memory")
    b.do("make pids=5 %s image=%s" % (b.box("c4", "for i in 1 2 3 4 5 6 7 8; do sleep 3 & done; exit 5"), image))
    b.do("make pids=20 %s image=%s" % (b.box("c5", "for i in 1 2 3 4 5 6 7 8; do sleep 3 & done; exit 5"), image))
    ends = {}
    for _ in range(2):
        end = b.wait("ENDED", seconds=120)
        ends[end.get("box")] = end.get("exit")
    ok(ends.get("c4") not in (5, None) and ends.get("c5") == 5, "processes are limited, fewer are not", ends)
    # many at once
    numbers = [b.ask("make %s image=%s" % (b.box("m%d" % i, "exit %d" % i), image)) for i in range(12)]
    eq([b.answer(n)["kind"] for n in numbers], [0] * 12, "a dozen at the same time")
    codes = {}
    while len(codes) < 12:
        end = b.wait("ENDED", seconds=120)
        if end["op"] == "NOTHING":
            break
        codes[end["box"]] = end["exit"]
    eq(codes, {"m%d" % i: i for i in range(12)}, "and the end of each is told")


def hostile(b, image):
    box = b.box("h1", "exit 0")
    os.makedirs(b.state + "/sessions/a")
    os.symlink("/etc", b.state + "/sessions/link")
    for what, words in (("bind=../../etc:/x", "source"), ("bind=sessions/../../etc:/x", "source"), ("bind=/etc:/x", "source"),
                        ("bind=images:/x", "source"), ("bind=sessions/a:/proc", "target"), ("bind=sessions/a:/sys/x", "target"),
                        ("bind=sessions/a:/.cgibox/init", "target"), ("bind=sessions/a:/", "target"), ("bind=sessions/a:x", "target"),
                        ("bind=sessions/a:/a/../proc", "target"), ("tmpfs=/t:0", "tmpfs"), ("nmounts=25", "mounts"), ("flags=8", "flag"), ("flags=5", "flag"),
                        ("session=x/y", "session"), ("pids=4194305", "limit"), ("cpu=102401", "limit")):
        refused(b.do("make %s image=%s %s" % (box, image, what)), E.BUG, words, "refused: " + what)
    refused(b.do("make %s image=%s bind=sessions/link:/x" % (box, image)), E.BUG, "sessions/link", "a symbolic link as a source")
    refused(b.do("make %s image=%s bind=sessions/link/passwd:/x" % (box, image)), E.BUG, "sessions/link", "one on the way")
    refused(b.do("make %s image=%s bind=sessions/none:/x" % (box, image)), E.BUG, "sessions/none", "a source that is not there")
    for bad in "../../containers/x", 'x","HostConfig":{"Privileged":true}', "x?y=1", "Upper", "a@sha256:12", "a" * 256, "":
        refused(b.do("make %s image=%s" % (box, bad)), E.REQUEST, "image reference", "no image: %.40s" % bad)
    refused(b.do("make box=A/b image=" + image), E.BUG, "box", "no box: A/b")
    refused(b.do("make network=1 %s image=%s" % (box, image)), E.CONF, "engine_network", "no network unless sandbox.conf names one")
    eq([n for n in docker.ours() if "h1" in n], [], "nothing was made")
    a = b.do("make %s image=%s bind=sessions/a:/srv/x pids=4194304" % (box, image))
    eq(a["kind"], 0, "control: a good one is made")


def sweep(b, image):
    other = broker("other")
    eq(other.do("make %s image=%s" % (other.box("o1", "sleep 100"), image))["kind"], 0, "a container of another service")
    for n in "s1", "s2", "s3":
        b.do("make %s image=%s" % (b.box(n, "sleep 100"), image))
    with open(top + "/keep", "w") as f:
        f.write("s2\nnone\n")
    os.chmod(top + "/keep", 0o644)
    before = len([n for n in docker.ours() if "-o1" not in n])
    a = b.do("sweep fd=%s/keep" % top)
    eq((a["kind"], a["count"]), (0, before - 1), "what nobody knows is swept")
    eq(docker.ours(), ["cgibox-o1", "cgibox-s2"], "not what is kept, nor another service's")
    refused(b.do("sweep"), E.BUG, "list", "without a list nothing is")
    eq(docker.ours(), ["cgibox-o1", "cgibox-s2"], "removed")
    other.do("remove box=o1")
    b.do("remove box=s2")
    other.close()


def pulls(b, image):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    subprocess.run(["htpasswd", "-Bbc", top + "/htpasswd", "me", "secret"], check=True, capture_output=True)
    with open(top + "/r.yml", "w") as f:
        f.write("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/reg}}\nhttp: {addr: '127.0.0.1:%d'}\n"
                "auth: {htpasswd: {realm: test, path: %s/htpasswd}}\n" % (top, port, top))
    reg = subprocess.Popen(["docker-registry", "serve", top + "/r.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        pull_from("127.0.0.1:%d" % port, image)
    finally:
        reg.kill()
        reg.wait()


def events_of(b):
    """Of the last pull, to its last event."""
    with b.news:
        b.news.wait_for(lambda: re.search('"event":"(done|error)".*\n', b.pipe), 60)
        text, b.pipe = b.pipe, ""
    return [json.loads(x) for x in text.splitlines()] or [{"event": "none"}]


def pull_from(host, image):
    import base64
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", int(host.split(":")[1]))) == 0:
                break
        time.sleep(0.05)
    docker.ask("POST", "/images/%s/tag?repo=%s/t/bb&tag=v" % (image, host))
    auth = base64.urlsafe_b64encode(b'{"username":"me","password":"secret"}').decode()
    c = E.UnixHTTP(docker.socket)
    c.request("POST", "/images/%s/t/bb/push?tag=v" % host, headers={"X-Registry-Auth": auth})
    said = c.getresponse().read().decode()
    digest = re.search("sha256:[0-9a-f]{64}", said)
    ok(digest, "an image in a registry", said)
    docker.ask("DELETE", "/images/%s/t/bb:v" % host)
    docker.ask("DELETE", "/images/test-bb:1?force=1")
    with open(top + "/auth.json", "w") as f:
        json.dump({"auths": {host: {"auth": base64.b64encode(b"me:secret").decode()}}}, f)
    os.chown(top + "/auth.json", E.UID, E.UID)
    os.chmod(top + "/auth.json", 0o600)
    ref = host + "/t/bb"

    b = broker("pull", pull="missing", insecure_registries=host)
    a = b.do("image-pull pipe=1 image=%s:v" % ref)
    refused(a, E.REQUEST, "credentials", "without a credential")
    ok(events_of(b)[-1]["event"] == "error", "an error is the last event", b.pipe)
    b.close()
    b = broker("pull", pull="missing", registry_auth_file=top + "/auth.json")
    refused(b.do("image-pull pipe=1 image=%s:v" % ref), E.REQUEST, "insecure_registries|public", "http that is not listed")
    b.close()
    b = broker("pull", registry_auth_file=top + "/auth.json", insecure_registries=host, pull="missing", pull_allowed="docker.io/x")
    refused(b.do("image-pull pipe=1 image=%s:v" % ref), E.REQUEST, "pull_allowed", "what pull_allowed leaves out")
    b.close()
    b = broker("pull", registry_auth_file=top + "/auth.json", insecure_registries=host, pull="never")
    refused(b.do("image-pull pipe=1 image=%s:v" % ref), E.REQUEST, "pull = never", "pull = never")
    b.close()
    b = broker("pull", pull="missing", registry_auth_file=top + "/auth.json", insecure_registries=host)
    refused(b.do("image-pull pipe=1 image=%s:none" % ref), E.NOTFOUND, "manifest", "a tag that is not there")
    eq(events_of(b)[-1]["event"], "error", "an error event")
    a = b.do("image-pull pipe=1 image=%s:v" % ref)
    eq((a["kind"], a.get("image")), (0, image), "pulled by its tag, with a credential")
    ev = events_of(b)
    ok(ev[-1] == {"event": "done", "id": image[7:]} and any(x["event"] == "layer" and x["state"] in ("done", "already here") for x in ev),
       "with events", ev)
    eq(b.do("image-remove image=%s:v" % ref)["kind"], 0, "removed")
    refused(b.do("image-resolve image=%s:v" % ref), E.NOTFOUND, "", "it is gone")
    at = "%s@%s" % (ref, digest.group(0))
    a = b.do("image-pull image=" + at)
    eq((a["kind"], a.get("image")), (0, image), "pulled by its digest")
    ok(json.loads(b.do("image-inspect image=" + at)["text"])["digest"] == digest.group(0), "which it knows")
    refused(b.do("image-pull image=%s@sha256:%s" % (ref, "0" * 64)), E.NOTFOUND, "", "a digest that is not there")
    docker.ask("POST", "/images/%s/tag?repo=test-bb&tag=1" % image)
    b.close()


def deaths(b, image):
    b.do("make %s image=%s" % (b.box("d1", "sleep 100"), image))
    slow = b.ask("make %s image=%s" % (b.box("d2", "sleep 100"), image))
    docker.kill()
    a = b.answer(slow)
    ok(a["kind"] in (0, E.BUSY), "dockerd killed in the middle: an answer", a)
    eq(b.wait("STATE").get("kind"), E.BUSY, "told that it is gone")
    began = time.monotonic()
    refused(b.do("make %s image=%s" % (b.box("d3", "exit 0"), image)), E.BUSY, "systemctl start docker", "asked: busy, and the fix")
    ok(time.monotonic() - began < 20, "at once")  # not after engine_timeout_s, 30
    docker.start()
    eq(b.wait("STATE").get("kind"), 0, "told that it is there again")
    end = b.wait("ENDED", seconds=120)
    ok(end.get("box") in ("d1", "d2"), "and what has ended meanwhile", end)
    eq(b.do("make %s image=%s" % (b.box("d3", "exit 3"), image))["kind"], 0, "it works")
    eq(b.wait("ENDED", box="d3").get("exit"), 3, "to the end")
    worker = b.worker()
    slow = b.ask("make %s image=%s" % (b.box("d4", "sleep 100"), image))
    os.kill(worker[0], signal.SIGKILL)
    eq(b.wait("LOST")["op"], "LOST", "the broker killed: told")
    eq(b.do("info")["kind"], 0, "and another one works")
    ok(b.worker() != worker, "which is another one")
    with open(top + "/keep", "w"):
        pass
    begun = time.monotonic()  # what the Engine was making for the one that died may come late
    while b.do("sweep fd=%s/keep" % top)["kind"] == 0 and (docker.ours() or time.monotonic() < begun + 2) and time.monotonic() < begun + 120:
        time.sleep(0.2)
    eq(docker.ours(), [], "nothing is left")


def posture(b):
    pid = b.worker()[0]
    with open("/proc/%d/status" % pid) as f:
        s = lines_of(f.read())
    eq((s["Seccomp"], s["NoNewPrivs"], s["Uid"].split()[0]), ("2", "1", str(E.UID)), "the broker is locked")
    left = [os.readlink("/proc/%d/fd/%s" % (pid, x)) for x in os.listdir("/proc/%d/fd" % pid)]
    ok(not any(x.startswith("/") and not x.startswith(("/dev/null", b.state, "/tmp/", "/memfd:")) for x in left), "and holds no file", left)


def classes():
    """Every way in which an Engine may not serve."""
    os.chmod(docker.socket, 0o600)
    os.chown(docker.socket, 0, 0)
    b = broker("class")
    refused(b.do("info"), E.CONF, "usermod -aG docker", "no permission: the fix")
    b.close()
    os.chown(docker.socket, 0, E.UID)
    os.chmod(docker.socket, 0o660)
    b = broker("class", "unix://%s/none.sock" % top)
    refused(b.do("info"), E.BUSY, "no Engine listens", "no socket")
    b.close()
    for setting, words in (("tcp://127.0.0.1:1", "neither"), ("http://127.0.0.1:1", "neither"), ("unix://rel", "neither"), ("unix:///" + "x" * 108, "107")):
        b = broker("class", setting)
        refused(b.do("info"), E.CONF, words, "engine = %.30s" % setting)
        b.close()
    b = broker("class", engine_runtime="nonesuch")
    refused(b.do("info"), E.CONF, "engine_runtime.*runc", "an unknown runtime")
    b.close()
    b = E.Broker(top + "/class", "unix://" + docker.socket, uid=0, state=top + "/rootstate")
    refused(b.do("info"), E.CONF, "as root", "a service that is root")
    b.close()
    b = E.Broker(top + "/class", "unix://" + docker.socket, uid=0, state=top + "/rootstate", engine_as_root="allow")
    eq(b.do("info")["kind"], 0, "unless that is wanted")
    b.close()
    b = broker("class", engine_network="nonesuch")
    refused(b.do("make network=1 %s image=test-bb:1" % b.box("n1", "exit 0")), E.CONF, "engine_network", "an unknown network")
    eq(docker.ours(), [], "what could not start is removed")
    b.close()


def full_disk():
    d = top + "/full"
    os.mkdir(d)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", d], check=True)
    try:
        small = E.Dockerd(d)
        try:
            with open(top + "/big.tar", "wb") as f, tarfile.open(fileobj=f, mode="w") as t:
                i = tarfile.TarInfo("big")
                i.size = 16 << 20
                t.addfile(i, io.BytesIO(os.urandom(i.size)))
            b = broker("fullb", "unix://" + small.socket)
            refused(b.do("image-import image=big:1 fd=%s/big.tar" % top), E.BUSY, "disk is full", "a full disk")
            b.close()
        finally:
            small.stop()
    finally:
        subprocess.run(["umount", "-l", d])


def fakes():
    def with_table(name, table, line="info", seconds=30, **conf):
        path = "%s/f-%s.sock" % (top, name)
        f = E.Fake(path, {**E.GOOD, **table})
        b = broker("fake", "unix://" + path, **conf)
        a = b.do(line, seconds)
        return a, b, f

    def once(words, kind, what, table, line="info", **conf):
        a, b, f = with_table(re.sub("[^a-z]", "", what), table, line, **conf)
        refused(a, kind, words, what)
        ok(len(b.worker()) == 1, "and the broker lives")
        b.close()
        f.shutdown()

    def raw(data):
        def answer(h):
            try:
                h.wfile.write(data)
                h.wfile.flush()
                h.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            h.close_connection = True
        return answer

    def slow(h):
        time.sleep(8)

    def endless(h):
        h.send_response(200)
        h.send_header("Content-Length", str(1 << 30))
        h.end_headers()
        try:
            for _ in range(1 << 14):
                h.wfile.write(b" " * 65536)
        except OSError:
            pass
        h.close_connection = True

    def long_event(h):
        h.send_response(200)
        h.end_headers()
        time.sleep(1)
        try:
            h.wfile.write(b'{"x":"' + b"a" * 200000)
            h.wfile.flush()
            time.sleep(1)
        except OSError:
            pass
        h.close_connection = True

    a, b, f = with_table("good", {})
    eq(a["kind"], 0, "control: a fake that behaves")
    b.close()
    f.shutdown()
    version = lambda new, old: {"/version": (200, json.dumps({"Version": "1", "ApiVersion": new, "MinAPIVersion": old}).encode())}
    once("too old.*1.40", E.CONF, "too old", version("1.39", "1.12"))
    once("too new", E.CONF, "too new", version("1.60", "1.45"))
    once("no Docker Engine", E.SETUP, "no such program", {"/version": (200, b"<html>hello</html>")})
    once("no Docker Engine", E.SETUP, "deep json", {"/version": (200, b"[" * 100000)})
    once("no HTTP", E.SETUP, "no http", {"/version": raw(b"SSH-2.0-OpenSSH_9.2\r\n")})
    once("hung up|answer", E.BUSY, "hung up", {"/version": raw(b"")})
    once("hung up", E.BUSY, "cut short", {"/version": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")})
    once("over 8388608 bytes", E.SETUP, "oversized", {"/version": endless})
    once("too slow.*engine_timeout_s", E.BUSY, "slow", {"/version": slow}, engine_timeout_s=1)
    once("too slow.*engine_timeout_s", E.BUSY, "slow events", {"/events": slow}, engine_timeout_s=1)
    once("hello", E.SETUP, "its words", {"/info": (500, b'{"message":"hello"}')})
    once("status 502", E.SETUP, "no words", {"/info": (502, b"\0\1\2")})
    once("podman is not supported", E.CONF, "podman", {"/version": (200, json.dumps(
        {"Version": "4.3.1", "ApiVersion": "1.41", "MinAPIVersion": "1.24", "Components": [{"Name": "Podman Engine"}]}).encode())})
    once("seccomp", E.CONF, "no seccomp", {"/info": (200, E.INFO[1].replace(b"name=seccomp,profile=default", b"name=x"))})
    once("gVisor", E.CONF, "gVisor's runtime", {"/info": (200, E.INFO[1].replace(b'"runc": {}', b'"runc": {"path": "/usr/bin/runsc"}'))})
    once("userns-remap", E.CONF, "mapped users", {"/info": (200, E.INFO[1].replace(b"profile=default", b'default","name=userns'))})
    once("not name", E.SETUP, "nameless container", {"/containers/create": (201, b'{"Id":"../../x"}')}, "make box=x image=y")
    once("list of containers", E.SETUP, "no list", {"/containers/json": (200, b"{}")}, "sweep fd=%s/keep" % top)
    once("not as it should be", E.SETUP, "no image", {"/images/x:latest/json": (200, b'{"Id":"x"}')}, "image-inspect image=x")
    once("disk is full", E.BUSY, "disk", {"/containers/create": (500, b'{"message":"write /x: no space left on device"}')}, "make box=x image=y")
    once("must run on this machine", E.CONF, "elsewhere",
         {"/containers/create": (400, b'{"message":"invalid mount config for type \\"bind\\": bind source path does not exist: /x"}')}, "make box=x image=y")
    stream = lambda answer: {"/containers/create": (201, json.dumps({"Id": "a" * 64}).encode()), "/containers/cgibox-x/attach": answer}
    attach = "make box=x image=y flags=4"
    once("no HTTP", E.SETUP, "attach without http", stream(raw(b"SSH-2.0\r\n\r\n")), attach)
    once("hung up", E.BUSY, "attach cut short", stream(raw(b"HTTP/1.1 101 UPGRADED\r\nUpgr")), attach)
    once("before it is started", E.SETUP, "attach with bytes behind", stream(raw(b"HTTP/1.1 101 UPGRADED\r\n\r\nhello")), attach)
    once("over 8192 bytes", E.SETUP, "attach with a long head", stream(raw(b"HTTP/1.1 101 UPGRADED\r\nX: " + b"x" * 20000)), attach)
    once("too slow.*engine_timeout_s", E.BUSY, "slow attach", stream(slow), attach, engine_timeout_s=1)
    once("hello", E.SETUP, "refused attach", stream((500, b'{"message":"hello"}')), attach)
    a, b, f = with_table("longevent", {"/events": long_event})
    eq(a["kind"], 0, "an event without end: it answers")
    refused(b.wait("STATE", kind=E.SETUP), E.SETUP, "over 65536 bytes", "then is given up")
    b.close()
    f.shutdown()


def tls():
    d = top + "/tls"
    os.mkdir(d)
    sh = lambda *a: subprocess.run(["openssl", *a], check=True, capture_output=True, cwd=d)
    for ca in "ca", "bad":
        sh("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", ca + ".key", "-out", ca + ".pem", "-subj", "/CN=" + ca)
    for who, ext in (("s", "subjectAltName=DNS:localhost,IP:127.0.0.1"), ("c", "extendedKeyUsage=clientAuth")):
        sh("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", who + ".key", "-out", who + ".csr", "-subj", "/CN=" + who)
        open(d + "/ext", "w").write(ext)
        sh("x509", "-req", "-in", who + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", who + ".pem")
    for f in os.listdir(d):
        os.chown(d + "/" + f, E.UID, E.UID)
        os.chmod(d + "/" + f, 0o600)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    os.mkdir(d + "/e")
    e = E.Dockerd(d + "/e", "-H", "tcp://127.0.0.1:%d" % port, "--tlsverify", "--tlscacert", d + "/ca.pem", "--tlscert", d + "/s.pem", "--tlskey", d + "/s.key")
    try:
        good = {"engine_ca_file": d + "/ca.pem", "engine_cert_file": d + "/c.pem", "engine_key_file": d + "/c.key"}
        for name in "localhost", "127.0.0.1":
            b = broker("tlsb", "https://%s:%d" % (name, port), **good)
            eq(b.do("info")["kind"], 0, "by TLS, to " + name)
            b.close()
        b = broker("tlsb", "https://localhost:%d" % port, **{**good, "engine_ca_file": d + "/bad.pem"})
        refused(b.do("info"), E.CONF, "engine_ca_file", "a stranger's certificate")
        b.close()
        b = broker("tlsb", "https://localhost:%d" % port, engine_ca_file=d + "/ca.pem")
        refused(b.do("info"), E.CONF, "engine_cert_file", "without ours")
        b.close()
        os.chmod(d + "/c.key", 0o644)
        b = broker("tlsb", "https://localhost:%d" % port, **good)
        refused(b.do("info"), E.CONF, "0600", "a key that others can read")
        b.close()
    finally:
        e.stop()


def doctor():
    def run(engine, **conf):
        env = {"CGIBOX_ENGINE": engine, "CGIBOX_STATE_DIR": top + "/b/state", **conf}
        p = subprocess.run(["setpriv", "--reuid", str(E.UID), "--regid", str(E.UID), "--clear-groups", top + "/b/bin/libexec/engine", "--check"],
                           env=env, capture_output=True, text=True)
        return p.returncode, p.stdout
    code, out = run("unix://" + docker.socket)
    ok(code == 0 and out.startswith("ok\tdocker "), "doctor: it serves", code, out)
    code, out = run("unix://%s/none" % top)
    ok(code == 1 and out.startswith("blocked\tno Engine listens"), "doctor: it does not", code, out)


os.mkdir(top + "/dk")
try:
    docker = E.Dockerd(top + "/dk")
except RuntimeError as e:
    shutil.rmtree(top, ignore_errors=True)
    skip_all("no dockerd can run here: " + str(e).replace("\n", " ")[:300])
try:
    b = broker("b")
    image = containers(b)
    life(b, image)
    hostile(b, image)
    sweep(b, image)
    pulls(b, image)
    posture(b)
    doctor()
    deaths(b, image)
    b.close()
    classes()
    fakes()
    tls()
    full_disk()
finally:
    docker.stop()
    E.clean(top)
done()
