#!/usr/bin/python3
"""The description of the routes: the same document under all its names, without a key; and its page."""
import json
import os
import re

from client import HERE, done, eq, ok, request

with open(os.path.join(HERE, "..", "..", "docs", "openapi.json"), "rb") as f:
    OURS = f.read()
for path in ("/openapi.json", "/api.json", "/api/openapi.json"):
    for prefix in ("", "/api/v1"):
        a = request("GET", prefix + path, key=None)
        eq((a.status, a.headers.get("Content-Type"), a.body == OURS), (200, "application/json", True), prefix + path)
doc = json.loads(OURS)
eq((doc["openapi"], doc["info"]["title"], doc["servers"][0]["url"]), ("3.1.0", "cgibox", "/api/v1"), "what it is")
for path in ("/docs", "/redoc", "/api/docs", "/api/redoc"):
    a = request("GET", path, key=None)
    eq((a.status, a.headers.get("Content-Type")), (200, "text/html; charset=utf-8"), path)
ok(re.search(r"default-src 'none'", a.headers.get("Content-Security-Policy", "")), "the page may load nothing", a.headers)
page = a.body.decode()
ok(not re.search(r"<script|https?://|<link|<img|@import", page), "and does not try to")
missing = [p for p in doc["paths"] if "<code>%s</code>" % p not in page]
missing += [s for s in doc["components"]["schemas"] if 'id="%s"' % s not in page]
eq(missing, [], "it shows every path and schema")
a = request("GET", "/docs/oauth2-redirect", key=None)
eq((a.status, a.detail), (404, "There is no OAuth here: the key is the header X-API-Key"), "no OAuth")
eq(request("POST", "/openapi.json", {}, key=None).status, 405, "it is read only")
# What it says of keys is so.
for path, ops in doc["paths"].items():
    for method, op in ops.items():
        at = re.sub(r"{\w+}", "00000000-0000-4000-8000-000000000000", path)
        if method == "head" or op.get("security") == [] or at.startswith(("/docs", "/redoc", "/api")) or at in ("/openapi.json",):
            continue
        a = request(method.upper(), at, {} if "requestBody" in op else None, key=None)
        eq(a.status, 403, "%s %s asks for a key" % (method.upper(), path))
done()
