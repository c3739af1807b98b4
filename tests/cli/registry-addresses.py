#!/usr/bin/python3
"""Where a pull connects to: a registry at public addresses and a name server of our own, in a network namespace with nothing
else in it. Names that change their address, names and numbers of inner addresses, redirects, and who gets credentials. Whatever
an address is, it is on the loopback device here, so a connection that is not refused succeeds and is seen. Root. TAP."""
import os, sys

if os.getuid() != 0:
    print('1..0 # SKIP only root makes a network namespace with addresses of its own')
    sys.exit(os.environ.get('MUST_WORK') == '1')
if sys.argv[1:2] != ['inside']:
    os.execvp('unshare', ['unshare', '-n', '-m', '/usr/bin/python3', __file__, 'inside'])

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import registry as R
from registry import *

PUBLIC, OTHER, PUBLIC6 = '11.22.33.44', '11.22.33.45', '2600:1f00::44'
INNER4 = '10.0.0.1', '100.64.0.1', '169.254.169.254', '172.16.0.1', '192.168.0.1', '198.18.0.1', '198.51.100.1', '192.0.0.8'
INNER6 = 'fc00::1', '64:ff9b::7f00:1', '64:ff9b::a00:1', '2002:7f00:1::1', '2001:db8::1', '2001::1'


def ip(*args):
    subprocess.run(['ip', *args], check=True, capture_output=True)


ip('link', 'set', 'lo', 'up')
for a in (PUBLIC, OTHER, *INNER4):
    ip('addr', 'add', a + '/32', 'dev', 'lo')
for a in (PUBLIC6, *INNER6):
    ip('addr', 'add', a + '/128', 'dev', 'lo', 'nodad')


class Names(threading.Thread):
    """A name server on port 53. table: name -> answers, one a question (the last one stays): a list of addresses."""

    def __init__(self):
        super().__init__(daemon=True)
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.bind(('127.0.0.1', 53))
        self.table, self.asked = {}, []
        self.start()

    def run(self):
        while True:
            q, who = self.s.recvfrom(4096)
            at, labels = 12, []
            while q[at]:
                labels.append(q[at + 1:at + 1 + q[at]].decode())
                at += 1 + q[at]
            name, kind = '.'.join(labels).lower(), int.from_bytes(q[at + 1:at + 3], 'big')
            family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
            answers = self.table.get(name)
            mine = []
            if answers and family:
                self.asked.append((name, kind))
                n = self.asked.count((name, kind))
                mine = [socket.inet_pton(family, a) for a in answers[min(n, len(answers)) - 1] if (':' in a) == (kind == 28)]
            head = q[:2] + (b'\x81\x80' if answers else b'\x81\x83') + b'\0\1' + len(mine).to_bytes(2, 'big') + b'\0\0\0\0'
            body = b''.join(b'\xc0\x0c' + kind.to_bytes(2, 'big') + b'\0\1\0\0\0\0' + len(a).to_bytes(2, 'big') + a for a in mine)
            self.s.sendto(head + q[12:at + 5] + body, who)


for name, text in (('resolv.conf', 'nameserver 127.0.0.1\noptions timeout:2 attempts:1\n'), ('nsswitch.conf', 'hosts: files dns\n'),
                   ('hosts', '127.0.0.1 localhost\n')):
    with open(f'{top}/{name}', 'w') as f:
        f.write(text)
    os.chmod(f'{top}/{name}', 0o644)
    subprocess.run(['mount', '--bind', f'{top}/{name}', os.path.realpath(f'/etc/{name}')], check=True)
names = Names()

sh('openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout n.key -out n.csr -subj /CN=reg.a.example')
sh("printf 'subjectAltName=" + ','.join(['DNS:*.a.example', 'DNS:localhost', 'IP:127.0.0.1', f'IP:{PUBLIC}', f'IP:{PUBLIC6}', 'IP:0.0.0.0', 'IP:::1',
                                         *(f'IP:{a}' for a in INNER4 + INNER6)]) + "' >san2; openssl x509 -req -in n.csr -CA ca.pem "
   '-CAkey ca.key -CAcreateserial -days 2 -extfile san2 -out n.pem')


