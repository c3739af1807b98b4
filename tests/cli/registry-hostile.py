#!/usr/bin/python3
"""Hostile registries: one line for each class of attack, beside controls that pull. A refusal is asserted by its message,
by a store that is as before, by decoys that nobody connected to, and by where credentials went. An argument chooses
classes by their name. TAP."""
import base64, gzip, json, os, re, shutil, socket, subprocess, sys, threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
from registry import *

HOST = main.host
ELSEWHERE = f'https://{decoy.host}/stolen'
LONG = Image()


def cases():
    yield Case('a blob with other bytes of the same length', 65, 'corrupt',
               blob=lambda h: h.answer(200, bytes(len(h.server.case.image.blobs[h.server.case.image.big]))) or True)
    yield Case('a pinned manifest with other bytes', 65, 'instead of', ref='@sha256:' + '0' * 64)
    yield Case('a Docker-Content-Digest that lies', 65, 'Docker-Content-Digest says', manifest=header(Docker_Content_Digest=sha(b'')))
    yield Case('a malformed Docker-Content-Digest', 65, 'malformed Docker-Content-Digest', manifest=header(Docker_Content_Digest='md5:7'))
    yield Case('a config with other bytes', 65, 'corrupt', image=Image(lie=lambda m: m['config'].update(digest=sha(PLAIN[0]), size=len(PLAIN[0]))),
               any=lambda h: (h.answer(200, bytes(len(PLAIN[0]))) or True) if sha(PLAIN[0]) in h.path else False)
    yield Case('a size too small', 65, 'larger than its descriptor', image=Image(lie=layer(size=100)))
    yield Case('a size too big', 65, 'cut short', image=Image(lie=layer(size=1 << 20)), env={'CGIBOX_PULL_TIMEOUT_S': '3'})
    yield Case('size 2^62', 69, 'image_max_bytes', image=Image(lie=layer(size=1 << 62)))
    yield Case('size -1', 65, 'malformed size', image=Image(lie=layer(size=-1)))
    yield Case('size 0', 65, 'larger', image=Image(lie=layer(size=0)))
    yield Case('a size that is no number', 65, 'malformed size', image=Image(lie=layer(size='7')))
    yield Case('a size of a fraction', 65, 'malformed size', image=Image(lie=layer(size=7.5)))
    yield Case('a config size that lies', 65, 'larger than its descriptor', image=Image(lie=lambda m: m['config'].update(size=9)))
    yield Case('a config of 5 MB', 65, 'config is too large', image=Image(lie=lambda m: m['config'].update(size=5 << 20)))
    yield Case('a Content-Length that lies', 71, 'closed', image=Image(layers=PLAIN[1:]), blob=lambda h: short_body(h))
    yield Case('a blob without an end', 65, 'larger than its descriptor', blob=fast(bytes(65536), b'HTTP/1.1 200 OK\r\n\r\n', 200))
    yield Case('a wrong diff_id', 65, 'unpacks to diff_id', image=Image(config_lie=lambda c: c['rootfs']['diff_ids'].reverse()))
    yield Case('fewer diff_ids than layers', 65, 'disagree', image=Image(config_lie=lambda c: c['rootfs']['diff_ids'].pop()))
    yield Case('more diff_ids than layers', 65, 'disagree', image=Image(config_lie=lambda c: c['rootfs']['diff_ids'].append(sha(b'x'))))
    yield Case('a diff_id with a path in it', 65, 'malformed diff_id',
               image=Image(config_lie=lambda c: c['rootfs']['diff_ids'].__setitem__(0, 'sha256:../../../../' + '0' * 52)))
    yield Case('a digest with a path in it', 65, 'malformed digest', image=Image(lie=layer(digest='sha256:../../../../etc/passwd')))
    yield Case('a digest of right length with a path', 65, 'malformed digest', image=Image(lie=layer(digest='sha256:' + '../' * 21 + 'a')))
    yield Case('a digest in capitals', 65, 'malformed digest', image=Image(lie=layer(digest='sha256:' + 'A' * 64)))
    yield Case('a digest with a NUL', 65, 'malformed digest', image=Image(lie=layer(digest='sha256:' + 'a' * 64 + '\0')))
    yield Case('a digest of another algorithm', 65, 'malformed digest', image=Image(lie=layer(digest='md5:' + 'a' * 32)))
    yield Case('no digest', 65, 'malformed digest', image=Image(lie=lambda m: m['layers'][0].pop('digest') and None))
    # media types
    yield Case('manifests and layers in one document', 65, 'not an image manifest|Content-Type', image=Image(lie=change(manifests=[])))
    yield Case('a manifest that says it is an index', 65, 'Content-Type', image=Image(lie=change(mediaType=INDEX)))
    yield Case('a manifest sent as an index', 65, 'Content-Type', manifest=header(Content_Type=INDEX))
    yield Case('a manifest without mediaType sent as an index', 65, 'document is a manifest', image=Image(lie=lambda m: m.pop('mediaType') and None),
               manifest=header(Content_Type=INDEX))
    yield Case('a manifest sent as a web page', 65, 'Content-Type', manifest=header(Content_Type='text/html'))
    yield Case('a web page', 65, 'not valid JSON', image=Image(lie=lambda m: b'<html>hello</html>'), manifest=header(Content_Type='text/plain'))
    yield Case('an unknown layer type', 65, 'unknown media type', image=Image(lie=layer(mediaType='text/x')))
    yield Case('a foreign layer', 65, 'not distributable', image=Image(lie=layer(mediaType=DOCKER + 'image.rootfs.foreign.diff.tar.gzip', urls=[ELSEWHERE])))
    yield Case('a nondistributable layer', 65, 'not distributable', image=Image(lie=layer(mediaType=OCI + 'layer.nondistributable.v1.tar+gzip', urls=[ELSEWHERE])))
    yield Case('an artifact', 65, 'an artifact', image=Image(lie=lambda m: m['config'].update(mediaType='application/vnd.cncf.helm.config.v1+json')))
    yield Case('a config that is a layer', 65, 'an artifact', image=Image(lie=lambda m: m.update(config=m['layers'][0])))
    yield Case('schema 1', 65, 'schema 1', image=Image(lie=lambda m: {'schemaVersion': 1, 'name': 'x', 'fsLayers': []}), manifest=header(Content_Type=None))
    yield Case('schema 1 by its type', 65, 'schema 1', manifest=header(Content_Type=DOCKER + 'distribution.manifest.v1+prettyjws'),
               image=Image(lie=lambda m: {'schemaVersion': 1, 'fsLayers': []}))
    yield Case('schemaVersion as text', 65, 'not an image manifest', image=Image(lie=change(schemaVersion='2')))
    yield Case('no schemaVersion', 65, 'not an image manifest', image=Image(lie=lambda m: m.pop('schemaVersion') and None))
    # indexes
    image, f = indexed(Image(), lambda c: [{'mediaType': INDEX, 'digest': sha(c), 'size': len(c), 'platform': {'os': 'linux', 'architecture': 'amd64'}}])
    yield Case('an index in an index', 65, 'names another index', image=image, manifest=f)
    image, f = indexed(Image(), lambda c: [{'mediaType': MANIFEST, 'digest': sha(c), 'size': len(c), 'platform': {'os': 'linux', 'architecture': 'mips'}}] * 2)
    yield Case('an index without this machine', 65, 'no image for linux/', image=image, manifest=f)
    image, f = indexed(Image(), lambda c: [{'mediaType': MANIFEST, 'digest': sha(c), 'size': len(c)}] * 1001)
    yield Case('an index of 1001 entries', 65, 'too long', image=image, manifest=f)
    image, f = indexed(Image(), lambda c: [{'mediaType': MANIFEST, 'digest': sha(c), 'size': 5 << 20, 'platform': {'os': 'linux', 'architecture': 'amd64'}}])
    yield Case('an index whose manifest is of 5 MB', 65, 'too large', image=image, manifest=f)
    image, f = indexed(Image(), lambda c: [{'mediaType': MANIFEST, 'digest': sha(b'x'), 'size': 1, 'platform': {'os': 'linux', 'architecture': 'amd64'}}])
    yield Case('an index whose manifest is another', 65, 'larger|corrupt', image=image,
               manifest=lambda h: (h.answer(200, Image().manifest, Content_Type=MANIFEST) or True) if 'sha256' in h.path else False)
    # size of documents
    yield Case('a manifest over 4 MiB', 69, 'manifest is larger', image=Image(lie=change(annotations={'x': 'y' * (5 << 20)})))
    yield Case('JSON 10,000 deep', 65, 'not valid JSON', image=Image(lie=lambda m: b'{"a":' + b'[' * 10000 + b']' * 10000 + b'}'))
    yield Case('a config 10,000 deep', 65, 'not valid JSON', image=Image(config_lie=lambda c: c.update(deep=deep(40))))
    yield Case('5,000 layers', 69, 'image_layers_max', image=Image(lie=lambda m: m.update(layers=m['layers'] * 2500)))
    yield Case('no layers', 65, 'no layers', image=Image(lie=change(layers=[])))
    yield Case('an empty manifest', 65, 'not valid JSON', image=Image(lie=lambda m: b' '))
    yield Case('a manifest with a NUL', 65, 'not valid JSON', image=Image(lie=lambda m: b'{}\0{}'))
    # layers
    gz = gzip.compress(PLAIN[1], mtime=0)
    for what, packed, text in (('a truncated gzip', gz[:-30], 'truncated'), ('a gzip without its trailer', gz[:-8], 'truncated|unpacks'),
                               ('a layer that is no archive', b'no archive at all' * 100, 'Invalid or truncated'),
                               ('gzip in gzip', gzip.compress(gz), 'compress|unpacks|Invalid'),
                               ('an empty layer', b'', 'empty|Invalid'),
                               ('a zip', b'PK\3\4' + bytes(500), 'Invalid')):
        yield Case(what, 65, text, image=Image(packed=[gzip.compress(PLAIN[0]), packed]))
    bomb = gzip.compress(bytes(64 << 20), 9)
    yield Case('a bomb of gzip, 64 MiB from 64 KiB', 69, 'image_ratio_max|image_max_bytes', image=Image(packed=[gzip.compress(PLAIN[0]), bomb]),
               env={'CGIBOX_IMAGE_RATIO_MAX': '500'})
    yield Case('layers larger than an image may be', 69, 'image_max_bytes', env={'CGIBOX_IMAGE_MAX_BYTES': '1048576'},
               image=Image(layers=[tar((f'a{i}', 'f', bytes(700000))) for i in range(4)]))
    many = tar(*[(f'f{i}', 'f', b'') for i in range(200)])
    yield Case('too many entries', 69, 'image_entries_max', image=Image(layers=[many]), env={'CGIBOX_IMAGE_ENTRIES_MAX': '100'})
    for what, entries in (('../ in a name', [('../../../../../../tmp/evil', 'f', b'x')]),
                          ('a link out, then through it', [('out', 'l', '/tmp'), ('out/../../evil', 'f', b'x')])):
        yield Case('layer: ' + what, 65, 'traversal', image=Image(layers=[tar(*entries)]))
    # configs
    for what, c, text in (('LD_PRELOAD', conf(Env=['LD_PRELOAD=/x']), 'environment'), ('a newline in Env', conf(Env=['A=b\nLD_PRELOAD=/x']), 'environment'),
                          ('Env without a name', conf(Env=['=x']), 'environment'), ('a NUL in Env', conf(Env=['A=b\0c']), 'environment'),
                          ('1,001 variables', conf(Env=[f'A{i}=b' for i in range(1001)]), 'environment'),
                          ('WorkingDir in /proc', conf(WorkingDir='/proc/self/fd/7/..'), 'working directory'),
                          ('a relative WorkingDir', conf(WorkingDir='../x'), 'working directory'),
                          ('User with a newline', conf(User='0\nlayer x'), 'user'), ('another system', lambda c: c.update(os='windows'), 'not for Linux')):
        yield Case('config: ' + what, 65, text, image=Image(config_lie=c)) if '1,001' not in what else \
            Case('config: ' + what, 69, text, image=Image(config_lie=c))
    # redirects
    for what, where, text in (
            ('to file://', 'file:///etc/passwd', 'no address to go to'), ('to gopher://', f'gopher://{decoy.host}/x', 'no address to go to'),
            ('to ftp://', f'ftp://{decoy.host}/x', 'no address to go to'), ('to plain http', f'http://{decoy_plain.host}/x', 'plain http'),
            ('to plain http of a listed host', f'http://{plain.host}/x', 'plain http'),
            ('to a name of loopback', ELSEWHERE, 'not public'), ('to 127.0.0.1', f'https://127.0.0.1:{decoy.server_port}/x', 'not public'),
            ('to 127.1', f'https://127.1:{decoy.server_port}/x', 'not public'), ('to 0x7f000001', f'https://0x7f000001:{decoy.server_port}/x', 'not public'),
            ('to 2130706433', f'https://2130706433:{decoy.server_port}/x', 'not public'), ('to 0.0.0.0', f'https://0.0.0.0:{decoy.server_port}/x', 'not public'),
            ('to ::1', f'https://[::1]:{decoy.server_port}/x', 'not public'),
            ('to an IPv4-mapped address', f'https://[::ffff:127.0.0.1]:{decoy.server_port}/x', 'not public'),
            ('to a NAT64 address', 'https://[64:ff9b::7f00:1]/x', 'not public'), ('to a 6to4 address', 'https://[2002:7f00:1::]/x', 'not public'),
            ('to the metadata address', 'https://169.254.169.254/latest', 'not public'), ('to 10.0.0.1', 'https://10.0.0.1/x', 'not public'),
            ('to 100.64.0.1', 'https://100.64.0.1/x', 'not public'), ('to multicast', 'https://224.0.0.1/x', 'not public'),
            ('with user information', f'https://me:{SECRET}x@{cdn.host}/x', 'no address to go to'),
            ('with a line break', f'https://{cdn.host}/x\tHost: evil', 'malformed header'),
            ('to nowhere', '', 'to nowhere'), ('to nonsense', 'https://', 'no address to go to')):
        yield Case('redirect ' + what, 65, text, blob=to(where))
    yield Case('redirects without end', 65, 'more than 5 redirects', blob=to(lambda h: h.path + '0'), any=lambda h: (h.go(h.path + '0') or True) if len(h.path) > len('/v2/c/x/blobs/') + 71 else False)
    yield Case('a manifest that redirects to a decoy', 65, 'not public', manifest=to(ELSEWHERE))
    yield Case('an insecure registry that redirects to another plain one', 65, 'plain http', blob=to(f'http://{decoy_plain.host}/x'), server=plain)
    # logins
    for what, realm, text in (
            ('on plain http', f'http://{decoy_plain.host}/token', 'plain http'), ('at a decoy', f'https://{decoy.host}/token', 'not public'),
            ('file://', 'file:///etc/passwd', 'no address'), ('gopher://', f'gopher://{decoy.host}/', 'no address'),
            ('with user information', f'https://a:b@{cdn.host}/token', 'no address'), ('with a fragment', f'https://{HOST}/token#', 'malformed'),
            ('at the metadata address', 'https://169.254.169.254/token', 'not public'), ('without a scheme', f'{decoy.host}/token', 'no address|plain http|not public')):
        yield Case('token realm ' + what, 65, text, any=challenge(f'Bearer realm="{realm}",service="s"'))
    yield Case('a token realm that redirects to a decoy', 65, 'redirects', any=None, manifest=challenge(f'Bearer realm="https://{HOST}/token"'),
               token=lambda h: h.go(ELSEWHERE))
    yield Case('a malformed challenge', 65, 'malformed header', manifest=challenge('Bearer realm="https://x'))
    yield Case('a challenge with two realms', 65, 'malformed header', manifest=challenge(f'Bearer realm="https://{HOST}/token",realm="{ELSEWHERE}"'))
    yield Case('an unknown kind of login', 65, 'asks for a login', manifest=challenge('Negotiate'))
    yield Case('401 for ever (Basic)', 65, 'refuses the login', manifest=challenge('Basic realm="x"'))
    for what, body, text in (('with a line break', json.dumps({'token': 'a\r\nX-Evil: 1'}).encode(), 'no token'), ('none', b'{}', 'no token'),
                             ('no JSON', b'<html>', 'no token'), ('of 1 MB', json.dumps({'token': 'a' * (1 << 20)}).encode(), 'more than 65536'),
                             ('that is never good', b'{"token":"bad"}', 'refuses the login')):
        yield Case('a token ' + what, 65, text, manifest=challenge(f'Bearer realm="https://{HOST}/token"'), token=status(200, body))
    yield Case('a redirect to another host that asks for the login', 65, 'asks for a login',
               any=lambda h: (h.answer(401, WWW_Authenticate='Basic realm="x"') or True) if h.server is cdn else False, blob=to(f'https://{cdn.host}/x'))
    # time
    slow = {'CGIBOX_PULL_TIMEOUT_S': '4', 'CGIBOX_PULL_STALL_S': '1'}
    yield Case('headers that drip', 69, 'too slow', manifest=slowly(b'X', 0.2, b'HTTP/1.1 200 OK\r\nX-A: '), env=slow, limit=60)
    yield Case('a body of 1 byte a time', 69, 'too slow', blob=slowly(b'x', 0.2, b'HTTP/1.1 200 OK\r\n\r\n'), env=slow, limit=60)
    yield Case('a manifest of 1 byte a time', 69, 'too slow', manifest=slowly(b' ', 0.2, b'HTTP/1.1 200 OK\r\n\r\n'), env=slow, limit=60)
    yield Case('no answer at all', 69, 'too slow', manifest=slowly(b'', 0.2), env=slow, limit=60)
    yield Case('a header without an end', 69, 'bytes of headers|Too large', manifest=fast(b'X-A: ' + b'y' * 8000 + b'\r\n', b'HTTP/1.1 200 OK\r\n', 400))
    yield Case('a flood of 1xx', 69, 'bytes of headers', manifest=fast(b'HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n' * 20, b'', 400))
    yield Case('503 for ever', 75, '503', manifest=status(503), limit=60)
    yield Case('Retry-After of an hour', 75, '429', manifest=status(429, Retry_After='3600'), limit=60)
    yield Case('an error with an endless body', 65, '418', manifest=fast(bytes(65536), b'HTTP/1.1 418 x\r\n\r\n', 2000))
    yield Case('HTTP/0.9', 71, 'HTTP/0.9|Received|response', manifest=fast(b'hello\n', b'', 3))
    # ranges
    yield Case('a range that starts elsewhere', 65, 'another range', blob=interrupted(lambda first, data: (f'bytes {first + 1}-{len(data) - 1}/{len(data)}', data[first + 1:])))
    yield Case('a range of another total', 65, 'another range', blob=interrupted(lambda first, data: (f'bytes {first}-{len(data) - 1}/{len(data) + 1}', data[first:])))
    yield Case('a range with other bytes', 65, 'corrupt', blob=interrupted(lambda first, data: (f'bytes {first}-{len(data) - 1}/{len(data)}', bytes(len(data) - first))))
    yield Case('a 206 that nobody asked for', 65, 'another range', blob=status(206, b'x', Content_Range='bytes 0-0/1'))
    # addresses, TLS
    yield Case('a registry at loopback that is not listed', 65, 'not public', server=decoy, env={'CGIBOX_PRIVATE_REGISTRIES': ''})
    yield Case('a certificate of another authority', 71, 'certificate', server=untrusted)
    yield Case('a client may not pull what pull_allowed lacks', 65, 'pull_allowed', args=('--for-client',), env={'CGIBOX_PULL_ALLOWED': 'docker.io *.example'})

