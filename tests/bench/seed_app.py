"""The usual design, to compare with: FastAPI and uvicorn, and bubblewrap started for each command. Same routes, same bodies, same
answers, same root, same shell as ours, and a directory for each session."""
import os
import subprocess
import uuid
from typing import List, Optional

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel

ROOT, WORK, KEY = os.environ["SEED_ROOT"], os.environ["SEED_WORK"], os.environ["KEY"]
app = FastAPI()


class Session(BaseModel):
    base_image: str
    ephemeral: bool = False
    extract_patch: bool = False


class Run(BaseModel):
    commands: List[str]
    fail_fast: bool = False
    timeout: Optional[int] = None
    workdir: Optional[str] = None


def check(key):
    if key != KEY:
        raise HTTPException(403, "Invalid API Key")


def run(directory, command):
    p = subprocess.run(["bwrap", "--unshare-all", "--ro-bind", ROOT, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind", directory, "/repo",
                        "--chdir", "/repo", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "/bin/bash", "-o", "pipefail", "-c", command],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    return {"command": command, "output": p.stdout.decode("utf-8", "replace"), "exit_code": p.returncode}


@app.post("/session/")
def create(spec: Session, x_api_key: str = Header()):
    check(x_api_key)
    sid = str(uuid.uuid4())
    os.mkdir(os.path.join(WORK, sid))
    return {"session_id": sid}


@app.post("/session/{sid}/")
def execute(sid: uuid.UUID, spec: Run, x_api_key: str = Header()):
    check(x_api_key)
    directory = os.path.join(WORK, str(sid))
    if not os.path.isdir(directory):
        raise HTTPException(404, "Session not found")
    results = []
    for command in spec.commands:
        results.append(run(directory, command))
        if spec.fail_fast and results[-1]["exit_code"]:
            break
    return {"results": results, "patch": None}


@app.get("/-/health/")
def health():
    return {"status": "ok"}
