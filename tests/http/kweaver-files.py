#!/usr/bin/python3
"""Files of a KWeaver session: list, upload, download; what leaves the workspace is refused."""
import re

from client import IMAGE, done, eq, ok, request

API = "/api/v1"
B = "xxBOUNDARYxx"


def form(data, filename="f.bin", field="file"):
    head = '--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n' % (B, field, filename)
    return head.encode() + data + ("\r\n--%s--\r\n" % B).encode()


def upload(sid, path, data, **kw):
    return request("POST", API + "/sessions/%s/files/upload%s" % (sid, "" if path is None else "?path=" + path), form(data, **kw),
                   headers={"Content-Type": "multipart/form-data; boundary=" + B}, timeout=300)


def get(path):
    return request("GET", API + path, timeout=300)


def names(sid, query=""):
    a = get("/sessions/%s/files%s" % (sid, query))
    return sorted(f["name"] for f in a.json["files"]) if a.status == 200 else a


def sh(sid, code):
    a = request("POST", API + "/executions/sessions/%s/execute-sync" % sid, {"code": code, "language": "shell"})
    return a.json["stdout"] if a.status == 200 else a


request("POST", API + "/templates", {"id": "kwf", "name": "x", "image_url": IMAGE, "runtime_type": "python3.11"})
s, other = [request("POST", API + "/sessions", {"template_id": "kwf"}).json["id"] for _ in range(2)]
a = get("/sessions/%s/files" % s)
eq((a.status, a.json), (200, {"session_id": s, "files": [], "count": 0}), "no files yet")
data = bytes(range(256)) * 40
a = upload(s, "d/f.txt", data)
eq((a.status, a.json), (200, {"session_id": s, "file_path": "d/f.txt", "size": len(data)}), "a file is uploaded before anything runs")
a = get("/sessions/%s/files/d/f.txt" % s)
eq((a.status, a.body == data, a.headers["Content-Type"], a.headers["Content-Disposition"]),
   (200, True, "application/octet-stream", 'attachment; filename="d/f.txt"'), "and downloaded")
eq(sh(s, "sha256sum < d/f.txt; pwd"), "%s  -\n/workspace\n" % __import__("hashlib").sha256(data).hexdigest(), "code sees it")
eq(sh(s, "mkdir -p d/e; echo 1 > d/e/x; echo 2 > top; ln -s /etc/passwd link; mkfifo p"), "", "code makes more")
eq(names(s), ["d/e/x", "d/f.txt", "top"], "regular files, in the whole tree")
f = [f for f in get("/sessions/%s/files" % s).json["files"] if f["name"] == "d/e/x"][0]
eq((list(f), f["container_path"], f["size"]), (["name", "container_path", "size", "modified_time", "etag"], "/workspace/d/e/x", 2), "one of the list")
ok(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$", f["modified_time"]) and f["etag"], "its time", f)
eq((names(s, "?path=d"), names(s, "?path=d/"), names(s, "?path=none"), names(s, "?path=top")),
   (["d/e/x", "d/f.txt"], ["d/e/x", "d/f.txt"], [], []), "below a directory")
a = get("/sessions/%s/files?limit=2" % s).json
eq((a["count"], len(a["files"])), (2, 2), "a limit")
for limit in ("0", "10001", "x"):
    eq(get("/sessions/%s/files?limit=%s" % (s, limit)).status, 422, "no limit of " + limit)
eq(names(other), [], "another session does not have them")
a = upload(s, None, b"plain", filename="../../name.txt")
eq((a.status, a.json.get("file_path")), (200, "name.txt"), "without a path the file has its name, and no directory")
a = upload(s, "%C3%A9%22.txt", b"u")
eq(a.status, 200, "a name that is no ASCII")
a = get("/sessions/%s/files/%%C3%%A9%%22.txt" % s)
eq((a.body, a.headers["Content-Disposition"]), (b"u", "attachment; filename=\"___.txt\"; filename*=UTF-8''%C3%A9%22%2E%74%78%74"), "comes back under it")
for path in ("../x", "/etc/passwd", "d/../../x", "..", "a/.."):
    a = upload(s, path, b"evil")
    eq((a.status, a.json), (400, {"detail": "Invalid file path"}), "no upload to " + path)
    eq(get("/sessions/%s/files?path=%s" % (s, path)).status, 400, "no list of it")
a = get("/sessions/%s/files/..%%2F..%%2Fetc%%2Fpasswd" % s)
eq((a.status, a.json), (400, {"detail": "Invalid file path"}), "no download of ..")
for path in ("none", "d", "p"):
    a = get("/sessions/%s/files/%s" % (s, path))
    eq((a.status, a.json), (404, {"detail": "File not found: " + path}), "no file: " + path)
eq(upload(s, "d", b"x").status, 400, "a directory is not replaced")
a = upload(s, "x", b"x", field="other")
eq((a.status, a.detail[0]["loc"]), (422, ["body", "file"]), "a form without the file")
a = request("POST", API + "/sessions/%s/files/upload?path=x" % s, {"file": "x"})
eq(a.status, 422, "what is no form")
a = upload("none", "x", b"x")
eq((a.status, a.json["detail"]), (404, "Session not found: none"), "no session")
eq(get("/sessions/none/files").status, 404, "to list")
big = b"0123456789abcdef" * (12 << 16)
eq(upload(s, "big", big).json.get("size"), len(big), "12 MiB")
a = get("/sessions/%s/files/big" % s)
eq((a.status, a.body == big), (200, True), "come back as they are, not as an address")
limit = 100 << 20
eq(upload(s, "most", bytes(limit)).json.get("size"), limit, "100 MiB")
a = upload(s, "more", bytes(limit + 1))
eq((a.status, a.json), (413, {"detail": "File size exceeds 100MB limit"}), "one byte more")
eq("more" in names(s), False, "is not there")
request("POST", API + "/sessions/%s/terminate" % s)
a = get("/sessions/%s/files" % s)
eq((a.status, a.json["message"]), (409, "Session is not active: " + s), "a session that has ended has no files")
for x in (s, other):
    request("DELETE", API + "/sessions/" + x)
request("DELETE", API + "/templates/kwf")
done()
