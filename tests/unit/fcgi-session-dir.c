/* Sessions on disk, environments, messages with descriptors. */
#include "fcgi/session_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/env_merge.h"
#include "isolate/fdmsg.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

static void test_ids(void)
{
	static const char *const bad[] = {"", "x", "00000000-0000-4000-8000-00000000000",
		"00000000-0000-4000-8000-0000000000000", "00000000-0000-1000-8000-000000000000",
		"00000000-0000-4000-c000-000000000000", "0000000G-0000-4000-8000-000000000000",
		"ABCDEF00-0000-4000-8000-000000000000", "../..../../..-4...-8...-............"};
	char a[SESSION_ID_LEN + 1], b[SESSION_ID_LEN + 1];
	struct err e;

	ok(session_id_make(a, &e) == 0 && session_id_make(b, &e) == 0, "ids are made");
	ok(session_id_valid(a) && session_id_valid(b) && strcmp(a, b), "valid and different");
	for (size_t i = 0; i < NELEM(bad); i++)
		ok(!session_id_valid(bad[i]), "\"%s\" is no id", bad[i]);
}

static bool count_one(void *arg, const char *id, time_t used)
{
	ok(session_id_valid(id) && used > 0, "a session and its last use");
	++*(int *)arg;
	return true;
}

static void test_life(struct session_dirs *d)
{
	char l0[] = "/lower/a", l1[] = "/lower/b", bind[] = "/usr", id[SESSION_ID_LEN + 1];
	char *lowers[] = {l0, l1}, *binds[] = {bind};
	struct image im = {.id = "host",
		.lowers = lowers,
		.nlowers = 2,
		.host_binds = binds,
		.nhost_binds = 1};
	struct keeper_request rq = {.ephemeral = 1, .memory_bytes = 1LL << 40, .cpus = 0.201};
	struct ws_layout lay = {.form = WS_EMPTY}, back;
	struct session_record r;
	struct err e = {0};
	OWN_FD ws = -1, tmp = -1;
	struct stat st;
	int n = 0;

	session_id_make(id, &e);
	ws = session_dir_prepare(d, id, &im, &rq, "A=1", 4, "/home/u", &e);
	ok(ws >= 0, "prepared");
	ok(!session_dir_exists(d, id), "and not there yet");
	ok(session_dir_commit(d, id, &lay, &e) == 0 && session_dir_exists(d, id), "committed");
	ok(session_dir_load(d, id, &r, &back, &e) == 0, "loaded");
	ok(r.nlowers == 2 && !strcmp(r.lowers[0], l0) && !strcmp(r.lowers[1], l1),
		"lowers in order");
	ok(r.nbinds == 1 && !strcmp(r.binds[0], bind), "binds");
	ok(r.ephemeral && !r.extract_patch && !r.network, "flags");
	ok(r.memory_bytes == 1ULL << 40 && r.cpu_percent == 21, "limits; cpus rounded up");
	session_record_clear(&r);
	tmp = session_dir_open(d, id, "root/upper/tmp", O_RDONLY | O_DIRECTORY);
	ok(tmp >= 0 && fstat(tmp, &st) == 0 && (st.st_mode & 07777) == 01777, "/tmp is for all");
	ok(session_dir_each(d, count_one, &n) == 1 && n == 1, "counted");
	ok(session_dir_discard(d, id, &e) == 0 && !session_dir_exists(d, id), "discarded");
	ok(faccessat(d->trash, id, F_OK, 0) == 0, "into the trash");
	ok(session_dir_discard(d, id, &e) == 0, "twice is no error");
	ok(session_dir_load(d, id, &r, &back, &e) < 0 && e.kind == ERR_NOTFOUND, "nor found again");
}

static void test_crash(struct session_dirs *d)
{
	struct image im = {.id = "host"};
	struct keeper_request rq = {0};
	char id[SESSION_ID_LEN + 1], name[SESSION_ID_LEN + 8], low[] = "/l", *lowers[] = {low};
	struct session_record r;
	struct ws_layout lay = {.form = WS_EMPTY};
	struct err e = {0};
	OWN_FD ws = -1, rec = -1;

	im.lowers = lowers;
	im.nlowers = 1;
	session_id_make(id, &e);
	ws = session_dir_prepare(d, id, &im, &rq, "", 0, "/h", &e);
	snprintf(name, sizeof name, ".new-%s", id);
	ok(ws >= 0 && session_dirs_sweep(d, &e) == 0 && faccessat(d->sessions, name, F_OK, 0) < 0,
		"an unfinished session is swept");
	own_close(&ws);
	session_id_make(id, &e);
	ws = session_dir_prepare(d, id, &im, &rq, "", 0, "/h", &e);
	ok(ws >= 0 && session_dir_commit(d, id, &lay, &e) == 0, "another");
	rec = session_dir_open(d, id, "spec", O_WRONLY);
	ok(ftruncate(rec, 12) == 0 && session_dir_load(d, id, &r, &lay, &e) < 0 &&
			e.kind == ERR_SETUP,
		"a record cut short is not taken for a whole one");
}