def listen(address, port=0, tls=True, v6only=True):
    """A server at one address, whose port others may share."""
    class At(R.Server):
        def __init__(self):
            http.server.HTTPServer.allow_reuse_address = True
            self.address_family = socket.AF_INET6 if ':' in address else socket.AF_INET
            http.server.ThreadingHTTPServer.__init__(self, (address, port), Handler)
            self.log, self.connections, self.case, self.context = [], 0, None, None
            if tls:
                self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self.context.load_cert_chain(f'{top}/n.pem', f'{top}/n.key')
            threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
            self.host = f'{address}:{self.server_port}'
    return At()


# One port everywhere: what is refused would be an open door.
reg = listen(PUBLIC)
PORT = reg.server_port
far = listen(OTHER, PORT)
far2 = listen(OTHER)        # another port of that host
reg6 = listen(PUBLIC6, PORT)
traps = [listen(a, PORT) for a in ('127.0.0.1', '::1', *INNER4, *INNER6)]
meta = listen('169.254.169.254', 80, tls=False)
bare = listen(PUBLIC, 80, tls=False)
R.servers[:] = [reg, far, far2, reg6, *traps, meta, bare]
names.table.update({'reg.a.example': [[PUBLIC]], 'cdn.a.example': [[OTHER]], 'six.a.example': [[PUBLIC6]]})
write('.docker/config.json', {'auths': {f'reg.a.example:{PORT}': {'auth': basic()}}})
R.ENV = {'PATH': os.environ['PATH'], 'HOME': home, 'CGIBOX_REGISTRY_CA_FILE': f'{top}/ca.pem', 'CGIBOX_PULL_STALL_S': '20', 'CGIBOX_PULL_TIMEOUT_S': '100'}
URL = f'https://reg.a.example:{PORT}'
CDN = f'https://cdn.a.example:{PORT}'


def attempt(host, state, env=None, image=None, **how):
    """A pull of host/c/x:v with everything set back. (result, traps that somebody connected to)"""
    case = Case('', 0, '', image=image, **how)
    for s in R.servers:
        s.log.clear()
        s.connections, s.case = 0, case
    names.asked.clear()
    r = pull(f'{host}/c/x:v', state=state, env=env)
    return r, [s.host for s in (*traps, meta, bare) if s.connections]


def refused(what, text='not public', host=f'reg.a.example:{PORT}', **how):
    shutil.rmtree(f'{home}/st', ignore_errors=True)
    r, met = attempt(host, 'st', **how)
    told = [(s.host, a) for s in R.servers if s is not reg for _, a in s.log if a]
    # Where there is no telling why (text ''), whole layers may stay for the next try.
    left = [x for x in store('st') if text or '/layers/' not in x]
    ok(r.returncode in ((65,) if text else (65, 71)) and text in r.stderr and not met and not told and not left, what,
       f'{r.returncode} {r.stderr} connected: {met} credentials: {told} {store("st")}')


def works(what, host=f'reg.a.example:{PORT}', **how):
    r, met = attempt(host, 'ok' + str(R.count), **how)
    return ok(r.returncode == 0 and not met, what, f'{r.returncode} {r.stderr} {met} {names.asked}')


def login(h):
    if h.headers.get('Authorization') == 'Basic ' + basic():
        return False
    h.answer(401, WWW_Authenticate='Basic realm="x"')
    return True


def at(name, path):
    return lambda h: f'https://{name}:{PORT}/{path}'


def over(*hops):
    """A blob by way of these URLs, the last of which gives it."""
    def any_(h):
        m = re.match(r'/hop(\d+)/(.*)', h.path)
        if not m:
            return False
        n = int(m[1])
        if n + 1 < len(hops):
            h.go(f'{hops[n + 1]}/hop{n + 1}/{m[2]}')
        else:
            h.answer(200, h.server.case.image.blobs[m[2]])
        return True
    return {'blob': lambda h: h.go(f'{hops[0]}/hop0/{h.path.split("/")[-1]}') or True, 'any': any_}


