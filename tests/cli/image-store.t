#!/usr/bin/python3
"""The program `image`: import in every form, pull from a real registry, refusals, kill -9.

Runs as an ordinary user; started by root it drops to an uid of its own for the program.
B names the build directory (default: build)."""
import fcntl, gzip, hashlib, io, json, os, shutil, signal, socket, subprocess, sys, tarfile, tempfile
import threading, time, http.server

B = os.environ.get('B', 'build')
MUST = os.environ.get('MUST_WORK') == '1'
UID = 12345
count = failed = 0


def ok(good, what, more=''):
    global count, failed
    count += 1
    print(f"{'' if good else 'not '}ok {count} - {what}", flush=True)
    if not good:
        failed += 1
        for line in str(more).splitlines()[-12:]:
            print('#  ', line)
    return good


def skip(what, why):
    global count
    if MUST:
        ok(False, what, 'missing: ' + why)
        return
    count += 1
    print(f'ok {count} - {what} # SKIP {why}', flush=True)


top = tempfile.mkdtemp(prefix='image-store-')
os.chmod(top, 0o755)
program = f'{top}/image'
shutil.copy(f'{B}/libexec/image', program)
os.chmod(program, 0o755)
home = f'{top}/home'
os.mkdir(home, 0o755)
if os.getuid() == 0:
    os.chown(home, UID, UID)
DROP = ['setpriv', '--reuid', str(UID), '--regid', str(UID), '--clear-groups'] \
    if os.getuid() == 0 else []
os.environ['HOME'] = f'{top}/tools'  # of skopeo and umoci
os.mkdir(f'{top}/tools')
ENV = {'PATH': os.environ['PATH'], 'HOME': home}


def image(*args, state='st', env=None, timeout=600):
    return subprocess.run(DROP + [program, '--state', f'{home}/{state}', *args], cwd=home,
                          env={**ENV, **(env or {})}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=timeout)


def on_terminal(args, state, env):
    """Standard error of the program when that is a terminal."""
    a, b = os.openpty()
    p = subprocess.Popen(DROP + [program, '--state', f'{home}/{state}', *args], cwd=home, env={**ENV, **env},
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=b)
    os.close(b)
    out = b''
    try:
        while True:
            piece = os.read(a, 4096)
            if not piece:
                break
            out += piece
    except OSError: # how Linux reports the end of a terminal
        pass
    os.close(a)
    p.wait()
    return out.decode('utf-8', 'replace')


def inspect(ref, state='st'):
    r = image('inspect', ref, state=state)
    out = {}
    for line in r.stdout.splitlines():
        k, v = line.split(' ', 1)
        out.setdefault(k, []).append(v)
    return out


def sha(b):
    return hashlib.sha256(b).hexdigest()


def tar(entries, **kw):
    """entries: (name, kind, data or target, mode)"""
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode='w', **kw) as t:
        for name, kind, data, mode in entries:
            i = tarfile.TarInfo(name)
            i.mode = mode
            i.mtime = 1700000000
            if kind == 'd':
                i.type = tarfile.DIRTYPE
            elif kind == 'l':
                i.type, i.linkname = tarfile.SYMTYPE, data
            elif kind == 'h':
                i.type, i.linkname = tarfile.LNKTYPE, data
            else:
                i.size = len(data)
            t.addfile(i, io.BytesIO(data) if kind == 'f' else None)
    return b.getvalue()


BUSYBOX = open('/bin/busybox', 'rb').read() if os.path.exists('/bin/busybox') else b'#!/bin/true\n'
ROOTFS = [('./', 'd', None, 0o755), ('bin', 'd', None, 0o755), ('bin/busybox', 'f', BUSYBOX, 0o4755),
          ('bin/sh', 'l', 'busybox', 0o777), ('bin/ls', 'h', 'bin/busybox', 0o755),
          ('etc', 'd', None, 0o755), ('etc/shadow', 'f', b'root:*::\n', 0o000),
          ('usr/lib', 'd', None, 0o755), ('lib', 'l', 'usr/lib', 0o777),
          ('lib/libx.so', 'f', b'ELF', 0o644), ('locked', 'd', None, 0o555),
          ('locked/file', 'f', b'in a 0555 directory', 0o444)]