def count_to(n, code, **headers):
    """Fails n times, then answers."""
    left = [n]

    def f(h):
        left[0] -= 1
        if left[0] < 0:
            return False
        h.answer(code, **headers)
        return True
    return f


def token_server(token='good', seen=None, **more):
    def f(h):
        if seen is not None:
            n = int(h.headers.get('Content-Length') or 0)
            seen.append((h.command, h.path, h.headers.get('Authorization'), h.rfile.read(n).decode()))
        h.answer(200, json.dumps({'token': token, **more}).encode())
    return f


def need_basic(h):
    if h.headers.get('Authorization') == 'Basic ' + basic():
        return False
    h.answer(401, WWW_Authenticate='Basic realm="x"')
    return True


BEARER = f'Bearer realm="https://{HOST}/token",service="reg"'


def hop(h):
    """At the other host: as many redirects as the path says, then the blob."""
    m = re.match(r'/hop(\d+)/blobs/(.*)', h.path)
    if h.server is not cdn or not m:
        return False
    if m[1] == '0':
        h.answer(200, h.server.case.image.blobs[m[2]])
    else:
        h.go(f'/hop{int(m[1]) - 1}/blobs/{m[2]}', 302)
    return True


def good(what, **kw):
    """A pull that must work, into a store of its own."""
    case = Case(what, 0, '', **kw)
    state = f'ok-{what[:20].replace(" ", "-").replace("/", "")}'
    r, wrong = run(case, state)
    layers = [x for x in store(state) if '/layers/' in x]
    ok(r.returncode == 0 and not wrong and len(layers) == len(set(case.image.plain)), 'control: ' + what, r.stderr + '\n'.join(wrong))
    return r


