/* The watchdog's parsers, and one measurement of a process of our own by way of the real procfs. */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "isolate/err.h"
#include "isolate/watch_seen.h"
#include "isolate/watch_sock.h"
#include "isolate/watch_text.h"
#include "tests/unit/tap.h"

static void test_status(void)
{
	/* the kernel escapes newlines in the name; a name may still look like a field */
	static const char text[] =
		"Name:\tRssAnon: 9999999 kB\\nRssAnon:\t1 kB\n"
		"Umask:\t0022\nState:\tS (sleeping)\nVmSize:\t  2000 kB\n"
		"RssAnon:\t     100 kB\nVmPTE:\t      44 kB\nVmSwap:\t       3 kB\n"
		"HugetlbPages:\t       0 kB\nThreads:\t7\nSeccomp:\t2\nSeccomp_filters:\t3\n";
	struct watch_status st;

	ok(watch_text_status(text, sizeof text - 1, &st) && st.state == 'S' && st.anon == 102400 &&
			st.page_tables == 45056 && st.swap == 3072 && st.threads == 7 &&
			st.size == 2048000 && st.filters == 3,
		"a status file");
	ok(!watch_text_status("", 0, &st) && !watch_text_status("Name:\tx\n", 8, &st),
		"no state: no status file");
	ok(watch_text_status("State:\tZ (zombie)\nThreads:\t2\n", 30, &st) && st.state == 'Z' &&
			st.threads == 2 && st.anon == 0,
		"a zombie has no memory");
	ok(watch_text_status("State:\tR\nRssAnon:\t99999999999999999999999 kB\n", 44, &st) &&
			st.anon == UINT64_MAX,
		"a number over 64 bits saturates");
}

static bool map(const char *line, struct watch_map *m)
{
	return watch_text_map(line, strlen(line), m);
}

static void test_maps(void)
{
	struct watch_map m;

	ok(map("7f0000000000-7f0000100000 rw-s 00002000 00:01 4711                 /dev/zero "
	       "(deleted)",
		   &m) &&
			m.start == 0x7f0000000000 && m.end == 0x7f0000100000 &&
			m.offset == 0x2000 && m.major == 0 && m.minor == 1 && m.ino == 4711 &&
			m.shared && !m.sysv,
		"a shared mapping");
	ok(map("10-20 r--p 0 fd:a0 12 /SYSV00000000 (deleted)", &m) && m.sysv && !m.shared &&
			m.major == 0xfd && m.minor == 0xa0,
		"a segment of System V");
	ok(map("10-20 r--p 00000000 00:00 0", &m) && m.ino == 0, "an anonymous mapping");
	ok(!map("20-10 r--p 0 00:00 0", &m) && !map("", &m) && !map("10-20", &m) &&
			!map("10-20 rw", &m) && !map("x", &m) && !map("10-20 rw-s 0 00:01", &m),
		"what is cut short or the wrong way round is no mapping");
}

static void test_space(void)
{
	char a[600] = "12 (a b) c) R", b[600] = "13 (x) S";

	for (int i = 2; i <= 52; i++) {
		snprintf(a + strlen(a), sizeof a - strlen(a), " %d", i * 10);
		snprintf(b + strlen(b), sizeof b - strlen(b), " %d", i * 10);
	}
	ok(watch_text_space(a, strlen(a)) &&
			watch_text_space(a, strlen(a)) == watch_text_space(b, strlen(b)),
		"the same space under two names");
	b[strlen(b) - 30]++;
	ok(watch_text_space(b, strlen(b)) != watch_text_space(a, strlen(a)), "another space");
	ok(watch_text_faults("7 (a) b) S 1 7 7 0 -1 4194560 152 30 0 0", 40) == 182,
		"faults of a process and its children");
	ok(!watch_text_faults("7 (a) S 1 7 7", 13) && !watch_text_faults("", 0), "cut short: none");
	ok(!watch_text_space("1 (x", 4) && !watch_text_space("1 (x) R 1 2", 11) &&
			!watch_text_space("", 0),
		"cut short: none");
}

