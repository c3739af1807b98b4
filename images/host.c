/*
 * The built-in image "host": the machine's own /usr, bound read-only, over a skeleton of /etc and
 * mount points. A skeleton is never changed once it is in place, because sandboxes have it as a
 * lower layer; when the machine's configuration changes a new one is made beside it. Its name is
 * a digest of what it was made from.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/copy.h"
#include "images/layout.h"
#include "images/rmtree.h"
#include "isolate/own.h"

#define SKELETON_VERSION "1"

/* Changes when packages are installed, alternatives or certificates switched, DNS changed. */
static const char *const watched[] = {"/etc", "/etc/ld.so.cache", "/etc/alternatives",
	"/etc/ssl/certs", "/etc/ssl/certs/ca-certificates.crt", "/etc/resolv.conf", "/bin",
	"/lib64"};

/* Public parts of /etc that programs below /usr ask for; nothing that may hold a secret. */
static const char *const copied[] = {"alternatives", "bash.bashrc", "ca-certificates",
	"crypto-policies", "debian_version", "fonts", "host.conf", "inputrc", "java-*", "ld-musl-*",
	"ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "magic", "magic.mime", "maven",
	"mime.types", "os-release", "perl", "protocols", "python3*", "redhat-release", "rpc",
	"services", "terminfo", "timezone"};

static const struct {
	const char *parent, *name;
} copied_below[] = {{"ssl", "certs"}, {"ssl", "openssl.cnf"}, {"pki", "tls"}, {"pki", "ca-trust"},
	{"pki", "java"}};

static const struct {
	const char *path;
	mode_t mode;
} directories[] = {{"etc", 0755}, {"etc/ssl", 0755}, {"etc/pki", 0755}, {"usr", 0755},
	{"proc", 0755}, {"sys", 0755}, {"dev", 0755}, {"tmp", 01777}, {"run", 0755}, {"var", 0755},
	{"var/tmp", 01777}, {"var/lib", 0755}, {"var/cache", 0755}, {"var/log", 0755},
	{"home", 0755}, {"home/daiv-sandbox", 0755}, {"root", 0700}, {"repo", 0755},
	{"workdir", 0755}, {"workspace", 0755}, {"opt", 0755}, {"mnt", 0755}, {"srv", 0755}};

