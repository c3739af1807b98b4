"""A registry of our own for tests (http.server, TLS with a certificate authority made here), with ways to misbehave, decoys
that nobody may connect to, and a log of where credentials went. B names the build directory."""
import base64, gzip, hashlib, http.server, io, json, os, re, shutil, socket, ssl, subprocess, sys, tarfile, tempfile
import threading, time

B = os.environ.get('B', 'build')
UID = 12345
count = failed = 0


def ok(good, what, more=''):
    global count, failed
    count += 1
    print(f"{'' if good else 'not '}ok {count} - {what}", flush=True)
    if not good:
        failed += 1
        for line in str(more).splitlines()[-14:]:
            print('#  ', line[:400])
    return good


if not shutil.which('openssl'):
    print('1..0 # SKIP openssl is not installed')
    sys.exit(os.environ.get('MUST_WORK') == '1')

top = tempfile.mkdtemp(prefix='registry-hostile-')
os.chmod(top, 0o755)
program = f'{top}/image'
shutil.copy(f'{B}/libexec/image', program)
os.chmod(program, 0o755)
home = f'{top}/home'
os.mkdir(home, 0o755)
DROP = ['setpriv', '--reuid', str(UID), '--regid', str(UID), '--clear-groups'] if os.getuid() == 0 else []


def sh(cmd):
    subprocess.run(cmd, shell=True, check=True, cwd=top, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


sh('openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca')
sh('openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout s.key -out s.csr -subj /CN=localhost')
sh("printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1' >san; openssl x509 -req -in s.csr -CA ca.pem -CAkey ca.key "
   '-CAcreateserial -days 2 -extfile san -out s.pem')
sh('openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout o.key -out o.pem -days 2 -subj /CN=localhost')
os.chmod(f'{top}/ca.pem', 0o644)


# --- images
def sha(b):
    return 'sha256:' + hashlib.sha256(b).hexdigest()


def tar(*entries):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode='w') as t:
        for name, kind, data in entries:
            i = tarfile.TarInfo(name)
            i.mode = 0o755
            if kind == 'd':
                i.type = tarfile.DIRTYPE
            elif kind in 'lh':
                i.type, i.linkname = (tarfile.SYMTYPE if kind == 'l' else tarfile.LNKTYPE), data
            elif kind == 'c':
                i.type, i.devmajor, i.devminor = tarfile.CHRTYPE, 1, 1
            else:
                i.size = len(data)
            t.addfile(i, io.BytesIO(data) if kind == 'f' else None)
    return b.getvalue()


OCI, DOCKER = 'application/vnd.oci.image.', 'application/vnd.docker.'
MANIFEST, INDEX = OCI + 'manifest.v1+json', OCI + 'index.v1+json'
PLAIN = [tar(('etc', 'd', None), ('etc/x', 'f', b'one\n')), tar(('new', 'f', os.urandom(20000)))]


class Image:
    """What a registry holds of one image; `lie` changes the manifest, `config_lie` the config."""

    def __init__(self, layers=None, lie=None, config_lie=None, media=MANIFEST, packed=None):
        plain = layers if layers is not None else PLAIN
        self.plain = plain
        self.packed = packed if packed is not None else [gzip.compress(x, mtime=0) for x in plain]
        config = {'architecture': 'amd64', 'os': 'linux', 'config': {'Env': ['A=b']},
                  'rootfs': {'type': 'layers', 'diff_ids': [sha(x) for x in plain]}}
        if config_lie:
            config_lie(config)
        self.config = json.dumps(config).encode() if isinstance(config, dict) else config
        m = {'schemaVersion': 2, 'mediaType': media,
             'config': {'mediaType': OCI + 'config.v1+json', 'digest': sha(self.config), 'size': len(self.config)},
             'layers': [{'mediaType': OCI + 'layer.v1.tar+gzip', 'digest': sha(x), 'size': len(x)} for x in self.packed]}
        if lie:
            m = lie(m) or m
        self.media = media
        self.manifest = m if isinstance(m, bytes) else json.dumps(m).encode()
        self.blobs = {sha(x): x for x in [self.config, self.manifest, *self.packed]}
        self.big = sha(self.packed[-1]) if self.packed else ''