def controls():
    good('an OCI image')
    ok(main.log and not any(a for _, a in main.log), 'control: no credential goes where none is asked for')
    good('a schema 2 image', image=Image(media=DOCKER + 'distribution.manifest.v2+json',
                                         lie=lambda m: m['config'].update(mediaType=DOCKER + 'container.image.v1+json')))
    good('over plain http when listed', server=plain)
    good('sent without headers', manifest=header(Content_Type='application/json', Docker_Content_Digest=None))
    image, f = indexed(Image())
    good('an index', image=image, manifest=f)
    good('by tag and digest', image=LONG, ref=':v@' + sha(LONG.manifest))
    if shutil.which('zstd'):
        good('a zstd layer', image=Image(packed=[subprocess.run(['zstd', '-qc'], input=x, capture_output=True).stdout for x in PLAIN]))
    for n in 1, 5:
        good(f'{n} redirects to another host', manifest=need_basic, any=hop,
             blob=to(lambda h: f'https://{cdn.host}/hop{n - 1}/blobs/{h.path.split("/")[-1]}'))
        ok(any(a for _, a in main.log) and cdn.log and not any(a for _, a in cdn.log),
           'control: the login went to the registry and not along the redirect', main.log)
    good('Basic', manifest=need_basic)
    seen = []
    good('a bearer token', manifest=challenge(BEARER + ',scope="repository:other/secret:pull,push"'), token=token_server(seen=seen))
    ok(len(seen) == 1 and seen[0][2] == 'Basic ' + basic() and 'scope=repository%3Ac%2Fx%3Apull' in seen[0][1] and
       'service=reg' in seen[0][1] and 'other' not in seen[0][1], 'control: the token is asked for with the login, for this repository only', seen)
    good('an access_token', manifest=challenge(BEARER), token=lambda h: h.answer(200, b'{"access_token":"good","expires_in":300}'))
    good('Basic and Bearer offered', manifest=challenge('Basic realm="x", ' + BEARER), token=token_server())
    expiring()
    good('503 twice', manifest=count_to(2, 503))
    r = good('429 with Retry-After', manifest=count_to(1, 429, Retry_After='2'))
    ok(r.seconds >= 2, 'control: which is kept', r.seconds)
    good('an interrupted layer goes on by Range',
         blob=interrupted(lambda first, data: (f'bytes {first}-{len(data) - 1}/{len(data)}', data[first:])))
    good('or from the beginning when the server has no ranges', blob=interrupted(lambda first, data: None))
    mirrors()
    good('what pull_allowed allows', args=('--for-client',), env={'CGIBOX_PULL_ALLOWED': f'docker.io/library, {HOST}/c'})
    r, wrong = run(Case('', 65, '', args=('--for-client',), env={'CGIBOX_PULL_ALLOWED': f'{HOST}/c/xx'}))
    ok(r.returncode == 65 and 'pull_allowed' in r.stderr and not main.connections, 'a path prefix ends at a slash', r.stderr)


