#!/usr/bin/python3
"""The command line at first sight: help, what is wrong with a wrong one, and where a person's images are. TAP."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from tap import done, eq, ok  # noqa: E402

PROGRAM = os.environ.get("CGIBOX") or os.path.join(HERE, "../../build/cgibox")
TOP = tempfile.mkdtemp(dir="/var/tmp", prefix="cgibox-usage-")


def run(*args, **env):
    env.setdefault("CGIBOX_STATE_DIR", os.path.join(TOP, "state"))
    r = subprocess.run([PROGRAM, *args], env=dict(env, PATH=os.environ["PATH"]), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=300)
    return r.returncode, r.stdout, r.stderr


# --- help is on standard output and no error
for words in ("--help", "-h", "help", "config --help", "version --help", "run --help", "image --help", "image pull --help", "doctor --help", "remote --help",
              "remote run --help", "remote session --help", "remote files --help", "remote images --help"):
    code, out, said = run(*words.split())
    ok(code == 0 and out.startswith("usage: cgibox") and not said, "cgibox " + words, code, out[:200], said)
for words in ("version", "--version"):
    code, out, said = run(*words.split())
    ok(code == 0 and out.startswith("cgibox ") and not said, "cgibox " + words, code, out, said)

# --- what is wrong is named before the usage
for words, want in (
        ("frob", 'cgibox: unknown command "frob"'), ("--frob run", 'cgibox: unknown option "--frob"'), ("--state", 'cgibox: a value is missing behind "--state"'), ("config x", "cgibox: config takes no arguments"),
        ("version x", "cgibox: version takes no arguments"), ("run", "cgibox: no program is named"), ("run --frob", 'cgibox: unknown option "--frob"'),
        ("image frob", 'cgibox image: unknown verb "frob"'), ("image pull", "cgibox image: too few arguments for pull"),
        ("image ls x", "cgibox image: too many arguments for ls"), ("image pull --frob x", 'cgibox image: "--frob" is no option here'),
        ("image ls --repair", 'cgibox image: "--repair" is no option here'), ("image --conf", "cgibox image: --conf needs a value"),
        ("image pull --platform x y", 'cgibox image: --platform: "x" is not OS/ARCH[/VARIANT]'),
        ("image pull --platform=x y", 'cgibox image: --platform: "x" is not OS/ARCH[/VARIANT]'), ("doctor --frob", 'cgibox doctor: "--frob" is no option'),
        ("doctor --conf", 'cgibox doctor: "--conf" needs a value'), ("doctor x", 'cgibox doctor: "x" is too much: there are no arguments'),
        ("doctor --state here", 'cgibox doctor: "here" is not an absolute path'), ("remote frob", "invalid choice: 'frob'"), ("remote run", "run: no command")):
    code, out, said = run(*words.split())
    ok(code == 64 and want in said and not out, "cgibox %s: %s" % (words, want), code, out, said)
code, out, said = run()
ok(code == 64 and said.startswith("usage: cgibox") and not out, "nothing at all: the usage", code, said)

# --- the state directory of a person
home = os.path.join(TOP, "home")
os.mkdir(home)
mine = os.path.join(home, ".local/state/cgibox")


def state(**env):
    """(what config says, the messages)"""
    code, out, said = run("config", CGIBOX_STATE_DIR="", **env)
    return [line[12:] for line in out.split("\n") if line.startswith("state_dir = ")], said


if os.getuid() and not os.path.exists("/var/lib/cgibox"):
    eq(state(HOME=home), ([mine], ""), "below the home, where there is no /var/lib/cgibox")
    eq(os.stat(os.path.dirname(mine)).st_mode & 0o777, 0o700, "what is above it is made")
    code, out, said = run("run", "--", "/bin/true", CGIBOX_STATE_DIR="", HOME=home)
    ok(code == 0 and os.listdir(mine), "cgibox run works before anybody has made anything", code, said)
    eq(run("image", "ls", CGIBOX_STATE_DIR="", HOME=home)[0], 0, "cgibox image, too")
    eq(state(HOME=home, XDG_STATE_HOME=TOP + "/xdg"), ([TOP + "/xdg/cgibox"], ""), "XDG_STATE_HOME wins")
    eq(state(HOME=home, XDG_STATE_HOME="relative"), ([mine], ""), "unless it is relative")
    for bad in ("/nonexistent", "", "relative", "/usr"):
        eq(state(HOME=bad), (["/var/lib/cgibox"], ""), "no home: HOME=%s" % bad)
    code, out, said = run("image", "ls", CGIBOX_STATE_DIR="", HOME="/nonexistent")
    ok(code == 71 and 'make the state directory "/var/lib/cgibox" (--state or state_dir names another): Permission denied' in said, "then it says what to do",
       code, said)
else:
    ok(True, "the state directory of a person # SKIP root has another, and so have those where there is a service")
conf = os.path.join(TOP, "conf")
with open(conf, "w", encoding="utf-8") as f:
    f.write("state_dir = /var/lib/cgibox\n")
eq(run("--conf", conf, "config", CGIBOX_STATE_DIR="", HOME=home)[1].count("state_dir = /var/lib/cgibox\n"), 1, "one that is named is taken, there or not")
subprocess.run(["chmod", "-R", "u+rwX", TOP], check=False)  # overlayfs leaves directories of mode 000
shutil.rmtree(TOP, ignore_errors=True)
done()
