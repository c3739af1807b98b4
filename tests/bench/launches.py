"""Starting `true`: plainly, in our sandboxes, by our program, and by those of others, round by round in turn."""
import os
import subprocess

import peers

TRUE, STATIC, PYTHON = "/usr/bin/true", "/usr/bin/static-true", ("/usr/bin/python3", "-c", "pass")
GROUPS = {"s": "Starting a static `true`", "d": "Starting Debian's `true`", "p": "Starting `python3 -c pass`"}


class Section:
    name = "launch"

    def __init__(self, place, results, options, engine):
        self.place, self.results, self.quick, self.engine = place, results, options.quick, engine
        self.rounds = 10 if self.quick else 100
        self.lines = []

    def line(self, key, label, kind, every, command):
        self.lines.append((key, label, kind, min(every, self.rounds), list(command)))

    def setup(self):
        self.staging = self.place.make_dir("staging")
        self.wrap = self.cgroup2()
        root = self.place.root
        for p, command, host, every in (("s", (STATIC,), (self.place.program("true"),), 1), ("d", (TRUE,), (TRUE,), 1),
                                        ("p", PYTHON, (root + PYTHON[0], *PYTHON[1:]), 5)):
            self.line(p + "-spawn", "posix_spawn, two pipes", "spawn", every, host)
            self.line(p + "-bare", "the least that such a sandbox takes", "bare", every, command)
            self.line(p + "-cold", "cgibox library, cold, own network", "cold", every, command)
            self.line(p + "-hostnet", "cgibox library, cold, host's network", "cold-hostnet", every, command)
            self.line(p + "-prepared", "cgibox library, prepared ahead, own network", "prepared", every, command)
            self.line(p + "-parked", "cgibox library, parked sandbox, used once", "parked", every, command)
            self.line(p + "-live", "cgibox library, exec into a live sandbox", "live", every, command)
            self.line(p + "-run", "cgibox run --rootfs", "spawn", every, [self.place.prefix + "/bin/cgibox", "run", "--rootfs", root, "--", *command])
            self.bubblewrap(p, command, every)
        self.others(root)

    def bubblewrap(self, p, command, every):
        if not peers.usable("bwrap"):
            self.results.skip("bwrap", "not installed (scripts/deps bench)")
            return
        root, overlay = self.place.root, peers.bwrap_overlay(self.place.root)
        self.line(p + "-bwrap", "bwrap, all namespaces", "spawn", every, peers.bwrap(root, *command))
        if not overlay:
            self.results.skip("bwrap with an overlay", "this bwrap has none; it is compared with our filter alone, which makes it faster")
        self.line(p + "-bwrap-filter", "bwrap, our seccomp filter" + (" and an overlay" if overlay else ""), "filter", every,
                  peers.bwrap(root, *command, before=["--seccomp", "9"] + (overlay or [])))

    def others(self, root):
        slow = 5
        for runtime in ("crun", "runc"):
            if peers.usable(runtime):
                self.line("d-" + runtime, runtime + " run, rootless", "spawn", slow, peers.oci(self.place, runtime, (TRUE,)))
            else:
                self.results.skip(runtime, "not installed (scripts/deps bench)")
        if peers.usable("nsjail"):
            self.line("d-nsjail", "nsjail -Mo", "spawn", slow, peers.nsjail(root, TRUE))
        else:
            self.results.skip("nsjail", "not installed, and Debian 12 has no package of it")
        if self.engine:
            self.line("d-docker-run", "docker run --rm --network none", "spawn", 50, self.engine.command("run", "--rm", "--network", "none", "bench:1", TRUE))
            self.line("d-docker-exec", "docker exec", "spawn", 20, self.engine.command("exec", "live", TRUE))

    def cgroup2(self):
        """crun refuses a hybrid hierarchy: there root shows the pure half of it, in a mount namespace."""
        unified = "/sys/fs/cgroup/unified"
        if not (self.place.is_root and os.path.isdir(unified)):
            return []
        return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /sys/fs/cgroup && exec setpriv --reuid 12345 --regid 12345 --clear-groups "$@"', unified]

    def measure(self, number):
        text = "".join("\t".join([key, kind, str(every), *command]) + "\n" for key, _, kind, every, command in self.lines)
        args = [*self.wrap, self.place.program("launch"), self.place.root, self.staging, str(self.rounds)]
        identity = {} if self.wrap else self.place.identity()
        out = self.ask(args, text, identity)
        labels = {key: label for key, label, *_ in self.lines}
        for line in out.splitlines():
            key, kind, *rest = line.split("\t")
            if kind == "failed":
                self.results.skip(labels[key], rest[0][:300])
                self.lines = [x for x in self.lines if x[0] != key]
                continue
            more = kind.endswith("/verdict")
            self.results.add(number, key + "-verdict" * more, GROUPS[key[0]], labels[key] + ", to the verdict" * more, "ms", [float(x) / 1000 for x in rest])
        if self.engine:
            self.results.add(number, "d-docker-api", GROUPS["d"], "docker exec by the Engine API", "ms",
                             [self.engine.exec_by_api() * 1000 for _ in range(2 if self.quick else 5)])

    def ask(self, args, text, identity):
        p = subprocess.run(args, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.place.top, env=self.place.env, **identity)
        if p.returncode:
            raise RuntimeError("bench-launch: status %d: %s" % (p.returncode, p.stderr[-600:]))
        return p.stdout

    def close(self):
        pass
