#!/usr/bin/python3
"""Forks of a quiet session through the keeper's socket: from the request to the answer with all ids.

The parent's layers are shared anew before each measurement (a file is written first), so that it is restacked
each time. FILES, FORKS, ROUNDS; CGIBOX_BENCH_DIR: where the state directory is made (default /dev/shm)."""
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time

FILES, FORKS = int(os.environ.get("FILES", "100000")), int(os.environ.get("FORKS", "100"))
ROUNDS = int(os.environ.get("ROUNDS", "7"))
FLOOR_MS, GOAL_MS = 250, 50
HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("CGIBOX_BUILD", os.path.join(HERE, "../../build"))


def archive(path, files):
    with tarfile.open(path, "w") as t:
        for k in range(files):
            data = b"file %d\n" % k
            i = tarfile.TarInfo("d%02d/s%02d/f%d" % (k % 50, k // 50 % 20, k))
            i.size = len(data)
            t.addfile(i, io.BytesIO(data))


def main():
    where = os.environ.get("CGIBOX_BENCH_DIR") or ("/dev/shm" if os.path.isdir("/dev/shm") else None)
    top = tempfile.mkdtemp(prefix="cgibox-fork-", dir=where)
    os.chmod(top, 0o755)
    tar = os.path.join(top, "a.tar")
    archive(tar, FILES)
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "12345:12345", top], check=True)
    slow = 0
    for kind in ("overlay", "plain"):
        a = subprocess.run([os.path.join(BUILD, "libexec/bench-fork"), os.path.join(top, kind), tar, kind, str(FORKS), str(ROUNDS)],
                           stdout=subprocess.PIPE)
        if a.returncode:
            print("bench-fork failed: %d" % a.returncode)
            return 1
        r = json.loads(a.stdout)
        ms = sorted(r["fork_ms"])
        print("%-7s %d files, %d forks, parent restacked each time: median %.1f ms (%.1f to %.1f; the first %.1f), floor %d, goal %d; "
              "bytes copied: %d" % (kind, FILES, FORKS, ms[len(ms) // 2], ms[0], ms[-1], r["fork_ms"][0], FLOOR_MS, GOAL_MS, r["copied"]), flush=True)
        slow |= ms[0] > FLOOR_MS or r["copied"] != 0
    subprocess.run(["rm", "-rf", top])
    return slow


sys.exit(main())
