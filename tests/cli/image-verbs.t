#!/usr/bin/python3
"""The verbs of `cgibox image` on what is in the store: lists, names, removal, verify and repair, export, kill -9.

Runs as an ordinary user; started by root it drops to an uid of its own. B names the build directory
(default: build)."""
import fcntl, gzip, hashlib, io, json, os, random, shutil, signal, socket, subprocess, sys, tarfile, tempfile
import threading, time

B = os.environ.get('B', 'build')
MUST = os.environ.get('MUST_WORK') == '1'
UID = 12345
count = failed = 0


def ok(good, what, *more):
    global count, failed
    count += 1
    print(f"{'' if good else 'not '}ok {count} - {what}", flush=True)
    if not good:
        failed += 1
        for m in more:
            for line in str(m).splitlines()[-12:]:
                print('#  ', line[:300])
    return good


def eq(got, want, what):
    return ok(got == want, what, f'     got: {got!r}', f'expected: {want!r}')


def skip(what, why):
    global count
    if MUST:
        ok(False, what, 'missing: ' + why)
        return
    count += 1
    print(f'ok {count} - {what} # SKIP {why}', flush=True)


top = tempfile.mkdtemp(prefix='image-verbs-')
os.chmod(top, 0o755)
program, box = shutil.copy(f'{B}/libexec/image', f'{top}/image'), shutil.copy(f'{B}/cgibox', f'{top}/cgibox')
for p in program, box:
    os.chmod(p, 0o755)
home = f'{top}/home'
os.mkdir(home, 0o755)
if os.getuid() == 0:
    os.chown(home, UID, UID)
DROP = ['setpriv', '--reuid', str(UID), '--regid', str(UID), '--clear-groups'] if os.getuid() == 0 else []
ENV = {'PATH': os.environ['PATH'], 'HOME': home}


def command(args, state):
    return DROP + [program, '--state', f'{home}/{state}', *args]


def image(*args, state='st', env=None, timeout=600, data=None):
    kw = {'input': data} if data is not None else {'stdin': subprocess.DEVNULL}
    p = subprocess.run(command(args, state), cwd=home, env={**ENV, **(env or {})}, capture_output=True, timeout=timeout, **kw)
    p.stdout_bytes, p.stdout, p.stderr = p.stdout, p.stdout.decode('utf-8', 'replace'), p.stderr.decode('utf-8', 'replace')
    return p


def document(*args, state='st', **kw):
    r = image('--json', *args, state=state, **kw)
    try:
        return json.loads(r.stdout)
    except ValueError:
        return {'error': r.stdout + r.stderr}


def events(*args, state='st', **kw):
    return [json.loads(x) for x in image('--json', *args, state=state, **kw).stdout.splitlines()]


def sha(b):
    return hashlib.sha256(b).hexdigest()


def tar(entries):
    """entries: (name, kind, data or target, mode[, uid, gid])"""
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode='w', format=tarfile.PAX_FORMAT) as t:
        for name, kind, data, mode, *ids in entries:
            i = tarfile.TarInfo(name)
            i.mode, i.mtime = mode, 1700000000
            i.uid, i.gid = ids or (0, 0)
            if name == 'var/mail':
                i.pax_headers = {'SCHILY.xattr.user.origin': 'here', 'SCHILY.xattr.user.b': 'two\nlines', 'SCHILY.xattr.user.overlay.opaque': 'y',
                                 'SCHILY.xattr.security.capability': 'x', 'SCHILY.xattr.trusted.x': 'x'}
            if kind == 'c':
                i.type, i.devmajor, i.devminor = tarfile.CHRTYPE, *data
            elif kind in 'dplh':
                i.type = {'d': tarfile.DIRTYPE, 'p': tarfile.FIFOTYPE, 'l': tarfile.SYMTYPE, 'h': tarfile.LNKTYPE}[kind]
                i.linkname = data or ''
            else:
                i.size = len(data)
            t.addfile(i, io.BytesIO(data) if kind == 'f' else None)
    return b.getvalue()


LAYER1 = tar([('./', 'd', None, 0o755), ('bin', 'd', None, 0o755), ('bin/su', 'f', b'S' * 5000, 0o4755),
              ('bin/wall', 'f', b'W', 0o2755, 0, 5), ('bin/su2', 'h', 'bin/su', 0o4755), ('etc', 'd', None, 0o755),
              ('etc/secret', 'f', b'nobody reads this', 0o000), ('etc/gone', 'f', b'x', 0o644), ('sh', 'l', 'bin/su', 0o777),
              ('var', 'd', None, 0o1777), ('var/mail', 'f', b'm' * 100000, 0o640, 1000, 8), ('old', 'd', None, 0o755),
              ('old/a', 'f', b'a', 0o644), ('dev', 'd', None, 0o755), ('dev/null', 'c', (1, 3), 0o666),
              ('dev/pipe', 'p', None, 0o600), ('odd \\ \n\xff name', 'f', b'', 0o644), ('big/uid', 'f', b'1', 0o644, 4000000000, 70000)])
