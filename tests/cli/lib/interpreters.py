"""What the tests of interpreters that wait have in common: programs, and what the service tells of them."""
import json
import os
import signal
import socket
import time

import lab
import service

# Programs whose answer must be the same in both: (language, code, more of the request).
SAME = [
    ("pass", "pass", {}),
    ("the names of __main__", "print(__name__, sorted(globals()), __doc__, __package__, __spec__, __annotations__, __loader__)", {}),
    ("locals are globals", "a = 1\ndef f():\n    global b\n    b = a + 1\nf()\nprint(a, b, sorted(globals()) == sorted(locals()))", {}),
    ("__main__ is the module", "import __main__\nx = 5\nprint(__main__.x, __main__.__dict__ is globals())", {}),
    ("arguments", "import sys\nprint(sys.argv, sys.orig_argv[1:])", {"args": ["a b", "", "-c", "\u00fc"]}),
    ("path", "import sys\nprint(sys.path, sys.flags, sys.executable, sys.warnoptions, len(sys.path_hooks))", {}),
    ("directory and ids", "import os\nprint(os.getcwd(), os.getuid(), os.getgid(), os.getpid(), os.getppid(), os.getsid(0) == os.getpid(),"
     " os.getpgrp() == os.getpid(), oct(os.umask(0)))", {}),
    ("a module of the directory", "import os\nopen('mine.py','w').write('x = 7')\nimport mine\nprint(mine.x, mine.__file__)", {}),
    ("variables", "import os\nprint(sorted(os.environ.items()))", {"env": {"A": "1", "LONG": "x" * 5000, "U": "\u00e9\n=", "EMPTY": ""}}),
    ("variables for children", "import subprocess\nprint(subprocess.run(['/bin/sh','-c','echo $A; pwd; readlink /proc/self/fd/0'],"
     " capture_output=True).stdout)", {"env": {"A": "from here"}}),
    ("no input", "import sys, os, stat\nprint(repr(sys.stdin.read()), stat.S_ISCHR(os.fstat(0).st_mode), sys.stdin.isatty())", {}),
    ("input", "print(repr(input()), repr(input()))\nimport sys\nprint(repr(sys.stdin.read()), sys.stdin.seekable())",
     {"stdin": "one\ntwo \u00fc\nrest"}),
    ("empty input", "import sys\nprint(repr(sys.stdin.read()))\ninput()", {"stdin": ""}),
    ("much input that nobody reads", "print(1)", {"stdin": "x" * 3000000}),
    ("much input", "import sys, hashlib\nprint(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())", {"stdin": "xyz\n" * 500000}),
    ("input for a child", "import subprocess\nprint(subprocess.run(['cat'], capture_output=True).stdout)", {"stdin": "to a child"}),
    ("buffers", "import sys\nprint(sys.stdout.line_buffering, sys.stderr.line_buffering, sys.stdout.encoding, sys.stdout.isatty(),"
     " sys.stdout.errors, sys.stdin.encoding, sys.stdin.errors)", {}),
    ("order of writes", "import os, sys\nsys.stdout.write('late ')\nos.write(1, b'early ')\nsys.stderr.write('err')", {}),
    ("the object of input", "import sys, io\nprint(repr(sys.stdin), repr(sys.stdin.buffer), repr(sys.stdin.buffer.raw), sys.stdin is sys.__stdin__,"
     " repr(sys.stdin.newlines), sys.stdin.line_buffering, sys.stdin.write_through, sys.stdin.seekable(), sys.stdin.buffer.raw.closefd,"
     " sys.stdin.buffer.raw._blksize)\nsys.stdin.seek(0)\nprint(repr(sys.stdin.read()))", {"stdin": "a\r\nb\n"}),
    ("much output", "import sys\nfor i in range(100000): print(i)\nsys.stderr.write('e' * 200000)", {}),
    ("bytes that are no text", "import sys\nsys.stdout.buffer.write(bytes(range(256)))", {}),
    ("unicode", "print('\u00e9\u4e2d\U0001f600', ascii('\u00e9'), len('\U0001f600'))", {}),
    ("exit 3", "import sys\nprint('x')\nsys.exit(3)", {}),
    ("exit with a text", "import sys\nsys.exit('because')", {}),
    ("exit()", "exit()", {}),
    ("SystemExit of a function", "def f():\n    raise SystemExit(300)\nf()", {}),
    ("os._exit", "import os\nprint('lost')\nos._exit(9)", {}),
    ("an exception", "def f(x):\n    return 1 // x\n\nf(0)", {}),
    ("a chain of exceptions", "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e", {}),
    ("an exception while another is handled", "try:\n    {}['a']\nexcept KeyError:\n    import nosuchmodule", {}),
    ("a group of exceptions", "raise ExceptionGroup('g', [ValueError(1), TypeError(2)])", {}),
    ("an exception without a message", "class E(BaseException): pass\nraise E", {}),
    ("an exception of a library", "import json\njson.loads('{')", {}),
    ("no syntax", "x = = 3", {}),
    ("no syntax in line 3", "a = 1\nif a:\nprint(a)", {}),
    ("an invalid escape", "print('\\d', 1)\nassert (1, 'always')", {}),
    ("a hook for exceptions", "import sys\nsys.excepthook = lambda *a: print('hook', a[0], a[1], a[2].tb_frame.f_code.co_filename, a[2].tb_next)\nboom", {}),
    ("what a caught traceback shows", "import traceback\ntry:\n    1/0\nexcept Exception:\n    traceback.print_exc()\n    print(traceback.format_exc())", {}),
    ("KeyboardInterrupt", "raise KeyboardInterrupt", {}),
    ("its own SIGINT", "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(5)", {}),
    ("its own SIGTERM", "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", {}),
    ("its own SIGKILL", "import os, signal\nos.kill(os.getpid(), 9)", {}),
    ("signals", "import signal\nprint([(s.name, str(signal.getsignal(s))) for s in sorted(signal.valid_signals()) if hasattr(s, 'name')],"
     " signal.pthread_sigmask(signal.SIG_BLOCK, []))", {}),
    ("a broken pipe", "import os, signal\nr, w = os.pipe()\nos.close(r)\nos.write(w, b'x')", {}),
    ("threads", "import threading, time\ndef f(i):\n    time.sleep(.02)\n    print(i, threading.current_thread().name, flush=True)\n"
     "for i in range(4):\n    t = threading.Thread(target=f, args=(i,)); t.start(); t.join()\nprint(threading.main_thread().name, threading.active_count())", {}),
    ("a thread that goes on", "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.1), print('late'))).start()\nprint('main')", {}),
    ("an exception in a thread", "import threading\nt = threading.Thread(target=lambda: 1/0, name='T')\nt.start(); t.join()", {}),
    ("atexit", "import atexit, sys\natexit.register(print, 'bye')\nsys.exit(4)", {}),
    ("children", "import os\nif os.fork() == 0:\n    print('child', flush=True)\n    os._exit(0)\nprint(os.wait()[1])", {}),
    ("multiprocessing", "import multiprocessing as m\nm.set_start_method('fork')\nwith m.Pool(2) as p: print(p.map(abs, [-1, -2]))", {}),
    ("subprocess", "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'import sys; print(sys.argv); sys.exit(5)', 'x'],"
     " capture_output=True))", {}),
    ("asyncio", "import asyncio\nasync def f():\n    await asyncio.sleep(.01)\n    return 6\nprint(asyncio.run(f()))", {}),
    ("dataclasses and pickle", "import pickle\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nprint(pickle.loads(pickle.dumps(P(3))), P.__module__)", {}),
    ("the source of a function", "import inspect\ndef f(): pass\ntry: print(inspect.getsource(f))\nexcept OSError as e: print(e)", {}),
    ("annotations", "x: int = 3\nprint(__annotations__)", {}),
    ("future statements", "from __future__ import annotations\nx: undefined = 3\nprint(__annotations__)", {}),
    ("no future of ours", "print(type(lambda: (yield)), eval('1/2'), 1 if True else 0)", {}),
    ("an encoding line", "# -*- coding: latin-1 -*-\nprint('\u00e9')", {}),
    ("lines that end by CR LF", "a = '''x\r\ny'''\r\nprint(repr(a))\r\n", {}),
    ("descriptors", "import os\nprint(sorted(os.listdir('/proc/self/fd')))", {}),
    ("limits", "import resource as r\nprint([(n, r.getrlimit(getattr(r, n))) for n in sorted(dir(r)) if n.startswith('RLIMIT_')])", {}),
    ("rights", "print([l for l in open('/proc/self/status') if l.split(':')[0] in ('NoNewPrivs','Seccomp','CapEff','CapBnd','Groups','Uid','SigIgn','SigBlk')])", {}),
    ("places", "print(sorted(l.split()[4] for l in open('/proc/self/mountinfo')))", {}),
    ("files", "import os\nprint(sorted(os.listdir('/')), os.listdir('/tmp'), os.listdir('/dev/shm'), os.listdir('/repo'))", {}),
    ("a time limit", "import time\nprint('begun', flush=True)\ntime.sleep(1000)", {"timeout": 4}),
    ("a loop and a time limit", "while True: pass", {"timeout": 0.5}),
    ("too much memory of one process", "x = bytearray(3 << 30)", {}),
]
NODE = [
    ("arguments", "console.log(process.argv.slice(1), process.execArgv.length, __filename, __dirname, typeof require, typeof module)", {"args": ["a b", "\u00fc"]}),
    ("variables, directory", "console.log(process.env.A, process.cwd(), Object.keys(process.env).sort().join())", {"env": {"A": "1=2"}}),
    ("input", "process.stdin.on('data', d => console.log(String(d))).on('end', () => console.log('end'))", {"stdin": "some \u00fc"}),
    ("no input", "console.log(require('fs').readFileSync(0).length)", {}),
    ("exit", "process.on('exit', c => console.log('exit', c)); process.exit(7)", {}),
    ("an exception", "throw new Error('boom')", {"stderr": "Error: boom"}),
    ("a rejection", "Promise.reject(new Error('later'))", {"stderr": "Error: later"}),
    ("no syntax", "let let = 3", {"stderr": "SyntaxError"}),
    ("timers", "setTimeout(() => console.log('late'), 20); console.log('now')", {}),
    ("a script's own names", "const a = 1; var b = 2; console.log(a, globalThis.b, this === globalThis)", {}),
    ("import()", "import('node:os').then(m => console.log(typeof m.cpus))", {}),
    ("children", "console.log(String(require('child_process').execSync('cat; echo $A', {stdio: ['inherit','pipe','inherit']})))", {"stdin": "x", "env": {"A": "b"}}),
    ("much output", "process.stdout.write('x'.repeat(1000000)); process.stderr.write('y'.repeat(100000))", {}),
]


