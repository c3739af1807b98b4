#!/usr/bin/python3
"""The same requests on one backend: create, run, run with an archive and a patch, delete; memory of an idle live session.

	tests/http/run lighttpd tests/bench/backends.py			our own sandboxes
	tests/http/docker tests/bench/backends.py			containers
	tests/bench/backends.py --write				both, as root, and the table into docs/bench.md

Least and median of CGIBOX_BENCH_ROUNDS (30) in ms, as a row of a Markdown table. Memory: what MemAvailable falls by for each of
CGIBOX_BENCH_LIVE (10) live sessions, all processes for them included."""
import os
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MARKS = "<!-- backends: tests/bench/backends.py --write -->\n", "<!-- end of backends -->\n"


def rows(*command):
    """The two rows of the table that a run of this file prints."""
    p = subprocess.run([*command, os.path.abspath(__file__)], stdout=subprocess.PIPE, text=True, check=False)
    got = re.findall(r"^(?:# )*# (\| .* \|)$", p.stdout, re.M)
    if p.returncode or len(got) != 2:
        sys.exit("%s:\n%s" % (" ".join(command), p.stdout[-2000:]))
    return got


def write():
    http, doc = os.path.join(HERE, "..", "http"), os.path.join(HERE, "..", "..", "docs", "bench.md")
    head, isolate = rows("env", "CGIBOX_TEST_IMAGE=test-base", "CGIBOX_PROVE=-v", os.path.join(http, "run"), "lighttpd")
    table = [head, re.sub(r"[^|]+", "---", head), isolate, rows(os.path.join(http, "docker"))[1]]
    section = "## Backends\n\nThe same requests over lighttpd, the image test-base; least and median of %s.\n\n%s\n" % (
        os.environ.get("CGIBOX_BENCH_ROUNDS", "30"), "\n".join(table))
    with open(doc, encoding="utf-8") as f:
        old = f.read()
    before, _, rest = old.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    with open(doc, "w", encoding="utf-8") as f:
        f.write((before if rest else before.rstrip("\n") + "\n\n") + MARKS[0] + section + MARKS[1] + after)


if "--write" in sys.argv:
    write()
    sys.exit()

sys.path.insert(0, os.path.join(HERE, "..", "http"))
import client  # noqa: E402
from client import b64, create, ok, request, run, tar  # noqa: E402

ROUNDS = int(os.environ.get("CGIBOX_BENCH_ROUNDS", "30"))
LIVE = int(os.environ.get("CGIBOX_BENCH_LIVE", "10"))
archive = b64(tar({"d%d/f%d" % (i % 20, i): b"line\n" * 40 for i in range(500)}))
times = {"create": [], "run": [], "patch": [], "delete": []}


def timed(name, call, *args, **kw):
    begin = time.monotonic()
    a = call(*args, **kw)
    times[name].append(1000 * (time.monotonic() - begin))
    return a


def available():
    with open("/proc/meminfo") as f:
        return {x.split(":")[0]: int(x.split()[1]) for x in f}["MemAvailable"] / 1024


good = True
for _ in range(ROUNDS):
    sid = timed("create", request, "POST", "/session/", {"base_image": client.IMAGE, "extract_patch": True}).json["session_id"]
    good = timed("run", run, sid, ["true"]).status == 200 and good
    good = bool(timed("patch", run, sid, ["echo more >> d1/f1"], archive=archive).json.get("patch")) and good
    good = timed("delete", request, "DELETE", "/session/%s/" % sid).status in (200, 204) and good
before, live = available(), []
for _ in range(LIVE):
    live.append(create(live=True))
    run(live[-1], ["true"])
time.sleep(1)
memory = (before - available()) / LIVE
for sid in live:
    request("DELETE", "/session/%s/" % sid)
ok(good, "every request was served")
print("# | backend |", " | ".join("%s, ms" % n for n in times), "| a live session, MiB |")
print("# | %s |" % client.BACKEND, " | ".join("%.0f / %.0f" % (min(t), statistics.median(t)) for t in times.values()), "| %.1f |" % memory)
client.done()
