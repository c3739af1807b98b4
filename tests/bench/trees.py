"""Patch and fork against the size of the tree."""
import base64
import io
import json
import os
import random
import re
import subprocess
import tarfile
import time

import web

PATCH = "A patch of 10 changes, against the size of the tree"
FORK = "Forks of a quiet session, against the size of the tree"


def name(k):
    return "d%02d/s%02d/file%d.txt" % (k % 50, k // 50 % 20, k)


def archive(path, files, mode="w"):
    with tarfile.open(path, mode) as t:
        for k in range(files):
            data = b"".join(b"line %d of file %d\n" % (n, k) for n in range(20))
            i = tarfile.TarInfo(name(k))
            i.size = len(data)
            t.addfile(i, io.BytesIO(data))


EDIT = """
import os, sys
os.chdir(sys.argv[2])
for i, f in enumerate(sys.argv[1].split(",")):
    if i < 6:
        open(f, "a").write("changed\\n")
    elif i < 8:
        os.unlink(f)
    else:
        open(f + ".new", "w").write("new\\n")
"""


class Tree:
    """One workspace of the tree server, by way of bench-tree."""

    def __init__(self, place, control, number, files, overlay):
        self.control, self.files, self.overlay = control, files, overlay
        self.ws = place.make_dir("tree-%d" % number)
        self.out = os.path.join(place.home, "patch-%d" % number)
        tar = os.path.join(place.top, "tree.tar")
        archive(tar, files)
        control.do("limits", 0 if overlay else files, 1 << 30, 1 << 27)
        control.do("create", self.ws)
        control.do("add", self.ws, tar)
        os.remove(tar)
        changed = ",".join(name(k) for k in random.Random(1).sample(range(files), 10))
        self.edit(place, ["/usr/bin/python3", "-c", EDIT, changed])

    def edit(self, place, args):
        """In the workspace as a sandbox would see it."""
        plan = self.control.ask("plan", self.ws)
        if plan == "tree":
            place.run(args + [os.path.join(self.ws, "tree")])
            return
        upper, work, lowers = plan.split(" ", 2)
        mnt = place.make_dir("mnt")
        place.run(["unshare", "-Urm", "sh", "-c", 'cd "$1" && mount -t overlay overlay -o "userxattr,lowerdir=$2,upperdir=$3,workdir=$4" "$5" && m=$5 && '
                   'shift 5 && exec "$@" "$m"', "sh", self.ws, lowers, upper, work, mnt] + args)

    def patch_ms(self):
        return self.control.do("patch", self.ws, self.out)[0] / 1000


class Control:
    def __init__(self, place):
        self.p = place.start([place.program("tree")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *words):
        self.p.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().decode("utf-8", "replace").strip()

    def do(self, *words):
        a = self.ask(*words)
        if not a.startswith("ok "):
            raise RuntimeError("%s: %s" % (words, a))
        return [int(x) for x in a.split()[1:]]


class Forks:
    """A session with many files, forked through the service; the children are deleted again, which is not counted."""

    def __init__(self, service, files, children, place):
        self.service, self.children = service, children
        tar = os.path.join(place.top, "fork.tar.gz")
        archive(tar, files, "w:gz")
        with open(tar, "rb") as f:
            data = base64.b64encode(f.read()).decode()
        os.remove(tar)
        self.id = service.create("bench")
        self.ask("POST", "/session/%s/" % self.id, {"commands": ["true"], "archive": data})

    def ask(self, method, path, body=None):
        status, data = self.service.ask(method, path, json.dumps(body) if body is not None else None)
        if status not in (200, 201, 204):
            raise RuntimeError("%s %s: %d %s" % (method, path, status, data[:300].decode("utf-8", "replace")))
        return data.decode()

    def fork_ms(self):
        begin = time.perf_counter()
        made = self.ask("POST", "/session/%s/fork/" % self.id, {"count": self.children})
        ms = (time.perf_counter() - begin) * 1000
        ids = set(re.findall("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", made)) - {self.id}
        if len(ids) != self.children:
            raise RuntimeError("%d forks instead of %d: %s" % (len(ids), self.children, made[:300]))
        for i in ids:
            self.ask("DELETE", "/session/%s/" % i)
        return ms


class Section:
    name = "trees"

    def __init__(self, place, results, options, engine):
        self.place, self.results, self.rounds = place, results, 3 if options.quick else 5
        self.sizes = [(1000, False), (5000, True)] if options.quick else [(1000, False), (20000, False), (10000, True), (100000, True)]
        self.fork_sizes = [1000] if options.quick else [1000, 100000]
        self.children = 10 if options.quick else 100
        self.trees, self.forks, self.service, self.control = [], {}, None, None

    def setup(self):
        self.control = Control(self.place)
        self.trees = [Tree(self.place, self.control, i, n, o) for i, (n, o) in enumerate(self.sizes)]
        self.service = web.ours(self.place, "forks", settings={"fork_max": self.children} if "fork_max" in web.known_keys(self.place) else None)
        if self.service.ask("POST", "/session/%s/fork/" % self.service.create("bench"), "{}")[0] in (404, 405):
            self.results.skip("fork", "this version has no POST /session/ID/fork")
            return
        for n in self.fork_sizes:
            self.forks[n] = Forks(self.service, n, self.children, self.place)
        self.results.bodies.append(("%d forks" % self.children, "POST /session/ID/fork/", json.dumps({"count": self.children})))

    def measure(self, number):
        for t in self.trees:
            self.results.add(number, "patch-%s%d" % ("overlay-" * t.overlay, t.files), PATCH, "%d files, %s form" % (t.files, "overlay" if t.overlay else "plain"),
                             "ms", [t.patch_ms() for _ in range(self.rounds)])
        for n, f in self.forks.items():
            self.results.add(number, "fork-%d" % n, FORK, "%d forks of %d files" % (self.children, n), "ms", [f.fork_ms() for _ in range(2)])

    def close(self):
        if self.service:
            self.service.stop()
        if self.control:
            for t in self.trees:
                self.control.do("delete", t.ws)
            self.control.p.stdin.close()
            self.control.p.wait()
