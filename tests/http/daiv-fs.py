#!/usr/bin/python3
"""The file routes of daiv-sandbox: seed, files, fs/*, egress, status, stop and removal."""
import io
import json
import tarfile
import time
import uuid

import client
from client import b64, create, delete, eq, ok, request, run, tar


def form(parts, boundary="b0undary"):
    """A multipart body: name -> (filename, bytes)."""
    out = b""
    for name, (filename, data) in parts.items():
        out += ("--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s\"\r\n"
                "Content-Type: application/octet-stream\r\n\r\n" % (boundary, name, filename)).encode() + data + b"\r\n"
    return out + ("--%s--\r\n" % boundary).encode(), {"Content-Type": "multipart/form-data; boundary=" + boundary}


def seed(sid, **parts):
    body, headers = form({k: (k, v) for k, v in parts.items()})
    return request("POST", "/session/%s/seed/" % sid, body, headers=headers)


def fs(sid, op, **body):
    return request("POST", "/session/%s/fs/%s" % (sid, op), body)


def code(a):
    return a.status == 200 and a.json and a.json["error"] and a.json["error"]["code"]


sid = create()
a = request("GET", "/session/%s/" % sid)
eq((a.status, a.body), (204, b""), "a session is there")
eq(request("GET", "/session/%s/" % uuid.uuid4()).status, 404, "an unknown one is not")

# --- seed ---
a = request("POST", "/session/%s/seed/" % sid, b"", headers={"Content-Type": "multipart/form-data; boundary=x"})
eq(a.status, 400, "an empty form is no form")
body, headers = form({"other": ("x", b"y")})
a = request("POST", "/session/%s/seed/" % sid, body, headers=headers)
eq((a.status, a.detail), (422, "At least one of repo_archive or skills_archive must be provided"), "a seed of nothing")
eq(request("POST", "/session/%s/seed/" % sid, body, headers=headers, key=None).status, 403, "a seed needs the key")
eq(seed(str(uuid.uuid4()), repo_archive=tar({"a": b"x"})).status, 404, "a seed of no session")
for name, data, text in (("junk", b"junk", "repo_archive is invalid: Invalid or truncated archive: "),
                         ("absolute", tar({"/x": b""}), "repo_archive is invalid: Archive contains an absolute path: '/x'"),
                         ("parent", tar({"../x": b""}),
                          "repo_archive is invalid: Archive contains a parent-directory traversal path: '../x'")):
    a = seed(sid, repo_archive=data)
    ok(a.status == 422 and str(a.detail).startswith(text), "a bad archive: " + name, a)
a = seed(sid, repo_archive=tar({"README.md": b"# workspace test\n", "src/m.py": b"import os\r\nx = 1\n"}),
         skills_archive=tar({"s.md": b"# skill\n"}))
eq((a.status, a.body), (204, b""), "a seed of both")
eq((lambda a: (a.status, a.detail))(seed(sid, repo_archive=tar({"b": b""}))), (409, "Session already seeded"), "only once")
a = run(sid, "pwd; ls; cat ../skills/s.md; cd /repo && pwd -P; ls -d /workspace/*")
eq(a.json["results"][0]["output"], "/workspace/repo\nREADME.md\nsrc\n# skill\n/workspace/repo\n/workspace/repo\n/workspace/skills\n"
   "/workspace/tmp\n", "commands run in it")

# --- paths ---
for path, text in (("a", "path must be absolute, got: 'a'"),
                   ("/etc/passwd", "path must be under one of ('/workspace',), got: '/etc/passwd'"),
                   ("/workspace/../x", "path must not contain '..' segments: '/workspace/../x'"),
                   ("/workspace", "path must not equal a reserved root: '/workspace'"),
                   ("/workspacex/y", "path must be under one of ('/workspace',), got: '/workspacex/y'"),
                   ("//workspace/x", "path must be under one of ('/workspace',), got: '//workspace/x'"),
                   ("/workspace/a\nb", "path must not contain NUL or newline characters: '/workspace/a\\nb'"),
                   ("/workspace/a\0b", "path must not contain NUL or newline characters: '/workspace/a\\x00b'")):
    a = fs(sid, "read", path=path)
    eq((a.status, a.json["error"]), (200, {"code": "invalid_path", "message": text}), "path " + repr(path))
