#!/usr/bin/python3
"""Verbs of a workspace beside what else a session can be: live, seeded, moved to /workspace/repo, its files used
by file verbs."""
import base64

import client
from client import b64, create, delete, eq, ok, request, run, tar


def form(name, data):
    edge = "b0undary"
    head = ("--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"a\"\r\n"
            "Content-Type: application/octet-stream\r\n\r\n" % (edge, name)).encode()
    return head + data + b"\r\n--b0undary--\r\n", {"Content-Type": "multipart/form-data; boundary=" + edge}


def seed(sid, files):
    body, headers = form("repo_archive", tar(files))
    return request("POST", "/session/%s/seed/" % sid, body, headers=headers).status


def verb(sid, what, body=None, method="POST"):
    return request(method, "/session/%s/%s" % (sid, what), body)


def fork(sid, **body):
    a = verb(sid, "fork", body)
    return a.json["session_ids"][0] if a.status == 200 else repr(a)


def begin(sid, command, **more):
    return verb(sid, "runs", {"command": command, **more}).json


def out(sid, command):
    a = run(sid, command)
    return a.json["results"][0]["output"] if a.status == 200 else repr(a)


def fs(sid, op, **body):
    a = request("POST", "/session/%s/fs/%s" % (sid, op), body)
    return a.json if a.status == 200 else repr(a)


def live(archive):
    sid = create(live=True, extract_patch=True)
    run(sid, "true", archive=b64(tar(archive)))
    eq(begin(sid, "echo one > f; echo root > /tmp/r; pwd")["stdout"], "/repo\n", "a live session")
    begin(sid, "touch up")
    rid = begin(sid, "sleep 300", detach=True)["id"]
    for what, body in (("fork", None), ("snapshots", {"name": "s"}), ("commit", None), ("discard", None)):
        eq(verb(sid, what, body).status, 409, "%s while a run is in progress" % what)
    eq((verb(sid, "patch", None, "GET").status, verb(sid, "export", None, "GET").status), (409, 409), "patch, export")
    eq(verb(sid, "snapshots", None, "GET").status, 200, "what is there is listed all the same")
    child = fork(sid, stop=True)
    eq(request("GET", "/session/%s/runs/%s" % (sid, rid)).json["verdict"], "killed", "stop ends the run")
    eq(begin(child, "cat f /tmp/r")["stdout"], "one\nroot\n", "a fork of a live session has its files")
    s = request("GET", "/session/%s/status" % child).json
    eq(s["live"], True, "and is live itself")
    eq(begin(sid, "echo two >> f; cat f")["stdout"], "one\ntwo\n", "the parent goes on")
    eq(begin(child, "cat f")["stdout"], "one\n", "apart")
    # both sandboxes are there, idle: the verbs end them first
    eq(request("GET", "/session/%s/status" % sid).json["state"], "running", "an idle live sandbox")
    eq(verb(sid, "snapshots", {"name": "s"}).status, 201, "a snapshot beside it")
    eq(begin(sid, "echo three > f; rm up; cat f; ls /tmp/r")["stdout"], "three\n/tmp/r\n", "then a change")
    a = verb(sid, "patch?since=s", None, "GET")
    ok(a.status == 200 and b"+three" in a.body and b"-two" in a.body, "a patch of a live session", a)
    eq(verb(sid, "snapshots/s/restore").status, 204, "restore")
    eq(begin(sid, "cat f; ls up")["stdout"], "one\ntwo\nup\n", "is seen by the next sandbox")
    a = run(sid, "echo four > f", archive=b64(tar(archive)))
    ok(a.status == 200 and b"-zero\n+four" in base64.b64decode(a.json["patch"] or ""),
       "an archive on shared layers, and the patch of a call, whose sandbox lives on", a)
    eq(begin(sid, "cat f; ls up")["stdout"], "four\nup\n", "what was there stays")
    delete(child), delete(sid)


def files():
    sid = create()
    seed(sid, {"a": b"a\n", "d/b": b"b\n"})
    fs(sid, "write", path="/workspace/repo/new", content=b64(b"w\n"), mode=0o644)
    fs(sid, "write", path="/workspace/tmp/t", content=b64(b"t\n"), mode=0o644)
    child = fork(sid)
    eq(seed(child, {"z": b""}), 409, "a fork of a seeded session is seeded")
    eq(out(child, "pwd; cat a new ../tmp/t; readlink /repo"), "/workspace/repo\na\nw\nt\nworkspace/repo\n", "and moved")
    a = fs(child, "read", path="/workspace/repo/new")
    ok(isinstance(a, dict) and not a["error"], "file verbs see a fork's files", a)
    a = fs(child, "read", path="/workspace/tmp/t")
    ok(isinstance(a, dict) and not a["error"], "those of its root, too", a)
    a = fs(child, "edit", path="/workspace/repo/new", old="w", new="v")
    ok(isinstance(a, dict) and not a["error"], "and change them", a)
    eq((out(child, "cat new"), out(sid, "cat new")), ("v\n", "w\n"), "apart from the parent's")
    eq(request("GET", "/session/%s/files/workspace/repo/a" % child).body, b"a\n", "downloads as well")
    live_child = create(live=True)
    eq(seed(live_child, {"a": b"a\n"}), 204, "a live session is seeded")
    begin(live_child, "echo x > x")
    two = fork(live_child)
    begin(two, "echo y > y")
    a = fs(two, "read", path="/workspace/repo/y")
    ok(isinstance(a, dict) and not a["error"], "file verbs in the running sandbox of a fork", a)
    eq(begin(two, "ls; pwd")["stdout"], "a\nx\ny\n/workspace/repo\n", "which stands on the parent's files")
    for s in (sid, child, live_child, two):
        delete(s)


def back():
    sid = create()
    run(sid, "echo k > keep")
    eq(verb(sid, "snapshots", {"name": "before"}).status, 201, "a snapshot before the seed")
    child = fork(sid)
    eq((seed(child, {"c": b"c\n"}), out(child, "pwd; cat c")), (204, "/workspace/repo\nc\n"), "a fork can be seeded by itself")
    eq(seed(sid, {"a": b"a\n"}), 204, "the seed")
    eq(verb(sid, "snapshots", {"name": "after"}).status, 201, "and one after it")
    eq(verb(sid, "snapshots/before/restore").status, 204, "back")
    eq(out(sid, "pwd; cat keep; ls"), "/repo\nk\nkeep\n", "to where the workspace was")
    eq(verb(sid, "snapshots/after/restore").status, 204, "forth")
    eq(out(sid, "pwd; cat a"), "/workspace/repo\na\n", "the seed is back")
    eq(seed(sid, {"b": b""}), 409, "and was the one that there may be")
    verb(sid, "snapshots/before/restore")
    eq(seed(sid, {"b": b"b\n"}), 204, "before it there was none")
    eq(out(sid, "pwd; cat b"), "/workspace/repo\nb\n", "a seed after a restore")
    delete(sid), delete(child)


live({"f": b"zero\n", "d/g": b"g\n"})
live(dict({"f": b"zero\n"}, **{"m/%d" % i: b"m\n" for i in range(client.conf("plain_entries_max") + 10)}))
files()
back()
client.done()
