#!/usr/bin/python3
"""The control plane of the KWeaver sandbox: templates, sessions, health; bodies as the original's."""
import re
import threading

from client import IMAGE, done, eq, note, ok, request, sessions

API = "/api/v1"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$"


def get(path, **kw):
    return request("GET", API + path, **kw)


def post(path, body=None, **kw):
    return request("POST", API + path, body, **kw)


def put(path, body):
    return request("PUT", API + path, body)


def delete(path):
    return request("DELETE", API + path)


def problems(a):
    """(status, [(type, loc, msg)]) of a 422."""
    d = a.detail if isinstance(a.detail, list) else []
    return a.status, [(x["type"], x["loc"], x["msg"]) for x in d]


THEIRS = sessions()
# --- health
a = get("/health", key=None)
eq((a.status, a.json.get("status"), a.json.get("version")), (200, "healthy", "2.1.0"), "health")
ok(isinstance(a.json.get("uptime"), float), "and how long it is up", a)
a = get("/health/detailed")
eq(list(a.json), ["status", "version", "uptime", "dependencies"], "health in detail")
eq(a.json["dependencies"], {"database": "healthy", "storage": "healthy", "runtime_nodes": "healthy"}, "of its parts")
eq(get("/sessions", key=None).status, 403, "the key is asked for")
a = request("GET", "/", key=None)
eq((a.status, list(a.json), a.json["status"]), (200, ["name", "version", "status", "features", "documentation"], "operational"), "the root")
ok(re.match(r"\d+\.\d{3}$", a.headers["X-Process-Time"] or "") and a.headers["X-Request-Id"], "headers of every answer", a.headers)
eq((a.headers["Access-Control-Allow-Origin"], request("OPTIONS", API + "/sessions").status), (None, 405), "closed to other origins")
a = post("/health/sync")
eq((a.status, list(a.json), a.json["status"]), (200, ["status", "running", "ended", "failed"], "success"), "looking at all sessions")

# --- templates
a = get("/templates")
eq((a.status, [t["id"] for t in a.json]), (200, ["python-basic"]), "the first template is there, in a plain array")
NAMES = ["id", "name", "image_url", "runtime_type", "default_cpu_cores", "default_memory_mb", "default_disk_mb",
         "default_timeout_sec", "default_env_vars", "is_active", "created_at", "updated_at"]
eq(list(a.json[0]), NAMES, "members of a template")
T = {"id": "t1", "name": "Zeta", "image_url": IMAGE, "runtime_type": "python3.11"}
a = post("/templates", T)
eq((a.status, list(a.json)), (201, NAMES), "a template is made")
eq([a.json[k] for k in NAMES[:10]], ["t1", "Zeta", IMAGE, "python3.11", 0.5, 512, 1024, 300, None, True], "with defaults")
ok(re.match(TIME, a.json["created_at"]), "and a naive time", a.json["created_at"])
a = post("/templates", T)
eq((a.status, a.json), (409, {"error": "Conflict", "message": "Template ID already exists: t1",
                              "detail": "Template ID already exists: t1"}), "once")
a = post("/templates", dict(T, id="t0", name="Alpha", runtime_type="nodejs20", default_env_vars={"A": "1"},
                            default_cpu_cores=2, default_memory_mb=128, default_timeout=60))
eq((a.status, a.json["runtime_type"], a.json["default_env_vars"], a.json["default_cpu_cores"], a.json["default_timeout_sec"]),
   (201, "nodejs20", {"A": "1"}, 2.0, 60), "what was asked for is kept")
eq([t["name"] for t in get("/templates").json], ["Alpha", "Python Basic", "Zeta"], "the list is by name")
eq([t["name"] for t in get("/templates?limit=1&offset=1").json], ["Python Basic"], "a page of it")
eq(problems(get("/templates?limit=x"))[0], 422, "a limit that is no number")
for change, want in ((dict(default_cpu_cores=4.5), ("less_than_equal", ["body", "default_cpu_cores"], "Input should be less than or equal to 4")),
                     (dict(default_memory_mb=127), ("greater_than_equal", ["body", "default_memory_mb"], "Input should be greater than or equal to 128")),
                     (dict(id=""), ("string_too_short", ["body", "id"], "String should have at least 1 character")),
                     (dict(id="x" * 65), ("string_too_long", ["body", "id"], "String should have at most 64 characters")),
                     (dict(runtime_type="perl"), ("literal_error", ["body", "runtime_type"],
                                                  "Input should be 'python3.11', 'nodejs20', 'java17' or 'go1.21'"))):
    eq(problems(post("/templates", dict(T, **change))), (422, [want]), "422: %s" % list(change)[0])
