"""Bodies: an archive within JSON against jansson, and unpacking against bsdtar and GNU tar; all on tmpfs."""
import base64
import os
import shutil
import subprocess
import tarfile
import time

import peers

FILE_MAX = 1 << 22  # leaves out the few that would be all of it
JSON, UNPACK = "Archive of 50 MB within a JSON body", "Unpacking on tmpfs"


class Section:
    name = "body"

    def __init__(self, place, results, options, engine):
        self.place, self.results = place, results
        self.characters = 50_000_000 if not options.quick else 5_000_000
        self.rounds = 1 if options.quick else 2
        self.nfiles = 9000 if not options.quick else 1000

    def setup(self):
        self.body = os.path.join(self.place.shm, "body.json")
        data = base64.b64encode(os.urandom(self.characters // 4 * 3))
        with open(self.body, "wb") as f:
            f.write(b'{"commands":["true"],"archive":"' + data + b'"}')
        self.archive = os.path.join(self.place.shm, "a.tar")
        self.make_archive()
        self.out = os.path.join(self.place.shm, "out")

    def make_archive(self):
        """Files of this machine's /usr that are no larger than FILE_MAX, in the order of their names."""
        n = total = 0
        with tarfile.open(self.archive, "w") as t:
            for top in ("/usr/lib", "/usr/share"):
                for d, dirs, files in os.walk(top):
                    dirs.sort()
                    for f in sorted(files):
                        p = os.path.join(d, f)
                        if n == self.nfiles or os.path.islink(p) or not os.path.isfile(p) or not 0 < os.path.getsize(p) <= FILE_MAX:
                            continue
                        i = tarfile.TarInfo(p.lstrip("/"))
                        i.size, i.mode = os.path.getsize(p), 0o644
                        with open(p, "rb") as src:
                            t.addfile(i, src)
                        n, total = n + 1, total + i.size
        with open(self.archive, "rb") as src, open(self.archive + ".gz", "wb") as out:
            subprocess.run(["gzip", "-6"], stdin=src, stdout=out, check=True)
        self.what = "%d files, %d MB" % (n, total // 1_000_000)
        self.results.note("The archive that is unpacked holds %s of this machine's /usr; gzip -6 makes %d MB of it." %
                          (self.what, os.path.getsize(self.archive + ".gz") // 1_000_000))

    def parse(self, number, how, label):
        try:
            us, _, kib = self.place.run([self.place.program("body"), how, self.body, self.place.shm]).split()
        except RuntimeError as e:
            self.results.skip(label, str(e))
            return
        self.results.add(number, "json-" + how, JSON, label + ": time", "ms", [float(us) / 1000])
        self.results.add(number, "json-memory-" + how, JSON, label + ": peak memory", "x body", [int(kib) * 1024 / os.path.getsize(self.body)])

    def unpack(self, number, key, label, command):
        os.mkdir(self.out)
        self.place.own(self.out)
        begin = time.perf_counter()
        self.place.run(command)
        ms = (time.perf_counter() - begin) * 1000
        found = sum(len(files) for _, _, files in os.walk(self.out))
        subprocess.run(["chmod", "-R", "u+rwx", self.out], check=True)
        shutil.rmtree(self.out)
        if found != int(self.what.split()[0]):
            raise RuntimeError("%s: %d files" % (label, found))
        self.results.add(number, key, UNPACK, "%s, %s" % (label, self.what), "ms", [ms])

    def measure(self, number):
        for _ in range(self.rounds):
            self.parse(number, "ours", "cgibox")
            self.parse(number, "jansson", "jansson and a table decoder")
            self.unpack_all(number)

    def unpack_all(self, number):
        for form, more in (("tar.gz", ".gz"), ("tar", "")):
            a = self.archive + more
            self.unpack(number, "unpack-ours" + more, "cgibox, " + form, [self.place.program("unpack"), a, self.out])
            if peers.usable("bsdtar"):
                self.unpack(number, "unpack-bsdtar" + more, "bsdtar, " + form, ["bsdtar", "-xf", a, "-C", self.out])
            self.unpack(number, "unpack-tar" + more, "GNU tar, " + form, ["tar", "-xf", a, "-C", self.out])

    def close(self):
        if not peers.usable("bsdtar"):
            self.results.skip("bsdtar", "libarchive-tools is not installed (scripts/deps bench)")