static bool vforks(const char *text)
{
	return watch_text_vfork(text, strlen(text));
}

static void test_vfork(void)
{
	char text[64];

	snprintf(text, sizeof text, "%d 0x4111 0x0 0x0 0x7ffc 0x7f00\n", SYS_clone);
	ok(vforks(text), "waits for a child that shares its memory");
	snprintf(text, sizeof text, "%d 0x4011 0x0\n", SYS_clone);
	ok(!vforks(text), "waits for one that does not");
	ok(!vforks("running\n") && !vforks("") && !vforks("-1 0x0 0x0\n") &&
			!vforks("0 0x4111 0x0\n"),
		"does something else");
}

static void test_tables(void)
{
	static const char shm[] =
		"       key      shmid perms                  size  cpid  rss   swap\n"
		"         0          1  1600                 65536  4     65536     0\n"
		"         0          2  1600                 65536  4      4096  8192\n";
	uint64_t a, b;

	ok(watch_text_columns(shm, sizeof shm - 1, "rss", "swap", &a, &b) == 2 && a == 69632 &&
			b == 8192,
		"two columns of a table");
	ok(watch_text_columns(shm, sizeof shm - 1, "nsems", NULL, &a, NULL) == 2 && a == 0,
		"a column that is not there");
	ok(watch_text_columns("", 0, "rss", NULL, &a, NULL) == 0 && a == 0, "an empty file");
}

static bool tmpfs(const char *line, char *path, size_t size)
{
	return watch_text_tmpfs(line, strlen(line), path, size);
}

static void test_mounts(void)
{
	char path[32];

	ok(tmpfs("36 35 98:0 / /dev/shm rw,nosuid shared:1 master:2 - tmpfs tmpfs rw", path,
		   sizeof path),
		"a tmpfs");
	is_str(path, "/dev/shm", "its mount point");
	ok(tmpfs("36 35 98:0 / /a\\040b\\012c rw - tmpfs x rw\n", path, sizeof path), "escapes");
	is_str(path, "/a b\nc", "are undone");
	ok(!tmpfs("36 35 98:0 / /mnt rw - ext4 /dev/sda rw", path, sizeof path) &&
			!tmpfs("36 35 98:0 / /tmpfs rw - ext4 tmpfs rw", path, sizeof path) &&
			!tmpfs("36 35 98:0 / /m rw tmpfs", path, sizeof path) &&
			!tmpfs("", path, sizeof path) &&
			!tmpfs("36 35 98:0 / /m rw -", path, sizeof path),
		"others are not");
	ok(!tmpfs("1 2 0:1 / /a-mount-point-longer-than-the-room-for-it rw - tmpfs t rw", path,
		   sizeof path),
		"a mount point without room");
}

static void test_fdinfo(void)
{
	static const char proc[] = "24 20 0:21 / /proc rw - proc proc rw\n",
			  part[] = "25 24 0:21 /sys /proc/sys ro - proc proc rw\n";
	uint64_t id = 0;

	ok(watch_text_mount(proc, sizeof proc - 1, 0, 21, &id) && id == 24, "a mount of a device");
	ok(!watch_text_mount(part, sizeof part - 1, 0, 21, &id), "not the whole of it");
	ok(!watch_text_mount(proc, sizeof proc - 1, 0, 22, &id) &&
			!watch_text_mount("24 20 0:2", 9, 0, 2, &id) &&
			!watch_text_mount("", 0, 0, 0, &id),
		"another device; cut short");
	ok(watch_text_lines("pos:\t0\ntfd: 1\ntfd: 2\n x tfd:\ntf", 31, "tfd:") == 2 &&
			watch_text_lines("", 0, "tfd:") == 0,
		"lines that begin with a word");
}

/* One Unix socket as the kernel would tell of it. */
struct message {
	struct nlmsghdr h;
	struct unix_diag_msg m;
	struct rtattr ma;
	uint32_t memory[SK_MEMINFO_VARS];
	struct rtattr qa;
	uint32_t queue[2];
	struct rtattr pa;
	uint32_t peer;
};