eq(problems(post("/templates", {}))[1], [("missing", ["body", x], "Field required") for x in ("id", "runtime_type", "name", "image_url")],
   "what is missing")
ok("too large" in str(post("/templates", dict(T, id="big", default_env_vars={"A": "x" * 65534})).json), "422: variables over environment_max_bytes")
a = post("/templates", dict(T, id="full", default_env_vars={"A": "x" * 65533}))
eq((a.status, "too large" in str(put("/templates/full", {"default_env_vars": {"A": "x" * 65534}}).json)), (201, True), "as many as it says are taken")
eq([post("/templates", dict(T, id="more%d" % i)).status for i in range(9)], [201] * 8 + [503], "as many templates as kweaver_templates_max says")
eq([delete("/templates/more%d" % i).status for i in range(8)] + [delete("/templates/full").status], [200] * 9, "they go")
eq(get("/templates/t1").json["name"], "Zeta", "one template")
NONE = {"error": "Not Found", "message": "Template not found: none", "detail": "Template not found: none"}
for what, a in (("GET", get("/templates/none")), ("PUT", put("/templates/none", {})), ("DELETE", delete("/templates/none"))):
    eq((a.status, a.json), (404, NONE), "%s of none" % what)
a = put("/templates/t1", {"name": "Beta", "default_env_vars": {"X": "y"}, "default_disk_mb": None})
eq((a.status, a.json["name"], a.json["default_env_vars"], a.json["default_disk_mb"], list(a.json)),
   (200, "Beta", {"X": "y"}, 1024, NAMES), "a template is changed")
ok(a.json["updated_at"] > a.json["created_at"], "and says when", a)
a = delete("/templates/t0")
eq((a.status, a.json), (200, {"message": "Template deleted successfully"}), "a template is deleted")
eq(get("/templates/t0").status, 404, "and gone")
evil = "..%2f..%2f%27%3b--"
eq(get("/templates/" + evil).status, 404, "an id is a name and no path")
eq(get("/templates/" + "x" * 900).status, 404, "nor is a long one cut")

# --- sessions
S = ["id", "template_id", "status", "resource_limit", "workspace_path", "language_runtime", "runtime_type", "runtime_node",
     "container_id", "pod_name", "env_vars", "timeout", "python_package_index_url", "requested_dependencies",
     "installed_dependencies", "dependency_install_status", "dependency_install_error", "dependency_install_started_at",
     "dependency_install_completed_at", "created_at", "updated_at", "completed_at", "last_activity_at"]
a = post("/sessions", {"template_id": "t1", "env_vars": {"TOKEN": "v"}, "timeout": 60})
eq(a.status, 201, "a session is made")
s = a.json
eq(list(s), S, "members of a session")
ok(re.match(r"sess_\d{8}_[0-9a-f]{8}$", s["id"]), "its id", s["id"])
eq((s["status"], s["template_id"], s["env_vars"], s["timeout"], s["language_runtime"], s["container_id"]),
   ("creating", "t1", {"TOKEN": "v"}, 60, "python", "sandbox-" + s["id"]), "its state")
eq((s["resource_limit"]["cpu"], s["resource_limit"]["memory"]), ("0.5", "512Mi"), "limits of the template")
eq(get("/sessions/" + s["id"]).json, dict(s, status="running"), "it can be read, and runs")
named = "../a b%s" % chr(233)
a = post("/sessions", {"template_id": "python-basic", "id": named, "memory": "256Mi"})
eq((a.status, a.json.get("id"), a.json.get("resource_limit", {}).get("memory")), (201, named, "256Mi"), "an id of the client's")
a = post("/sessions", {"template_id": "python-basic", "id": named})
eq((a.status, a.json), (409, {"detail": "Session ID already exists: " + named}), "once")
eq(get("/sessions/..%2Fa%20b%C3%A9").json["id"], named, "and found under it")
a = post("/sessions", {"template_id": "python-basic", "resources": {"cpu": "1", "memory": "300Mi", "disk": "1Gi"}})
eq((a.status, a.json["resource_limit"]["memory"]), (201, "300Mi"), "limits may be in \"resources\"")
for body, text in (({"template_id": "none"}, "Template not found: none"),
                   ({"template_id": "t1", "memory": "10X"}, "Invalid memory format: 10X"),
                   ({"template_id": "t1", "memory": "99999999999Gi"}, "Invalid memory format: 99999999999Gi"),
                   ({"template_id": "t1", "disk": "1"}, "Invalid disk format: 1")):
    a = post("/sessions", body)
    eq((a.status, a.json), (400, {"detail": text}), text)