LAYER1 = tar(ROOTFS)
LAYER2 = tar([('etc', 'd', None, 0o755), ('etc/.wh.shadow', 'f', b'', 0o644),
              ('gone/.wh..wh..opq', 'f', b'', 0o644), ('new', 'f', b'second layer\n', 0o644)])
CONFIG = json.dumps({'architecture': 'amd64', 'os': 'linux', 'config': {
    'Env': ['PATH=/bin', 'A=b c'], 'WorkingDir': '/etc', 'User': '1000'},
    'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + sha(LAYER1), 'sha256:' + sha(LAYER2)]}}).encode()


def write(name, data):
    path = f'{top}/{name}'
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f:
        f.write(data)
    os.chmod(path, 0o644)
    return path


def store_files(state='st'):
    return sorted(os.listdir(f'{home}/{state}/images/layers')), \
        [x for x in os.listdir(f'{home}/{state}/images/tmp') if not x.startswith('lock-')]


# --- import of root file systems
def test_rootfs():
    for name, pack in (('plain', lambda b: b), ('gz', gzip.compress),
                       ('bz2', __import__('bz2').compress), ('xz', __import__('lzma').compress)):
        r = image('import', f'root-{name}', write(f'root.{name}', pack(LAYER1)))
        ok(r.returncode == 0, f'import of a root file system, {name}', r.stderr)
    zst = shutil.which('zstd')
    if zst:
        data = subprocess.run([zst, '-q', '-c'], input=LAYER1, capture_output=True).stdout
        r = image('import', 'root-zst', write('root.zst', data))
        ok(r.returncode == 0, 'import of a root file system, zstd', r.stderr)
    else:
        skip('import of a root file system, zstd', 'zstd')
    layers, tmp = store_files()
    ok(layers == [sha(LAYER1)], 'the same tree in five forms is one layer, named by its diff id', layers)
    ok(tmp == [], 'nothing is left in tmp', tmp)
    lower = inspect('root-gz')['lower'][0]
    st = os.lstat(f'{lower}/bin/busybox')
    ok(st.st_mode & 0o7777 == 0o755 and st.st_nlink == 2, 'setid bit gone, hard link kept', oct(st.st_mode))
    ok(os.readlink(f'{lower}/lib') == 'usr/lib' and os.path.exists(f'{lower}/usr/lib/libx.so'),
       'lib stays a link when lib/libx.so follows')
    ok(os.lstat(f'{lower}/locked').st_mode & 0o777 == 0o555, 'a 0555 directory with a file below')
    ok(int(st.st_mtime) == 1700000000, 'a layer keeps its times')
    r = image('import', 'again', write('root.plain', LAYER1))
    ok(r.returncode == 0, 'import of what is there already')
    d = f'{top}/dir'
    with tarfile.open(fileobj=io.BytesIO(tar([e for e in ROOTFS if e[0] != 'etc/shadow']))) as t:
        t.extractall(d)
    r = image('import', 'fromdir', d)
    lower = inspect('fromdir').get('lower', [''])[0]
    ok(r.returncode == 0 and os.readlink(f'{lower}/lib') == 'usr/lib' and
       open(f'{lower}/locked/file').read() == 'in a 0555 directory', 'import of a directory', r.stderr)


# --- docker save, OCI layout
def saved_tar():
    return tar([('manifest.json', 'f', json.dumps([{'Config': 'c.json', 'RepoTags': ['x:1'], 'Layers': [
        'a/layer.tar', 'b/layer.tar']}]).encode(), 0o644), ('c.json', 'f', CONFIG, 0o644),
        ('a', 'd', None, 0o755), ('a/layer.tar', 'f', LAYER1, 0o644),
        ('b', 'd', None, 0o755), ('b/real.tar', 'f', LAYER2, 0o644), ('b/layer.tar', 'l', 'real.tar', 0o777)])


def blob(root, data):
    write(f'{root}/blobs/sha256/{sha(data)}', data)
    return {'digest': 'sha256:' + sha(data), 'size': len(data)}


def make_layout(root, config=CONFIG, layers=(LAYER1, LAYER2), lie=None):
    gz = [gzip.compress(x, mtime=0) for x in layers]
    parts = [{'mediaType': 'application/vnd.oci.image.layer.v1.tar+gzip', **blob(root, x)} for x in gz]
    m = {'schemaVersion': 2, 'config': {'mediaType': 'application/vnd.oci.image.config.v1+json',
         **blob(root, config)}, 'layers': parts}
    if lie:
        lie(m, root)
    index = {'schemaVersion': 2, 'manifests': [{'mediaType': 'application/vnd.oci.image.manifest.v1+json',
             **blob(root, json.dumps(m).encode())}]}
    write(f'{root}/index.json', json.dumps(index).encode())
    write(f'{root}/oci-layout', b'{"imageLayoutVersion":"1.0.0"}')
    return f'{top}/{root}'


def check_two_layers(ref, how):
    got = inspect(ref)
    lowers = got.get('lower', [])
    if not ok(len(lowers) == 2, f'{how}: two layers', got):
        return
    ok(lowers[0].endswith(sha(LAYER2) + '/fs'), f'{how}: the topmost first')
    st = os.lstat(f'{lowers[0]}/etc/shadow')
    ok(st.st_mode & 0o170000 == 0o020000 and st.st_rdev == 0, f'{how}: whiteout is a 0:0 device')
    try:
        x = os.getxattr(f'{lowers[0]}/gone', 'user.overlay.opaque')
    except OSError as e:
        x = e
    ok(x == b'y', f'{how}: opaque directory is marked', x)
    ok(got.get('env') == ['PATH=/bin', 'A=b c'] and got['workdir'] == ['/etc'] and got['user'] == ['1000'],
       f'{how}: environment, directory and user of the config', got)


def test_forms():
    r = image('import', 'saved', write('saved.tar', saved_tar()))
    ok(r.returncode == 0 and r.stdout.strip() == sha(CONFIG), 'docker save: the id is the config digest', r.stderr)
    check_two_layers('saved', 'docker save')
    layout = make_layout('layout')
    r = image('import', 'layout:v1', layout)
    ok(r.returncode == 0 and r.stdout.strip() == sha(CONFIG), 'OCI layout directory', r.stderr)
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode='w:gz') as t:
        t.add(layout, '.')
    r = image('import', 'layouttar', write('layout.tgz', b.getvalue()), state='st2')
    ok(r.returncode == 0, 'OCI layout archive', r.stderr)
    got = inspect(sha(CONFIG)[:12])
    ok(got.get('id') == [sha(CONFIG)], 'an image is found by twelve digits of its id', got)
    if shutil.which('umoci') and shutil.which('skopeo'):
        d = f'{top}/umoci'
        sh = f'''set -e; umoci init --layout {d}; umoci new --image {d}:t; mkdir {d}.b
            umoci unpack --rootless --image {d}:t {d}.b/x; cp /bin/true {d}.b/x/rootfs/t
            umoci repack --image {d}:t {d}.b/x; umoci config --image {d}:t --config.env K=v
            skopeo --insecure-policy copy oci:{d}:t docker-archive:{d}.tar:n:t
            chmod -R a+rX {d}'''
        p = subprocess.run(['sh', '-c', sh], capture_output=True, text=True)
        r = image('import', 'umoci', d)
        ok(p.returncode == 0 and r.returncode == 0 and inspect('umoci')['env'][-1] == 'K=v',
           'a layout made by umoci', p.stderr + r.stderr)
        r = image('import', 'skopeo', f'{d}.tar')
        ok(r.returncode == 0 and inspect('skopeo')['env'][-1] == 'K=v',
           'a docker archive made by skopeo', r.stderr)
    else:
        skip('a layout made by umoci', 'umoci, skopeo')


# --- a layer that writes lib/b above lib -> usr/lib
def config_for(*layers):
    return json.dumps({'os': 'linux', 'rootfs': {'type': 'layers',
                       'diff_ids': ['sha256:' + sha(x) for x in layers]}}).encode()


def test_merged_usr():
    merged = tar([('usr/lib', 'd', None, 0o755), ('lib', 'l', 'usr/lib', 0o777), ('bin', 'l', '/usr/bin', 0o777)])
    split = tar([('lib', 'd', None, 0o755)])
    upper = tar([('lib/b', 'f', b'b', 0o644), ('lib/c', 'h', 'lib/b', 0o644), ('lib/.wh.old', 'f', b'', 0o644)])
    own = tar([('lib', 'd', None, 0o755), ('lib/b', 'f', b'b', 0o644)])
    got = {}
    for name, layers in (('split', (split, upper)), ('merged', (merged, upper)), ('third', (merged, LAYER2, upper)),
                         ('own', (merged, own))):
        r = image('import', name, make_layout(f'mu-{name}', config_for(*layers), layers), state='mu')
        got[name] = inspect(name, 'mu').get('lower', [''])
        ok(r.returncode == 0 and len(got[name]) == len(layers), f'{name} was imported', r.stderr)
    low = got['merged'][0]
    ok(not os.path.lexists(f'{low}/lib') and open(f'{low}/usr/lib/b').read() == 'b', 'lib/b went to usr/lib')
    ok(os.stat(f'{low}/usr/lib/b').st_nlink == 2 and os.lstat(f'{low}/usr/lib/old').st_rdev == 0,
       'so did a hard link and a whiteout')
    ok(os.path.isdir(f"{got['split'][0]}/lib") and got['split'][0] != low, 'above a directory the same layer is another tree')
    ok(got['third'][0] == low, 'above the same links it is shared')
    ok(os.path.isdir(f"{got['own'][0]}/lib") and not os.path.islink(f"{got['own'][0]}/lib"),
       'a layer with an entry of its own for lib replaces the link')
    r = image('import', 'again', f'{top}/mu-merged', state='mu')
    ok(r.stderr.count('already here') == 2 and inspect('again', 'mu')['lower'] == got['merged'], 'the second time it is found')


# --- refusals: each leaves no layer and no reference
def refused(what, args, text, code=65, state='bad', env=None):
    r = image(*args, state=state, env=env)
    layers, tmp = store_files(state)
    ok(r.returncode == code and text in r.stderr and layers == [] and tmp == [] and
       os.listdir(f'{home}/{state}/images/refs') == [], what,
       f'{r.returncode} {r.stderr} {layers} {tmp}')


def config_with(**kw):
    c = json.loads(CONFIG)
    c['config'].update(kw)
    return json.dumps(c).encode()


def test_refusals():
    def lie(i, **kw):
        def f(m, root):
            m['layers'][i].update(kw)
        return f

    def swap(m, root):
        p = f"{top}/{root}/blobs/sha256/{m['layers'][0]['digest'][7:]}"
        with open(p, 'r+b') as f:
            f.seek(300)
            f.write(b'\xff\xff\xff')
    refused('a corrupt layer', ['import', 'x', make_layout('e1', lie=swap)], 'x')
    refused('a layer larger than announced', ['import', 'x', make_layout('e2', lie=lie(0, size=100))], 'larger')
    refused('a layer smaller than announced', ['import', 'x', make_layout('e3', lie=lie(0, size=1 << 20))], 'cut short')
    refused('a layer announced larger than an image may be', ['import', 'x', make_layout('e31', lie=lie(0, size=1 << 62))],
            'image_max_bytes', code=69)
    refused('an unknown layer type', ['import', 'x', make_layout('e4', lie=lie(0, mediaType='text/x'))], 'media type')
    refused('a digest with a path in it', ['import', 'x', make_layout('e5', lie=lie(0, digest='sha256:../../x'))], 'malformed digest')
    refused('a wrong diff_id', ['import', 'x', make_layout('e6', layers=(LAYER2, LAYER1))], 'diff_id')
    refused('more layers than diff_ids', ['import', 'x', make_layout('e7', layers=(LAYER1, LAYER2, LAYER2))], 'disagree')
    for n, (kw, text) in enumerate(((dict(Env=['A=b\nLD_PRELOAD=/x']), 'environment'), (dict(Env=['LD_PRELOAD=/x']), 'environment'),
                                    (dict(Env=['=x']), 'environment'), (dict(WorkingDir='etc'), 'directory'),
                                    (dict(WorkingDir='/proc/self/fd/7/..'), 'directory'), (dict(User='a b'), 'user'))):
        refused(f'config with {kw}', ['import', 'x', make_layout(f'c{n}', config=config_with(**kw))], text)
    refused('too many layers', ['import', 'x', make_layout('e8')], 'image_layers_max', code=69, env={'CGIBOX_IMAGE_LAYERS_MAX': '1'})
    refused('too many entries', ['import', 'x', write('root.plain', LAYER1)], 'image_entries_max', code=69, env={'CGIBOX_IMAGE_ENTRIES_MAX': '5'})
    refused('too many bytes', ['import', 'x', write('big.tgz', gzip.compress(tar([('z', 'f', bytes(3 << 20), 0o644)])))],
            'image_max_bytes', code=69, env={'CGIBOX_IMAGE_MAX_BYTES': '1048576'})
    refused('a climbing name in a layer', ['import', 'x', write('climb.tar', tar([('../../x', 'f', b'x', 0o644)]))], 'traversal')
    refused('a truncated archive', ['import', 'x', write('cut.tar', LAYER1[:5000])], 'truncated')
    refused('not an archive', ['import', 'x', write('noise', os.urandom(5000))], 'Invalid or truncated')
    refused('a missing file', ['import', 'x', f'{top}/nowhere'], 'nowhere', code=66)
    refused('the name host', ['import', 'host', f'{top}/root.plain'], 'built-in')
    refused('a malformed name', ['import', '../x', f'{top}/root.plain'], 'no name')
    refused('rm host', ['rm', 'host'], 'cannot be removed')
    refused('rm of what is not there', ['rm', 'nothing'], 'no image', code=66)
    for args in ([], ['frob'], ['import', 'x'], ['ls', 'x'], ['--nope', 'ls']):
        refused(f'usage: {args}', args, 'usage:', code=64)
    refused('an unknown key in the configuration', ['--conf', write('c.conf', b'frob = 1\n'), 'ls'], 'frob', code=78)


# --- damage is told, and repaired by the next import
def test_damage():
    image('import', 'd', f'{top}/root.plain', state='dm')
    base, (layer,) = f'{home}/dm/images', store_files('dm')[0]
    for args, code, text in ((['inspect', 'nothing'], 66, 'cgibox image pull nothing'), (['inspect', 'a//b'], 65, 'malformed'),
                             (['inspect', 'd'], 0, '')):
        r = image(*args, state='dm')
        ok(r.returncode == code and text in r.stderr, f'{args}: exit {code}', r.stderr)
    os.rename(f'{base}/layers/{layer}/done', f'{base}/was-done')
    r = image('inspect', 'd', state='dm')
    ok(r.returncode == 71 and 'pull or import again' in r.stderr, 'a layer that is not whole is not used', r.stderr)
    image('import', 'd', f'{top}/root.plain', state='dm')
    ok(os.path.exists(f'{base}/layers/{layer}/done') and image('inspect', 'd', state='dm').returncode == 0,
       'importing again makes it whole')
    (record,) = os.listdir(f'{base}/images')
    with open(f'{base}/images/{record}', 'a') as f:
        f.write('layer ../../etc\n')
    r = image('inspect', 'd', state='dm')
    ok(r.returncode == 71 and 'line' in r.stderr, 'a damaged record is refused', r.stderr)
    image('import', 'd', f'{top}/root.plain', state='dm')
    ok(image('inspect', 'd', state='dm').returncode == 0, 'importing again repairs it')


# --- rm
def test_rm():
    for n in 'a', 'b':
        image('import', n, f'{top}/layout', state='rm')
    image('import', 'c', f'{top}/root.plain', state='rm')
    image('rm', 'a', state='rm')
    ok(inspect('b', 'rm').get('id') == [sha(CONFIG)], 'rm of one name leaves the other')
    image('rm', 'b', state='rm')
    layers, tmp = store_files('rm')
    ok(layers == [sha(LAYER1)] and tmp == [], 'rm of the last name drops what no other image uses', layers)
    spec = f'{home}/rm/sessions/s1/spec'
    os.makedirs(os.path.dirname(spec))
    with open(spec, 'w') as f:
        f.write(f"image c\nlower {inspect('c', 'rm')['lower'][0]}\n")
    r = image('rm', 'c', state='rm')
    layers, _ = store_files('rm')
    ok(r.returncode == 0 and layers == [sha(LAYER1)], 'a layer that a session uses stays', r.stderr)
    os.unlink(spec)
    image('import', 'c', f'{top}/root.plain', state='rm')
    image('rm', 'c', state='rm')
    ok(store_files('rm')[0] == [], 'control: without the session it goes')


# --- a real registry
def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def wait_port(port):
    for _ in range(1200):
        try:
            socket.create_connection(('127.0.0.1', port), 1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


def test_registry():
    if not shutil.which('docker-registry') or not shutil.which('skopeo'):
        skip('pull from a registry', 'docker-registry, skopeo')
        return
    port = free_port()
    write('reg.yml', f'''version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {top}/reg}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}, debug: {{addr: 127.0.0.1:{free_port()}}}}}
'''.encode())
    reg = subprocess.Popen(['docker-registry', 'serve', f'{top}/reg.yml'], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    try:
        if not ok(wait_port(port), 'the registry answers'):
            return
        host = f'127.0.0.1:{port}'
        p = subprocess.run(['skopeo', '--insecure-policy', 'copy', '--dest-tls-verify=false',
                            f'oci:{top}/layout', f'docker://{host}/t/two:v'], capture_output=True, text=True)
        ok(p.returncode == 0, 'skopeo pushed the image', p.stderr)
        p = subprocess.run(['skopeo', '--insecure-policy', 'copy', '--format', 'v2s2', '--dest-tls-verify=false',
                            f'oci:{top}/layout', f'docker://{host}/t/docker:v'], capture_output=True, text=True)
        env = {'CGIBOX_INSECURE_REGISTRIES': host}
        r = image('pull', f'{host}/t/two:v', state='pl')
        ok(r.returncode != 0 and store_files('pl') == ([], []), 'control: loopback is refused when not listed', r.stderr)
        r = image('pull', f'{host}/t/two:v', state='pl', env=env)
        ok(r.returncode == 0 and r.stdout.strip() == sha(CONFIG), 'pull of an OCI image', r.stderr)
        ok(len(r.stderr.splitlines()) == 2, 'off a terminal: one line for each layer', r.stderr)
        ok([x.split('/')[-2] for x in inspect(f'{host}/t/two:v', 'pl')['lower']] == [sha(LAYER2), sha(LAYER1)],
           'it resolves by its reference')
        r = image('pull', f'{host}/t/docker:v', state='pl2', env=env)
        ok(r.returncode == 0 and len(store_files('pl2')[0]) == 2, 'pull of a schema 2 image', r.stderr)
        r = image('pull', f'{host}/t/two:missing', state='pl', env=env)
        ok(r.returncode == 66, 'a tag that is not there', r.stderr)
        manifest = json.load(open(f'{top}/layout/index.json'))['manifests'][0]['digest']
        r = image('pull', f'{host}/t/two@{manifest}', state='pl3', env=env)
        ok(r.returncode == 0, 'pull by digest', r.stderr)
        out = on_terminal(['pull', f'{host}/t/two:v'], 'tty', env)
        ok('[====' in out and '\r' in out, 'on a terminal: a bar', out)
        many = [subprocess.Popen(DROP + [program, '--state', f'{home}/par', 'pull', f'{host}/t/two:v'], cwd=home,
                                 env={**ENV, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                for _ in range(4)]
        err = [p.communicate()[1] for p in many]
        ok(all(p.returncode == 0 for p in many), 'four pulls at once', err)
        ok(sum('done' in x for x in '\n'.join(err).splitlines()) == 2,
           'each layer was fetched once for all of them', err)
    finally:
        reg.terminate()
        reg.wait()


# --- a registry that misbehaves
class Evil(http.server.BaseHTTPRequestHandler):
    blobs, mode, hold, reached, stop = {}, '', threading.Event(), threading.Event(), threading.Event()

    def log_message(self, *a):
        pass

    def do_GET(self):
        name = self.path.split('/')[-1]
        data = self.blobs.get(name)
        if data is None:
            self.send_error(404)
            return
        big = len(data) > 5000
        if self.mode == 'corrupt' and big:
            data = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
        if self.mode == 'redirect' and big:
            self.send_response(302)
            self.send_header('Location', 'file:///etc/passwd')
            self.end_headers()
            return
        self.send_response(200)
        if self.mode != 'endless' or not big:
            self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        try:
            for i in range(len(data) if self.mode == 'slow' and big else 0):
                self.wfile.write(data[i:i + 1])
                if self.stop.wait(0.1):
                    return
            if self.mode == 'hold' and big:
                self.wfile.write(data[:len(data) // 2])
                self.wfile.flush()
                self.reached.set()
                self.hold.wait(600)
                return
            self.wfile.write(data)
            while self.mode == 'endless' and big:
                self.wfile.write(b'\0' * 65536)
        except OSError:
            pass


def test_evil():
    m = json.load(open(f'{top}/layout/index.json'))['manifests'][0]['digest'][7:]
    for f in os.listdir(f'{top}/layout/blobs/sha256'):
        Evil.blobs['sha256:' + f] = open(f'{top}/layout/blobs/sha256/{f}', 'rb').read()
    Evil.blobs['v'] = Evil.blobs['sha256:' + m]
    srv = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Evil)
    srv.daemon_threads = True
    threading.Thread(target=srv.serve_forever, daemon=True).start()
    host = f'127.0.0.1:{srv.server_port}'
    env = {'CGIBOX_INSECURE_REGISTRIES': f'other:1, {host}'}
    for mode, text in (('corrupt', 'pull'), ('redirect', 'no address to go to'), ('endless', 'larger')):
        Evil.mode = mode
        refused(f'registry: {mode}', ['pull', f'{host}/x:v'], text, state='bad', env=env)
    Evil.mode = 'slow'
    refused('registry: slower than pull_timeout_s', ['pull', f'{host}/x:v'], 'too slow', code=69,
            env={**env, 'CGIBOX_PULL_TIMEOUT_S': '2'})
    Evil.stop.set()
    Evil.mode = ''
    refused('registry: other bytes than the digest asked for', ['pull', f'{host}/x@sha256:' + '0' * 64], 'no', code=66, env=env)
    Evil.blobs['sha256:' + '0' * 64] = Evil.blobs['v']
    refused('registry: a manifest that is not the pinned one', ['pull', f'{host}/x@sha256:' + '0' * 64], 'instead of', env=env)

    Evil.mode = 'hold'
    p = subprocess.Popen(DROP + [program, '--state', f'{home}/kill', 'pull', f'{host}/x:v'], cwd=home, env={**ENV, **env},
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ok(Evil.reached.wait(120), 'half a layer was sent')
    p.send_signal(signal.SIGKILL)
    p.wait()
    Evil.hold.set()
    # The unpacker sees the end of its input and goes; until then it holds the store's lock.
    with open(f'{home}/kill/images/lock') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    layers, tmp = store_files('kill')
    ok(sha(LAYER1) not in layers and tmp != [], 'kill -9 in the middle: not visible, work left behind', (layers, tmp))
    Evil.mode = ''
    r = image('pull', f'{host}/x:v', state='kill', env=env)
    layers, tmp = store_files('kill')
    ok(r.returncode == 0 and len(layers) == 2 and tmp == [], 'the next pull repairs and sweeps', r.stderr + str(tmp))
    srv.shutdown()


def test_host():
    got = inspect('host')
    lower = got['lower'][0]
    ok('/usr' in got['bind'] and open(f'{lower}/etc/passwd').read().count(':1000:1000:') == 1,
       'host: /usr is bound, uid 1000 has a row')
    ok(all(os.path.isdir(f'{lower}/{d}') for d in ('proc', 'dev', 'tmp', 'repo', 'workdir', 'home/daiv-sandbox')),
       'host: mount points')
    if os.path.islink('/bin'):
        ok(os.readlink(f'{lower}/bin') == os.readlink('/bin'), 'host: /bin as on the machine')
    else:
        ok('/bin' in got['bind'], 'host: /bin as on the machine')
    ok(not any(os.path.exists(f'{lower}/etc/{x}') for x in ('shadow', 'gshadow', 'ssl/private', 'sudoers')),
       'host: nothing secret was copied')
    many = [subprocess.Popen(DROP + [program, '--state', f'{home}/hs', 'inspect', 'host'], cwd=home, env=ENV,
                             stdout=subprocess.PIPE, text=True) for _ in range(6)]
    outs = {p.communicate()[0] for p in many}
    ok(len(outs) == 1 and all(p.returncode == 0 for p in many) and store_files('hs')[1] == [],
       'host: six at once make one skeleton', outs)


try:
    for t in (test_rootfs, test_forms, test_merged_usr, test_refusals, test_damage, test_rm, test_registry, test_evil, test_host):
        t()
finally:
    subprocess.run(['chmod', '-R', 'u+rwx', top])
    shutil.rmtree(top, ignore_errors=True)
print(f'1..{count}')
sys.exit(failed != 0)