a = fs(str(uuid.uuid4()), "read", path="/etc/x")
eq(code(a), "invalid_path", "a bad path is seen before the session")
eq(fs(str(uuid.uuid4()), "read", path="/workspace/x").status, 404, "a good one in no session")
eq(fs(sid, "ls", path="/workspace").json["error"], None, "the root itself can be listed")

# --- read ---
R = "/workspace/repo/"
a = fs(sid, "read", path=R + "README.md")
eq(a.json, {"content": "# workspace test", "encoding": "utf-8", "total_lines": 1, "end_line": 1, "truncated": False,
            "error": None}, "read")
eq(list(a.json), ["content", "encoding", "total_lines", "end_line", "truncated", "error"], "the order of its fields")
run(sid, "seq 1 5000 > n; : > empty; printf '\\377\\376' > bin; head -c 600000 /dev/zero | tr '\\0' a > long; "
         "head -c 600000 /dev/zero > bigbin; printf '\\377' >> bigbin; mkfifo fifo; ln -s README.md link; ln -s loop loop; "
         "ln -s /etc/passwd abs; mkdir dir; printf 'a\\u2028b\\x0bc\\rd\\r\\n' > ends; yes 0123456789 | head -n 60000 > many")
a = fs(sid, "read", path=R + "n", offset=10, limit=3)
eq((a.json["content"], a.json["total_lines"], a.json["end_line"]), ("11\n12\n13", 5000, 13), "a window")
a = fs(sid, "read", path=R + "n")
eq((len(a.json["content"].split("\n")), a.json["end_line"]), (2000, 2000), "2000 lines when nothing is said")
a = fs(sid, "read", path=R + "n", offset=5000)
eq(a.json["error"], {"code": "invalid_offset", "message": "Line offset 5000 exceeds file length (5000 lines)"}, "beyond the end")
a = fs(sid, "read", path=R + "ends")
eq((a.json["content"], a.json["total_lines"]), ("a\nb\nc\nd", 4), "lines end as in Python")
a = fs(sid, "read", path=R + "empty")
eq((a.json["content"], a.json["encoding"], a.json["total_lines"]),
   ("System reminder: File exists but has empty contents", "utf-8", None), "an empty file")
a = fs(sid, "read", path=R + "bin")
eq((a.json["content"], a.json["encoding"], a.json["total_lines"]), ("//4=", "base64", None), "bytes")
eq(fs(sid, "read", path=R + "bigbin").json["error"],
   {"code": "too_large", "message": "Binary file exceeds maximum preview size of 512000 bytes"}, "too many bytes")
a = fs(sid, "read", path=R + "long")
ok(a.json["truncated"] and a.json["end_line"] == 0 and len(a.json["content"].encode()) == 512000 and
   a.json["content"].endswith("Continue with a larger offset or smaller limit to read the rest.]"), "a line that is too long", a)
a = fs(sid, "read", path=R + "many", limit=60000)
ok(a.json["truncated"] and a.json["end_line"] * 11 <= 512000 and a.json["total_lines"] == 60000 and
   a.json["content"].split("\n")[a.json["end_line"] - 1] == "0123456789", "a page that is too long", a)
eq(fs(sid, "read", path=R + "none").json["error"], {"code": "not_found", "message": "No such file: " + R + "none"}, "no file")
eq(fs(sid, "read", path=R + "dir").json["error"],
   {"code": "is_a_directory", "message": "Is a directory: " + R + "dir (use fs/ls to list it)"}, "a directory")
begin = time.monotonic()
eq(code(fs(sid, "read", path=R + "fifo")), "not_found", "a FIFO")
ok(time.monotonic() - begin < 60, "which nobody waits for")
eq(fs(sid, "read", path=R + "link").json["content"], "# workspace test", "a link")
ok(code(fs(sid, "read", path=R + "loop")), "a link to itself")
ok("root:" in (fs(sid, "read", path=R + "abs").json["content"] or ""), "an absolute link leads into the session's own root")
for body, want in (({}, ("missing", ["body", "path"])), ({"path": 1}, ("string_type", ["body", "path"])),
                   ({"path": "/x", "offset": -1}, ("greater_than_equal", ["body", "offset"])),
                   ({"path": "/x", "limit": 0}, ("greater_than_equal", ["body", "limit"]))):
    a = fs(sid, "read", **body)
    eq((a.status, a.json["detail"][0]["type"], a.json["detail"][0]["loc"]), (422,) + want, "read %r" % (body,))

