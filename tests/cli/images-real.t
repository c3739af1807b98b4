#!/usr/bin/python3
"""Twenty images of the shapes that are met in the world, made with real tools where there are any; each is imported, checked,
and runs its program in a sandbox with the expected output.

Runs as an ordinary user; started by root it drops to an uid of its own. CGIBOX names the program, B the build directory."""
import gzip, hashlib, io, json, os, shutil, socket, subprocess, sys, tarfile, tempfile

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


def skip(what, why):
    global count
    if MUST:
        ok(False, what, 'missing: ' + why)
        return
    count += 1
    print(f'ok {count} - {what} # SKIP {why}', flush=True)


top = tempfile.mkdtemp(prefix='images-real-')
os.chmod(top, 0o755)
os.makedirs(f'{top}/libexec')
box = shutil.copy(os.environ.get('CGIBOX') or f'{B}/cgibox', f'{top}/cgibox')
shutil.copy(f'{B}/libexec/image', f'{top}/libexec/image')
subprocess.run(['chmod', '-R', 'a+rX', top], check=True)
home = f'{top}/home'
os.mkdir(home)
if os.getuid() == 0:
    os.chown(home, UID, UID)
DROP = ['setpriv', '--reuid', str(UID), '--regid', str(UID), '--clear-groups'] if os.getuid() == 0 else []
TOOLS = dict(os.environ, HOME=f'{top}/tools')
os.mkdir(f'{top}/tools')


def cgibox(*args, timeout=1000, env=None):
    return subprocess.run(DROP + [box, '--state', f'{home}/st', *args], cwd=home, env={'PATH': os.environ['PATH'], 'HOME': home, **(env or {})},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)


def sh(script):
    p = subprocess.run(['sh', '-ec', script], capture_output=True, text=True, env=TOOLS, cwd=top)
    subprocess.run(['chmod', '-R', 'a+rX', top])
    return p


def sha(b):
    return hashlib.sha256(b).hexdigest()


def tar(entries):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode='w', format=tarfile.PAX_FORMAT) as t:
        for name, kind, data, mode in entries:
            i = tarfile.TarInfo(name)
            i.mode, i.mtime = mode, 1700000000
            if kind in 'dlh':
                i.type, i.linkname = {'d': tarfile.DIRTYPE, 'l': tarfile.SYMTYPE, 'h': tarfile.LNKTYPE}[kind], data or ''
            else:
                i.size = len(data)
            t.addfile(i, io.BytesIO(data) if kind == 'f' else None)
    return b.getvalue()