static void test_env(void)
{
	OWN_BUF b = BUF_INIT(100);
	struct err e;

	ok(env_put(&b, "A=1", &e) == 0 && env_put(&b, "AB=2", &e) == 0 &&
			env_put(&b, "A=3", &e) == 0,
		"variables");
	ok(b.len == 9 && !memcmp(b.p, "AB=2\0A=3", 9), "the later one wins, prefixes are no match");
	ok(env_put(&b, "=x", &e) < 0 && e.kind == ERR_REQUEST, "no name");
	ok(env_put(&b, "1A=x", &e) < 0 && env_put(&b, "A-B=x", &e) < 0 && env_put(&b, "A", &e) < 0,
		"bad names");
	ok(env_put_block(&b, "X=1\0Y=2", 8, &e) == 0 && b.len == 17, "a block");
	ok(env_put_block(&b, "X=1", 3, &e) < 0, "a block without an end");
	ok(env_put(&b,
		   "L=01234567890123456789012345678901234567890123456789012345678901234567890123"
		   "456789",
		   &e) == 0 &&
			b.len == 100,
		"up to the bound");
	ok(env_put(&b, "Z=", &e) < 0 && e.kind == ERR_LIMIT, "and not beyond");
}

static void test_messages(void)
{
	int s[2], in[3], fds[2] = {0, 1};
	unsigned n = 9;
	char out[8];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) < 0) {
		ok(false, "socketpair");
		return;
	}
	ok(fdmsg_send(s[0], "12345678", 8, fds, 2, 0) == 0, "sent");
	ok(fdmsg_receive(s[1], out, 8, in, 2, &n, 0) == 1 && n == 2 && !memcmp(out, "12345678", 8),
		"received with two descriptors");
	ok(fcntl(in[0], F_GETFD) == FD_CLOEXEC, "close-on-exec");
	close(in[0]);
	close(in[1]);
	fdmsg_send(s[0], "12345678", 8, fds, 2, 0);
	ok(fdmsg_receive(s[1], out, 8, in, 1, &n, 0) == -1 && errno == EBADMSG && n == 0,
		"too many descriptors");
	ok(fcntl(in[0], F_GETFD) < 0 && errno == EBADF, "are closed");
	fdmsg_send(s[0], "1234567", 7, NULL, 0, 0);
	ok(fdmsg_receive(s[1], out, 8, in, 1, &n, 0) == -1 && errno == EBADMSG, "too short");
	fdmsg_send(s[0], "123456789", 9, NULL, 0, 0);
	ok(fdmsg_receive(s[1], out, 8, in, 1, &n, 0) == -1 && errno == EBADMSG, "too long");
	close(s[0]);
	ok(fdmsg_receive(s[1], out, 8, in, 1, &n, 0) == 0, "the end");
	close(s[1]);
}

static int flags_of(int fd)
{
	int flags;

	return ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 ? 0 : flags;
}

/* As far as the file system under it does that at all, which a directory of ours says. */
static void test_spread(const struct session_dirs *d)
{
	OWN_FD control = -1;
	int flags, wanted;

	ok(mkdirat(d->state, "control", 0700) == 0 &&
			(control = openat(d->state, "control", O_RDONLY | O_DIRECTORY)) >= 0,
		"a directory");
	flags = flags_of(control) | FS_TOPDIR_FL;
	wanted = ioctl(control, FS_IOC_SETFLAGS, &flags) < 0 ? 0 : FS_TOPDIR_FL;
	ok((flags_of(d->sessions) & FS_TOPDIR_FL) == wanted,
		"sessions are spread over the disk where that can be asked for");
	ok(unlinkat(d->state, "control", AT_REMOVEDIR) == 0, "removed");
}

int main(void)
{
	char dir[] = "/tmp/cgibox-test-XXXXXX";
	struct session_dirs d;
	struct err e = {0};

	test_ids();
	test_env();
	test_messages();
	if (!ok(mkdtemp(dir) && session_dirs_open(&d, dir, &e) == 0, "a state directory"))
		return done();
	test_spread(&d);
	test_life(&d);
	test_crash(&d);
	session_dirs_close(&d);
	return done();
}