# --- servers
class Case:
    """One class: what the registry holds and how it answers."""

    def __init__(self, what, code, text, image=None, manifest=None, blob=None, any=None, env=None, ref=':v', server=None, args=(),
                 token=None, auth=False, limit=120):
        self.what, self.code, self.text, self.image = what, code, text, image or Image()
        self.manifest, self.blob, self.any, self.token = manifest, blob, any, token
        self.env, self.ref, self.server, self.args, self.auth, self.limit = env or {}, ref, server, args, auth, limit


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *a):
        pass

    def answer(self, status, body=b'', length=True, **headers):
        self.send_response(status)
        if length:
            self.send_header('Content-Length', str(len(body)))
        for k, v in headers.items():
            self.send_header(k.replace('_', '-'), v)
        self.end_headers()
        self.wfile.write(body)

    def go(self, where, status=307):
        self.answer(status, Location=where)

    def do_GET(self):
        self.server.log.append((self.path, self.headers.get('Authorization')))
        case = self.server.case
        try:
            self.route(case)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass
        except OSError:
            self.close_connection = True

    do_POST = do_GET

    def route(self, case):
        if case.any and case.any(self):
            return
        kind, name = self.path.split('?')[0].split('/')[-2:]
        if kind == 'manifests':
            if case.manifest and case.manifest(self):
                return
            self.give_manifest(case.image)
        elif kind == 'blobs' and name in case.image.blobs:
            if case.blob and (name == case.image.big or case.auth) and case.blob(self):
                return
            self.answer(200, case.image.blobs[name])
        elif '/token' in self.path and case.token:
            case.token(self)
        else:
            self.answer(404)

    def give_manifest(self, image, **more):
        headers = {'Content_Type': image.media, 'Docker_Content_Digest': sha(image.manifest)}
        headers.update(more)
        self.answer(200, image.manifest, **{k: v for k, v in headers.items() if v is not None})


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, tls, cert='s', address='127.0.0.1'):
        self.address_family = socket.AF_INET6 if ':' in address else socket.AF_INET
        super().__init__((address, 0), Handler)
        self.log, self.connections, self.case = [], 0, None
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(f'{top}/{cert}.pem', f'{top}/{cert}.key')
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        self.host = f'localhost:{self.server_port}'

    def handle_error(self, *a):
        pass

    def get_request(self):
        s, a = super().get_request()
        self.connections += 1
        s.settimeout(20)
        return s, a

    def finish_request(self, request, address):
        if self.context:
            try:
                request = self.context.wrap_socket(request, server_side=True)
            except OSError:
                return
        super().finish_request(request, address)


main, cdn, plain = Server(True), Server(True), Server(False)
decoy, decoy_plain, untrusted = Server(True), Server(False), Server(True, 'o')
servers = [main, cdn, plain, decoy, decoy_plain, untrusted]
SECRET, IDENTITY = 'correct-horse-battery', 'identity-of-somebody'


def write(name, data, mode=0o600):
    path = f'{home}/{name}'
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f:
        f.write(data if isinstance(data, bytes) else json.dumps(data).encode())
    os.chmod(path, mode)
    while os.getuid() == 0 and len(path) >= len(home):
        os.chown(path, UID, UID)
        path = os.path.dirname(path)
    return f'{home}/{name}'


def basic(user='me', secret=SECRET):
    return base64.b64encode(f'{user}:{secret}'.encode()).decode()


write('.docker/config.json', {'auths': {f'https://{main.host}/v2/': {'auth': basic()},
                                        plain.host: {'username': 'me', 'password': SECRET}}})
ENV = {'PATH': os.environ['PATH'], 'HOME': home, 'CGIBOX_PRIVATE_REGISTRIES': f'{main.host} {cdn.host} {untrusted.host}',
       'CGIBOX_INSECURE_REGISTRIES': plain.host, 'CGIBOX_REGISTRY_CA_FILE': f'{top}/ca.pem', 'CGIBOX_PULL_STALL_S': '20',
       'CGIBOX_PULL_TIMEOUT_S': '100'}


def pull(*args, state='st', env=None, limit=240):
    start = time.monotonic()
    r = subprocess.run(DROP + [program, '--state', f'{home}/{state}', 'pull', *args], cwd=home, env={**ENV, **(env or {})},
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit)
    r.seconds = time.monotonic() - start
    return r


def store(state='st'):
    out = []
    for d, dirs, files in os.walk(f'{home}/{state}/images'):
        if d.endswith('/images/host') or d == f'{home}/{state}/images':
            continue
        if d.endswith('/tmp'):
            files = [f for f in files if not f.startswith('lock-')]
        if '/layers/' in d:
            dirs[:] = []
            files = []
        out += [os.path.join(d, x) for x in dirs + files if x != 'sha256']
    return sorted(out)