post("/templates", dict(T, id="absent", image_url="no.such/image:1"))
a = post("/sessions", {"template_id": "absent", "id": "never"})
eq(a.status, 400, "a template whose image is not there")
ok(get("/sessions/never").status == 404 and "never" not in [x["id"] for x in get("/sessions?limit=1000").json["items"]], "makes no session")
for body, want in (({}, [("missing", ["body", "template_id"], "Field required")]),
                   ({"template_id": "t1", "timeout": 3601}, [("less_than_equal", ["body", "timeout"], "Input should be less than or equal to 3600")]),
                   ({"template_id": "t1", "env_vars": {"A": 1}}, [("string_type", ["body", "env_vars", "A"], "Input should be a valid string")])):
    eq(problems(post("/sessions", body)), (422, want), "422: %s" % body)
eq(problems(post("/sessions", {"template_id": "t1", "cpu": "many"}))[0], 422, "422: cpu")

a = get("/sessions?limit=2")
eq((a.status, list(a.json)), (200, ["items", "total", "limit", "offset", "has_more"]), "a list of sessions")
eq((len(a.json["items"]), a.json["total"], a.json["limit"], a.json["offset"], a.json["has_more"]), (2, 3, 2, 0, True), "a page")
eq(a.json["items"][1]["id"], named, "the newest first")
eq([x["id"] for x in get("/sessions?offset=2").json["items"]], [s["id"]], "the last page")
eq(get("/sessions?limit=1000").json["limit"], 200, "a limit is clamped")
eq([x["id"] for x in get("/sessions?template_id=t1").json["items"]], [s["id"]], "by template")
eq(get("/sessions?status=nonsense").json["items"], [], "an unknown status matches nothing")
eq(get("/sessions?status=running").json["total"], 3, "by status")

eq(post("/health/sync").json, {"status": "success", "running": 3, "ended": 0, "failed": 0}, "all of them are looked at")
a = post("/sessions/%s/terminate" % s["id"])
eq((a.status, a.json["status"], list(a.json)), (200, "terminated", S), "a session is terminated")
ok(re.match(TIME, a.json["completed_at"] or ""), "and says when", a)
eq(post("/sessions/%s/terminate" % s["id"]).json, a.json, "again: the same")
eq(get("/sessions?status=terminated").json["total"], 1, "it is listed as such")
eq(delete("/sessions/" + s["id"]).status, 204, "a session is deleted")
a = delete("/sessions/" + s["id"])
eq((a.status, a.json["message"]), (404, "Session not found: " + s["id"]), "once")
eq(post("/sessions/none/terminate").status, 404, "terminate none")

# --- what is longer or deeper than an answer, or a document, would be
long = "x" * 4070
eq((get("/sessions/" + long).status, get("/sessions/" + long).json["message"][:17]), (404, "Session not found"), "no session of a very long name")
eq(get("/templates/" + long).status, 404, "no template of such a one")
for field in ("memory", "disk"):
    eq(post("/sessions", {"template_id": "t1", field: long * 2}).status, 400, "a very long " + field)
    eq(post("/sessions", {"template_id": "t1", "resources": {field: long * 2}}).status, 400, "in resources, too")
deep = 1
for _ in range(62):
    deep = [deep]
eq(post("/sessions", {"template_id": "t1", "id": "deep", "event": deep}).status, 201, "an event as deep as a body may be")
eq((get("/sessions/deep").status, get("/sessions").status), (200, 200), "can be read again")
eq(delete("/sessions/deep").status, 204, "and deleted")

# --- two requests for one id: one session
answers = []
threads = [threading.Thread(target=lambda: answers.append(post("/sessions", {"template_id": "t1", "id": "race"}).status)) for _ in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
eq(sorted(answers), [201] + [409] * 7, "eight requests for one id make one session")
for x in get("/sessions?limit=200").json["items"]:
    eq(request("DELETE", API + "/sessions/" + "".join("%%%02X" % b for b in x["id"].encode())).status, 204, "cleaned up")
eq(sessions() - THEIRS, set(), "none of ours is left over")
for t in ("t1", "absent", "python-basic"):
    delete("/templates/" + t)
eq(get("/templates").json, [], "a removed first template stays removed")
note("the original's defects that are right here: runtime_type and default_env_vars are echoed")
done()
