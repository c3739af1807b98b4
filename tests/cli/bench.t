#!/usr/bin/python3
"""cgibox bench, in few rounds: it measures, prints its tables, and writes between its marks alone. TAP.

CGIBOX names the program (default build/cgibox); `make bench-programs` builds what it needs.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from tap import done, ok  # noqa: E402

PROGRAM = os.environ.get("CGIBOX") or os.path.join(HERE, "../../build/cgibox")


def row(text, label):
    """The cells of a table's row."""
    for line in text.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if line.startswith("|") and cells[0].startswith(label):
            return cells
    return []


def milliseconds(text, label):
    try:
        return float(row(text, label)[1].split()[0])
    except (IndexError, ValueError):
        return -1


top = tempfile.mkdtemp(prefix="cgibox-bench-test.")
try:
    file = os.path.join(top, "b.md")
    with open(file, "w") as f:
        f.write("before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n")
    p = subprocess.run([PROGRAM, "bench", "--quick", "--passes", "1", "--write", file, "launch", "body", "memory", "trees"],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
    ok(p.returncode == 0, "cgibox bench ends with 0", p.returncode, p.stderr, p.stdout)
    with open(file) as f:
        text = f.read()
    ok(text.startswith("before\n<!-- bench: begin -->\n") and text.endswith("\n<!-- bench: end -->\nafter\n") and "\nold\n" not in text,
       "what lies between the marks is replaced, the rest is as it was", text)
    for label in ("posix_spawn, two pipes", "cgibox library, cold, own network", "cgibox library, parked", "cgibox library, exec into a live",
                  "cgibox run --rootfs", "cgibox: time", "cgibox, tar.gz", "1000 files, plain form", "parked sandbox, with a network namespace: PSS"):
        ok(milliseconds(p.stdout, label) > 0, "measured: " + label, p.stdout, p.stderr)
    ok(milliseconds(p.stdout, "cgibox library, cold, own network") > milliseconds(p.stdout, "cgibox library, exec into a live"),
       "a cold start takes longer than a live sandbox", p.stdout)
    claim = row(p.stdout, "library launch, static `true`, fresh network")
    ok(len(claim) == 6 and float(claim[1]) > 1 and claim[3] == "7.50" and claim[5], "a floor has its verdict", claim)
    ok("Not compared" in p.stdout or shutil.which("nsjail"), "what is missing is named", p.stdout)
    svg = xml.etree.ElementTree.parse(os.path.join(top, "b.svg")).getroot()
    ok(len(svg.findall("{http://www.w3.org/2000/svg}rect")) >= 5, "the plot is SVG and has bars")
    p = subprocess.run([PROGRAM, "bench", "nothing"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ok(p.returncode == 2 and "no section" in p.stderr, "an unknown section is an error", p.returncode, p.stderr)
finally:
    shutil.rmtree(top, ignore_errors=True)
done()