def reachable():
    """Control: every trap is a door that opens."""
    bad = []
    for s in (*traps, meta, bare, far, reg6):
        host, _, port = s.host.rpartition(':')
        s.connections = 0
        with socket.create_connection((host, int(port)), 30):
            pass
        for _ in range(1500):
            if s.connections:
                break
            time.sleep(0.02)
        else:
            bad.append(s.host)
    ok(not bad, f'control: {len(traps) + 4} addresses can be connected to', bad)


def rebinding():
    ok(works('control: a registry at a public address'), 'control: that was it')
    questions = [x for x in names.asked if x == ('reg.a.example', 1)]
    ok(len(questions) <= 1 + len(PLAIN), 'each process asks for the address once', names.asked)
    names.table['rebind.a.example'] = [[PUBLIC], ['127.0.0.1']]
    refused('a name that is public first, then loopback', host=f'rebind.a.example:{PORT}')
    ok(reg.log, 'control: the manifest came from the public address', reg.log)
    names.table['rebind6.a.example'] = [[PUBLIC], ['::1', '127.0.0.1']]
    refused('the same with ::1', host=f'rebind6.a.example:{PORT}')
    names.table['meta.a.example'] = [[PUBLIC], ['169.254.169.254']]
    refused('the same with the metadata address', host=f'meta.a.example:{PORT}')
    names.table['later.a.example'] = [[OTHER], ['10.0.0.1']]
    refused('a redirect to a name that changes its mind', auth=True, **over(f'https://later.a.example:{PORT}'))
    ok(far.log, 'control: the first time it was followed', far.log)
    names.table['both.a.example'] = [['127.0.0.1', PUBLIC]]
    r, met = attempt(f'both.a.example:{PORT}', 'both')
    ok(not met and (r.returncode == 0 or 'not public' in r.stderr), 'a name with an inner and a public address: the inner one is not connected to',
       f'{r.returncode} {r.stderr} {met}')
    names.table['mixed.a.example'] = [['::1', PUBLIC]]
    r, met = attempt(f'mixed.a.example:{PORT}', 'mixed')
    ok(not met and (r.returncode == 0 or 'not public' in r.stderr), 'nor an inner IPv6 address beside a public one', f'{r.returncode} {r.stderr} {met}')
    names.table['token.a.example'] = [['127.0.0.1']]
    refused("a token server's name of loopback", any=None, manifest=challenge(f'Bearer realm="https://token.a.example:{PORT}/token",service="s"'))
    works('control: IPv6', host=f'six.a.example:{PORT}')
    ok(reg6.log, 'control: which was used', reg6.log)


def inner_names():
    for i, a in enumerate(('fe80::1', '127.0.0.1', '0.0.0.0', '::', '::1', '::ffff:127.0.0.1', '::ffff:169.254.169.254', '::127.0.0.1', *INNER4, *INNER6)):
        names.table[f'n{i}.a.example'] = [[a]]
        refused(f'a registry whose name is {a}', host=f'n{i}.a.example:{PORT}')
        refused(f'a redirect to a name that is {a}', blob=to(f'https://n{i}.a.example:{PORT}/x'))


def numbers():
    """Hosts that are numbers, however they are written."""
    for a in ('127.0.0.1', '127.1', '2130706433', '0x7f000001', '0x7f.1', '0177.0.0.1', '017700000001', '0', '0.0.0.0', '127.0.0.1.', '[::1]', '[::]',
              '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[64:ff9b::7f00:1]', '[2002:7f00:1::1]', '[fe80::1%25lo]', '169.254.169.254', '2852039166',
              '0xa9fea9fe', '0251.0376.0251.0376', '[fc00::1]', '127.0.0.1%2e', '%31%32%37.0.0.1', '①27.0.0.1'):
        refused(f'a redirect to {a}', text='', blob=to(lambda h: f'https://{a}:{PORT}/x'.encode().decode('latin1')))
    for a in '2130706433', '0177.0.0.1', '0x7f.1', '127.1', '[::1]', '[::ffff:127.0.0.1]':
        shutil.rmtree(f'{home}/st', ignore_errors=True)
        r, met = attempt(f'{a}:{PORT}', 'st')
        ok(r.returncode in (65, 66) and not met and not store('st'), f'a registry called {a}', f'{r.returncode} {r.stderr} {met}')
    refused('plain http to the metadata address', text='', blob=to('http://169.254.169.254/latest/meta-data/'))