LAYER2 = tar([('etc/.wh.gone', 'f', b'', 0o644), ('old/.wh..wh..opq', 'f', b'', 0o644), ('old/b', 'f', b'b', 0o644),
              ('etc/new', 'f', b'new', 0o644)])


def config(layers, **kw):
    return json.dumps({'architecture': 'arm64', 'variant': 'v8', 'os': 'linux', 'created': '2026-01-02T03:04:05Z',
                       'config': {'Entrypoint': ['/bin/sh', '-c', 'a\nb'], 'Cmd': ['x y'], 'Env': ['PATH=/bin'],
                                  'Labels': {'org.example.title': 'two words', 'n': ''}, **kw},
                       'history': [{'created': '2026-01-01T00:00:00Z', 'created_by': 'FROM scratch\tand more'},
                                   {'created_by': 'ENV X', 'empty_layer': True}, {'created_by': 'RUN second', 'comment': 'c'}],
                       'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + sha(x) for x in layers]}}).encode()


def layout(name, layers=(LAYER1, LAYER2), **kw):
    d = f'{top}/{name}'
    os.makedirs(f'{d}/blobs/sha256')

    def blob(data, kind):
        with open(f'{d}/blobs/sha256/{sha(data)}', 'wb') as f:
            f.write(data)
        return {'mediaType': 'application/vnd.oci.image.' + kind, 'digest': 'sha256:' + sha(data), 'size': len(data)}
    c = config(layers, **kw)
    m = {'schemaVersion': 2, 'config': blob(c, 'config.v1+json'),
         'layers': [blob(gzip.compress(x, mtime=0), 'layer.v1.tar+gzip') for x in layers]}
    index = {'schemaVersion': 2, 'manifests': [{**blob(json.dumps(m).encode(), 'manifest.v1+json'),
             'annotations': {'org.opencontainers.image.ref.name': 'v'}}]}
    for n, x in ('index.json', index), ('oci-layout', {'imageLayoutVersion': '1.0.0'}):
        with open(f'{d}/{n}', 'w') as f:
            json.dump(x, f)
    subprocess.run(['chmod', '-R', 'a+rX', d], check=True)
    return d, sha(c), sha(json.dumps(m).encode())


TWO, TWO_ID, TWO_MANIFEST = layout('two')


def base(state='st'):
    return f'{home}/{state}/images'


def parts(state='st'):
    """What is in the store, without locks."""
    out = {x: sorted(os.listdir(f'{base(state)}/{x}')) for x in ('layers', 'images', 'refs', 'blobs/sha256', 'host')}
    out['tmp'] = [x for x in os.listdir(f'{base(state)}/tmp') if not x.startswith('lock-')]
    return out


def own(path):
    """Gives what the test made to the user of the program."""
    if DROP:
        subprocess.run(['chown', '-R', f'{UID}:{UID}', path], check=True)


def session(state, name, lowers, image_id='x', end=True):
    d = f'{home}/{state}/sessions/{name}'
    os.makedirs(d)
    with open(f'{d}/spec', 'w') as f:
        f.write(f'image {image_id}\n' + ''.join(f'lower {x}\n' for x in lowers) + 'end\n' * end)
    return d


def test_lists():
    ok(image('import', 'two', TWO).returncode == 0, 'an image of two layers')
    rows = [x.split('\t') for x in image('ls').stdout.splitlines()]
    eq(rows[0], ['REFERENCE', 'ID', 'LAYERS', 'BYTES', 'CREATED', 'SESSIONS'], 'ls: columns, tab separated off a terminal')
    eq([r[0] for r in rows[1:]], ['host', 'two:latest'], 'ls: host first')
    eq(rows[2][1:3] + rows[2][4:], [TWO_ID[:12], '2', '2026-01-02T03:04:05Z', '0'], 'ls: id, layers, created, sessions')
    d = document('ls')
    eq((d[1]['reference'], d[1]['id'], d[1]['layers'], d[1]['bytes'] > 100000), ('two:latest', TWO_ID, 2, True), 'ls --json')
    a, b = os.openpty()
    p = subprocess.Popen(command(['ls'], 'st'), cwd=home, env=ENV, stdout=b, stdin=subprocess.DEVNULL)
    p.wait()
    out = os.read(a, 65536).decode().splitlines()
    os.close(a), os.close(b)
    ok(all('\t' not in x for x in out) and len({x.find(i) for x, i in zip(out, ('ID', 'host ', TWO_ID[:12])) if i != 'host '}) == 1,
       'ls: columns stand below each other on a terminal', out)
    got = {}
    for line in image('inspect', 'two').stdout.splitlines():
        k, v = line.split(' ', 1)
        got.setdefault(k, []).append(v)
    want = {'id': [TWO_ID], 'env': ['PATH=/bin'], 'entrypoint': ['/bin/sh', '-c', 'a\\x0ab'], 'cmd': ['x y'], 'name': ['two:latest'],
            'label': ['org.example.title=two words', 'n='], 'created': ['2026-01-02T03:04:05Z'], 'architecture': ['arm64/v8'],
            'digest': ['sha256:' + TWO_MANIFEST], 'setid_removed': ['2'], 'devices_left_out': ['2']}
    eq({k: got.get(k) for k in want}, want, 'inspect')
    d = document('inspect', 'two')
    eq((d['entrypoint'], d['cmd'], d['labels'], d['setid_removed'], d['origin']),
       (['/bin/sh', '-c', 'a\nb'], ['x y'], {'org.example.title': 'two words', 'n': ''}, 2, None), 'inspect --json')
    ok('bind' in image('inspect', 'host').stdout and document('inspect', 'host')['id'] == 'host', 'inspect host')
    d = document('history', 'two')
    eq([(x['layer'], x['created_by']) for x in d], [(sha(LAYER2), 'RUN second'), (None, 'ENV X'), (sha(LAYER1), 'FROM scratch\tand more')],
       'history: newest first, layers where there are any')
    ok(d[2]['bytes'] > 100000 and d[0]['bytes'] == 4, 'history: sizes', d)
    ok('FROM scratch\\x09and more' in image('history', 'two').stdout, 'history: a tab in a command is no column')
    d = document('df')
    eq(({x['layer']: (x['images'], x['sessions']) for x in d['layers']}, d['reclaimable_bytes']),
       ({sha(LAYER1): (1, 0), sha(LAYER2): (1, 0)}, 0), 'df')
    os.utime(f'{top}/one.tar', (1600000000, 1600000000))
    image('import', 'dated', f'{top}/one.tar')
    eq(document('inspect', 'dated')['created'], '2020-09-13T12:26:40Z', 'an imported root file system has the date of its file')
    same = document('inspect', 'dated')['id']
    image('import', 'again', f'{top}/one.tar')
    eq(document('inspect', 'again')['id'], same, 'so the same file is the same image')
    image('import', 'piped', '-', data=open(f'{top}/one.tar', 'rb').read())
    ok(document('inspect', 'piped')['created'][:4] >= '2024', 'one from standard input has the time', document('inspect', 'piped'))
    image('rm', 'dated', 'again', 'piped')
    for args, code in ((['history', 'host'], 65), (['history', 'no'], 66), (['inspect', 'A'], 65), (['df', 'x'], 64), (['ls', '--dry-run'], 64)):
        eq(image(*args).returncode, code, f'{args}: exit {code}')


def test_tree_file():
    tree = open(f'{base()}/layers/{sha(LAYER1)}/tree').read().splitlines()
    eq(tree[0], 'cgibox-tree 1', 'the list of a layer: its first line')
    by = {x.split(' ')[-1]: x.split(' ') for x in tree[1:]}
    import zlib
    crc = '%08x' % zlib.crc32(b'm' * 100000)
    attrs = '%08x' % (zlib.crc32(b'user.origin\0here') ^ zlib.crc32(b'user.b\0two\nlines'))
    eq(by['var/mail'], ['f', '640', '1000', '8', '100000', '1700000000.000000000', f'{crc}+{attrs}', 'var/mail'],
       'owner, mode, size, time, checksums of a file and its attributes')
    eq(sorted(os.listxattr(f'{base()}/layers/{sha(LAYER1)}/fs/var/mail')), ['user.b', 'user.origin'], 'which are those that are safe')
    ok({by['bin/su'][0], by['bin/su2'][0]} == {'f', 'h'} and by['bin/su'][1] == '4755', 'set-id bits; a second name')
    eq((by['var'][:4], by['sh'][0], by['sh'][6]), (['d', '1777', '0', '0'], 'l', 'bin/su'), 'a directory, a link')
    eq((by['dev/null'][0], by['dev/null'][6], by['dev/pipe'][0]), ('c', '1:3', 'p'), 'devices that were left out')
    eq(by['big/uid'][2:4], ['4000000000', '70000'], 'owners that nobody here can be')
    ok('odd\\x20\\x5c\\x20\\x0a\\xc3\\xbf\\x20name' in by, 'a name with blanks, a line feed, bytes', list(by))
    tree2 = {x.split(' ')[-1]: x.split(' ') for x in open(f'{base()}/layers/{sha(LAYER2)}/tree').read().splitlines()[1:]}
    eq((tree2['etc/gone'][0], tree2['old'][6]), ('w', 'opaque'), 'whiteout, opaque directory')


def test_names():
    eq(image('tag', 'two', 'reg.example/a/b:1').returncode, 0, 'tag')
    eq(image('tag', TWO_ID[:12], 'three').returncode, 0, 'tag of an id')
    eq(document('inspect', 'three')['names'], ['reg.example/a/b:1', 'three:latest', 'two:latest'], 'all of them are its names')
    for args, code in ((['tag', 'no', 'x'], 66), (['tag', 'two', 'host'], 65), (['tag', 'two', 'A'], 65),
                       (['tag', 'two', 'x@sha256:' + '0' * 64], 65), (['tag', 'host', 'x'], 65), (['tag', 'two'], 64)):
        eq(image(*args).returncode, code, f'{args}: exit {code}')
    r = image('rm', TWO_ID[:12])
    ok(r.returncode == 65 and '3 names' in r.stderr, 'rm of an id with three names: by name', r.stderr)
    r = image('rm', 'two', 'no', 'three')
    ok(r.returncode == 66 and document('inspect', TWO_ID)['names'] == ['reg.example/a/b:1'], 'rm of several: each is tried', r.stderr)
    ev = events('rm', TWO_ID[:12])
    eq(sorted({e['what'] for e in ev}), ['blob', 'image', 'layer', 'reference'], 'rm of an id with one name takes the image')
    eq({k: v for k, v in parts().items() if k != 'host'}, {'layers': [], 'images': [], 'refs': [], 'blobs/sha256': [], 'tmp': []}, 'nothing of it is left')


def test_in_use():
    image('import', 'a', TWO, state='use')
    image('import', 'b', f'{top}/one.tar', state='use')
    lowers = document('inspect', 'a', state='use')['lowers']
    d = session('use', 's1', lowers[:1], TWO_ID)
    eq([x['sessions'] for x in document('ls', state='use')][1:], [1, 0], 'ls counts sessions')
    ev = events('rm', 'a', state='use')
    kept = {(e['name'], e['by'], e['who']) for e in ev if e['event'] == 'kept'}
    eq(kept, {(sha(LAYER2), 'session', 's1'), (sha(LAYER1), 'image', document('inspect', 'b', state='use')['id'])},
       'rm says by what a layer is used: a session, an image')
    eq(parts('use')['layers'], sorted([sha(LAYER1), sha(LAYER2)]), 'and keeps it')
    ok(f'used by session s1' in image('gc', state='use').stdout, 'gc, too')
    os.rename(d, f'{home}/use/sessions/.new-s1')
    ok(sha(LAYER2) in parts('use')['layers'] and 'session s1' in image('gc', state='use').stdout, 'a session that is being made counts')
    shutil.rmtree(f'{home}/use/sessions/.new-s1')
    ev = events('gc', '--dry-run', state='use')
    ok(('removed', 'layer', sha(LAYER2)) in {(e['event'], e['what'], e['name']) for e in ev} and sha(LAYER2) in parts('use')['layers'],
       'gc --dry-run says what it would do, and does nothing', ev)
    image('gc', state='use')
    eq(parts('use')['layers'], [sha(LAYER1)], 'control: without the session the layer goes')
    p = subprocess.Popen(DROP + [box, '--state', f'{home}/use', 'run', '--image', 'host', '--', '/bin/sh', '-c', 'echo up; exec sleep 1000'],
                         cwd=home, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # Whoever makes the skeleton locks it, too: only then is it the sandbox that holds it.
    eq(p.stdout.readline(), b'up\n', 'a sandbox over the image host runs')
    host = parts('use')['host']
    for _ in range(1200):
        host = parts('use')['host']
        r = subprocess.run(['flock', '-n', '-x', f'{base("use")}/host/{host[0]}', 'true']) if host else None
        if r and r.returncode == 1:
            break
        time.sleep(0.05)
    os.mkdir(f'{base("use")}/host/{"0" * 16}')
    own(f'{base("use")}/host/{"0" * 16}')
    os.rename(f'{base("use")}/host/{host[0]}', f'{base("use")}/host/{"1" * 16}')
    r = image('gc', state='use')
    eq(parts('use')['host'], ['1' * 16], 'gc removes old skeletons but what a running sandbox holds')
    ok('used by sandbox' in r.stdout, 'and says so', r.stdout)
    p.terminate()
    p.wait()
    image('gc', state='use')
    eq(parts('use')['host'], [], 'control: when it has ended that goes, too')
    with open(f'{base("use")}/lock') as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        r = image('gc', state='use')
        eq(r.returncode, 75, 'gc while somebody writes: exit 75')
        ev = events('rm', 'b', state='use')
        ok([e['event'] for e in ev] == ['removed', 'kept'] and ev[1]['by'] == 'command', 'rm meanwhile takes the name and leaves the rest', ev)
    image('gc', state='use')
    eq((parts('use')['layers'], parts('use')['images']), ([], []), 'which gc removes')
    os.makedirs(f'{base("use")}/tmp/layer-1-2/fs/deep')
    with open(f'{base("use")}/blobs/sha256/{"0" * 64}', 'w') as f:
        f.write('x')
    own(f'{base("use")}/tmp')
    ev = events('gc', state='use')
    eq(sorted(e['what'] for e in ev), ['blob', 'tmp'], 'gc removes blobs and temporary files that nobody knows')


def test_export():
    image('import', 'e', TWO, state='ex')
    with open(f'{top}/e.tar', 'wb') as f:
        f.write(image('export', 'e', '-', state='ex').stdout_bytes)
    eq(image('export', 'e', f'{home}/e.tar', state='ex').returncode, 0, 'export to a file')
    eq(image('export', 'e', f'{home}/e.d/', state='ex').returncode, 0, 'export to a directory')
    ok(open(f'{top}/e.tar', 'rb').read() == open(f'{home}/e.tar', 'rb').read(), 'the same bytes each time')
    r = image('export', 'e', f'{home}/e.d', state='ex')
    ok(r.returncode == 65 and 'not empty' in r.stderr, 'a directory with something in it is refused', r.stderr)
    r = image('export', 'host', f'{home}/h.tar', state='ex')
    ok(r.returncode == 65 and not os.path.exists(f'{home}/h.tar'), 'host is not exported')
    eq(parts('ex')['tmp'], [], 'nothing is left in tmp')
    r = image('import', 'again', '-', state='ex2', data=open(f'{home}/e.tar', 'rb').read())
    ok(r.returncode == 0, 'import of it from standard input', r.stderr)
    a, b = document('inspect', 'e', state='ex'), document('inspect', 'again', state='ex2')
    keys = ('env', 'entrypoint', 'cmd', 'labels', 'created', 'architecture', 'user', 'workdir', 'setid_removed', 'devices_left_out', 'bytes')
    eq({k: a[k] for k in keys}, {k: b[k] for k in keys}, 'what it says is what it said')
    for i in 0, 1:
        lists = [sorted(open(os.path.dirname(x['lowers'][i]) + '/tree').read().splitlines()) for x in (a, b)]
        eq(lists[0], lists[1], f'layer {i}: every entry with owner, mode, time and checksum')
    eq(len(document('history', 'again', state='ex2')), 3, 'the history, too')
    m = json.load(open(f'{home}/e.d/index.json'))['manifests'][0]
    eq(m['annotations'], {'org.opencontainers.image.ref.name': 'latest'}, 'the tag is in the index')
    eq(open(f'{home}/e.d/blobs/sha256/{m["digest"][7:]}', 'rb').read() and sha(open(f'{home}/e.d/blobs/sha256/{m["digest"][7:]}', 'rb').read()),
       m['digest'][7:], 'blobs are named by what is in them')
    if shutil.which('skopeo') and shutil.which('umoci'):
        env = dict(os.environ, HOME=f'{top}/tools')
        os.makedirs(f'{top}/tools', exist_ok=True)
        p = subprocess.run(['skopeo', '--insecure-policy', 'copy', f'oci-archive:{home}/e.tar', f'docker-archive:{top}/d.tar:x:y'],
                           capture_output=True, text=True, env=env)
        ok(p.returncode == 0, 'skopeo reads it', p.stderr)
        r = image('import', 'docker', f'{top}/d.tar', state='ex2')
        ok(r.returncode == 0 and document('inspect', 'docker', state='ex2')['lowers'] == b['lowers'], 'and what it made of it is the same image', r.stderr)
        p = subprocess.run(['umoci', 'unpack', '--rootless', '--image', f'{home}/e.d:latest', f'{top}/bundle'], capture_output=True, text=True, env=env)
        root = f'{top}/bundle/rootfs'
        ok(p.returncode == 0 and not os.path.exists(f'{root}/etc/gone') and os.listdir(f'{root}/old') == ['b'] and
           open(f'{root}/etc/new').read() == 'new', 'umoci unpacks it: whiteout and opaque directory are understood', p.stderr)
    else:
        skip('skopeo and umoci read it', 'skopeo, umoci')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def start_registry():
    port = free_port()
    with open(f'{top}/reg.yml', 'w') as f:
        f.write(f'version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {top}/reg}}}}\n'
                f'http: {{addr: 127.0.0.1:{port}, debug: {{addr: 127.0.0.1:{free_port()}}}}}\n')
    reg = subprocess.Popen(['docker-registry', 'serve', f'{top}/reg.yml'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(1200):
        try:
            socket.create_connection(('127.0.0.1', port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    host = f'127.0.0.1:{port}'
    p = subprocess.run(['skopeo', '--insecure-policy', 'copy', '--dest-tls-verify=false', f'oci:{TWO}', f'docker://{host}/t/two:v'],
                       capture_output=True, text=True, env=dict(os.environ, HOME=f'{top}/tools'))
    ok(p.returncode == 0, 'skopeo pushed to a registry', p.stderr)
    return reg, host


# Each gives (what is damaged, what verify must say).
def damages(s):
    fs = f'{base(s)}/layers/{sha(LAYER1)}'

    def flip(path):
        mode, t = os.stat(path).st_mode, os.stat(path)
        os.chmod(path, 0o600)
        with open(path, 'r+b') as f:
            f.seek(10)
            f.write(b'!')
        os.chmod(path, mode & 0o7777)
        os.utime(path, ns=(t.st_atime_ns, t.st_mtime_ns))

    def write(path, text):
        with open(path, 'w') as f:
            f.write(text)
    yield 'one byte of a file', 'var/mail: has other contents', lambda: flip(f'{fs}/fs/var/mail')
    yield 'a file that nobody may read', 'etc/secret: has other contents', lambda: flip(f'{fs}/fs/etc/secret')
    yield 'a file that is gone', 'etc/gone: is missing', lambda: os.unlink(f'{fs}/fs/etc/gone')
    yield 'a mode', 'etc/secret: has another mode', lambda: os.chmod(f'{fs}/fs/etc/secret', 0o444)
    yield 'a cut file', 'var/mail: has another size', lambda: os.truncate(f'{fs}/fs/var/mail', 5)
    yield 'an attribute that is gone', 'var/mail: has other attributes', lambda: os.removexattr(f'{fs}/fs/var/mail', 'user.b')
    yield 'an attribute too many', 'bin/wall: has other attributes', lambda: os.setxattr(f'{fs}/fs/bin/wall', 'user.x', b'')
    yield 'a file too many', 'does not have', lambda: write(f'{fs}/fs/big/more', 'x')
    yield 'a link', 'sh: leads elsewhere', lambda: (os.unlink(f'{fs}/fs/sh'), os.symlink('/x', f'{fs}/fs/sh'))
    yield 'a hard link', 'hard link', lambda: (os.unlink(f'{fs}/fs/bin/su2'), shutil.copy2(f'{fs}/fs/bin/su', f'{fs}/fs/bin/su2'))
    yield 'an opaque mark', 'opaque mark', lambda: os.removexattr(f'{base(s)}/layers/{sha(LAYER2)}/fs/old', 'user.overlay.opaque')
    yield 'the list of files', 'list of files', lambda: flip(f'{fs}/tree')
    yield 'a list of files that is gone', 'not whole', lambda: os.unlink(f'{fs}/tree')
    yield 'the mark of a whole layer', 'not whole', lambda: os.unlink(f'{fs}/done')
    yield 'a layer', 'not whole', lambda: subprocess.run(['rm', '-rf', fs])
    yield 'the config', 'blob', lambda: flip(f'{base(s)}/blobs/sha256/{TWO_ID}')
    yield 'the manifest', 'blob', lambda: os.unlink(f'{base(s)}/blobs/sha256/{TWO_MANIFEST}')
    yield 'the record', 'image', lambda: flip(f'{base(s)}/images/{TWO_ID}')
    yield 'a record that is gone', 'image', lambda: os.unlink(f'{base(s)}/images/{TWO_ID}')
    yield 'a record that says something else', 'not what its config says', lambda: subprocess.run(
        ['sed', '-i', 's/^env PATH=.*/env PATH=\\/evil/', f'{base(s)}/images/{TWO_ID}'])


def test_verify():
    if not shutil.which('docker-registry') or not shutil.which('skopeo'):
        skip('verify and repair', 'docker-registry, skopeo')
        return
    reg, host = start_registry()
    env = {'CGIBOX_INSECURE_REGISTRIES': host}
    ref = f'{host}/t/two:v'
    try:
        r = image('pull', ref, state='vf', env=env)
        ok(r.returncode == 0 and image('verify', state='vf').returncode == 0, 'what was pulled is good', r.stderr)
        eq(document('inspect', ref, state='vf')['origin'], f'{host}/t/two', 'it knows where it came from')
        eq(image('tag', ref, 'mine', state='vf').returncode, 0, 'and gets another name')
        image('rm', ref, state='vf')
        for what, says, do in damages('vf'):
            do()
            r = image('verify', state='vf')
            found = r.returncode == 71 and says in r.stdout
            q = image('verify', '--repair', state='vf', env=env)
            good = image('verify', 'mine', state='vf')
            ok(found and q.returncode == 0 and 'repaired image' in q.stdout and good.returncode == 0 and good.stdout == '',
               f'{what}: found and repaired', r.stdout, r.stderr, q.stdout, q.stderr, good.stdout)
        os.truncate(f'{base("vf")}/layers/{sha(LAYER1)}/fs/var/mail', 5)
        held = os.open(f'{base("vf")}/layers/{sha(LAYER1)}', os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_SH)
        r = image('verify', '--repair', state='vf', env=env)
        ok(r.returncode == 71 and 'used by a sandbox' in r.stdout, 'what a sandbox uses is not replaced under it', r.stdout, r.stderr)
        os.close(held)
        r = image('verify', '--repair', state='vf', env=env)
        ok(r.returncode == 0, 'control: when it has ended it is', r.stdout, r.stderr)
        eq(parts('vf')['tmp'], [], 'nothing is left in tmp')
        image('import', 'local', f'{top}/one.tar', state='vf')
        os.truncate(f'{base("vf")}/layers/{sha(LAYER1)}/fs/var/mail', 5)
        r = image('verify', '--repair', 'local', state='vf', env=env)
        ok(r.returncode == 71 and 'import it again' in r.stdout, 'an image that was imported cannot be', r.stdout)
        r = image('verify', '--repair', state='vf', env=env)
        ok(r.returncode == 0 or image('verify', state='vf').returncode == 0, 'unless another image that was pulled shares the layer', r.stdout)
        os.truncate(f'{base("vf")}/layers/{sha(LAYER1)}/fs/var/mail', 5)
    finally:
        reg.terminate()
        reg.wait()
    r = image('verify', '--repair', 'mine', state='vf', env=env)
    ok(r.returncode == 71 and 'could not repair' in r.stdout and 'damaged layer' in r.stdout, 'without the registry: told', r.stdout)
    ev = events('verify', 'mine', state='vf')
    eq((ev[0]['event'], ev[0]['what'], ev[-1]['event']), ('damaged', 'layer', 'error'), 'verify --json')
    r = image('inspect', 'mine', state='vf')
    ok(r.returncode == 71 and 'again' in r.stderr, 'and what could not be repaired is not used', r.stderr)
    with open(f'{base("vf")}/refs/mine:latest', 'w') as f:
        f.write('noise\n')
    ok('damaged reference mine:latest' in image('verify', state='vf').stdout, 'a damaged reference is found')
    ok(any('mine' in x and 'damaged' in x for x in image('ls', state='vf').stdout.splitlines()), 'ls shows it among the others')
    r = image('gc', state='vf')
    ok(r.returncode == 71 and parts('vf')['layers'], 'gc removes nothing as long as it cannot read all names', r.stderr)
    eq(image('rm', 'mine', state='vf').returncode, 0, 'rm of it')


def test_old_layers():
    """What was stored when layers had no lists of their files."""
    def age(state):
        for x in sha(LAYER1), sha(LAYER2):
            d = f'{base(state)}/layers/{x}'
            os.unlink(f'{d}/tree')
            with open(f'{d}/done') as f:
                lines = [line for line in f if not line.startswith('tree ')]
            with open(f'{d}/done', 'w') as f:
                f.writelines(lines)
    image('import', 'old', TWO, state='old')
    fresh = open(f'{base("old")}/layers/{sha(LAYER1)}/tree').read()
    age('old')
    r = image('verify', state='old')
    ok(r.returncode == 71 and r.stdout.count('stored by an older version') == 2, 'verify: a layer without a list of its files', r.stdout)
    r = image('inspect', 'old', state='old')
    ok(r.returncode == 0, 'it can be used', r.stderr)
    r = image('verify', '--repair', state='old')
    ok(r.returncode == 0 and 'repaired image' in r.stdout and image('verify', state='old').returncode == 0, '--repair gives it one', r.stdout, r.stderr)
    plain = lambda text: {x.split()[-1]: [x.split()[0], *x.split()[4:7]] for x in text.splitlines()[1:] if x[0] not in 'bcpd'}
    mine = open(f'{base("old")}/layers/{sha(LAYER1)}/tree').read()
    eq(plain(mine), plain(fresh), 'type, size, time and checksum are those of the archive')
    ok('S' not in mine and ' 4755 ' in fresh and ' 4755 ' not in mine, 'owners and set-id bits are not known any more')
    os.truncate(f'{base("old")}/layers/{sha(LAYER1)}/fs/var/mail', 5)
    r = image('verify', state='old')
    ok(r.returncode == 71 and 'var/mail: has another size' in r.stdout, 'control: it is a list that finds damage', r.stdout)
    age('old')
    os.unlink(f'{base("old")}/blobs/sha256/{TWO_ID}')
    r = image('verify', '--repair', state='old')
    ok(r.returncode == 71 and 'import it again' in r.stdout, 'not when something else is damaged, too', r.stdout)
    eq(parts('old')['tmp'], [], 'nothing is left in tmp')


def test_kills():
    """kill -9 at random moments: what is left is whole, and the next gc removes the rest."""
    random.seed(int(os.environ.get('SEED', '1')))
    big = tar([(f'd{i}', 'd', None, 0o755) for i in range(40)] + [(f'd{i % 40}/f{i}', 'f', os.urandom(3000), 0o644) for i in range(1500)])
    with open(f'{top}/big.tar', 'wb') as f:
        f.write(big)
    image('import', 'keep', TWO, state='kl')
    bad, killed = [], {}
    for i in range(int(os.environ.get('KILLS', '30'))):
        verb = ('rm', 'gc', 'export')[i % 3]
        image('import', 'big', f'{top}/big.tar', state='kl')
        if verb == 'gc':
            os.unlink(f'{base("kl")}/refs/big:latest')
        args = {'rm': ['rm', 'big'], 'gc': ['gc'], 'export': ['export', 'big', f'{home}/big.out']}[verb]
        p = subprocess.Popen(command(args, 'kl'), cwd=home, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(random.random() * (0.4 if verb == 'export' else 0.08))
        p.kill()
        killed[verb] = killed.get(verb, 0) + (p.wait() == -9)
        if verb == 'export' and os.path.exists(f'{home}/big.out'):
            if subprocess.run(['tar', '-tf', f'{home}/big.out'], capture_output=True).returncode:
                bad.append((i, 'a half export has the name'))
            os.unlink(f'{home}/big.out')
        v = image('verify', state='kl')
        if v.returncode or v.stdout:
            bad.append((i, verb, v.stdout, v.stderr))
        for x in parts('kl')['layers']:
            if not os.path.exists(f'{base("kl")}/layers/{x}/done'):
                bad.append((i, verb, 'half a layer'))
        image('rm', 'big', state='kl')
        g = image('gc', state='kl')
        now = parts('kl')
        if g.returncode or now['tmp'] or now['layers'] != sorted([sha(LAYER1), sha(LAYER2)]) or now['refs'] != ['keep:latest']:
            bad.append((i, verb, g.stderr, now))
    eq(bad, [], f'kill -9 of rm, gc and export: what is left is whole, gc removes the rest (killed in time: {killed})')
    ok(sum(killed.values()) >= 5, 'control: some were killed in time', killed)


with open(f'{top}/one.tar', 'wb') as one:
    one.write(LAYER1)
os.chmod(f'{top}/one.tar', 0o644)
try:
    for t in (test_lists, test_tree_file, test_names, test_in_use, test_export, test_verify, test_old_layers, test_kills):
        t()
finally:
    subprocess.run(['chmod', '-R', 'u+rwx', top])
    shutil.rmtree(top, ignore_errors=True)
print(f'1..{count}')
sys.exit(failed != 0)
