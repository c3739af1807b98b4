"""A small Debian root of this machine's release, from the mirror that this machine's apt is set to. Made once and kept where
tests/vm/run keeps its guest, $XDG_CACHE_HOME/cgibox (root: /var/cache/cgibox); DEBIAN_ROOT names another file."""
import os
import shutil
import subprocess

CACHE = "/var/cache" if os.getuid() == 0 else os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")


def sources():
    """apt's lines for release, updates and security, component main."""
    with open("/etc/os-release") as f:
        release = [x.split("=", 1)[1].strip().strip('"') for x in f if x.startswith("VERSION_CODENAME=")]
    p = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
                       capture_output=True, text=True)
    wanted = [x + y for x in release for y in ("", "-updates", "-security")]
    found = sorted({tuple(x.split()) for x in p.stdout.splitlines()})
    return release, ["deb %s %s main" % x[:2] for x in found if len(x) == 3 and x[1] in wanted and x[2] == "main"]


def settings():
    """What apt needs to reach it: proxies, certificates."""
    p = subprocess.run(["apt-config", "dump"], capture_output=True, text=True)
    return [x for x in p.stdout.splitlines() if x.startswith(("Acquire::http", "Acquire::https")) and not x.endswith(' "";')]


def root():
    """(path of a tar file, None) or (None, why not)."""
    for tool in ("mmdebstrap", "apt-get", "apt-config"):
        if not shutil.which(tool):
            return None, "%s is not installed" % tool
    release, lines = sources()
    path = os.environ.get("DEBIAN_ROOT") or os.path.join(CACHE, "cgibox", "debian-%s.tar.gz" % "".join(release))
    if os.path.exists(path):
        return path, None
    if not any(x.endswith("%s main" % r) for r in release for x in lines):
        return None, "this machine's apt has no mirror of its own release"
    print("# making %s, once: this takes minutes" % path, flush=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = os.path.join(os.path.dirname(path), "new-%d-%s" % (os.getpid(), os.path.basename(path)))
    args = ["mmdebstrap", "--variant=minbase", "--include=ca-certificates"]
    args += ["--aptopt=" + x for x in settings()]
    p = subprocess.run(args + [release[0], new, *lines], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if p.returncode:
        if os.path.exists(new):
            os.unlink(new)
        return None, "mmdebstrap: " + (p.stderr.strip().splitlines() or ["no reason given"])[-1]
    os.chmod(new, 0o644)
    os.rename(new, path)
    return path, None
