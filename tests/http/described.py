"""Whether answers are what docs/openapi.json says. client.py shows it every answer; the end of a test
file asks for the verdict. A few answers of each kind are looked at, so that it stays cheap."""
import json
import os
import re
import threading
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
DOCUMENT = os.path.join(HERE, "..", "..", "docs", "openapi.json")
EACH = 6                # answers of one operation and status
BODY_MAX = 1 << 18
REST = ("path", "reference")  # parameters that hold slashes

_seen = {}              # (method, template, status) -> [(path, content type, body)]
_faults = []
_doc = None
_templates = []
_loading = threading.Lock()


def _load():
    """Once, whichever thread of a test comes first; _doc is there when all is."""
    global _doc
    with _loading:
        if _doc is None:
            with open(DOCUMENT, encoding="utf-8") as f:
                doc = json.load(f)
            _read_paths(doc)
            _doc = doc


def _read_paths(doc):
    for t in doc["paths"]:
        parts = re.split(r"({\w+})", t.rstrip("/"))
        text = "".join(re.escape(p) if i % 2 == 0 else ".+" if p[1:-1] in REST else "[^/]+" for i, p in enumerate(parts))
        # A path that is told from another by its slash alone is taken literally.
        other = t[:-1] if t.endswith("/") else t + "/"
        end = "" if other in doc["paths"] else "/?"
        _templates.append((re.compile(text + (t[len(t.rstrip("/")):] if not end else end) + r"\Z"), t))
    _templates.sort(key=lambda x: (sum(p in REST for p in re.findall(r"{(\w+)}", x[1])), x[1].count("{")))


def find(path):
    """The template of a path as it was asked for, or None."""
    path = urllib.parse.urlsplit(path).path if not path.startswith("//") else path
    if path.startswith("/api/v1/api/v1/sandboxes"):  # the Manager's own client doubles it
        path = path[7:]
    for at in (path[7:] if path.startswith("/api/v1/") else path, path):
        for pattern, template in _templates:
            if pattern.match(at):
                return template
    return None


def saw(method, path, status, content_type, body):
    if method == "OPTIONS":
        return  # what browsers ask on their own is not described
    if _doc is None:
        _load()
    template = find(path)
    if template is not None and "/ports/" in template:
        return  # what listens inside a sandbox answers as it likes
    if template is None or method.lower() not in _doc["paths"][template]:
        if status not in (301, 307, 308, 400, 403, 404, 405, 413, 414, 431, 501, 502, 503):
            _faults.append("%s %s is not described, but answers %d" % (method, path[:200], status))
        return
    some = _seen.setdefault((method, template, status), [])
    if len(some) < EACH and len(body) <= BODY_MAX:
        some.append((path, (content_type or "").split(";")[0].strip(), body))


def _resolve(x):
    while "$ref" in x:
        at = _doc
        for step in x["$ref"][2:].split("/"):
            at = at[step]
        x = at
    return x


def _judge(key, path, content_type, body):
    import jsonschema
    method, template, status = key
    responses = _doc["paths"][template][method.lower()]["responses"]
    answer = _resolve(responses.get(str(status), responses["default"]))
    what = "%s %s %d" % (method, path[:200], status)
    if status >= 500 and status != 507 and content_type != "application/json":
        return  # the web server's own
    if "content" not in answer:
        if body:
            _faults.append("%s: has a body" % what)
        return
    if method == "HEAD":
        return
    if content_type not in answer["content"]:
        _faults.append("%s: is %s" % (what, content_type or "without a type"))
        return
    if content_type != "application/json":
        return
    schema = dict(answer["content"][content_type]["schema"], components=_doc["components"])
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(json.loads(body)), key=lambda e: len(e.path))
    for e in errors[:2]:
        _faults.append("%s: %s: %s" % (what, "/".join(map(str, e.absolute_path)), e.message[:300]))


def verdict():
    """(number of answers looked at, faults), or None when this cannot be told here."""
    if not _seen and not _faults:
        return 0, []
    try:
        import jsonschema  # noqa: F401
    except ImportError:
        return None
    n = 0
    for key, some in _seen.items():
        for one in some:
            n += 1
            try:
                _judge(key, *one)
            except ValueError:
                _faults.append("%s %s: no JSON" % (key[0], one[0][:200]))
    return n, list(dict.fromkeys(_faults))
