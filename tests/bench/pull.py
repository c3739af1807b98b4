#!/usr/bin/python3
"""Pulling and unpacking an image of three layers (files of this machine's /usr, over 150 MB of tar) from a registry on
loopback, beside skopeo copy + umoci unpack --rootless, and whether both made the same tree: every path with type, mode, size,
time, contents, target, attributes and hard links; owners are not compared, one uid can have no others.

Wall time; processor time; and the peak of the memory of all processes of a row together: the sum of their PSS, each 10 ms,
for both rows alike. Of it, what is anonymous: the rest are pages of programs, which the kernel can drop. CGIBOX_BUILD names
the build directory; ROUNDS, 3. `--write` puts the result into docs/bench.md."""
import gzip, hashlib, http.client, io, json, os, re, shutil, socket, stat, subprocess, sys, tarfile, tempfile, time

B = os.environ.get('CGIBOX_BUILD', 'build')
ROUNDS = int(os.environ.get('ROUNDS', '3'))
UID = 12345
if sys.argv[1:2] == ['--tree']:  # in a user and mount namespace: the layers together, or a directory, as JSON
    root, lowers = sys.argv[2], sys.argv[3:]
    if lowers:
        subprocess.run(['mount', '-t', 'overlay', '-o', 'ro,userxattr,lowerdir=' + ':'.join(lowers), 'x', root], check=True)
    out, names = {}, {}
    for d, dirs, files in os.walk(root):
        for n in dirs + files:
            p = os.path.join(d, n)
            rel, st, what = p[len(root) + 1:], os.lstat(p), None
            if stat.S_ISLNK(st.st_mode):
                what = os.readlink(p)
            elif stat.S_ISREG(st.st_mode):
                with open(p, 'rb') as f:
                    what = hashlib.file_digest(f, 'sha256').hexdigest()
                if st.st_nlink > 1:
                    names.setdefault((st.st_dev, st.st_ino), []).append(rel)
            # umoci keeps owners in an attribute of its own
            attrs = {a: os.getxattr(p, a, follow_symlinks=False).hex() for a in os.listxattr(p, follow_symlinks=False)
                     if a != 'user.rootlesscontainers'} if what is None or not stat.S_ISLNK(st.st_mode) else {}
            out[rel] = [oct(st.st_mode), st.st_size if not stat.S_ISDIR(st.st_mode) else 0, st.st_mtime_ns, what, attrs]
    for group in names.values():
        for rel in group:
            out[rel].append(sorted(group))
    json.dump(out, sys.stdout)
    sys.exit()
for tool in 'docker-registry', 'skopeo', 'umoci':
    if not shutil.which(tool):
        print(f'skipped: {tool} is not installed')
        sys.exit(0)
top = tempfile.mkdtemp(prefix='bench-pull-', dir=os.environ.get('TMPDIR'))
os.chmod(top, 0o755)
DROP = ['setpriv', '--reuid', str(UID), '--regid', str(UID), '--clear-groups'] if os.getuid() == 0 else []
work = f'{top}/work'
os.mkdir(work)
os.mkdir(f'{top}/libexec')
shutil.copy(f'{B}/cgibox', top)
shutil.copy(f'{B}/libexec/image', f'{top}/libexec')
shutil.copy(__file__, f'{top}/tree.py')
subprocess.run(['chmod', '-R', 'a+rX', top], check=True)


class Layer:
    """A layer that grows: every directory has an entry of its own."""

    def __init__(self):
        self.b, self.total, self.dirs = io.BytesIO(), 0, set()
        self.t = tarfile.open(fileobj=self.b, mode='w', format=tarfile.PAX_FORMAT)

    def add(self, name, kind=tarfile.REGTYPE, data=b'', mode=0o755, mtime=1700000000, link=''):
        parent = os.path.dirname(name)
        if parent and parent not in self.dirs:
            self.add(parent, tarfile.DIRTYPE)
        if kind == tarfile.DIRTYPE:
            self.dirs.add(name)
        i = tarfile.TarInfo(name)
        i.type, i.mode, i.mtime, i.linkname, i.size = kind, mode, mtime, link, len(data)
        self.t.addfile(i, io.BytesIO(data))
        self.total += len(data)

    def collect(self, root, limit):
        """Files and links below a directory, about `limit` bytes."""
        for d, dirs, files in os.walk(root):
            dirs.sort()
            for n in sorted(files):
                p = os.path.join(d, n)
                if os.path.islink(p):
                    self.add(p[1:], tarfile.SYMTYPE, link=os.readlink(p))
                elif os.path.isfile(p) and os.access(p, os.R_OK) and self.total < limit:
                    with open(p, 'rb') as f:
                        self.add(p[1:], data=f.read(), mode=os.stat(p).st_mode & 0o777 | 0o600, mtime=int(os.stat(p).st_mtime))

    def end(self):
        self.t.close()
        return self.b.getvalue()


