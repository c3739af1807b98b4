#!/usr/bin/python3
"""Status codes, texts, order of checks and 422 bodies of the daiv session API."""
import json
import socket
import uuid

import client
from client import KEY, IMAGE, create, delete, eq, ok, request, run

JSON = {"Content-Type": "application/json"}
UNKNOWN = str(uuid.uuid4())


def problem(a, kind, loc, msg=None, where=""):
    """a is a 422 whose list holds this problem."""
    d = a.detail
    if not ok(a.status == 422 and isinstance(d, list), "422 list: %s" % where, a):
        return
    hits = [p for p in d if p.get("type") == kind and p.get("loc") == loc]
    ok(len(hits) == 1, "%s: %s at %s" % (where, kind, loc), a)
    if hits and msg is not None:
        eq(hits[0].get("msg"), msg, "%s: text" % where)
    return hits[0] if hits else None


# --- health and version, no key needed ---
for path in ("/-/health/", "/-/health", "/api/v1/-/health/", "/api/v1/-/health"):
    a = request("GET", path, key=None)
    eq((a.status, a.body), (200, b'{"status":"ok"}'), "GET " + path)
    eq(a.headers["Content-Type"], "application/json", "content type of " + path)
a = request("GET", "/-/health/?x=1&y=%2f", key=None)
eq(a.status, 200, "a query is no part of the route")
for path in ("/-/version/", "/-/version", "/api/v1/-/version/"):
    a = request("GET", path, key=None)
    ok(a.status == 200 and (a.json or {}).get("version", "").startswith("v") and len(a.json) == 1,
       "GET %s" % path, a)

# --- 404 and 405 ---
for path in ("/nope", "/api/v1/api/v1/session/", "/sessionz/", "/-/health/x",
             "/session/a/b/", "/Session/", "//session/"):
    a = request("POST", path, b"{}", headers=JSON)
    eq((a.status, a.json), (404, {"detail": "Not Found"}), "POST %s" % path)
for method, path, allow in (("PATCH", "/session/", "POST"), ("PUT", "/session/", "POST"),
                            ("POST", "/-/health/", "GET"), ("DELETE", "/-/version/", "GET"),
                            ("PATCH", "/session/%s/" % UNKNOWN, "POST")):
    a = request(method, path)
    eq((a.status, a.json), (405, {"detail": "Method Not Allowed"}), "%s %s" % (method, path))
    eq(a.headers["Allow"], allow, "Allow of %s %s" % (method, path))
a = request("HEAD", "/-/health/", key=None)
eq((a.status, a.body), (405, b""), "HEAD on a GET route")

# --- order: route, JSON syntax, key, schema, session ---
a = request("POST", "/session/", b"{", key=None, headers=JSON)
p = problem(a, "json_invalid", ["body", 1], "JSON decode error", "bad JSON without a key")
if p:
    ok(p.get("input") == {} and isinstance(p.get("ctx", {}).get("error"), str), "bad JSON: input, ctx", p)
for method, path in (("POST", "/session/"), ("POST", "/session/%s/" % UNKNOWN),
                     ("DELETE", "/session/%s/" % UNKNOWN)):
    a = request(method, path, None if method == "DELETE" else {}, key=None)
    eq((a.status, a.json), (403, {"detail": "API Key header is missing"}), "no key: %s %s" % (method, path))
    for wrong in ("wrong", KEY + "x", KEY[:-1], KEY.upper() + "Z"):
        a = request(method, path, None if method == "DELETE" else {}, key=wrong)
        eq((a.status, a.json), (403, {"detail": "Invalid API Key"}), "wrong key %d: %s" % (len(wrong), path))
a = request("POST", "/nope", b"{", key=None, headers=JSON)
eq(a.status, 404, "unknown route before JSON and key")
a = request("POST", "/session/%s/" % UNKNOWN, {})
problem(a, "missing", ["body", "commands"], "Field required", "schema before session")
for sid in (UNKNOWN, "x", "%2e%2e", "..%2f..%2fetc", "a%00b", "-", "A" * 300, UNKNOWN.upper(),
            UNKNOWN + "%0a", "%c0%ae%c0%ae"):
    a = request("POST", "/session/%s/" % sid, {"commands": ["true"]})
    # A web server may refuse such a path before us; nothing may come of it either way.
    ok(a.status == 404 or (a.status == 400 and "%" in sid), "unknown session %.40s" % sid, a)
a = request("POST", "/session/%s/" % UNKNOWN, {"commands": ["true"]})
eq(a.json, {"detail": "Session not found or already closed"}, "text for an unknown session")
a = request("DELETE", "/session/%s/" % UNKNOWN)
eq((a.status, a.body), (204, b""), "DELETE of an unknown session")

