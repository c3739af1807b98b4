#!/usr/bin/python3
"""Dependencies of KWeaver sessions: what is refused before anything is installed, and where nothing can be.

It runs twice: deps.py starts it a second time, behind a service that installs from an index (CGIBOX_DEPS_INDEX).
"""
import os
import signal
import subprocess
import sys
import urllib.request

import client
from client import done, eq, ok, request

API = "/api/v1"
INDEX = os.environ.get("CGIBOX_DEPS_INDEX")


def post(path, body=None):
    return request("POST", API + path, body, timeout=300)


def get(path):
    return request("GET", API + path)


def faults(a):
    return a.status, [(p["type"], p["loc"]) for p in a.detail] if isinstance(a.detail, list) else a


post("/templates", {"id": "kwd", "name": "x", "image_url": client.IMAGE, "runtime_type": "python3.11"})
BAD = ((1, [("list_type", ["body", "dependencies"])]),
       ([1], [("model_attributes_type", ["body", "dependencies", 0])]),
       ([{}], [("missing", ["body", "dependencies", 0, "name"])]),
       ([{"name": ""}], [("string_too_short", ["body", "dependencies", 0, "name"])]),
       ([{"name": "x" * 101}], [("string_too_long", ["body", "dependencies", 0, "name"])]),
       ([{"name": "ok"}, {"name": "a b"}], [("value_error", ["body", "dependencies", 1, "name"])]),
       ([{"name": "--index-url"}, {"name": "git+ssh://x"}], [("value_error", ["body", "dependencies", 1, "name"])]),
       ([{"name": "ok", "version": 1}], [("string_type", ["body", "dependencies", 0, "version"])]),
       ([{"name": "p%d" % i} for i in range(51)], [("too_long", ["body", "dependencies"])]))
for value, want in BAD:
    eq(faults(post("/sessions", {"template_id": "kwd", "dependencies": value})), (422, want), "422: %s" % str(value)[:50])
a = post("/sessions", {"template_id": "kwd", "dependencies": [], "id": "kwdeps"})
eq((a.status, a.json["dependency_install_status"], a.json["requested_dependencies"]), (201, "completed", []), "none are there at once")
I = "/sessions/kwdeps/dependencies/install"
for value, want in BAD + (([], [("too_short", ["body", "dependencies"])]),):
    eq(faults(post(I, {"dependencies": value})), (422, want), "install: 422: %s" % str(value)[:50])
eq(faults(post(I, {})), (422, [("missing", ["body", "dependencies"])]), "install nothing")
a = post("/sessions/none/dependencies/install", {"dependencies": [{"name": "x"}]})
eq((a.status, a.json["message"]), (404, "Session not found: none"), "for no session")
before = get("/sessions/kwdeps").json
for spec in ({"name": "--target"}, {"name": "ok", "version": "; rm -rf /"}, {"name": "ok", "version": "@ file:///etc/passwd"},
             {"name": "ok", "version": "==1 --hash=x"}):
    a = post(I, {"dependencies": [spec]})
    eq(a.status, 400, "no requirement: %s" % spec)
    eq(post("/sessions", {"template_id": "kwd", "dependencies": [spec]}).status, 400, "nor when a session is made")
for url in ("file:///etc", "http://user:pw@host/simple", "ftp://host/"):
    eq(post(I, {"dependencies": [{"name": "ok"}], "python_package_index_url": url}).status, 400, "no index: " + url)


def same(a, b):
    return {k: v for k, v in a.items() if k != "updated_at"} == {k: v for k, v in b.items() if k != "updated_at"}


ok(same(get("/sessions/kwdeps").json, before), "the session is as it was", get("/sessions/kwdeps"))
def settled(sid, seconds=300):
    """The session when nothing is being installed for it."""
    def look():
        try:
            a = get("/sessions/" + sid)
        except OSError:
            return None  # workers are being replaced
        return a if a.status == 200 and a.json["dependency_install_status"] != "installing" else None

    return client.wait_for(look, seconds, 0.2) or get("/sessions/" + sid)


def worker_deaths():
    """Kills all processes of the service that serve requests; the keeper stays."""
    all_ = client.processes()
    fcgi = {p: v for p, v in all_.items() if client.STATE in client.cmdline(p) and os.path.basename(client.cmdline(p)[0]) == "cgibox.fcgi"}
    keepers = {p for p, v in fcgi.items() if v[2] == "cgibox-keeper"}
    leaves = [p for p, v in fcgi.items() if p not in keepers and v[0] not in keepers and v[0] in fcgi and p not in {x[0] for x in fcgi.values()}]
    for p in leaves:
        os.kill(p, signal.SIGKILL)
    return leaves


if not INDEX:
    a = post(I, {"dependencies": [{"name": "demo"}]})
    ok(a.status == 503 and a.detail, "503 where there is no network to install from", a)
    a = post("/sessions", {"template_id": "kwd", "dependencies": [{"name": "demo"}]})
    ok(a.status in (400, 503) and a.detail, "nor is a session made", a)
    ok(same(get("/sessions/kwdeps").json, before), "and the session is as it was", get("/sessions/kwdeps"))
