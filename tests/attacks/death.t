#!/usr/bin/python3
"""Nothing of a tenant survives: kill -9 at random instants while payloads run that will not die. TAP.

The payload leaves processes that ignore every signal, lead sessions, are daemons, are stopped, are traced. Then
one of these dies: cgibox run, pid 1, the supervisor, main, the keeper, a worker, a helper; or the command ends
or times out. Then no process of the machine may have the round's mark in its arguments or, as root, the
service's uid, and nothing may be mounted. CGIBOX_TEST_DEATHS is the number of rounds (60).
"""
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import service  # noqa: E402

ROUNDS = int(os.environ.get("CGIBOX_TEST_DEATHS", "60"))
SEED = int(os.environ.get("CGIBOX_TEST_SEED", str(random.randrange(1 << 30))))
lab.note("CGIBOX_TEST_SEED=%d" % SEED)
random.seed(SEED)
box = lab.Lab()
counts, survivors, seen_alive = {}, [], 0


def count(what):
    counts[what] = counts.get(what, 0) + 1


def wait_for_mark(mark, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if lab.processes(mark):
            return True
        time.sleep(0.01)
    return False


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        return True
    except OSError:
        return False


def init_of(parent):
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % p) as f:
                name, rest = f.read().rsplit(")", 1)
            if name.endswith("(init") and rest.split()[1] == str(parent):
                return int(p)
        except OSError:
            pass
    return None


def round_of_run(n):
    """cgibox run dies, or its pid 1 does, or the command ends, or its time is up."""
    global seen_alive
    mark = "death-%d-%d" % (os.getpid(), n)
    how = random.choice(("run", "run", "run early", "pid1", "end", "timeout"))
    argv = ["/atk/atk", "stay", mark] + (["once"] if how == "end" else [])
    p = box.popen(argv, args=["--timeout", "1"] if how == "timeout" else [])
    if how == "run early":  # while it is being set up
        time.sleep(random.uniform(0, 0.02))
    else:
        p.stdout.readline()
        seen_alive += bool(lab.processes(mark)) or how == "end"
        time.sleep(random.choice((0, 0, random.uniform(0, 0.01))))
    if how.startswith("run"):
        p.kill()
    elif how == "pid1":
        kill(init_of(p.pid) or p.pid)
    p.wait(120)
    count("cgibox " + how)
    left = lab.gone(mark)
    if left:
        survivors.append((n, how, left))
        for pid in left:
            kill(pid)
    p.stdout.close()
    p.stderr.close()


def round_of_service(s, n, archive):
    """One part of the service dies while a request runs the payload."""
    global seen_alive
    mark = "death-%d-%d" % (os.getpid(), n)
    role = random.choice(("worker", "keeper", "main", "supervisor", "tree", "pid1", "worker", "keeper"))
    sid = s.session()
    if not sid:
        count("no session (restarting)")
        time.sleep(0.1)
        return
    answer = []
    t = threading.Thread(target=lambda: answer.append(s.run(sid, ["./atk stay " + mark], archive)))
    t.start()
    if role == "tree":  # at work while the archive is unpacked
        time.sleep(random.uniform(0, 0.03))
    elif wait_for_mark(mark, 60):
        seen_alive += 1
    pids = s.roles().get(role)
    if role == "tree" and not pids:
        role, pids = "keeper (no helper just then)", s.roles().get("keeper")
    # all workers: which one has the request cannot be seen from here
    for pid in pids or []:
        kill(pid)
    count("service: " + role)
    if role == "supervisor":
        s.proc.wait(60)
        left = s.left() if lab.ROOT else lab.gone(mark)
    elif role == "tree":
        s.call("DELETE", "/session/%s/" % sid, timeout=60)
        s.proc.kill()
        s.proc.wait(60)
        left = s.left() if lab.ROOT else lab.gone(mark)
    else:
        left = lab.gone(mark)
    t.join(400)
    if answer and answer[0][0] == 200:
        results = answer[0][1].get("results", [{}])
        if results and results[0].get("exit_code") == 0:
            survivors.append((n, role, "a false success", answer))
    if left:
        survivors.append((n, role, left))
        for pid in left:
            kill(pid)
    if s.proc.poll() is not None:
        s.start()
    else:
        end = time.monotonic() + 120
        while s.call("GET", "/-/health/")[0] != 200 and time.monotonic() < end:
            time.sleep(0.02)


runs = ROUNDS * 2 // 3
for i in range(runs):
    round_of_run(i)
lab.eq(survivors, [], "%d rounds of cgibox run: nothing survives" % runs)
out = box.attack("fds")
lab.ok(out.word == "HELD", "control: cgibox run still works", out)
lab.eq(os.listdir(os.path.join(box.state, "tmp")), [], "and has swept what the killed ones left")
survivors.clear()
program = os.path.join(lab.BUILD, "cgibox.fcgi")
if os.path.exists(program):
    program = box._copy(program, "sbin/cgibox.fcgi")
    svc = service.Service(box, program, workers_min=2, workers_max=4)
    lab.ok(svc.start(), "control: a service runs")
    with open(box.atk, "rb") as f:
        files = service.tar(atk=f.read())
    status, got = svc.run(svc.session(), ["./atk cwd"], files)
    lab.ok(status == 200 and "HELD" in got["results"][0]["output"], "control: it runs the program", got)
    for i in range(ROUNDS - runs):
        round_of_service(svc, runs + i, files)
    lab.eq(survivors, [], "%d rounds of the service: nothing survives, no success is made up" % (ROUNDS - runs))
    status, got = svc.run(svc.session(), ["echo fine"])
    lab.ok(status == 200 and got["results"][0]["output"] == "fine\n", "control: it still serves", got)
    svc.stop()
    lab.eq(svc.left() if lab.ROOT else {}, {}, "and leaves no process")
lab.ok(seen_alive > ROUNDS // 3, "control: payloads were seen alive before", seen_alive)
after = open("/proc/self/mountinfo").read()
lab.eq([x for x in after.splitlines() if box.top in x], [], "nothing is mounted in the state directory")
lab.note("%d rounds, seed %d" % (ROUNDS, SEED))
for what, n in sorted(counts.items()):
    lab.note("%5d  %s" % (n, what))
box.close()
lab.done()
