"""A directory as an archive to send."""
from __future__ import annotations

import fnmatch
import io
import os
import subprocess
import tarfile
from typing import Iterable, Optional


def names(directory: str, exclude: Iterable[str], all: bool) -> list[str]:
    """Files, links and directories below directory, sorted. Without all, in a git work tree, what git would take."""
    if not all:
        listed = git_names(directory)
        if listed is not None:
            return sorted(n for n in listed if os.path.lexists(os.path.join(directory, n)) and not excluded(n, exclude))
    out = []
    for at, dirs, files in os.walk(directory):
        here = os.path.relpath(at, directory)
        dirs[:] = sorted(d for d in dirs if d != ".git" and not excluded(os.path.normpath(os.path.join(here, d)), exclude))
        out += [os.path.normpath(os.path.join(here, n)) for n in dirs + files]
    return sorted(n for n in out if not excluded(n, exclude))


def excluded(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(name, p) or fnmatch.fnmatch(os.path.basename(name), p) for p in patterns)


# What a sandbox made may lie in the directory and look like a bare repository, whose settings name programs. The first
# is of git 2.38; the second names the setting that ls-files acts on, for an older one.
GIT = ("git", "-c", "safe.bareRepository=explicit", "-c", "core.fsmonitor=false")


def git_names(directory: str) -> Optional[list[str]]:
    """Tracked files and those that are neither tracked nor ignored; None when this is no work tree."""
    try:
        r = subprocess.run([*GIT, "-C", directory, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return None
    return [os.fsdecode(n) for n in set(r.stdout.split(b"\0")) if n] if r.returncode == 0 else None


def pack(directory: str, exclude: Iterable[str] = (), all: bool = False) -> bytes:
    """
    A tar.gz of a directory: regular files, directories and links of both kinds, without .git. In a git work tree files that git ignores are left
    out unless all is set.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1, format=tarfile.PAX_FORMAT) as t:
        for name in names(directory, tuple(exclude), all):
            ti = t.gettarinfo(os.path.join(directory, name), name)
            if ti is None:  # a socket
                continue
            ti.uid = ti.gid = 0
            ti.uname = ti.gname = ""
            if ti.isreg():
                with open(os.path.join(directory, name), "rb") as f:
                    t.addfile(ti, f)
            elif ti.isdir() or ti.issym() or ti.islnk():
                t.addfile(ti)
    return out.getvalue()