# --- 422 bodies ---
S = "/session/"
R = "/session/%s/" % UNKNOWN
a = request("POST", S, {"ephemeral": True})
p = problem(a, "missing", ["body", "base_image"], "Field required", "absent field")
p and eq(p.get("input"), {"ephemeral": True}, "absent field: input is the body")
a = request("POST", S, b"", headers=JSON)
p = problem(a, "missing", ["body"], "Field required", "empty body")
p and eq(p.get("input"), None, "empty body: input")
a = request("POST", S)
problem(a, "missing", ["body"], "Field required", "no body at all")
MSG = "Input should be a valid dictionary or object to extract fields from"
for raw in (b"[]", b"5", b'"x"', b"true"):
    problem(request("POST", S, raw, headers=JSON), "model_attributes_type", ["body"], MSG, "body %s" % raw.decode())
problem(request("POST", S, b'{"base_image":"host"}', headers={"Content-Type": "text/plain"}),
        "model_attributes_type", ["body"], MSG, "wrong content type")
for raw, where in ((b"{]", "bracket"), (b"nope", "word"), (b'{"a":1}}', "extra data"), (b'{"a":"\x01"}', "control"),
                   (b'{"a":"\\x"}', "escape"), (b'{"a"', "cut"), (b"[1,]", "comma"), (b"\x00", "NUL"),
                   (b"{'a':1}", "quotes"), (b'{"a":01}', "leading zero")):
    problem_a = request("POST", S, raw, headers=JSON)
    d = problem_a.detail
    ok(problem_a.status == 422 and isinstance(d, list) and d[0].get("type") == "json_invalid"
       and isinstance(d[0]["loc"][1], int), "bad JSON: " + where, problem_a)
for raw, where in ((b"[" * 100000, "100,000 brackets"), (b'{"a":' * 5000 + b"1" + b"}" * 5000, "deep objects"),
                   (b'{"base_image":"\xff\xfe"}', "not UTF-8"), (b'{"base_image":"\\ud800"}', "lone surrogate"),
                   (b'{"base_image":"host","cpus":1e999999}', "1e999999")):
    a = request("POST", S, raw, headers=JSON)
    ok(a.status == 422, "422: " + where, a)
for field, value, kind, msg in (
        ("base_image", 5, "string_type", "Input should be a valid string"),
        ("base_image", None, "string_type", "Input should be a valid string"),
        ("ephemeral", "maybe", "bool_parsing", "Input should be a valid boolean, unable to interpret input"),
        ("extract_patch", 7, "bool_parsing", "Input should be a valid boolean, unable to interpret input"),
        ("memory_bytes", 1.5, "int_from_float", "Input should be a valid integer, got a number with a fractional part"),
        ("cpus", "many", "float_parsing", "Input should be a valid number, unable to parse string as a number")):
    body = dict({"base_image": IMAGE}, **{field: value})
    p = problem(request("POST", S, body), kind, ["body", field], msg, "%s = %r" % (field, value))
    p and eq(p.get("input"), value, "%s = %r: input" % (field, value))
problem(request("POST", S, {"base_image": IMAGE, "environment": {"A": 1}}), "string_type",
        ["body", "environment", "A"], "Input should be a valid string", "environment value")
problem(request("POST", R, {"commands": ["a", 1]}), "string_type", ["body", "commands", 1],
        "Input should be a valid string", "command")
problem(request("POST", R, {"commands": "ls"}), "list_type", ["body", "commands"],
        "Input should be a valid list", "commands as text")
p = problem(request("POST", R, {"commands": [], "timeout": -1}), "greater_than_equal", ["body", "timeout"],
            "Input should be greater than or equal to 0", "timeout")
p and eq(p.get("ctx"), {"ge": 0}, "timeout: ctx")
p = problem(request("POST", R, {"commands": [], "archive": "abc"}), "base64_decode", ["body", "archive"],
            "Base64 decoding error: 'Incorrect padding'", "base64 padding")
p and eq(p.get("ctx"), {"error": "Incorrect padding"}, "base64: ctx")
a = request("POST", R, {"commands": [], "archive": "ab*d"})
ok(a.status == 422 and a.detail[0]["type"] == "base64_decode", "a byte that is not base64", a)
a = request("POST", S, {"base_image": 1, "ephemeral": "x", "cpus": "y"})
eq([p["loc"][1] for p in a.detail or []], ["base_image", "ephemeral", "cpus"], "several problems, in the fields' order")

# --- coercion and fields of other generations ---
sid = create(ephemeral="yes", extract_patch=1, network_enabled="off", environment=None, memory_bytes=None,
             cpus=None, dockerfile=None, persist_workdir=False, unknown_field={"x": [1]})
