#!/usr/bin/python3
"""Pulls from Debian's docker-registry: plain, TLS, Basic, a token server, a mirror; several at once; kill -9 at any moment
(KILL_ROUNDS, 20). TAP."""
import base64, fcntl, hashlib, http.client, http.server, json, os, random, re, shutil, signal, ssl, subprocess, sys, threading, time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import registry as R
from registry import *

for tool in 'docker-registry', 'htpasswd':
    if not shutil.which(tool):
        print(f'1..0 # SKIP {tool} is not installed')
        shutil.rmtree(top)
        sys.exit(os.environ.get('MUST_WORK') == '1')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Registry:
    """docker-registry with more lines for its configuration."""

    def __init__(self, name, tls=False, auth='', data=None):
        self.port, self.tls = free_port(), tls
        self.host = f'localhost:{self.port}'
        cert = f', tls: {{certificate: {top}/s.pem, key: {top}/s.key}}' if tls else ''
        with open(f'{top}/{name}.yml', 'w') as f:
            f.write(f'version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {top}/{data or name}}}}}\n'
                    f'http: {{addr: "127.0.0.1:{self.port}"{cert}}}\n{auth}')
        self.p = subprocess.Popen(['docker-registry', 'serve', f'{top}/{name}.yml'], stdout=subprocess.DEVNULL,
                                  stderr=open(f'{top}/{name}.log', 'w'))
        for _ in range(1200):
            with socket.socket() as s:
                if s.connect_ex(('127.0.0.1', self.port)) == 0:
                    break
            time.sleep(0.05)

    def ask(self, method, path, body=None, **headers):
        c = http.client.HTTPSConnection('localhost', self.port, timeout=120, context=ssl.create_default_context(cafile=f'{top}/ca.pem')) \
            if self.tls else http.client.HTTPConnection('localhost', self.port, timeout=120)
        c.request(method, path, body, headers)
        r = c.getresponse()
        r.read()
        return r

    def push(self, image, name='t/x', tag='v'):
        for blob in image.config, *image.packed:
            at = self.ask('POST', f'/v2/{name}/blobs/uploads/').getheader('Location').split(self.host)[-1]
            at += ('&' if '?' in at else '?') + 'digest=' + sha(blob)
            if self.ask('PUT', at, blob, **{'Content-Type': 'application/octet-stream'}).status != 201:
                raise SystemExit('push failed')
        return self.ask('PUT', f'/v2/{name}/manifests/{tag}', image.manifest, **{'Content-Type': image.media}).status

    def stop(self):
        self.p.kill()
        self.p.wait()


def signed(claims):
    """A JWT, ES256, with the certificate in x5c: what the registry checks against rootcertbundle."""
    enc = lambda b: base64.urlsafe_b64encode(b).rstrip(b'=').decode()
    pem = open(f'{top}/s.pem').read()
    der = ''.join(pem.split('-----')[2].split())
    head = {'typ': 'JWT', 'alg': 'ES256', 'x5c': [der]}
    text = enc(json.dumps(head).encode()) + '.' + enc(json.dumps(claims).encode())
    raw = subprocess.run(['openssl', 'dgst', '-sha256', '-sign', f'{top}/s.key'], input=text.encode(), capture_output=True, check=True).stdout
    at, out = 2 + (raw[1] > 127), b''
    for _ in range(2):  # DER: two integers
        n = raw[at + 1]
        out += raw[at + 2:at + 2 + n].lstrip(b'\0').rjust(32, b'\0')
        at += 2 + n
    return text + '.' + enc(out)


class Tokens(http.server.BaseHTTPRequestHandler):
    seen, lifetime = [], 300

    def log_message(self, *a):
        pass

    def do_GET(self):
        q = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        scope, who = q.get('scope', [''])[0], self.headers.get('Authorization')
        Tokens.seen.append((scope, who))
        kind, name, actions = scope.split(':')
        granted = [{'type': kind, 'name': name, 'actions': actions.split(',')}] if who == 'Basic ' + basic() else []
        now = int(time.time())
        t = signed({'iss': 'tok', 'sub': 'me', 'aud': q['service'][0], 'exp': now + self.lifetime, 'nbf': now - 60, 'iat': now, 'jti': str(random.random()),
                    'access': granted})
        body = json.dumps({'token': t, 'expires_in': self.lifetime}).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def good(what, host, state, env=None, image=None, ref=None):
    r = pull(host + (ref or '/t/x:v'), state=state, env=env)
    layers = [x for x in store(state) if '/layers/' in x]
    return ok(r.returncode == 0 and len(layers) == len(set((image or IMAGE).plain)) and SECRET not in r.stderr, what, r.stderr) and r


IMAGE = Image()


def plain_and_tls():
    a = Registry('plain')
    ok(a.push(IMAGE) == 201, 'an image is pushed')
    good('plain http', a.host, 'p1', {'CGIBOX_INSECURE_REGISTRIES': a.host})
    r = pull(a.host + '/t/x:v', state='p2')
    ok(r.returncode != 0 and not store('p2'), 'control: not without being listed', r.stderr)
    r = pull(f'{a.host}/t/x:none', state='p2', env={'CGIBOX_INSECURE_REGISTRIES': a.host})
    ok(r.returncode == 66, 'a tag that is not there', r.stderr)
    b = Registry('tls', tls=True, data='plain')
    env = {'CGIBOX_PRIVATE_REGISTRIES': b.host}
    good('TLS with registry_ca_file', b.host, 't1', env)
    good('by digest', b.host, 't2', env, ref='/t/x@' + sha(IMAGE.manifest))
    r = pull(b.host + '/t/x:v', state='t3', env={**env, 'CGIBOX_REGISTRY_CA_FILE': ''})
    ok(r.returncode == 71 and 'certificate' in r.stderr and not store('t3'), 'control: not without the authority', r.stderr)
    r = pull(b.host + '/t/x:v', state='t3', env={'CGIBOX_PRIVATE_REGISTRIES': ''})
    ok(r.returncode == 65 and 'private_registries' in r.stderr, 'control: not at a private address that is not listed', r.stderr)
    mirror = {**env, 'CGIBOX_REGISTRY_MIRRORS': f'docker.io={b.host}'}
    r = pull('t/x:v', state='m', env=mirror)
    ok(r.returncode == 0, "a mirror of docker.io", r.stderr)
    a.stop()
    return b