def expiring():
    """Tokens that are good for one request."""
    seen, valid = [], set()

    def short(h):
        valid.clear()
        valid.add(f't{len(seen)}')
        token_server(f't{len(seen)}', seen, expires_in=1)(h)

    def need_fresh(h):
        if '/token' in h.path:
            return False
        if (h.headers.get('Authorization') or '')[7:] in valid:
            valid.clear()
            return False
        h.answer(401, WWW_Authenticate=BEARER)
        return True
    good('tokens that expire all the time', any=need_fresh, token=short, env={'CGIBOX_PULL_PARALLEL': '1'})
    ok(len(seen) >= 4, 'control: a fresh token each time', len(seen))


def mirrors():
    down = f'localhost:{free_port()}'
    env = {'CGIBOX_REGISTRY_MIRRORS': f'{cdn.host}=x.example {HOST}={down} {HOST}={cdn.host}',
           'CGIBOX_PRIVATE_REGISTRIES': ENV['CGIBOX_PRIVATE_REGISTRIES'] + ' ' + down}
    good('a mirror that is down, then one that works', env=env)
    ok(not main.log and cdn.log, 'control: the registry itself was not asked', main.log)
    good('a mirror without the image', env=env, manifest=lambda h: status(404)(h) if h.server is cdn else False)
    good('a mirror with a corrupt layer', env=env,
         blob=lambda h: status(200, bytes(len(h.server.case.image.blobs[h.server.case.image.big])))(h) if h.server is cdn else False)
    good('a mirror with another manifest for a digest', env=env, image=LONG, ref='@' + sha(LONG.manifest),
         manifest=lambda h: status(200, b'{}')(h) if h.server is cdn else False)
    good('a mirror that asks for a login gets none of the registry', env=env, any=lambda h: h.server is cdn and need_basic(h))
    ok(cdn.log and not any(a for _, a in cdn.log), 'control: no credential at the mirror', cdn.log)


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def platforms():
    """Which entry of an index is taken for --platform."""
    have = [('linux', 'amd64', None), ('linux', 'arm', 'v5'), ('linux', 'arm', 'v6'), ('linux', 'arm', 'v8'), ('linux', 'arm64', 'v8'),
            ('windows', 'amd64', None), ('linux', 'riscv64', None)]
    images = [Image(config_lie=conf(Env=[f'PLATFORM={i}'])) for i in range(len(have))]
    entries = [{'mediaType': MANIFEST, 'digest': sha(x.manifest), 'size': len(x.manifest),
                'platform': {k: v for k, v in zip(('os', 'architecture', 'variant'), p) if v}} for x, p in zip(images, have)]
    whole = Image()
    children = {sha(x.manifest): x.manifest for x in images}
    whole.manifest, whole.media = index(entries), INDEX
    for x in images:
        whole.blobs.update(x.blobs)

    def child(h):
        name = h.path.split('/')[-1]
        if name in children:
            h.answer(200, children[name], Content_Type=MANIFEST)
        return name in children
    for want, at in (('linux/arm/v7', 2), ('linux/arm', 2), ('linux/arm/v6', 2), ('linux/arm/v5', 1), ('linux/arm/v8', 3), ('linux/arm64', 4),
                     ('linux/arm64/v8', 4), ('linux/amd64/v3', 0), ('linux/riscv64', 6), ('linux/s390x', None), ('linux/arm/v4', None)):
        r, wrong = run(Case('', 0 if at is not None else 65, '', image=whole, manifest=child, args=('--platform', want)), 'platform')
        ok((r.returncode == 0 and r.stdout.strip() == sha(images[at].config)[7:]) if at is not None else
           (r.returncode == 65 and f'no image for {want}' in r.stderr), f'--platform {want}', r.stderr)
    other = Image(config_lie=lambda c: c.update(architecture='arm64', variant='v8'))
    for args, code, text in ((('--platform', 'linux/arm64'), 0, ''), (('--platform', 'linux/arm64/v9'), 0, ''),
                             (('--platform', 'linux/amd64'), 65, 'is for "linux/arm64/v8", not for linux/amd64'),
                             (('--platform', 'linux/arm64/v7'), 65, 'not for linux/arm64/v7'), ((), 0, 'warning: the image is for "linux/arm64/v8"')):
        r, wrong = run(Case('', code, '', image=other, args=args), 'single')
        ok(r.returncode == code and text in r.stderr and ('warning' in r.stderr) == ('warning' in text) and not wrong,
           f'no index, {args or "no --platform"}: {text or "taken"}', f'{r.returncode} {r.stderr} {wrong}')
    r, _ = run(Case('', 0, '', image=other, args=('--json',)), 'single')
    ok('{"event":"warning","message":"the image is for ' in r.stdout, 'the warning as an event', r.stdout)
    for what, lie in (('no architecture', lambda c: c.pop('architecture')), ('one that is no text', lambda c: c.update(architecture=7)),
                      ('one of 5,000 letters', lambda c: c.update(architecture='a' * 5000))):
        r, _ = run(Case('', 0, '', image=Image(config_lie=lie), args=('--platform', 'linux/arm64')), 'single-' + what[-7:])
        ok(r.returncode == 0 and 'warning' not in r.stderr, f'a config with {what} is for anything', r.stderr)
    for bad in 'linux', 'linux/', '/arm', 'linux/arm/v7/x', 'Linux/arm':
        ok(pull('--platform', bad, HOST + '/c/x').returncode == 64, f'--platform {bad} is no platform')