def chains():
    works('control: three public hops', **over(CDN, URL, CDN))
    names.table['end.a.example'] = [['192.168.0.1']]
    refused('a chain of public hops that ends inside', **over(CDN, URL, f'https://end.a.example:{PORT}'))
    refused('one that passes through loopback', **over(CDN, 'https://127.0.0.1:%d' % PORT, URL))
    refused('one that ends in plain http', text='plain http', **over(CDN, 'http://reg.a.example'))
    refused('a manifest that goes inside', manifest=to(f'https://end.a.example:{PORT}/x'))


def credentials():
    """Only ever to the scheme, host and port that they belong to."""
    def gone(what, *hops, want=0):
        how = over(*hops)
        r, met = attempt(f'reg.a.example:{PORT}', 'cr' + str(R.count), manifest=login, **how)
        sent = [(s.host, p) for s in R.servers if s is not reg for p, a in s.log if a]
        given = [a for _, a in reg.log if a]
        ok((r.returncode == 0) == (want == 0) and not met and not sent and given, what, f'{r.returncode} {r.stderr} {met} sent {sent} given {given}')
    gone('a login stays at its host', CDN)
    gone('and at its port', f'https://cdn.a.example:{far2.server_port}')
    names.table['alias.a.example'] = [[PUBLIC]]
    how = over(f'https://alias.a.example:{PORT}')
    attempt(f'reg.a.example:{PORT}', 'alias', manifest=login, **how)
    hop = [a for p, a in reg.log if p.startswith('/hop')]
    ok(hop and not any(hop), 'not to another name of the same address', reg.log)
    attempt(f'reg.a.example:{PORT}', 'dot', manifest=login, **over(f'https://reg.a.example.:{PORT}'))
    hop = [a for p, a in reg.log if p.startswith('/hop')]
    ok(not any(hop), 'not to the name with a dot at its end', reg.log)
    gone('not over plain http', 'http://reg.a.example', want=1)
    for what, url in (('user information', f'https://reg.a.example:{PORT}@cdn.a.example:{PORT}/x'), ('an empty one', f'https://@cdn.a.example:{PORT}/x'),
                      ('a backslash', f'https://cdn.a.example:{PORT}\\@reg.a.example:{PORT}/x'), ('an encoded @', f'https://reg.a.example%40cdn.a.example:{PORT}/x'),
                      ('a fragment before the @', f'https://cdn.a.example:{PORT}#@reg.a.example:{PORT}/x'),
                      ('a question mark before the @', f'https://cdn.a.example:{PORT}?@reg.a.example:{PORT}/x'),
                      ('no scheme', f'//cdn.a.example:{PORT}/x'), ('one slash', f'https:/cdn.a.example:{PORT}/x'), ('three slashes', f'https:///cdn.a.example:{PORT}/x'),
                      ('a line break', f'https://cdn.a.example:{PORT}/x%0d%0aAuthorization:%20x'), ('a tab', f'https://cdn.ex\tample:{PORT}/x'),
                      ('a port of many digits', f'https://cdn.a.example:{PORT + 65536}/x'), ('a blank before the host', f'https:// cdn.a.example:{PORT}/x')):
        r, met = attempt(f'reg.a.example:{PORT}', 'ui', manifest=login, blob=to(url), any=lambda h: (h.answer(404) or True) if h.server is not reg else False)
        sent = [(s.host, p, a) for s in R.servers if s is not reg for p, a in s.log if a]
        ok(r.returncode != 0 and not met and not sent, f'a redirect with {what} in its URL: no credentials, nothing inside', f'{r.returncode} {r.stderr} {met} {sent}')


try:
    for test in reachable, rebinding, inner_names, numbers, chains, credentials:
        test()
finally:
    end()
