#!/usr/bin/python3
"""Server time of a patch of 10 changes: from the start of the tree helper to its answer, jail and all."""
import io
import os
import shutil
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cli/lib"))
import trees  # noqa: E402

ROUNDS = 15


def archive(path, files):
    with tarfile.open(path, "w") as tf:
        for k in range(files):
            data = b"".join(b"line %d of file %d\n" % (n, k) for n in range(20))
            ti = tarfile.TarInfo("d%02d/s%02d/file%d.txt" % (k % 50, k // 50 % 20, k))
            ti.size = len(data)
            tf.addfile(ti, io.BytesIO(data))


EDIT = """
import os, random, sys
os.chdir(sys.argv[1])
r = random.Random(1)
for i, k in enumerate(r.sample(range(%d), 10)):
    f = "d%%02d/s%%02d/file%%d.txt" %% (k %% 50, k // 50 %% 20, k)
    if i < 6:
        open(f, "a").write("changed\\n")
    elif i < 8:
        os.unlink(f)
    else:
        open(f + ".new", "w").write("new\\n")
"""


def measure(c, files, overlay, limit_ms):
    ws, tar = os.path.join(c.top, "ws"), os.path.join(c.top, "b.tar")
    archive(tar, files)
    os.mkdir(ws)
    c.do("limits", 0 if overlay else files, 1 << 30, 1 << 27)
    c.do("create", ws)
    add = c.do("add", ws, tar)[0]
    c.run_in(ws, [sys.executable, "-c", EDIT % files])
    times, size = [], 0
    for _ in range(ROUNDS):
        us, _, size = c.do("patch", ws, os.path.join(c.top, "o"))
        times.append(us)
    first, times = times[0], sorted(times)
    print("%-7s %7d files: archive %6.0f ms, patch of 10 changes (%d bytes): median %5.1f ms, best %5.1f, worst %5.1f, first %5.1f "
          "(limit %d)" % ("overlay" if overlay else "plain", files, add / 1000, size, times[len(times) // 2] / 1000, times[0] / 1000,
                          times[-1] / 1000, first / 1000, limit_ms), flush=True)
    c.do("delete", ws)
    os.rmdir(ws)
    return times[len(times) // 2] / 1000 < limit_ms


def main():
    top = trees.start()
    c = trees.Control(top)
    good = [measure(c, 1000, False, 30), measure(c, 20000, False, 30), measure(c, 10000, True, 20),
            measure(c, 100000, True, 20)]
    c.close()
    shutil.rmtree(top, ignore_errors=True)
    return not all(good)


sys.exit(main())
