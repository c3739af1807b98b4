#!/usr/bin/python3
"""Archives that come one after another into one session: they are bounded together, by session_archives_max_bytes."""
import base64
import io
import os
import tarfile

from client import IMAGE, done, eq, ok, request

MIB = 1 << 20


def archive(name, files, size):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w:gz", compresslevel=1) as t:
        for i in range(files):
            ti = tarfile.TarInfo("%s/%d" % (name, i))
            ti.size = size
            t.addfile(ti, io.BytesIO(os.urandom(size // 16) + b"x" * (size - size // 16)))
    return base64.b64encode(b.getvalue()).decode()


def send(sid, data):
    a = request("POST", "/session/%s/" % sid, {"commands": ["ls | tr '\\n' ' '"], "archive": data}, timeout=600)
    return (a.status, a.json["results"][0]["output"]) if a.status == 200 else (a.status, a.detail)


# Each is some 30 MiB; the limit is 192, and plain_entries_max 2000. A layer counts 4 KiB more a file until it is joined with others.
for form, files, size, fit in (("tree", 30, MIB, 6), ("layers", 2100, 16384, 5)):
    sid = request("POST", "/session/", {"base_image": IMAGE}).json["session_id"]
    got = [send(sid, archive("a%d" % i, files, size)) for i in range(fit)]
    names = "".join("a%d " % i for i in range(fit))
    eq(([s for s, _ in got], got[-1][1]), ([200] * fit, names), "%s: %d archives are taken" % (form, fit))
    code, why = send(sid, archive("more", files, size))
    ok(code == 413 and "session_archives_max_bytes" in str(why), "%s: one more is not" % form, code, why)
    a = request("POST", "/session/%s/" % sid, {"commands": ["ls | tr '\\n' ' '"]})
    eq(a.json["results"][0]["output"], names, "%s: and what was there is there" % form)
    request("DELETE", "/session/%s/" % sid)

sid = request("POST", "/session/", {"base_image": IMAGE}).json["session_id"]
same = archive("same", 2100, 16384)
eq({send(sid, same) for i in range(9)}, {(200, "same ")}, "the same one is taken as often as one likes: what it hides goes")
request("DELETE", "/session/%s/" % sid)
done()