def run(case, state='st'):
    """Runs a class and gives (result, what went where it must not)."""
    for s in servers:
        s.log.clear()
        s.connections, s.case = 0, case
    server = case.server or main
    before = store(state)
    r = pull(*case.args, server.host + '/c/x' + case.ref, env=case.env, state=state, limit=case.limit + 30)
    wrong = [f'decoy {i} was connected to' for i, s in enumerate((decoy, decoy_plain)) if s.connections]
    for s in (cdn, untrusted, decoy, decoy_plain):
        wrong += [f'authorization sent to another server: {a}' for _, a in s.log if a]
    if case.code:
        after = store(state)
        if after != before:
            wrong.append(f'the store changed: {set(after) ^ set(before)}')
    if any(x in r.stdout + r.stderr for x in (SECRET, IDENTITY, basic())):
        wrong.append('a secret was printed')
    if r.seconds > case.limit:
        wrong.append(f'took {r.seconds:.0f} s')
    return r, wrong


def check(case, state='st'):
    try:
        r, wrong = run(case, state)
    except subprocess.TimeoutExpired:
        return ok(False, case.what, 'did not end')
    good = r.returncode == case.code and re.search(case.text, r.stderr) and not wrong
    return ok(good, case.what, f'{r.returncode}\n{r.stderr}\n' + '\n'.join(wrong))


# --- ways to answer
def header(**kw):
    def f(h):
        h.give_manifest(h.server.case.image, **kw)
        return True
    return f


def status(n, body=b'', **kw):
    def f(h):
        h.answer(n, body, **kw)
        return True
    return f


def to(where, code=307):
    def f(h):
        h.go(where if isinstance(where, str) else where(h), code)
        return True
    return f


def slowly(piece, every, start=b''):
    """Raw bytes for ever."""
    def f(h):
        h.wfile.write(start)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            h.wfile.write(piece)
            h.wfile.flush()
            time.sleep(every)
        return True
    return f


def fast(piece, start, times):
    def f(h):
        h.wfile.write(start)
        for _ in range(times):
            h.wfile.write(piece)
        h.close_connection = True
        return True
    return f


def change(**kw):
    def f(m):
        m.update(kw)
    return f


def layer(at=-1, **kw):
    def f(m):
        m['layers'][at].update(kw)
    return f


def conf(**kw):
    def f(c):
        c['config'].update(kw)
    return f


def challenge(text):
    def f(h):
        if h.headers.get('Authorization') == 'Bearer good':
            return False
        h.answer(401, WWW_Authenticate=text)
        return True
    return f


def index(entries, **kw):
    return json.dumps({'schemaVersion': 2, 'mediaType': INDEX, 'manifests': entries, **kw}).encode()


def indexed(image, entries=None, **kw):
    """An index as the top document; its children are blobs, which the registry also gives as manifests."""
    child = image.manifest
    entries = entries(child) if entries else [{'mediaType': MANIFEST, 'digest': sha(child), 'size': len(child),
                                               'platform': {'os': 'linux', 'architecture': 'amd64'}}]
    image.child, image.manifest, image.media = child, index(entries, **kw), INDEX

    def f(h):
        if sha(child) in h.path:
            h.answer(200, child, Content_Type=MANIFEST)
            return True
        return False
    return image, f


def short_body(h):
    h.send_response(200)
    h.send_header('Content-Length', str(len(h.server.case.image.blobs[h.server.case.image.big])))
    h.end_headers()
    h.wfile.write(b'x' * 10)
    h.close_connection = True
    return True


def deep(n):
    out = []
    for _ in range(n):
        out = [out]
    return out


def interrupted(rest, pieces=1):
    """The first answer breaks in the middle; the next one is what `rest` makes of it."""
    def f(h):
        data = h.server.case.image.blobs[h.server.case.image.big]
        asked = re.match(r'bytes=(\d+)-', h.headers.get('Range', ''))
        if not asked:
            h.send_response(200)
            h.send_header('Content-Length', str(len(data)))
            h.end_headers()
            h.wfile.write(data[:len(data) // 2])
            h.wfile.flush()
            h.connection.shutdown(socket.SHUT_RDWR)
            h.close_connection = True
            return True
        got = rest(int(asked[1]), data)
        if got:
            h.answer(206, got[1], Content_Range=got[0])
        else:
            h.answer(200, data)
        return True
    return f


def end():
    subprocess.run(['chmod', '-R', 'u+rwx', top])
    shutil.rmtree(top, ignore_errors=True)
    print(f'1..{count}')
    sys.exit(failed != 0)