def asked(what, env=None, args=(), want=None, code=0, text=''):
    """Whose name a pull is made in: `want`, None for nobody."""
    got = []

    def need(h):
        a = h.headers.get('Authorization')
        if a:
            got.append(base64.b64decode(a.split()[1]).decode().split(':')[0])
            return False
        h.answer(401, WWW_Authenticate='Basic realm="x"')
        return True
    r, wrong = run(Case('', code, '', manifest=need, env=env, args=args), f'cred-{code}-{want}')
    ok(r.returncode == code and (got[:1] == [want] if want else not got) and text in r.stderr and not wrong, 'credentials: ' + what,
       f'{r.returncode} {got} {r.stderr} {wrong}')


HELPERS = {
    'good': f'''read host; [ "$host" = {HOST} ] || exit 1; [ -z "$CGIBOX_PULL_STALL_S" ] || exit 1
        echo '{{"Username":"helped","Secret":"{SECRET}"}}' ''',
    'none': 'echo "credentials not found in native keychain"; exit 1',
    'broken': 'exit 3',
    'odd': 'echo "[]"'}


def credentials():
    path = write('auth.json', {'auths': {HOST: {'auth': basic('file')}, f'{HOST}/c/x': {'auth': basic('longest')}}})
    asked('~/.docker/config.json', want='me')
    asked('registry_auth_file before that, the longest key', env={'CGIBOX_REGISTRY_AUTH_FILE': path}, want='longest')
    asked('a client gets only registry_auth_file', args=('--for-client',), code=65, text='asks for a login')
    asked('which it gets', args=('--for-client',), env={'CGIBOX_REGISTRY_AUTH_FILE': path}, want='longest')
    os.chmod(path, 0o644)
    asked('a file that others may read is refused', env={'CGIBOX_REGISTRY_AUTH_FILE': path}, code=78, text='chmod 0600')
    os.chmod(path, 0o620)
    asked('or write', env={'CGIBOX_REGISTRY_AUTH_FILE': path}, code=78, text='chmod 0600')
    asked('a file that is missing', env={'CGIBOX_REGISTRY_AUTH_FILE': path + 'x'}, code=78, text='registry_auth_file')
    for what, text in (('no JSON', b'{'), ('base64 that is none', {'auths': {HOST: {'auth': '!!!!'}}}), ('no colon', {'auths': {HOST: {'auth': 'QUJD'}}}),
                       ('a line break', {'auths': {HOST: {'auth': basic('a\r\nb')}}})):
        bad = write('bad.json', text)
        asked('malformed file: ' + what, env={'CGIBOX_REGISTRY_AUTH_FILE': bad}, code=78, text='bad.json')
    for name, text in HELPERS.items():
        write(f'bin/docker-credential-{name}', f'#!/bin/sh\n{text}\n'.encode(), 0o755)
        write(f'{name}/config.json', {'credHelpers': {HOST: name}})
    env = {'PATH': f'{home}/bin:{os.environ["PATH"]}'}
    asked('a helper program', env={**env, 'DOCKER_CONFIG': f'{home}/good'}, want='helped')
    asked('a helper that knows none', env={**env, 'DOCKER_CONFIG': f'{home}/none'}, code=65, text='asks for a login')
    asked('a helper that fails', env={**env, 'DOCKER_CONFIG': f'{home}/broken'}, code=78, text='docker-credential-broken failed')
    asked('a helper that answers nonsense', env={**env, 'DOCKER_CONFIG': f'{home}/odd'}, code=78, text='malformed answer')
    asked('no helper for a client', env={**env, 'DOCKER_CONFIG': f'{home}/good'}, args=('--for-client',), code=65, text='asks for a login')
    write('store/config.json', {'credsStore': '../../evil'})
    asked('a helper whose name is a path', env={**env, 'DOCKER_CONFIG': f'{home}/store'}, code=78, text='malformed name')
    seen = []
    path = write('id.json', {'auths': {HOST: {'identitytoken': IDENTITY}}})
    r, wrong = run(Case('', 0, '', manifest=challenge(BEARER), token=token_server(seen=seen), env={'CGIBOX_REGISTRY_AUTH_FILE': path}), 'id')
    ok(r.returncode == 0 and not wrong and seen and seen[0][0] == 'POST' and 'refresh_token=' + IDENTITY in seen[0][3],
       'credentials: an identity token is exchanged', f'{seen} {r.stderr} {wrong}')