# --- write ---
a = fs(sid, "write", path="/workspace/tmp/new/deep/f.sh", content=b64(b"#!/bin/sh\necho hi\n"), mode=0o700)
eq(a.json, {"error": None, "ok": True}, "write")
eq(run(sid, "stat -c '%a %u' /workspace/tmp/new/deep/f.sh; /workspace/tmp/new/deep/f.sh").json["results"][0]["output"],
   "755 1000\nhi\n", "its mode and owner")
a = fs(sid, "write", path="/workspace/tmp/new/deep/f.sh", content="")
eq(a.json, {"error": {"code": "already_exists", "message": "Cannot write to /workspace/tmp/new/deep/f.sh because it already exists. "
                      "Read and then make an edit, or write to a new path."}, "ok": False}, "no second time")
eq(code(fs(sid, "write", path=R + "n/x", content="")), "not_a_directory", "below a file")
a = fs(sid, "write", path=R + "w", content="a")
eq((a.status, a.json["detail"][0]["type"]), (422, "base64_decode"), "bad base64")
a = fs(sid, "write", path=R + "w", content="", mode=4096)
eq((a.status, a.json["detail"][0]["type"], a.json["detail"][0]["ctx"]), (422, "less_than_equal", {"le": 4095}), "bad mode")
for name in ("n" * 255, "b\u00e4r \"x\"", "-rf"):
    eq(fs(sid, "write", path=R + name, content=b64(b"1")).json["ok"], True, "a name of %d bytes" % len(name.encode()))
eq(fs(sid, "write", path=R + "n" * 256, content="").json["ok"], False, "one of 256")
eq(fs(sid, "write", path=R + "loop", content="").json["error"]["code"], "already_exists", "a link is something that exists")

# --- edit ---
run(sid, "printf 'alpha beta alpha\\n' > e; printf 'a\\r\\nb\\r\\n' > crlf; printf 'no end' > noend; chmod 755 e")
eq(fs(sid, "edit", path=R + "e", old="beta", new="BETA").json, {"occurrences": 1, "error": None}, "edit")
eq(fs(sid, "edit", path=R + "e", old="alpha", new="x").json["error"],
   {"code": "multiple_occurrences", "message": "String appears 2 times in file. Use replace_all=True to replace all instances, or "
    "provide a more specific string with surrounding context."}, "twice")
eq(fs(sid, "edit", path=R + "e", old="alpha", new="x", replace_all=True).json["occurrences"], 2, "all")
eq(run(sid, "cat e; stat -c %a e").json["results"][0]["output"], "x BETA x\n755\n", "the result, and its mode")
eq(fs(sid, "edit", path=R + "e", old="zzz", new="").json["error"], {"code": "string_not_found", "message": "string_not_found"}, "none")
eq(fs(sid, "edit", path=R + "crlf", old="a\nb\n", new="c\n").json["occurrences"], 1, "line ends of the file")
eq(run(sid, "od -An -c crlf").json["results"][0]["output"].split(), ["c", "\\r", "\\n"], "are kept")
ok(fs(sid, "edit", path=R + "noend", old="no end\n", new="").json["error"]["message"].startswith(
    "old_string ends with a newline, but the file does not"), "a line end too many")
eq(code(fs(sid, "edit", path=R + "bin", old="a", new="b")), "not_a_text_file", "bytes cannot be edited")
eq(code(fs(sid, "edit", path=R + "dir", old="a", new="b")), "is_a_directory", "nor a directory")

# --- ls, glob, grep ---
run(sid, "rm -rf /workspace/tmp/*; mkdir -p /workspace/tmp/pkg/__pycache__ /workspace/tmp/x.egg-info "
         "/workspace/tmp/node_modules/dep; cd /workspace/tmp; echo 'NEEDLE one' > pkg/real.py; echo NEEDLE > pkg/__pycache__/c.py; "
         "echo NEEDLE > node_modules/dep/i.py; echo NEEDLE > x.egg-info/p.py; ln -s pkg lnk; printf 'a\\nNEEDLE\\r\\n' > .hidden")