def make_layers():
    """Three layers; the upper ones also replace, link and delete what lies below."""
    a, b, c = Layer(), Layer(), Layer()
    a.collect('/usr/lib', 80 << 20)
    for n in 'gone', 'replaced', 'one':
        a.add(f'test/{n}', data=b'below')
    a.add('test/two', tarfile.LNKTYPE, link='test/one')
    a.add('test/dir/x')
    a.add('test/full/x')
    b.collect('/usr/bin', 60 << 20)
    b.add('test/.wh.gone')
    b.add('test/.wh.dir')
    b.add('test/replaced', data=b'above', mode=0o400)
    c.collect('/usr/share', 40 << 20)
    c.add('test/full', tarfile.DIRTYPE, mode=0o1777)
    c.add('test/full/.wh..wh..opq')
    c.add('test/full/y', tarfile.SYMTYPE, link='/nowhere')
    return [x.end() for x in (a, b, c)]


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
    plain = make_layers()
    packed = [gzip.compress(x, 6) for x in plain]
    config = json.dumps({'architecture': {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(os.uname().machine, os.uname().machine), 'os': 'linux',
                         'config': {}, 'rootfs': {'type': 'layers', 'diff_ids': [sha(x) for x in plain]}}).encode()
    oci = 'application/vnd.oci.image.'
    m = json.dumps({'schemaVersion': 2, 'mediaType': oci + 'manifest.v1+json', 'config': {'mediaType': oci + 'config.v1+json', **push(config)},
                    'layers': [{'mediaType': oci + 'layer.v1.tar+gzip', **push(x)} for x in packed]}).encode()
    assert ask('PUT', '/v2/b/x/manifests/v', m, **{'Content-Type': oci + 'manifest.v1+json'}).status == 201
    return [len(x) for x in plain], sum(map(len, packed))


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
    """(all, anonymous) kB"""
    try:
        with open(f'/proc/{pid}/smaps_rollup') as f:
            got = {x.split()[0]: int(x.split()[1]) for x in f if x.startswith('Pss')}
        return got['Pss:'], got['Pss_Anon:']
    except (OSError, KeyError):  # has ended
        return 0, 0


def measure(command, env):
    """(wall s, processor s, peak MB, peak MB anonymous) of a shell command, run in an empty directory."""
    subprocess.run(['rm', '-rf', work])
    os.mkdir(work)
    if os.getuid() == 0:
        os.chown(work, UID, UID)
    os.sync()
    errors = open(f'{top}/errors', 'w+')  # not a pipe: that would fill up
    before, start = os.times(), time.monotonic()
    p = subprocess.Popen(DROP + ['sh', '-c', command], cwd=work, env=env, stdout=subprocess.DEVNULL, stderr=errors)
    peak = anon = 0
    while p.poll() is None:
        now = [pss(x) for x in descendants(p.pid)]
        peak, anon = max(peak, sum(x[0] for x in now)), max(anon, sum(x[1] for x in now))
        time.sleep(0.01)
    wall, after = time.monotonic() - start, os.times()
    if p.returncode:
        errors.seek(0)
        sys.exit(f'{command}: {errors.read()[-2000:]}')
    # user and system time of children that were waited for; the sampling is our own.
    return wall, after.children_user + after.children_system - before.children_user - before.children_system, peak / 1024, anon / 1024


def tree(root, lowers=()):
    r = subprocess.run(DROP + ['unshare', '-Urm', '/usr/bin/python3', f'{top}/tree.py', '--tree', root, *lowers], capture_output=True, text=True)
    if r.returncode:
        sys.exit(f'list {root}: {r.stderr}')
    return json.loads(r.stdout)


def ours_tree():
    r = subprocess.run(DROP + [f'{top}/cgibox', '--state', f'{work}/st', 'image', '--json', 'inspect', f'{host}/b/x:v'], capture_output=True, text=True)
    subprocess.run(DROP + ['mkdir', f'{work}/mnt'], check=True)
    return tree(f'{work}/mnt', json.loads(r.stdout)['lowers'])


def compare(a, b):
    """Paths in which two trees differ."""
    return sorted(x for x in a.keys() | b.keys() if a.get(x) != b.get(x))


def version(tool):
    out = subprocess.run([tool, '--version'], capture_output=True, text=True).stdout
    return re.search(r'\d+\.\d+(\.\d+)?', out)[0]


def write_doc(text):
    """Replaces the section of docs/bench.md."""
    doc = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../docs/bench.md')
    with open(doc) as f:
        old = f.read()
    new = re.sub(r'## Pulling an image\n.*?(?=\n## |\Z)', lambda m: text, old, flags=re.S)
    with open(doc, 'w') as f:
        f.write(new)


NAMES = ('cgibox image pull', 'the same, `pull_parallel = 1`', f'skopeo {version("skopeo")} copy + umoci {version("umoci")} unpack --rootless')


def main():
    plain, packed = make()
    shape = f'{", ".join(str(x >> 20) for x in plain)} MiB of tar, {packed >> 20} MiB packed'
    print(f'image: 3 layers, {shape}; {os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}; best of {ROUNDS}')
    env = {'PATH': os.environ['PATH'], 'HOME': work, 'CGIBOX_INSECURE_REGISTRIES': host, 'XDG_RUNTIME_DIR': work}
    ours = f'{top}/cgibox --state {work}/st image --quiet pull {host}/b/x:v'
    theirs = f'skopeo --insecure-policy copy -q --src-tls-verify=false docker://{host}/b/x:v oci:{work}/o:v && ' \
        f'umoci unpack --rootless --image {work}/o:v {work}/bundle'
    rows = list(zip(NAMES, (ours, ours, theirs), ({}, {'CGIBOX_PULL_PARALLEL': '1'}, {})))
    results, trees = {name: [] for name in NAMES}, {}
    for _ in range(ROUNDS):  # in turn: a busy machine is busy for all
        for name, command, more in rows:
            results[name].append(measure(command, {**env, **more}))
            print('#', name, *(f'{x:.1f}' for x in results[name][-1]), file=sys.stderr, flush=True)
            if name not in trees:
                trees[name] = tree(f'{work}/bundle/rootfs') if command == theirs else ours_tree()
    best = {name: (min(x[0] for x in r), min(x[1] for x in r), max(x[2] for x in r), max(x[3] for x in r)) for name, r in results.items()}
    print(f'{"":52}{"wall s":>8}{"cpu s":>8}{"peak MB":>9}{"anonymous":>11}')
    for name in NAMES:
        print(f'{name:52}{best[name][0]:8.2f}{best[name][1]:8.2f}{best[name][2]:9.1f}{best[name][3]:11.1f}')
    a, b = best[NAMES[0]], best[NAMES[2]]
    print(f'ours of theirs: wall {a[0] / b[0]:.2f}, peak {a[2] / b[2]:.2f}')
    differ = [x for name in NAMES[:2] for x in compare(trees[name], trees[NAMES[2]])]
    print(f'trees: {len(trees[NAMES[0]])} paths, {len(differ)} differ')
    for x in differ[:20]:
        print('#  ', x, trees[NAMES[0]].get(x), trees[NAMES[2]].get(x))
    if '--write' in sys.argv and not differ:
        lines = ''.join(f'| {n.replace(" unpack --rootless", " unpack")} | {best[n][0]:.1f} | {best[n][1]:.1f} | {best[n][2]:.1f} | {best[n][3]:.1f} |\n' for n in NAMES)
        write_doc(f'''## Pulling an image

`tests/bench/pull.py --write`: three layers ({shape}) from docker-registry on
loopback, unpacked as an ordinary user; each row {ROUNDS} times in turn; times are the best, memory the worst; {os.cpu_count()} processors, load
{os.getloadavg()[0]:.1f}, Linux {".".join(os.uname().release.split(".")[:2])}. Memory is the peak of the PSS of all processes of a row together, each 10 ms; the last
column is what of it is anonymous.

| | wall s | cpu s | peak MB | anonymous |
|---|--:|--:|--:|--:|
{lines}
Ours of theirs: {a[0] / b[0]:.2f} of the wall time, {a[2] / b[2]:.2f} of the memory. The two trees, {len(trees[NAMES[0]])} paths, are the same in type, mode, size,
time, contents, targets, attributes and hard links (`--rootless` keeps no owners either). Ours is one pass, synced to disk; the
others write the packed layers first and make a manifest of what they unpacked. Between its start and the first layer ours gives back the pages
that only the dynamic linker has read (`images/shed.h`): 40 libraries are 9 MB.
''')
    return 1 if differ else 0


try:
    code = main()
finally:
    registry.kill()
    registry.wait()
    subprocess.run(['chmod', '-R', 'u+rwx', top])
    shutil.rmtree(top, ignore_errors=True)
sys.exit(code)