def layout(name, layers, pack=lambda b: gzip.compress(b, 1, mtime=0), kind='tar+gzip', index=None, **config):
    """An OCI layout; index(descriptor, blob) makes the index's entries out of the only manifest's descriptor."""
    d = f'{top}/{name}'
    os.makedirs(f'{d}/blobs/sha256')

    def blob(data, media):
        with open(f'{d}/blobs/sha256/{sha(data)}', 'wb') as f:
            f.write(data)
        return {'mediaType': 'application/vnd.oci.image.' + media, 'digest': 'sha256:' + sha(data), 'size': len(data)}
    c = json.dumps({'architecture': 'amd64', 'os': 'linux', 'config': config,
                    'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + sha(x) for x in layers]}}).encode()
    m = {'schemaVersion': 2, 'config': blob(c, 'config.v1+json'), 'layers': [blob(pack(x), 'layer.v1.' + kind) for x in layers]}
    one = blob(json.dumps(m).encode(), 'manifest.v1+json')
    with open(f'{d}/index.json', 'w') as f:
        json.dump({'schemaVersion': 2, 'manifests': index(one, blob) if index else [one]}, f)
    with open(f'{d}/oci-layout', 'w') as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')
    subprocess.run(['chmod', '-R', 'a+rX', d])
    return d


def check(what, source, want, command=None, args=()):
    """Imports, verifies, runs (its entrypoint and cmd when command is None), compares the output."""
    name = 't/' + what.split(':')[0].split(',')[0].replace(' ', '-').lower()
    r = cgibox('image', '--quiet', 'import', name, source)
    if r.returncode:
        return ok(False, what, r.stderr)
    v = cgibox('image', 'verify', name)
    p = cgibox('run', '--image', name, *args, *(() if command is None else ('--', *command)))
    return ok(v.returncode == 0 and p.returncode == 0 and p.stdout == want, what, v.stdout, p.returncode, p.stdout, p.stderr)


C = r'''
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int n, char **v) { char d[999]; printf("%s %s %s %d\n", n > 1 ? v[1] : "-", getcwd(d, 999), getenv("A") ? getenv("A") : "-", (int)getuid()); return 0; }
'''
HAVE = {x: bool(shutil.which(x)) for x in ('busybox', 'musl-gcc', 'mmdebstrap', 'umoci', 'skopeo', 'zstd', 'buildah', 'docker-registry')}
DIRS = [(x, 'd', None, 0o755) for x in ('bin', 'etc', 'proc', 'dev', 'sys', 'usr', 'usr/bin', 'lib', 'var', 'home', 'root')] + \
    [('tmp', 'd', None, 0o1777)]
STATIC = SHELL = None
if HAVE['musl-gcc']:
    with open(f'{top}/t.c', 'w') as f:
        f.write(C)
    if subprocess.run(['musl-gcc', '-static', '-s', '-o', f'{top}/t', f'{top}/t.c']).returncode == 0:
        STATIC = open(f'{top}/t', 'rb').read()
if HAVE['busybox']:
    SHELL = DIRS + [('bin/busybox', 'f', open(shutil.which('busybox'), 'rb').read(), 0o755)] + \
        [(f'bin/{x}', 'l', 'busybox', 0o777) for x in ('sh', 'cat', 'ls', 'true', 'echo', 'test', 'id', 'stat')]


def shaped():
    base = tar(SHELL)
    say = ['/bin/sh', '-c']

    check('busybox: a root file system', write('bb.tar', base), 'hi\n', ['/bin/echo', 'hi'])
    check('a root file system in a directory', unpacked('bbdir', base), 'hi\n', ['/bin/sh', '-c', 'echo hi'])
    check('entrypoint and cmd', layout('ep', [base], Entrypoint=['/bin/echo', 'a b'], Cmd=['c\nd', '$HOME']), 'a b c\nd $HOME\n')
    check('cmd alone, uncompressed layers', layout('cm', [base], pack=lambda b: b, kind='tar', Cmd=say + ['echo $0 $X; pwd'],
                                                  Env=['PATH=/bin', 'X=y=z, "q"']), '/bin/sh y=z, "q"\n/\n')
    if HAVE['zstd']:
        def zstd(b):
            return subprocess.run(['zstd', '-q', '-c'], input=b, capture_output=True).stdout
        check('zstd layers', layout('zs', [base], pack=zstd, kind='tar+zstd', Cmd=['/bin/echo', 'z']), 'z\n')
    else:
        skip('zstd layers', 'zstd')
    many = [base] + [tar([(f'etc/n{i}', 'f', b'%d\n' % i, 0o644), ('etc/last', 'f', b'%d\n' % i, 0o644)]) for i in range(60)]
    check('sixty-one layers', layout('many', many, Cmd=say + ['ls /etc | wc -l; cat /etc/last /etc/n0 /etc/n59']), '61\n59\n0\n59\n',
          ['/bin/busybox', 'sh', '-c', 'ls /etc | /bin/busybox wc -l; cat /etc/last /etc/n0 /etc/n59'])
    w = [base, tar([('etc/a', 'f', b'a', 0o644), ('etc/d/x', 'f', b'x', 0o644)]), tar([('etc/.wh.a', 'f', b'', 0o644), ('etc/.wh.d', 'f', b'', 0o644)]),
         tar([('etc/b', 'f', b'b', 0o644)])]
    check('whiteouts across layers', layout('wh', w, Cmd=['/bin/ls', '/etc']), 'b\n')
    check('a file made again above its whiteout', layout('wh2', w + [tar([('etc/a', 'f', b'new', 0o644)])], Cmd=say + ['ls /etc; cat /etc/a']),
          'a\nb\nnew')
    check('opaque directory', layout('opq', [base, tar([('etc/d/x', 'f', b'x', 0o644), ('etc/d/y', 'f', b'y', 0o644)]),
                                             tar([('etc/d', 'd', None, 0o755), ('etc/d/.wh..wh..opq', 'f', b'', 0o644), ('etc/d/z', 'f', b'z', 0o644)])],
                                     Cmd=['/bin/ls', '/etc/d']), 'z\n')
    check('hard links inside a layer, one replaced above', layout('hl', [
        tar(SHELL + [('etc/a', 'f', b'one\n', 0o644), ('etc/b', 'h', 'etc/a', 0o644)]), tar([('etc/a', 'f', b'two\n', 0o644)])],
        Cmd=['/bin/cat', '/etc/a', '/etc/b']), 'two\none\n')
    check('User by name', layout('user', [tar(SHELL + [('etc/passwd', 'f', b'root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/home:/bin/sh\n', 0o644),
                                                        ('etc/group', 'f', b'root:x:0:\napp:x:1235:\n', 0o644)])],
                                  User='app', Cmd=say + ['echo $(/bin/busybox id -u) $(/bin/busybox id -g)']), '1234 1235\n')
    check('WorkingDir with a blank', layout('wd', [tar(SHELL + [('srv/my app', 'd', None, 0o755)])], WorkingDir='/srv/my app', Cmd=say + ['pwd']), '/srv/my app\n')
    merged = tar([('usr', 'd', None, 0o755), ('usr/bin', 'd', None, 0o755), ('bin', 'l', 'usr/bin', 0o777)] +
                 [(n.replace('bin/', 'usr/bin/', 1), k, d, m) for n, k, d, m in SHELL if n.startswith('bin/')] +
                 [x for x in SHELL if x[1] == 'd' and x[0] not in ('bin', 'usr', 'usr/bin')])
    check('merged usr, a layer that writes bin/x', layout('mu', [merged, tar([('bin/x', 'f', b'#!/bin/sh\necho x\n', 0o755)])], Cmd=['/usr/bin/x']), 'x\n')
    odd = tar(SHELL + [('etc/\xe4 \n\\', 'f', b'o', 0o644), ('etc/locked', 'd', None, 0o500), ('etc/locked/in', 'f', b'in\n', 0o400),
                       ('etc/none', 'f', b'none\n', 0o000)])
    check('odd names and modes', layout('odd', [odd], Cmd=say + ['cat /etc/?*\\\\ /etc/locked/in; stat -c %a /etc/none /etc/locked']), 'oin\n0\n500\n')

    def several(one, blob):
        other = blob(b'{"schemaVersion":2}', 'manifest.v1+json')
        return [dict(other, platform={'os': 'linux', 'architecture': 's390x'}), dict(one, platform={'os': 'linux', 'architecture': machine()}),
                dict(other, platform={'os': 'windows', 'architecture': machine()}), dict(other, platform={'os': 'unknown', 'architecture': 'unknown'})]
    check('an index for several machines', layout('arch', [base], index=several, Cmd=['/bin/echo', 'mine']), 'mine\n')


def machine():
    return {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(os.uname().machine, os.uname().machine)


def write(name, data):
    with open(f'{top}/{name}', 'wb') as f:
        f.write(data)
    os.chmod(f'{top}/{name}', 0o644)
    return f'{top}/{name}'


def unpacked(name, data):
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        t.extractall(f'{top}/{name}')
    return f'{top}/{name}'


def static():
    musl = tar(DIRS + [('etc/alpine-release', 'f', b'3.20.0\n', 0o644), ('etc/os-release', 'f', b'ID=alpine\n', 0o644), ('bin/t', 'f', STATIC, 0o755)])
    check('an Alpine-like tree with musl', layout('musl', [musl], Env=['A=b c'], Cmd=['/bin/t', 'x']), 'x / b c 0\n')
    less = tar([('app/t', 'f', STATIC, 0o755), ('etc/passwd', 'f', b'nonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n', 0o644),
                ('tmp', 'd', None, 0o1777)])
    check('distroless: no shell, nonroot, an entrypoint', layout('less', [less], User='65532:65532', WorkingDir='/app', Entrypoint=['/app/t'], Cmd=['go']),
          'go /app - 65532\n')
    check('scratch: one file', layout('scratch', [tar([('t', 'f', STATIC, 0o755)])], Entrypoint=['/t']), '- / - 0\n')


def tools():
    r = sh(f'''umoci init --layout u; umoci new --image u:t; umoci unpack --rootless --image u:t ub
        mkdir -p ub/rootfs/bin ub/rootfs/proc ub/rootfs/dev ub/rootfs/tmp; cp $(command -v busybox) ub/rootfs/bin/busybox; ln -s busybox ub/rootfs/bin/sh
        echo one > ub/rootfs/f; umoci repack --image u:t ub; rm -rf ub; umoci unpack --rootless --image u:t ub
        rm ub/rootfs/f; echo two > ub/rootfs/g; umoci repack --image u:t ub
        umoci config --image u:t --config.cmd /bin/sh --config.cmd -c --config.cmd 'echo *' --config.env PATH=/bin
        skopeo --insecure-policy copy oci:u:t docker-archive:u.tar:n:t
        skopeo --insecure-policy copy --format v2s2 oci:u:t dir:udir''')
    if not ok(r.returncode == 0, 'umoci and skopeo made images', r.stderr):
        return
    want = 'bin dev g proc tmp\n'
    check('umoci: two layers, one whiteout', f'{top}/u', want)
    check('skopeo: docker save', f'{top}/u.tar', want)


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def buildah():
    """from scratch, copy, commit, a second layer that deletes; pushed as OCI layout, docker save, and to a registry (gzip, zstd)."""
    host, debug = (f'127.0.0.1:{free_port()}' for _ in range(2))
    with open(f'{top}/reg.yml', 'w') as f:
        f.write(f'version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {top}/reg}}}}\n'
                f'http: {{addr: "{host}", debug: {{addr: "{debug}"}}}}\n')
    reg = subprocess.Popen(['docker-registry', 'serve', f'{top}/reg.yml'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        r = sh(f"""b="buildah --root {top}/bl/root --runroot {top}/bl/run --storage-driver vfs"
            mkdir -p bl/bin; cp $(command -v busybox) bl/bin/busybox; ln -s busybox bl/bin/sh; echo one > bl/f; echo two > bl/g
            c=$($b from scratch); $b copy -q $c bl/bin /bin; $b copy -q $c bl/f /f
            $b config --cmd '["/bin/sh","-c","echo * $A"]' --env PATH=/bin --env A=b --label a=b $c; $b commit -q $c first
            c=$($b from first); $b copy -q $c bl/g /g; m=$($b mount $c); rm $m/f; $b umount $c; $b commit -q $c second
            for try in 1 2 3 4 5 6 7 8 9; do curl -fs http://{host}/v2/ && break; sleep 0.2; done
            $b push -q second oci:{top}/bl/oci:t; $b push -q --format v2s2 second docker-archive:{top}/bl/saved.tar:n:t
            $b push -q --tls-verify=false second docker://{host}/b/gz:t
            $b push -q --tls-verify=false --compression-format zstd second docker://{host}/b/zstd:t; $b rm -a; $b rmi -a""")
        if not ok(r.returncode == 0, 'buildah made an image', r.stderr):
            return
        want = 'bin dev g proc b\n'
        check('buildah: an OCI layout', f'{top}/bl/oci', want)
        check('buildah as docker save', f'{top}/bl/saved.tar', want)
        for tag in 'gz', 'zstd':
            r = cgibox('image', '--quiet', 'pull', f'{host}/b/{tag}:t', env={'CGIBOX_INSECURE_REGISTRIES': host})
            p = cgibox('run', '--image', f'{host}/b/{tag}:t')
            ok(r.returncode == 0 and p.stdout == want, f'buildah: pushed to a registry with {tag}, pulled', r.stderr, p.stdout, p.stderr)
    finally:
        reg.kill()
        reg.wait()


def debian():
    r = sh('''mmdebstrap --quiet --variant=essential --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \\
        --dpkgopt='path-exclude=/usr/share/locale/*' bookworm deb.tar''')
    if not ok(r.returncode == 0, 'mmdebstrap made a Debian', r.stderr):
        return
    check('debian: by mmdebstrap', f'{top}/deb.tar', '/usr/bin\n12\n', ['/bin/sh', '-c', 'readlink -f /bin; cut -d. -f1 /etc/debian_version'])
    check('debian: exported and imported again', exported('t/debian'), 'ok\n', ['/bin/bash', '-c', 'dpkg -s bash >/dev/null && echo ok'])


def exported(name):
    r = cgibox('image', 'export', name, f'{home}/x.tar')
    ok(r.returncode == 0, 'export of it', r.stderr)
    return f'{home}/x.tar'


try:
    for what, need, fn in (('busybox and layers of all kinds', SHELL, shaped), ('static programs', STATIC, static),
                           ('umoci and skopeo', SHELL and HAVE['umoci'] and HAVE['skopeo'], tools),
                           ('buildah', SHELL and HAVE['buildah'] and HAVE['docker-registry'] and os.getuid() == 0, buildah), ('Debian', HAVE['mmdebstrap'], debian)):
        if need:
            fn()
        else:
            skip(what, 'busybox-static, musl-tools, umoci, skopeo, buildah (root) or mmdebstrap')
finally:
    subprocess.run(['chmod', '-R', 'u+rwx', top])
    shutil.rmtree(top, ignore_errors=True)
print(f'1..{count}')
sys.exit(failed != 0)