T = "/workspace/tmp"
eq(fs(sid, "ls", path=T).json, {"entries": [{"path": T + "/.hidden", "is_dir": False}, {"path": T + "/lnk", "is_dir": False},
   {"path": T + "/node_modules", "is_dir": True}, {"path": T + "/pkg", "is_dir": True},
   {"path": T + "/x.egg-info", "is_dir": True}], "error": None}, "ls")
eq(fs(sid, "ls", path=T + "/.hidden").json["error"]["code"], "not_a_directory", "ls of a file")
eq(fs(sid, "ls", path=T + "/no").json["error"]["message"], "No such directory: " + T + "/no", "ls of nothing")
eq([m["path"] for m in fs(sid, "glob", path=T, pattern="**/*.py").json["matches"]],
   [T + "/node_modules/dep/i.py", T + "/pkg/real.py"], "glob leaves caches out")
eq([m["path"] for m in fs(sid, "glob", path=T, pattern="**/*.py", exclude=["node_*"]).json["matches"]], [T + "/pkg/real.py"],
   "and what the request says")
eq([m["path"] for m in fs(sid, "glob", path=T, pattern="*").json["matches"] if m["is_dir"]], [T + "/node_modules", T + "/pkg"],
   "one level")
eq(fs(sid, "grep", path=T, pattern="NEEDLE", exclude=["node_modules"], glob="*.py").json,
   {"matches": [{"path": T + "/pkg/real.py", "line": 1, "text": "NEEDLE one"}], "truncated": False, "error": None}, "grep")
eq(fs(sid, "grep", path=T + "/.hidden", pattern="^NEEDLE").json["matches"], [{"path": T + "/.hidden", "line": 2, "text": "NEEDLE"}],
   "grep of one file")
ok(any(m["path"] == T + "/pkg/real.py" for m in fs(sid, "grep", path="/workspace", pattern="NEEDLE").json["matches"]), "from the root")
a = fs(sid, "grep", path=R, pattern="[0-9]+", glob="n")
eq((len(a.json["matches"]), a.json["truncated"]), (200, True), "200 matches at most")
a = fs(sid, "grep", path=T, pattern="(")
ok(code(a) == "invalid_pattern" and a.json["error"]["message"].startswith("invalid regular expression: '('"), "a bad pattern", a)
begin = time.monotonic()
run(sid, "head -c 60 /dev/zero | tr '\\0' a > " + T + "/evil; echo ! >> " + T + "/evil")
eq(code(fs(sid, "grep", path=T + "/evil", pattern="^(a+)+$")), "invalid_pattern", "a pattern that never ends")
ok(time.monotonic() - begin < 100, "is stopped")
run(sid, "echo NEEDLE > " + T + "/locked; chmod 000 " + T + "/locked")
eq(code(fs(sid, "grep", path=T, pattern="NEEDLE")), "exec_failed", "an unreadable file is no silence")

# --- delete ---
eq(fs(sid, "delete", path=T + "/locked").json, {"removed": True, "error": None, "ok": True}, "delete")
eq(fs(sid, "delete", path=T + "/locked").json, {"removed": False, "error": None, "ok": True}, "again")
eq(fs(sid, "delete", path=T + "/pkg").json, {"removed": False, "error": {"code": "is_a_directory",
   "message": "Is a directory: " + T + "/pkg"}, "ok": False}, "a directory")
eq(fs(sid, "delete", path=R + "abs").json["removed"], True, "a link")
ok("root:" in run(sid, "cat /etc/passwd").json["results"][0]["output"], "and not what it names")

# --- stop, and removal ---
eq(request("DELETE", "/session/%s/?force=maybe" % sid).json["detail"][0],
   {"type": "bool_parsing", "loc": ["query", "force"], "msg": "Input should be a valid boolean, unable to interpret input",
    "input": "maybe"}, "force must be a flag")
eq(request("DELETE", "/session/%s/?force=False" % sid).status, 204, "stopped")
eq(request("GET", "/session/%s/" % sid).status, 204, "it is still there")
eq(fs(sid, "read", path=R + "README.md").json["content"], "# workspace test", "with its files")
eq(request("DELETE", "/session/%s/?force=true" % sid).status, 204, "removed")
eq(request("GET", "/session/%s/" % sid).status, 404, "it is gone")