def basic_login(env):
    subprocess.run(f'htpasswd -Bbn me {SECRET} >{top}/htp', shell=True, check=True)
    a = Registry('basic', tls=True, data='plain', auth=f'auth: {{htpasswd: {{realm: test, path: {top}/htp}}}}\n')
    env = {'CGIBOX_PRIVATE_REGISTRIES': a.host}
    r = pull(a.host + '/t/x:v', state='b1', env=env)
    ok(r.returncode == 65 and 'asks for a login' in r.stderr, 'Basic: not without a login', r.stderr)
    path = write('basic.json', {'auths': {a.host: {'auth': basic()}}})
    good('Basic', a.host, 'b2', {**env, 'CGIBOX_REGISTRY_AUTH_FILE': path})
    path = write('wrong.json', {'auths': {a.host: {'auth': basic(secret='wrong')}}})
    r = pull(a.host + '/t/x:v', state='b3', env={**env, 'CGIBOX_REGISTRY_AUTH_FILE': path})
    ok(r.returncode == 65 and 'refuses the login' in r.stderr, 'a wrong password', r.stderr)
    a.stop()


def token_login():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Tokens)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f'{top}/s.pem', f'{top}/s.key')
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    realm = f'localhost:{server.server_port}'
    a = Registry('token', tls=True, data='plain', auth=f'auth: {{token: {{realm: "https://{realm}/token", service: reg, issuer: tok, '
                                                       f'rootcertbundle: {top}/ca.pem}}}}\n')
    env = {'CGIBOX_PRIVATE_REGISTRIES': f'{a.host} {realm}'}
    r = pull(a.host + '/t/x:v', state='k1', env=env)
    ok(r.returncode == 65 and 'login' in r.stderr, 'token: anonymous gets one that is no good', r.stderr)
    path = write('token.json', {'auths': {a.host: {'auth': basic()}}})
    Tokens.seen.clear()
    good('token', a.host, 'k2', {**env, 'CGIBOX_REGISTRY_AUTH_FILE': path})
    ok(Tokens.seen == [('repository:t/x:pull', 'Basic ' + basic())], 'one token for the manifest and all layers', Tokens.seen)
    Tokens.lifetime = 1
    Tokens.seen.clear()
    good('tokens of one second', a.host, 'k3', {**env, 'CGIBOX_REGISTRY_AUTH_FILE': path})
    ok(len(Tokens.seen) >= 3, 'are renewed', len(Tokens.seen))
    a.stop()
    server.shutdown()


def at_once(b):
    big = Image(layers=[tar((f'f{i}', 'f', os.urandom(4 << 20))) for i in range(5)])
    b.push(big, 't/big')
    env = {**ENV, 'CGIBOX_PRIVATE_REGISTRIES': b.host}
    many = [subprocess.Popen(DROP + [program, '--state', f'{home}/many', 'pull', f'{b.host}/t/big:v'], cwd=home, env=env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    err = [p.communicate()[1] for p in many]
    ok(all(p.returncode == 0 for p in many), 'four pulls of one image at once', err)
    ok('\n'.join(err).count(': done') == 5, 'each layer was fetched once for all of them', err)
    return big


def leftovers(state):
    d = f'{home}/{state}/images/tmp'
    return os.listdir(d) if os.path.isdir(d) else []


def kills(b, big):
    """The next pull succeeds, verify finds nothing, and nothing is left in tmp/."""
    rounds = int(os.environ.get('KILL_ROUNDS', '20'))
    env = {**ENV, 'CGIBOX_PRIVATE_REGISTRIES': b.host}
    bad, killed, seed = [], 0, int(os.environ.get('SEED', time.time()))
    chance = random.Random(seed)
    start = time.monotonic()
    pull(f'{b.host}/t/big:v', state='kt', env=env)
    whole = time.monotonic() - start
    for i in range(rounds):
        state = f'kill{i % 4}'
        shutil.rmtree(f'{home}/{state}', ignore_errors=True)
        p = subprocess.Popen(DROP + [program, '--state', f'{home}/{state}', 'pull', f'{b.host}/t/big:v'], cwd=home, env=env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0, whole))
        p.kill()
        killed += p.wait() == -signal.SIGKILL
        r = pull(f'{b.host}/t/big:v', state=state, env=env)
        layers = [x for x in store(state) if '/layers/' in x]
        v = subprocess.run(DROP + [program, '--state', f'{home}/{state}', 'verify'], cwd=home, env=env, capture_output=True, text=True)
        if r.returncode or len(layers) != 5 or leftovers(state) or v.returncode or v.stdout:
            bad.append(f'round {i}: {r.returncode} {r.stderr} {len(layers)} {leftovers(state)} {v.stdout} {v.stderr}')
    ok(killed > rounds // 3, f'{killed} of {rounds} were killed on the way (seed {seed})')
    ok(not bad, 'each time the next pull succeeds, verify finds nothing and nothing is left in tmp', '\n'.join(bad))


registries = []
try:
    b = plain_and_tls()
    registries.append(b)
    basic_login({})
    token_login()
    kills(b, at_once(b))
finally:
    for x in registries:
        x.stop()
    end()
