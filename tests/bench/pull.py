#!/usr/bin/python3
"""Pulling and unpacking an image of three layers (files of this machine's /usr, over 150 MB of tar) from a registry on
loopback, beside skopeo copy + umoci unpack --rootless: wall time, processor time, and the peak of the memory of all
processes together (PSS, sampled each 10 ms). CGIBOX_BUILD names the build directory; ROUNDS, 3."""
import gzip, hashlib, http.client, io, json, os, shutil, socket, subprocess, sys, tarfile, tempfile, threading, time

B = os.environ.get('CGIBOX_BUILD', 'build')
ROUNDS = int(os.environ.get('ROUNDS', '3'))
UID = 12345
for tool in 'docker-registry', 'skopeo', 'umoci':
    if not shutil.which(tool):
        print(f'skipped: {tool} is not installed')
        sys.exit(0)
top = tempfile.mkdtemp(prefix='bench-pull-', dir=os.environ.get('TMPDIR'))
os.chmod(top, 0o755)
DROP = ['setpriv', '--reuid', str(UID), '--regid', str(UID), '--clear-groups'] if os.getuid() == 0 else []
work = f'{top}/work'
os.mkdir(work)
if os.getuid() == 0:
    os.chown(work, UID, UID)
program = f'{top}/image'
shutil.copy(f'{B}/libexec/image', program)


def collect(root, limit):
    """Regular files below a directory as one layer of about `limit` bytes."""
    b, total = io.BytesIO(), 0
    with tarfile.open(fileobj=b, mode='w') as t:
        for d, dirs, files in os.walk(root):
            dirs.sort()
            for f in sorted(files):
                p = os.path.join(d, f)
                if os.path.islink(p) or not os.access(p, os.R_OK) or not os.path.isfile(p) or total > limit:
                    continue
                total += os.path.getsize(p)
                i = tarfile.TarInfo(p.lstrip('/'))
                i.size, i.mode = os.path.getsize(p), 0o755
                with open(p, 'rb') as src:
                    t.addfile(i, src)
    return b.getvalue()


def sha(b):
    return 'sha256:' + hashlib.sha256(b).hexdigest()


with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
host = f'127.0.0.1:{port}'
with open(f'{top}/r.yml', 'w') as f:
    f.write(f'version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {top}/data}}}}\nhttp: {{addr: {host}}}\n')
registry = subprocess.Popen(['docker-registry', 'serve', f'{top}/r.yml'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while socket.socket().connect_ex(('127.0.0.1', port)):
    time.sleep(0.05)


def ask(method, path, body=None, **headers):
    c = http.client.HTTPConnection('127.0.0.1', port)
    c.request(method, path, body, headers)
    r = c.getresponse()
    r.read()
    return r


def push(blob):
    at = ask('POST', '/v2/b/x/blobs/uploads/').getheader('Location').split(host)[-1]
    r = ask('PUT', at + ('&' if '?' in at else '?') + 'digest=' + sha(blob), blob, **{'Content-Type': 'application/octet-stream'})
    assert r.status == 201, r.status
    return {'digest': sha(blob), 'size': len(blob)}


def make():
    plain = [collect(d, n) for d, n in (('/usr/lib', 80 << 20), ('/usr/bin', 60 << 20), ('/usr/share', 40 << 20))]
    packed = [gzip.compress(x, 6) for x in plain]
    config = json.dumps({'architecture': 'amd64', 'os': 'linux', 'config': {},
                         'rootfs': {'type': 'layers', 'diff_ids': [sha(x) for x in plain]}}).encode()
    oci = 'application/vnd.oci.image.'
    m = json.dumps({'schemaVersion': 2, 'mediaType': oci + 'manifest.v1+json', 'config': {'mediaType': oci + 'config.v1+json', **push(config)},
                    'layers': [{'mediaType': oci + 'layer.v1.tar+gzip', **push(x)} for x in packed]}).encode()
    assert ask('PUT', '/v2/b/x/manifests/v', m, **{'Content-Type': oci + 'manifest.v1+json'}).status == 201
    return sum(map(len, plain)), sum(map(len, packed)), [len(x) >> 20 for x in plain]


def descendants(pid):
    parents = {}
    for p in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{p}/stat') as f:
                parents.setdefault(int(f.read().rsplit(')', 1)[1].split()[1]), []).append(int(p))
        except OSError:
            pass
    out, todo = [], [pid]
    while todo:
        out.append(todo.pop())
        todo += parents.get(out[-1], [])
    return out


def pss(pid):
    try:
        with open(f'/proc/{pid}/smaps_rollup') as f:
            return sum(int(x.split()[1]) for x in f if x.startswith('Pss:'))
    except OSError:
        return 0


def measure(command, env):
    """(wall s, processor s, peak MB) of a shell command, run in an empty directory."""
    shutil.rmtree(work)
    os.mkdir(work)
    if os.getuid() == 0:
        os.chown(work, UID, UID)
    os.sync()
    errors = open(f'{top}/errors', 'w+')  # not a pipe: that would fill up
    before, start = os.times(), time.monotonic()
    p = subprocess.Popen(DROP + ['sh', '-c', command], cwd=work, env=env, stdout=subprocess.DEVNULL, stderr=errors)
    peak = 0
    while p.poll() is None:
        peak = max(peak, sum(map(pss, descendants(p.pid))))
        time.sleep(0.01)
    wall, after = time.monotonic() - start, os.times()
    if p.returncode:
        errors.seek(0)
        sys.exit(f'{command}: {errors.read()[-2000:]}')
    # user and system time of children that were waited for; the sampling is our own.
    return wall, after.children_user + after.children_system - before.children_user - before.children_system, peak / 1024


try:
    plain, packed, layers = make()
    print(f'image: 3 layers of {layers} MiB of tar, {plain >> 20} MiB, packed {packed >> 20} MiB; {os.cpu_count()} processors; best of {ROUNDS}')
    env = {'PATH': os.environ['PATH'], 'HOME': work, 'CGIBOX_INSECURE_REGISTRIES': host, 'XDG_RUNTIME_DIR': work}
    ours = f'{program} --state {work}/st --quiet pull {host}/b/x:v'
    rows = [('cgibox image pull', ours, {}), ('the same, pull_parallel = 1', ours, {'CGIBOX_PULL_PARALLEL': '1'}),
            ('skopeo copy + umoci unpack', f'skopeo --insecure-policy copy -q --src-tls-verify=false docker://{host}/b/x:v oci:{work}/o:v && '
             f'umoci unpack --rootless --image {work}/o:v {work}/bundle', {})]
    print(f'{"":32}{"wall s":>8}{"cpu s":>8}{"peak MB":>9}')
    results = {name: [] for name, _, _ in rows}
    for _ in range(ROUNDS):  # in turn: a busy machine is busy for all
        for name, command, more in rows:
            results[name].append(measure(command, {**env, **more}))
            print('#', name, results[name][-1], file=sys.stderr, flush=True)
    for name, _, _ in rows:
        best = min(results[name])
        print(f'{name:32}{best[0]:8.2f}{best[1]:8.2f}{max(x[2] for x in results[name]):9.0f}')
finally:
    registry.kill()
    registry.wait()
    subprocess.run(['chmod', '-R', 'u+rwx', top])
    shutil.rmtree(top, ignore_errors=True)