static struct message message(int type, uint32_t sent, uint32_t queued, uint32_t peer)
{
	struct message x = {.h = {.nlmsg_len = sizeof x, .nlmsg_type = SOCK_DIAG_BY_FAMILY},
		.m = {.udiag_family = AF_UNIX, .udiag_type = (uint8_t)type, .udiag_state = 1},
		.ma = {RTA_LENGTH(sizeof x.memory), UNIX_DIAG_MEMINFO},
		.qa = {RTA_LENGTH(sizeof x.queue), UNIX_DIAG_RQLEN},
		.queue = {queued, 0},
		.pa = {RTA_LENGTH(sizeof x.peer), UNIX_DIAG_PEER},
		.peer = peer};

	x.memory[SK_MEMINFO_WMEM_ALLOC] = sent;
	return x;
}

static uint64_t bytes_of(struct message x)
{
	struct watch_sockets s = {0};

	return watch_sock_parse(&x, sizeof x, AF_UNIX, &s) == 0 && s.count == 1 ? s.bytes : 0;
}

static void test_sockets(void)
{
	struct message x = message(SOCK_STREAM, 5000, 0, 7);
	struct nlmsghdr end = {.nlmsg_len = sizeof end, .nlmsg_type = NLMSG_DONE};
	struct watch_sockets s = {0};

	ok(bytes_of(x) == 5000 + WATCH_SOCK_COST, "what a socket has sent");
	ok(bytes_of(message(SOCK_STREAM, 0, 100, 7)) == WATCH_SOCK_COST,
		"what waits for it is its peer's account");
	ok(bytes_of(message(SOCK_STREAM, 0, 100, 0)) == WATCH_SOCK_COST + 100 * WATCH_SKB_COST,
		"a peer that is gone has none: estimated from above");
	ok(bytes_of(message(SOCK_STREAM, 0, 100000, 0)) == WATCH_SOCK_COST + WATCH_SNDBUF,
		"up to what a sender may leave");
	ok(bytes_of(message(SOCK_DGRAM, 0, 1, 0)) ==
			WATCH_SOCK_COST + (uint64_t)WATCH_SNDBUF * WATCH_DGRAM_QUEUE,
		"a queue of datagrams");
	ok(watch_sock_parse(&end, sizeof end, AF_UNIX, &s) == 1 && s.count == 0,
		"the end of a dump");
	for (size_t n = 0; n < sizeof x; n++)
		if (watch_sock_parse(&x, n, AF_UNIX, &s) != -1)
			ok(false, "%zu bytes of a message", n);
	ok(s.count == 0, "a message cut short is refused");
	x.ma.rta_len = 0xffff;
	ok(bytes_of(x) == WATCH_SOCK_COST, "an attribute longer than its message is not read");
	x.h.nlmsg_type = NLMSG_ERROR;
	*(int *)(void *)&x.m = -ENOENT;
	errno = 0;
	ok(watch_sock_parse(&x, sizeof x, AF_UNIX, &s) == -1 && errno == ENOENT,
		"the kernel's error");
}

static void test_seen(void)
{
	struct watch_seen s = {.v = NULL};
	bool fresh, all = true;

	for (uint64_t i = 1; i <= 10000; i++)
		all &= watch_seen_add(&s, 1, i * 4096, &fresh) && fresh;
	ok(all, "10000 objects");
	for (uint64_t i = 1; i <= 10000; i++)
		all &= watch_seen_add(&s, 1, i * 4096, &fresh) && !fresh;
	ok(all && s.n == 10000, "are known again");
	ok(watch_seen_add(&s, 2, 4096, &fresh) && fresh, "another device, another object");
	watch_seen_reset(&s);
	ok(watch_seen_add(&s, 2, 4096, &fresh) && fresh && s.n == 1, "all are forgotten");
	watch_seen_free(&s);
}

int main(void)
{
	test_status();
	test_maps();
	test_space();
	test_vfork();
	test_tables();
	test_mounts();
	test_fdinfo();
	test_sockets();
	test_seen();
	return done();
}
