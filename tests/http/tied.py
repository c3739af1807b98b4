#!/usr/bin/python3
"""Sessions that a dialect makes and then writes down: a worker that dies between the two leaves nothing."""
import os
import signal
import sqlite3
import threading
import time

import client
from client import STATE, done, eq, ok, request, wait_for

DB = os.path.join(STATE, "index", "documents")
# One step of the index takes seconds.
SLOW = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 6000000) SELECT count(*) FROM n;"
MAKERS = (("kweaver", "UPDATE", "kw-session", "/api/v1/sessions", {"template_id": "tied", "id": "tied-%d"}),
          ("kweaver runtime", "INSERT", "rt-session", "/workspace/se/create/tied-%d", {"content": "x", "filename": "f"}),
          ("manager", "INSERT", "manager-sandbox", "/api/v1/sandboxes", {"image": client.TAGGED, "command": "sleep 300"}))


def sql(text):
    db = sqlite3.connect(DB, timeout=300)
    db.execute(text)
    db.commit()
    db.close()


def sessions():
    return {x for x in os.listdir(os.path.join(STATE, "sessions")) if not x.startswith(".")}


def tied():
    return {x for x in sessions() if os.path.exists(os.path.join(STATE, "sessions", x, "tied"))}


def workers():
    """Main's children: main is a child of its supervisor, or, started by a web server, is its own."""
    all_ = client.processes()
    fcgi = {p: v for p, v in all_.items() if STATE in client.cmdline(p) and os.path.basename(client.cmdline(p)[0]) == "cgibox.fcgi"
            and v[2] not in ("cgibox-keeper", "cgibox-tree")}
    keepers = {p for p, v in all_.items() if v[2] == "cgibox-keeper"}
    fcgi = {p: v[0] for p, v in fcgi.items() if v[0] not in keepers}
    main = {p for p, up in fcgi.items() if fcgi.get(up) is not None and fcgi.get(fcgi[up]) is None} if not client.SELF_STARTING \
        else {p for p, up in fcgi.items() if up not in fcgi}
    return [p for p, up in fcgi.items() if up in main]


if not STATE or not os.access(STATE, os.R_OK):
    client.skip("not on the service's machine, or not as its user")
    done()
eq(request("POST", "/api/v1/templates", {"id": "tied", "name": "x", "image_url": client.IMAGE, "runtime_type": "python3.11"}).status, 201, "a template")
for k, (who, what, kind, path, body) in enumerate(MAKERS):
    def ask(n):
        spec = {a: b % n if isinstance(b, str) and "%d" in b else b for a, b in body.items()}
        try:
            return request("POST", path % n if "%d" in path else path, spec)
        except OSError:
            return None

    before, seen = sessions(), []
    sql("CREATE TRIGGER slow BEFORE %s ON document WHEN new.kind = '%s' BEGIN %s END" % (what, kind, SLOW))
    t = threading.Thread(target=lambda: seen.append(ask(10 + k)))
    t.start()
    made = wait_for(lambda: tied() - before, 60, 0.005)
    ok(made, "%s: a session is made and not written down yet" % who, sessions())
    victims = workers()
    for p in victims:
        os.kill(p, signal.SIGKILL)
    ok(victims, "control: its worker is killed", client.processes())
    ok(wait_for(lambda: not made & sessions(), 60), "it goes", made)
    t.join()
    ok(seen and (seen[0] is None or seen[0].status in (500, 502, 503)), "the client is told so", seen)
    sql("DROP TRIGGER slow")
    a = wait_for(lambda: (lambda r: r if r and r.status in (200, 201) else None)(ask(20 + k)), 60)
    wait_for(lambda: len(sessions() - before) == 1, 60)  # what was made for one that was told to come again goes
    new = sessions() - before
    ok(a and len(new) == 1 and not new & tied(), "control: another one is made, and stays", a, new)
    time.sleep(0.3)
    eq(sessions() - before, new, "without its worker's connection")
request("DELETE", "/api/v1/sessions/tied-20")
request("DELETE", "/workspace/se/session/tied-21")
if a:
    request("DELETE", "/api/v1/sandboxes/" + a.json["container_id"])
request("DELETE", "/api/v1/sessions/tied-10")
request("DELETE", "/api/v1/templates/tied")
done()