def system(s):
    for _ in range(1200):  # workers may have been killed a moment ago
        status, body = s.call("GET", "/api/v1/system/")
        if status == 200:
            return body
        time.sleep(0.05)
    raise RuntimeError("no answer: %s" % (status,))


def waiting(s):
    return system(s)["prepared"]["interpreters"]


def wait_ready(s, n=1, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if waiting(s)["ready"] >= n:
            return True
        time.sleep(0.03)  # asking keeps the keeper busy
    return False


def sandboxes(s):
    return system(s)["sandboxes"]


def settle(s, n, seconds=120):
    """Whether n wait in the end, and nothing else is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        w, left = waiting(s), os.listdir(s.state + "/sessions")
        if w["ready"] == n and len(left) == n and sandboxes(s) == n and not os.listdir(s.state + "/trash"):
            return True
        time.sleep(0.1)
    lab.note(waiting(s), os.listdir(s.state + "/sessions"), os.listdir(s.state + "/trash"), sandboxes(s))
    return False


def make(box, program, number, **conf):
    """Services that run at the same time: each has a user of its own, by which its leftovers are found."""
    s = service.Service(box, program, **conf)
    if lab.ROOT:
        s.uid += 1000 * number
        os.chown(s.state, s.uid, s.uid)
    return s


def hang_up(s, path, body):
    """A client that can go while its code runs."""
    data = json.dumps(body).encode()
    names = {"REQUEST_METHOD": "POST", "REQUEST_URI": path, "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
             "CONTENT_LENGTH": str(len(data)), "CONTENT_TYPE": "application/json", "HTTP_X_API_KEY": s.key}
    c = socket.socket(socket.AF_UNIX)
    c.connect(s.sock)
    c.sendall(service.record(service.BEGIN, b"\0\1\0\0\0\0\0\0") +
              service.records(service.PARAMS, b"".join(service.pair(k, v) for k, v in names.items())) + service.records(service.STDIN, data))
    return c


def kill_workers(s):
    """All workers, and nothing else of the service, nor anything of another that has the same user."""
    names = service.processes_of(s.uid)
    for pid in sum(s.roles().values(), []):
        if names.get(pid, (0, ""))[1] == "cgibox-worker":
            os.kill(pid, signal.SIGKILL)