# --- the batch of files of the release before ---
sid = create()
a = request("POST", "/session/%s/files/" % sid, {"mutations": [
    {"path": "/repo/a/b.txt", "content": b64(b"one"), "mode": 0o644}, {"path": "/etc/x", "content": "", "mode": 0o600},
    {"path": "/repo/a/b.txt/c", "content": "", "mode": 0o600}, {"path": "/repo/a/b.txt", "content": b64(b"two"), "mode": 0o755}]})
eq([r["ok"] for r in a.json["results"]], [True, False, False, True], "files, one by one")
eq(a.json["results"][1]["error"], "path must be under one of ('/repo',), got: '/etc/x'", "the reason")
eq(run(sid, "cat a/b.txt; stat -c %a a/b.txt").json["results"][0]["output"], "two755\n", "the last counts")
for body, want in (({}, ("missing", ["body", "mutations"])), ({"mutations": []}, ("too_short", ["body", "mutations"])),
                   ({"mutations": [{"path": "/repo/x", "content": "", "mode": 0}] * 65}, ("too_long", ["body", "mutations"])),
                   ({"mutations": [{"content": "", "mode": 0}]}, ("missing", ["body", "mutations", 0, "path"])),
                   ({"mutations": [1]}, ("model_attributes_type", ["body", "mutations", 0]))):
    a = request("POST", "/session/%s/files/" % sid, body)
    eq((a.status, a.json["detail"][0]["type"], a.json["detail"][0]["loc"]), (422,) + want, "files %s" % json.dumps(body)[:60])
# a session that was used at /repo moves to /workspace with its files
eq(fs(sid, "read", path="/workspace/repo/a/b.txt").json["content"], "two", "what was in /repo is in /workspace/repo")
eq(run(sid, "cat /repo/a/b.txt").json["results"][0]["output"], "two", "and in /repo")

# --- another session's files ---
other = create()
fs(other, "write", path="/workspace/repo/secret", content=b64(b"theirs"))
run(sid, "ln -s /workspace/../../../../%s/ws/tree/secret s; ln -s ../../../../../%s/ws/tree t" % (other, other))
for path in ("s", "t/secret"):
    a = fs(sid, "read", path=R + path)
    ok(code(a) and "theirs" not in a.body.decode(), "another session's file by " + path, a)
eq(fs(other, "read", path="/workspace/repo/secret").json["content"], "theirs", "its own session reads it")
delete(other)

# --- egress ---
rule = {"host": "github.com"}
a = request("POST", "/session/", {"base_image": client.IMAGE, "egress": {"policy": {"rules": [rule]}}})
eq((a.status, a.detail), (400, "egress requires the egress proxy, which is not configured on this deployment"), "egress")
for block, typ, loc in (({}, "value_error", []), ({"policy": {"default": "x"}}, "literal_error", ["policy", "default"]),
                        ({"policy": {"rules": [{}]}}, "missing", ["policy", "rules", 0, "host"]),
                        ({"policy": {"rules": [{"host": ""}]}}, "value_error", ["policy", "rules", 0, "host"]),
                        ({"policy": {"rules": [dict(rule, inject="t")]}}, "value_error", []),
                        ({"policy": {"rules": [rule]}, "secrets": {"t": {"header": "a b", "value": "v"}}}, "value_error",
                         ["secrets", "t", "header"])):
    a = request("POST", "/session/", {"base_image": client.IMAGE, "egress": block})
    eq((a.status, a.json["detail"][0]["type"], a.json["detail"][0]["loc"]), (422, typ, ["body", "egress"] + loc),
       "egress %s" % json.dumps(block))
    a = request("PUT", "/session/%s/egress/" % sid, block)
    eq((a.status, a.json["detail"][0]["loc"]), (422, ["body"] + loc), "refresh %s" % json.dumps(block))
a = request("PUT", "/session/%s/egress/" % sid, {"policy": {"default": "allow"}})
eq((a.status, a.detail), (409, "Session has no egress proxy; nothing to refresh"), "nothing to refresh")
a = request("PUT", "/session/%s/egress/" % uuid.uuid4(), {"policy": {"default": "allow"}})
eq((a.status, a.detail), (404, "Session not found"), "nor a session")
eq(request("POST", "/session/", {"base_image": client.IMAGE, "egress": None}).status, 200, "null is none")
delete(sid)
client.done()