ok(len(sid) >= 32, "session id is long enough not to be guessed", sid)
a = request("POST", "/session", {"base_image": IMAGE})
eq(a.status, 200, "POST /session without the slash")
eq(list(a.json or {}), ["session_id"], "the answer has one key")
eq(a.headers["Content-Type"], "application/json", "content type of an answer")
other = (a.json or {}).get("session_id", "")
a = request("POST", "/api/v1/session/", {"base_image": IMAGE}, headers={"Content-Type": "application/json; charset=utf-8"})
eq(a.status, 200, "with prefix and charset")
third = (a.json or {}).get("session_id", "")
ok(len({sid, other, third}) == 3, "ids differ")
a = request("POST", "/session/", json.dumps({"base_image": IMAGE}).encode(), headers={})
eq(a.status, 200, "no Content-Type is JSON")
fourth = (a.json or {}).get("session_id", "")
a = request("POST", "/session/%s" % sid, {"commands": [], "archive": None, "timeout": None})
eq((a.status, a.body), (200, b'{"results":[],"patch":null}'), "no commands, compact, both keys")
a = request("POST", "/api/v1/session/%s/" % sid, {"commands": ["true"], "fail_fast": "1", "timeout": "5", "archive": ""})
ok(a.status == 200 and a.json["results"][0]["exit_code"] == 0, "coerced fields, with prefix", a)
eq(list(a.json["results"][0])[:3] if a.status == 200 else None, ["command", "output", "exit_code"], "keys in the schema's order")
a = request("POST", "/session/", {"base_image": IMAGE, "dockerfile": "FROM x"})
eq(a.status, 422, "a dockerfile is refused")

# --- what this host cannot do is said, not ignored ---
a = request("POST", "/session/", {"base_image": "no.such.registry.invalid/x:1"})
ok(a.status == 422 and "cgibox image" in a.body.decode(), "unknown image: 422 that says what to type", a)
for bad in ("", "UPPER/Case", "a b", "../x", "x" * 300, "a@sha256:12", "-x", "host\n"):
    a = request("POST", "/session/", {"base_image": bad})
    ok(a.status == 422, "bad image name %r" % bad[:20], a)
a = request("POST", "/session/", {"base_image": IMAGE, "network_enabled": True})
ok(a.status == 422 and "network" in a.body.decode(), "network_enabled, not allowed here", a)
for field, value in (("memory_bytes", 64 << 20), ("cpus", 0.5)):
    a = request("POST", "/session/", {"base_image": IMAGE, field: value})
    ok(a.status == 200 or (a.status == 422 and field in a.body.decode()), "%s: enforced, or 422 that names it" % field, a)
    if a.status == 200:
        delete(a.json["session_id"])
sid5 = create(memory_bytes=0, cpus=0)
a = request("POST", "/session/", {"base_image": IMAGE, "memory_bytes": -1})
eq(a.status, 422, "negative memory_bytes")
for env in ({"A=B": "x"}, {"": "x"}, {"A\0": "x"}, {"A": "x\0y"}):
    a = request("POST", "/session/", {"base_image": IMAGE, "environment": env})
    eq(a.status, 422, "environment %r" % env)
a = run(sid, "echo a\0b")
eq(a.status, 422, "NUL in a command")
a = run(sid, ["true"] * 257)
eq(a.status, 422, "more commands than commands_max")
a = run(sid, "echo " + "x" * 140000)
eq(a.status, 422, "a command longer than the kernel takes")

# --- framing ---
a = request("POST", "/session/%s/" % sid, iter([b'{"comm', b'ands":["ec', b'ho hi"]}']), chunked=True, headers=JSON)
ok(a.status == 411 or (a.status == 200 and a.json["results"][0]["output"] == "hi\n"), "chunked body: 200 or a clear 411", a)


def raw(data, wait=20):
    s = socket.create_connection((client._at.hostname, client._at.port or 80), timeout=wait)
    s.sendall(data)
    out = b""
    try:
        while True:
            b = s.recv(65536)
            if not b:
                break
            out += b
    except OSError:
        pass
    s.close()
    return out


head = "POST %s/session/ HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nConnection: close\r\nContent-Type: application/json\r\n" % (client.PREFIX, KEY)
for length in ("-1", "abc", "1e3", "99999999999999999999", "5, 6"):
    r = raw((head + "Content-Length: %s\r\n\r\n{}" % length).encode(), wait=6)
    ok(not r.startswith(b"HTTP/1.1 200") and b" 500 " not in r[:20], "Content-Length %s" % length, r[:200])
a = request("GET", "/-/health/", key=None)
eq(a.status, 200, "still healthy")

for s in (sid, other, third, fourth, sid5):
    eq(delete(s).status, 204, "DELETE")
a = run(sid, "true")
eq((a.status, a.json), (404, {"detail": "Session not found or already closed"}), "gone after DELETE")
eq(delete(sid).status, 204, "DELETE again")
client.done()
