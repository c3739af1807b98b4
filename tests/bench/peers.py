"""The programs that others would start a sandbox with: command lines, bundles, versions."""
import json
import os
import shutil
import subprocess


def first_line(*args):
    """The first line that says a version, or None when the program is not there."""
    try:
        p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (p.stdout.strip().splitlines() or [""])[0]


def versions():
    """name -> what it says of itself; only of what is installed."""
    asked = {"bwrap": ["bwrap", "--version"], "crun": ["crun", "--version"], "runc": ["runc", "--version"],
             "dockerd": ["dockerd", "--version"], "lighttpd": ["lighttpd", "-v"], "nginx": ["nginx", "-v"], "bsdtar": ["bsdtar", "--version"],
             "GNU tar": ["tar", "--version"], "Python": ["/usr/bin/python3", "--version"],
             "FastAPI": ["/usr/bin/python3", "-c", "import fastapi; print(fastapi.__version__)"],
             "uvicorn": ["/usr/bin/python3", "-c", "import uvicorn, uvicorn.protocols.http.auto as a; print(uvicorn.__version__, a.AutoHTTPProtocol.__name__)"],
             "jansson": ["pkg-config", "--modversion", "jansson"]}
    out = {name: first_line(*args) for name, args in asked.items()}
    return {n: v for n, v in out.items() if v and "Error" not in v and "not found" not in v}


def bwrap(root, *command, before=()):
    """All namespaces, the same root, /dev, /proc and /tmp, no capabilities."""
    return ["bwrap", "--unshare-all", *before, *([] if "/" in before else ["--ro-bind", root, "/"]), "--proc", "/proc", "--dev", "/dev", "--tmpfs",
            "/tmp", "--cap-drop", "ALL", "--die-with-parent", "--new-session", *command]


def bwrap_overlay(root):
    """The options for an overlay with its upper in memory, which bwrap has since 0.11; None where it has not."""
    said = subprocess.run(["bwrap", "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    return ["--overlay-src", root, "--tmp-overlay", "/"] if "--tmp-overlay" in said else None


def nsjail(root, *command):
    return ["nsjail", "-Mo", "-q", "--chroot", root, "--disable_proc", "--", *command]


def oci(place, runtime, command):
    """The command line that runs a command by an OCI runtime, rootless; writes the bundle."""
    bundle = place.make_dir("bundle-%s-%s" % (runtime, os.path.basename(command[0])))
    place.run([runtime, "spec", "--rootless"], cwd=bundle)
    path = os.path.join(bundle, "config.json")
    with open(path) as f:
        spec = json.load(f)
    spec["root"] = {"path": place.root, "readonly": True}
    spec["process"].update(args=list(command), terminal=False, env=["PATH=/usr/bin:/bin"])
    kinds = [n["type"] for n in spec["linux"]["namespaces"]]
    spec["linux"]["namespaces"] += [{"type": k} for k in ("network", "cgroup") if k not in kinds]
    spec["linux"].pop("resources", None)
    os.remove(path)
    with open(path, "w") as f:
        json.dump(spec, f)
    return [runtime, "--root", place.make_dir("state-" + runtime), "run", "--bundle", bundle, "bench-" + runtime]


def usable(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None