static const struct {
	const char *path, *text;
} files[] = {
	{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
		       "daiv-sandbox:x:1000:1000:sandbox user:/home/daiv-sandbox:/bin/sh\n"
		       "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
	{"etc/group", "root:x:0:\ntty:x:5:\ndaiv-sandbox:x:1000:\nnogroup:x:65534:\n"},
	{"etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
	{"etc/hostname", "sandbox\n"},
	{"etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
			      "services: files\nprotocols: files\nnetworks: files\n"},
	{"etc/shells", "/bin/sh\n/bin/bash\n"},
};

/* Links into /usr on merged machines, directories of their own on others. */
static const char *const roots[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
	for (const unsigned char *b = p; n--; b++)
		h = (h ^ *b) * 0x100000001b3u;
	return h;
}

/* Digest of the state of the watched files; nobody hostile has a say in it. */
static uint64_t skeleton_key(void)
{
	uint64_t h = mix(0xcbf29ce484222325u, SKELETON_VERSION, sizeof SKELETON_VERSION);
	struct stat st;

	for (size_t i = 0; i < NELEM(watched); i++) {
		int64_t v[5] = {0};

		if (stat(watched[i], &st) == 0) {
			v[0] = (int64_t)st.st_ino;
			v[1] = S_ISDIR(st.st_mode) ? 0 : (int64_t)st.st_size;
			v[2] = st.st_mtim.tv_sec;
			v[3] = st.st_mtim.tv_nsec;
			v[4] = st.st_mode;
		}
		h = mix(h, v, sizeof v);
	}
	return h;
}

static int write_text(int dir, const char *path, const char *text, struct err *e)
{
	OWN_FD fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	ssize_t n = (ssize_t)strlen(text);

	if (fd < 0 || write(fd, text, (size_t)n) != n || fchmod(fd, 0644) < 0)
		return err_set(e, ERR_SETUP, errno, "write \"%s\"", path);
	return 0;
}

static int make_fixed(int dir, struct err *e)
{
	for (size_t i = 0; i < NELEM(directories); i++) {
		const char *path = directories[i].path;

		if (mkdirat(dir, path, 0700) < 0 || fchmodat(dir, path, directories[i].mode, 0) < 0)
			return err_set(e, ERR_SETUP, errno, "make directory \"%s\"", path);
	}
	for (size_t i = 0; i < NELEM(files); i++)
		if (write_text(dir, files[i].path, files[i].text, e) < 0)
			return -1;
	if (symlinkat("../run", dir, "var/run") < 0 ||
		symlinkat("/proc/self/mounts", dir, "etc/mtab") < 0)
		return err_set(e, ERR_SETUP, errno, "make links");
	return 0;
}

/* /bin and friends: the machine's own link, or an empty directory to bind the real one on. */
static int make_roots(int dir, struct err *e)
{
	char path[16], target[PATH_MAX];
	struct stat st;
	ssize_t n;
	int r = 0;

	for (size_t i = 0; i < NELEM(roots) && r == 0; i++) {
		snprintf(path, sizeof path, "/%s", roots[i]);
		if (lstat(path, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode)) {
			r = mkdirat(dir, roots[i], 0755);
			continue;
		}
		n = readlink(path, target, sizeof target - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		r = symlinkat(target, dir, roots[i]);
	}
	return r < 0 ? err_set(e, ERR_SETUP, errno, "make the links of the skeleton") : 0;
}

static bool is_copied(const char *name)
{
	for (size_t i = 0; i < NELEM(copied); i++)
		if (fnmatch(copied[i], name, FNM_PERIOD) == 0)
			return true;
	return false;
}

/* Often a link to a file below /run that the sandbox does not have: its contents are taken. */
static int copy_resolv_conf(int to, struct err *e)
{
	OWN_FD in = open("/etc/resolv.conf", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char text[8192];
	ssize_t n = in < 0 ? 0 : read(in, text, sizeof text - 1);

	text[n > 0 ? n : 0] = '\0';
	return write_text(to, "resolv.conf", text, e);
}

static int copy_etc(int dir, struct err *e)
{
	OWN_DIR d = opendir("/etc");
	OWN_FD to = openat(dir, "etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *ent;

	if (!d || to < 0)
		return err_set(e, ERR_SETUP, errno, "open /etc");
	while ((ent = readdir(d)))
		if (is_copied(ent->d_name) && copy_public(dirfd(d), ent->d_name, to, e) < 0)
			return -1;
	for (size_t i = 0; i < NELEM(copied_below); i++) {
		const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
		OWN_FD from = openat(dirfd(d), copied_below[i].parent, flags);
		OWN_FD sub = openat(to, copied_below[i].parent, flags);

		if (from >= 0 && sub >= 0 && copy_public(from, copied_below[i].name, sub, e) < 0)
			return -1;
	}
	return copy_resolv_conf(to, e);
}

/* Makes the skeleton under a name of our own and renames it; losing a race is success. */
static int make_skeleton(const struct store *s, const char *name, struct err *e)
{
	OWN_FD lock = layout_lock(s, LOCK_SH, false, e), dir = -1;
	char tmp[128];
	int ret = -1;

	if (lock < 0)
		return -1;
	layout_tmp_name(tmp, sizeof tmp, "host");
	if (mkdirat(s->dir, tmp, 0755) < 0)
		return err_set(e, ERR_SETUP, errno, "make \"%s\"", tmp);
	dir = openat(s->dir, tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fchmod(dir, 0755) < 0)
		err_set(e, ERR_SETUP, errno, "open \"%s\"", tmp);
	else if (make_fixed(dir, e) == 0 && make_roots(dir, e) == 0 && copy_etc(dir, e) == 0)
		ret = 0;
	/* An empty file would be worse than none after a power cut: the name says it is whole. */
	if (ret == 0 && syncfs(dir) < 0)
		ret = err_set(e, ERR_SETUP, errno, "sync the image store");
	if (ret == 0 && renameat(s->dir, tmp, s->dir, name) == 0)
		return 0;
	if (ret == 0 && errno != EEXIST && errno != ENOTEMPTY)
		ret = err_set(e, ERR_SETUP, errno, "rename \"%s\"", name);
	rmtree_at(s->dir, tmp, NULL);
	return ret;
}

static int list_binds(struct image *out, struct err *e)
{
	char path[16];
	struct stat st;

	if (layout_push(&out->host_binds, &out->nhost_binds, "/usr", e) < 0)
		return -1;
	for (size_t i = 0; i < NELEM(roots); i++) {
		snprintf(path, sizeof path, "/%s", roots[i]);
		if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
			layout_push(&out->host_binds, &out->nhost_binds, path, e) < 0)
			return -1;
	}
	return 0;
}

void host_name(char out[64])
{
	snprintf(out, 64, "host/%016llx", (unsigned long long)skeleton_key());
}

int host_resolve(const struct store *s, struct image *out, struct err *e)
{
	static const char env[] =
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	char name[64], path[PATH_MAX];

	host_name(name);
	if (faccessat(s->dir, name, F_OK, 0) < 0 && make_skeleton(s, name, e) < 0)
		return err_in(e, "prepare the image \"host\"");
	if (snprintf(path, sizeof path, "%s/%s", s->path, name) >= (int)sizeof path)
		return err_set(e, ERR_SETUP, ENAMETOOLONG, "image \"host\"");
	if (layout_pin(s, name, out, e) < 0)
		return err_in(e, "prepare the image \"host\"");
	memcpy(out->id, "host", sizeof "host");
	if (layout_push(&out->lowers, &out->nlowers, path, e) < 0 ||
		layout_push(&out->env, &out->nenv, env, e) < 0)
		return -1;
	return list_binds(out, e);
}