class Proxy(threading.Thread):
    """An HTTP proxy that knows CONNECT."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port, self.heads = self.listener.getsockname()[1], []
        self.start()

    def run(self):
        while True:
            threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, a):
        head = b''
        while b'\r\n\r\n' not in head:
            head += a.recv(4096)
        self.heads.append(head.decode())
        host, port = head.split()[1].decode().rsplit(':', 1)
        b = socket.create_connection((host, int(port)))
        a.sendall(b'HTTP/1.1 200 go\r\n\r\n')
        for x, y in ((a, b), (b, a)):
            threading.Thread(target=self.copy, args=(x, y), daemon=True).start()

    def copy(self, x, y):
        try:
            while data := x.recv(65536):
                y.sendall(data)
            y.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def proxies():
    proxy = Proxy()
    env = {'https_proxy': f'http://127.0.0.1:{proxy.port}', 'CGIBOX_PRIVATE_REGISTRIES': cdn.host}
    good('through a proxy, which may be inside and go inside', manifest=need_basic, env=env)
    ok(proxy.heads and all(h.startswith('CONNECT ' + HOST) and 'uthorization' not in h for h in proxy.heads),
       'control: which sees no login', proxy.heads)
    n = len(proxy.heads)
    check(Case('an inner address as a number is refused with a proxy, too', 65, 'not public', blob=to('https://10.0.0.1/x'), env=env), 'proxied')
    ok(not any('10.0.0.1' in h for h in proxy.heads), 'control: the proxy was not asked for it', proxy.heads[n:])
    n = len(proxy.heads)
    good('not through it when no_proxy names the host', env={'https_proxy': env['https_proxy'], 'no_proxy': 'example.org,localhost'})
    ok(len(proxy.heads) == n, 'control: the proxy was not asked', proxy.heads[n:])


def below(pid):
    """A process and what descends from it."""
    out, parents = [pid], {}
    for p in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{p}/stat') as f:
                parents[int(p)] = int(f.read().rsplit(')', 1)[1].split()[1])
        except OSError:
            pass
    for p in out:
        out += [c for c, parent in parents.items() if parent == p]
    return out


def holds(pid, needles, shared):
    """Which of these bytes are in the memory of a process; without `shared` not in anonymous pages that children do not get."""
    found = set()
    with open(f'/proc/{pid}/maps') as maps, open(f'/proc/{pid}/mem', 'rb', 0) as mem:
        for line in maps:
            where, mode, rest = line.split(None, 2)
            if mode[0] != 'r' or '[v' in rest or ('/dev/zero' in rest and not shared):
                continue
            at, end = (int(x, 16) for x in where.split('-'))
            mem.seek(at)
            data = mem.read(end - at)
            found |= {n for n in needles if n in data}
    return found


def memory():
    """Where secrets are while a layer is being unpacked: in the process that fetches it, in none that unpacks."""
    if os.getuid() != 0:
        print('# secrets in memory: registry-memory.t, because only root may look into another process')
        return
    proxy = 'proxy-password-of-somebody'
    env = {'https_proxy': f'http://me:{proxy}@127.0.0.1:9', 'no_proxy': 'localhost', 'CGIBOX_PULL_STALL_S': '300', 'CGIBOX_PULL_TIMEOUT_S': '600'}
    path = write('secrets.json', {'auths': {main.host: {'auth': basic()}}})
    tokens = write('identity.json', {'auths': {main.host: {'identitytoken': IDENTITY}}})
    layers = Image(layers=[tar(('big', 'f', os.urandom(1 << 20)))])
    for what, auth, login, token, secrets in (
            ('Basic', path, lambda h: need_basic(h), None, (SECRET, basic())),
            ('a token', path, challenge(BEARER), token_server(), (SECRET, basic(), 'Bearer good')),
            ('an identity token', tokens, challenge(BEARER), token_server(), (IDENTITY, 'Bearer good')),
            ('Basic, the second of two places', path, lambda h: need_basic(h), None, (SECRET, basic()))):
        half, go_on, corrupt = threading.Event(), threading.Event(), 'second' in what

        def stall(h):
            data = h.server.case.image.blobs[h.server.case.image.big]
            if h.server is cdn:  # a mirror
                h.answer(200, bytes(len(data)))
                return True
            h.send_response(200)
            h.send_header('Content-Length', str(len(data)))
            h.end_headers()
            h.wfile.write(data[:len(data) // 2])
            h.wfile.flush()
            half.set()
            go_on.wait(300)
            h.wfile.write(data[len(data) // 2:])
            return True
        for s in servers:
            s.case = Case('', 0, '', image=layers, manifest=login, blob=stall, token=token)
        more = {'CGIBOX_REGISTRY_MIRRORS': f'{main.host}={cdn.host}'} if corrupt else {}
        state = f'mem-{len(what)}'
        p = subprocess.Popen(DROP + [program, '--state', f'{home}/{state}', 'pull', f'{main.host}/c/x:v'], cwd=home, stdin=subprocess.DEVNULL,
                             env={**ENV, **env, **more, 'CGIBOX_REGISTRY_AUTH_FILE': auth}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        reached = half.wait(120)
        needles = {x.encode() for x in (*secrets, proxy)}
        found = {}
        for pid in below(p.pid) if reached else ():
            role = 'unpacks' if os.readlink(f'/proc/{pid}/root') != '/' else 'parent' if pid == p.pid else 'fetches'
            found.setdefault(role, set()).update(holds(pid, needles, role != 'parent'))
        go_on.set()
        err = p.communicate(timeout=300)[1]
        ok(reached and p.returncode == 0 and needles - {basic().encode()} <= found.get('fetches', set()), f'control, {what}: secrets are found where they are needed',
           f'{found} {p.returncode} {err}')
        ok(found.get('unpacks') == set(), f'{what}: no secret in the memory of the unpacker', found)
        ok(found.get('parent') == {proxy.encode()}, f'{what}: in what they are forked from none but the environment', found)


def forms():
    r, _ = run(Case('', 0, '', args=('--json',)), 'json')
    events = [json.loads(x) for x in r.stdout.splitlines()]
    ok(r.returncode == 0 and r.stderr == '' and [e['event'] for e in events][-1] == 'done' and len(events[-1]['id']) == 64 and
       [e['state'] for e in events if e['event'] == 'layer'].count('done') == 2, '--json: events as lines, a layer and the end', r.stdout)
    r, _ = run(Case('', 65, '', args=('--json',), manifest=header(Content_Type='text/html')), 'json')
    ok(r.returncode == 65 and json.loads(r.stdout.splitlines()[-1])['event'] == 'error', '--json: an error', r.stdout)


try:
    only = sys.argv[1] if len(sys.argv) > 1 else ''
    if only in ('memory', 'platforms'):
        globals()[only]()
    elif not only:
        for test in controls, platforms, credentials, proxies, memory, forms:
            test()
    for s in servers:
        s.case = Case('', 0, '', image=Image(layers=[tar(('other', 'f', b'x'))]))
    ok(pull(HOST + '/c/x').returncode == 0, 'control: a store with an image in it')
    for c in cases():
        if only in c.what:
            check(c)
finally:
    end()
