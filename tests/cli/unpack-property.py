#!/usr/bin/python3
"""Random trees in random archives: what is left must be what bsdtar leaves, by the rules for clients' archives and for layers.

SEED and CASES in the environment choose the run; a failure prints the seed of its case."""
import bz2
import hashlib
import lzma
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib

CASES = int(os.environ.get("CASES", 80 if os.environ.get("CI") else 200))
SEED = int(os.environ.get("SEED", 0)) or (1000 if os.environ.get("CI") else random.SystemRandom().randrange(1, 10 ** 9))
UNPACK = os.path.join(os.environ.get("CGIBOX_BUILD", "build"), "libexec", "bench-unpack")
SIZES = (0, 1, 511, 512, 513, 1024, 10000, 65536, 262144 - 512, 262144, 300001)


def name(r):
    kind = r.random()
    if kind < .1:
        return "long-" + "n" * r.randrange(90, 240)
    if kind < .2:
        return r.choice(("with space", "caf\u00e9", "\u6587\u4ef6", "-dash", "tab\there", "new\nline", "BZh9", ".hidden", "*"))
    return "f%d" % r.randrange(1000)


def contents(r, large):
    n = r.choice(SIZES) if not large else r.randrange(1 << 20, 3 << 20)
    return r.randbytes(n) if r.random() < .5 else (b"some line %d\n" % r.randrange(100)) * (n // 13) + b"x" * (n % 13)


def put_sparse(r, path):
    with open(path, "wb") as f:
        for _ in range(r.randrange(4)):
            f.seek(r.randrange(1, 500000), os.SEEK_CUR)
            f.write(r.randbytes(r.randrange(1, 5000)))
        f.truncate(f.tell() + r.randrange(300000))


def make_tree(r, top):
    """Files, directories, links of both kinds; times with nanoseconds. All paths, parents first."""
    dirs, files, paths = [top], [], []
    for k in range(r.randrange(1, 30)):
        path = os.path.join(r.choice(dirs), name(r))
        if os.path.lexists(path) or len(path) - len(top) > 3000:
            continue
        kind = r.random()
        if kind < .25:
            os.mkdir(path)
            os.chmod(path, r.choice((0o755, 0o700, 0o775, 0o711)))
            dirs.append(path)
        elif kind < .35:
            os.symlink(r.choice(("here", "f1", "no/such")), path)
        elif kind < .45 and files:
            os.link(r.choice(files), path)
        elif kind < .55:
            put_sparse(r, path)
            files.append(path)
        else:
            with open(path, "wb") as f:
                f.write(contents(r, r.random() < .1))
            os.chmod(path, r.choice((0o644, 0o600, 0o755, 0o400, 0o4755, 0o2711, 0o666)))
            files.append(path)
        paths.append(path)
    for path in reversed(paths):
        t = r.randrange(10 ** 18, 2 * 10 ** 18)
        os.utime(path, ns=(t, t), follow_symlinks=False)
    return [os.path.relpath(p, top) for p in paths]


def by_python(r, top, paths, out):
    form = r.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    leave_out = r.random() < .3                              # directories that nothing but paths name
    with tarfile.open(out, "w", format=form) as t:
        for p in paths:
            if not (leave_out and stat.S_ISDIR(os.lstat(os.path.join(top, p)).st_mode)):
                t.add(os.path.join(top, p), p, recursive=False)
        again = [p for p in paths if stat.S_ISREG(os.lstat(os.path.join(top, p)).st_mode) and os.lstat(os.path.join(top, p)).st_nlink == 1]
        if again and r.random() < .3:                        # the later entry counts
            i = t.gettarinfo(os.path.join(top, again[0]), again[0])
            i.size, i.mode = 0, 0o640
            t.addfile(i)
    return "python %d%s" % (form, " no directories" * leave_out)


def by_program(r, top, out):
    words = r.choice((["tar", "--format=gnu"], ["tar", "--format=gnu", "--sparse"], ["tar", "--format=posix"], ["tar", "--format=posix", "--sparse", "--sparse-version=0.0"],
                      ["tar", "--format=posix", "--sparse", "--sparse-version=0.1"], ["tar", "--format=posix", "--sparse", "--sparse-version=1.0"],
                      ["tar", "--format=ustar"], ["tar", "--format=v7"], ["bsdtar", "--format=pax"], ["bsdtar", "--format=ustar"], ["bsdtar", "--format=gnutar"]))
    what = " ".join(words)
    if subprocess.run(words + ["-cf", out, "-C", top, "."], stderr=subprocess.DEVNULL).returncode:
        what += ": cannot, so posix"                         # names that it has no form for
        subprocess.run(["tar", "--format=posix", "-cf", out, "-C", top, "."], check=True)
    return what


def member(r, data):
    head = bytearray(b"\x1f\x8b\x08\0" + struct.pack("<I", r.randrange(1 << 32)) + b"\0\xff")
    if r.random() < .2:
        head[3] |= 4
        head += b"\4\0abcd"
    if r.random() < .3:
        head[3] |= 8
        head += b"a.tar\0"
    if r.random() < .2:
        head[3] |= 16
        head += b"a comment\0"
    if r.random() < .2:
        head[3] |= 2
        head += struct.pack("<H", zlib.crc32(head) & 0xffff)
    c = zlib.compressobj(r.randrange(10), zlib.DEFLATED, -15, r.randrange(1, 10), r.choice((zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED)))
    return bytes(head) + c.compress(data) + c.flush() + struct.pack("<II", zlib.crc32(data), len(data) & 0xffffffff)


def pack(r, tar):
    """The archive, its form, and where it may not be cut off: up to there, but not between members."""
    kind = r.random()
    if kind < .1:
        return tar, "plain", None
    if kind < .3:
        how = r.choice(("bz2", "xz", "zstd"))
        if how == "zstd":
            return subprocess.run(["zstd", "-qc"], input=tar, stdout=subprocess.PIPE, check=True).stdout, how, None
        return (bz2.compress(tar) if how == "bz2" else lzma.compress(tar)), how, None
    cuts = sorted(r.randrange(len(tar) + 1) for _ in range(r.choice((0, 0, 0, 1, 2, 5))))
    ends, out = set(), b""
    for a, b in zip([0] + cuts, cuts + [len(tar)]):
        out += member(r, tar[a:b])
        ends |= {len(out), len(out) + 1}
    cut = r.randrange(1, len(out))
    return out + bytes(r.choice((0, 0, 512, 5000))), "gzip of %d members" % (len(cuts) + 1), cut if cut not in ends else None


def mode_of(mode, layer):
    if layer:
        return mode & 0o777
    return mode & 0o777 | 0o644 | (0o111 if mode & 0o111 else 0)


def look(top, rule):
    """rule: None for what we left, else the mode that it should have. Path: type, mode, what is in it, time; and the hard links."""
    seen, inodes = {}, {}
    for d, dirs, files in os.walk(top):
        for n in dirs + files:
            path = os.path.join(d, n)
            st = os.lstat(path)
            what = None
            if stat.S_ISLNK(st.st_mode):
                what = os.readlink(path)
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    what = (st.st_size, hashlib.sha256(f.read()).hexdigest())
                inodes.setdefault(st.st_ino, set()).add(os.path.relpath(path, top))
            mode = rule(st.st_mode) if rule and not stat.S_ISLNK(st.st_mode) else st.st_mode & 0o7777
            seen[os.path.relpath(path, top)] = [stat.S_IFMT(st.st_mode), mode, what, st.st_mtime_ns]
    return seen, sorted(sorted(x) for x in inodes.values() if len(x) > 1)


def compare(theirs, ours, layer, named):
    if sorted(theirs[0]) != sorted(ours[0]):
        return "names: %s" % sorted(set(theirs[0]) ^ set(ours[0]))
    for path, want in theirs[0].items():
        got = ours[0][path]
        if got[:3] != want[:3]:
            return "%r: %s instead of %s" % (path, got, want)
        if path in named and got[3] != (want[3] if layer else 0):
            return "%r: time %d instead of %d" % (path, got[3], want[3])
    return None if theirs[1] == ours[1] else "hard links: %s instead of %s" % (ours[1], theirs[1])


def ours(archive, top, layer):
    os.mkdir(top)
    return subprocess.run([UNPACK, archive, top] + ["layer"] * layer, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def case(top, seed):
    r = random.Random(seed)
    src, tar, archive = (os.path.join(top, n) for n in ("src", "tar", "archive"))
    os.mkdir(src)
    paths = make_tree(r, src)
    what = by_python(r, src, paths, tar) if r.random() < .4 else by_program(r, src, tar)
    with tarfile.open(tar) as t:                             # not all: some forms leave out long names of directories
        named = {os.path.normpath(n) for n in t.getnames()}
    with open(tar, "rb") as f:
        data, how, cut = pack(r, f.read())
    with open(archive, "wb") as f:
        f.write(data)
    what += ", " + how
    os.mkdir(os.path.join(top, "theirs"))
    subprocess.run(["bsdtar", "-xpf", archive, "-C", os.path.join(top, "theirs")], check=True)
    for layer in (False, True):
        out = os.path.join(top, "layer" if layer else "client")
        p = ours(archive, out, layer)
        wrong = p.stderr.decode() if p.returncode else compare(look(os.path.join(top, "theirs"), lambda m: mode_of(m, layer)), look(out, None), layer, named)
        if wrong:
            return "%s, %s: %s" % (what, "layer" if layer else "client", wrong), None
    if cut:
        with open(archive, "wb") as f:
            f.write(data[:cut])
        p = ours(archive, os.path.join(top, "cut"), False)
        if p.returncode != 1 or b"Invalid or truncated archive" not in p.stderr:
            return "%s, cut off at %d of %d: status %d, %s" % (what, cut, len(data), p.returncode, p.stderr.decode()), None
    return None, how.split()[0]


def main():
    os.umask(0o022)
    print("# SEED=%d CASES=%d" % (SEED, CASES))
    if not shutil.which("bsdtar"):
        print("1..0 # SKIP bsdtar is not installed (scripts/deps test)")
        return 0
    seen, failed = {}, 0
    for k in range(CASES):
        top = tempfile.mkdtemp(prefix="cgibox-unpack-", dir="/var/tmp")
        try:
            wrong, how = case(top, SEED + k)
        finally:
            shutil.rmtree(top)
        if wrong:
            print("# SEED=%d CASES=1: %s" % (SEED + k, wrong))
            failed += 1
        seen[how] = seen.get(how, 0) + 1
    print("%sok 1 - %d of %d archives: what bsdtar leaves, by the rules of clients and of layers" % ("not " * bool(failed), CASES - failed, CASES))
    print("%sok 2 - each form was there: %s" % ("" if CASES < 80 or len([k for k in seen if k]) == 5 else "not ", {k: v for k, v in seen.items() if k}))
    print("1..2")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