else:
    def what(sid, code):
        a = post("/executions/sessions/%s/execute-sync" % sid, {"code": code, "language": "python"})
        return a.json.get("return_value") if a.status == 200 else a

    DEMO = "import demo\ndef handler(e): return demo.WHAT"
    a = post("/sessions", {"template_id": "kwd", "dependencies": [{"name": "demo", "version": "1.0"}], "id": "kwdep2",
                           "python_package_index_url": INDEX + "/simple/"})
    eq((a.status, a.json["status"], a.json["requested_dependencies"]), (201, "creating", [{"name": "demo", "version": "1.0"}]), "a session with dependencies")
    a = settled("kwdep2")
    eq((a.json["status"], a.json["dependency_install_status"]), ("running", "completed"), "which has them in the end")
    eq([(d["name"], d["version"]) for d in a.json["installed_dependencies"]], [("demo", "1.0")], "what is installed")
    eq(what("kwdep2", DEMO), "one", "and seen by its code")
    I = "/sessions/kwdep2/dependencies/install"
    a = post(I, {"dependencies": [{"name": "other"}]})
    eq((a.status, [d["name"] for d in a.json["requested_dependencies"]]), (200, ["demo", "other"]), "one more: the merged set")
    settled("kwdep2")
    eq(what("kwdep2", "import demo, other\ndef handler(e): return demo.WHAT + other.WHAT"), "oneother", "both are seen")
    a = post(I, {"dependencies": [{"name": "Demo", "version": ">=2"}]})
    settled("kwdep2")
    eq((a.status, what("kwdep2", DEMO)), (200, "two"), "another version takes the place of the first")
    before = get("/sessions/kwdep2").json
    a = post(I, {"dependencies": [{"name": "nosuchthing"}]})
    eq((a.status, "nosuchthing" in a.detail), (400, True), "what the index does not have")
    ok(same(get("/sessions/kwdep2").json, before), "rolled back", get("/sessions/kwdep2"))
    eq(what("kwdep2", DEMO), "two", "and its code sees what it saw")
    a = post("/sessions", {"template_id": "kwd", "dependencies": [{"name": "nosuchthing"}], "id": "kwdep3",
                           "python_package_index_url": INDEX + "/simple/"})
    eq((a.status, settled("kwdep3").json["status"]), (201, "failed"), "a session whose dependencies cannot be had")
    a = settled("kwdep3")
    eq((a.json["dependency_install_status"], bool(a.json["completed_at"])), ("failed", True), "has ended")
    ok("nosuchthing" in a.json["dependency_install_error"], "says why", a)
    a = post("/sessions", {"template_id": "kwd", "dependencies": [{"name": "nosuchthing"}], "id": "kwdep4", "fail_on_dependency_error": False,
                           "python_package_index_url": INDEX + "/simple/"})
    a = settled("kwdep4")
    eq((a.json["status"], a.json["dependency_install_status"]), ("running", "failed"), "unless it may run without")
    # --- what takes long is not awaited
    before = get("/sessions/kwdep2").json
    a = post("/sessions", {"template_id": "kwd", "dependencies": [{"name": "slow"}, {"name": "slower"}], "id": "kwdep5",
                           "python_package_index_url": INDEX + "/simple/"})
    eq((a.status, a.json["status"], a.json["dependency_install_status"], bool(a.json["dependency_install_started_at"]), a.json["dependency_install_completed_at"]),
       (201, "creating", "installing", True, None), "a session whose dependencies the index holds back is being made")
    eq(post("/executions/sessions/kwdep5/execute", {"code": "true", "language": "shell"}).status, 409, "nothing runs in it")
    eq(post("/sessions/kwdep5/dependencies/install", {"dependencies": [{"name": "demo"}]}).status, 409, "nor is more installed")
    eq([x["status"] for x in get("/sessions?status=creating").json["items"]], ["creating"], "it is in the list of those that are being made")
    a = post(I, {"dependencies": [{"name": "slow"}, {"name": "slower"}]})
    eq((a.status, a.json["dependency_install_status"], a.json["installed_dependencies"]), (200, "installing", before["installed_dependencies"]),
       "a session that is there gets them later, too (kweaver_install_wait_s)")
    eq(what("kwdep2", DEMO), "two", "and goes on with what it has")
    eq(post(I, {"dependencies": [{"name": "demo"}]}).status, 409, "one installation at a time")
    p = worker_deaths()
    ok(p, "control: workers are killed", p)
    urllib.request.urlopen(INDEX + "/go").close()
    for sid in ("kwdep5", "kwdep2"):
        a = settled(sid)
        eq((a.json["status"], a.json["dependency_install_status"]), ("running", "completed"), "it gets them all the same")
        eq(what(sid, "import slower\ndef handler(e): return slower.WHAT"), "slower", "and its code sees them")
    eq(what("kwdep2", DEMO), "two", "beside those from before")
    eq(get("/sessions?status=creating").json["total"], 0, "none is being made any more")
for x in ("kwdeps", "kwdep2", "kwdep3", "kwdep4", "kwdep5"):
    request("DELETE", API + "/sessions/" + x)
request("DELETE", API + "/templates/kwd")
if not INDEX and client.can("dependencies"):
    here = os.path.abspath(__file__)
    r = subprocess.run([sys.executable, os.path.join(os.path.dirname(here), "deps.py")], env=dict(os.environ, CGIBOX_DEPS_TEST=here),
                       stdout=subprocess.PIPE, text=True)
    ok(r.returncode == 0 and "- and seen by its code" in r.stdout, "behind an index: %d more" % r.stdout.count("\nok "), r.stdout[-3000:])
done()
