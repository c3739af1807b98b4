/*
 * Takes MIB of something that no limit on one process sees, in the way that MODE names, holds it
 * for HOLD seconds and exits 0. Says "over NS" (CLOCK_MONOTONIC) when LIMIT MiB are taken, and "took N"
 * at the end. Inside a sandbox only; bounded by its arguments.
 *
 *	sum MODE MIB LIMIT HOLD
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/attacks/sum.h"

struct shared {
	atomic_long bytes;
	atomic_bool told;
};

static struct shared *all;
static long limit;
long want, hold;
static char block[MIB];

void fail(const char *what)
{
	printf("failed: %s: %s after %ld MiB\n", what, strerror(errno),
		atomic_load(&all->bytes) / MIB);
	fflush(stdout);
	_exit(9);
}

void took(long bytes)
{
	struct timespec t;

	if (atomic_fetch_add(&all->bytes, bytes) + bytes <= limit ||
		atomic_exchange(&all->told, true))
		return;
	clock_gettime(CLOCK_MONOTONIC, &t);
	printf("over %lld\n", (long long)t.tv_sec * 1000000000 + t.tv_nsec);
	fflush(stdout);
}

_Noreturn void done(void)
{
	printf("took %ld\n", atomic_load(&all->bytes) / MIB);
	fflush(stdout);
	sleep((unsigned)hold);
	_exit(0);
}

static void fill(char *p, long n)
{
	for (long i = 0; i < n; i += 4096) {
		p[i] = 1;
		if (i % MIB == 0)
			took(n - i < MIB ? n - i : MIB);
	}
}

static char *map(long n, int flags)
{
	char *p = mmap(NULL, (size_t)n, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	return p;
}

/* Runs fn(i) in CHILDREN processes, which stay; the parent reports when all have taken theirs. */
static void in_children(void (*fn)(int i))
{
	for (int i = 0; i < CHILDREN; i++)
		if (fork() == 0) {
			fn(i);
			sleep((unsigned)hold + 60);
			_exit(0);
		}
	for (int i = 0; i < 600 && atomic_load(&all->bytes) < want; i++)
		usleep(10000);
	done();
}

static void private_child(int i)
{
	(void)i;
	fill(map(want / CHILDREN, MAP_PRIVATE), want / CHILDREN);
}

/* The pages stay in the object, and no process has them any more. */
static void dontneed_child(int i)
{
	char *p = map(want / CHILDREN, MAP_SHARED);

	(void)i;
	for (long at = 0; at < want / CHILDREN; at += MIB) {
		fill(p + at, MIB);
		madvise(p + at, MIB, MADV_DONTNEED);
	}
}

static void window_child(int i)
{
	char *p = map(want / CHILDREN, MAP_SHARED);

	(void)i;
	for (long at = MIB; at < want / CHILDREN; at += MIB) {
		fill(p + at, MIB);
		munmap(p + at, MIB);
	}
}

static int filled_memfd(long n)
{
	int fd = memfd_create("x y\n)", 0);

	for (long at = 0; at < n; at += MIB) {
		if (write(fd, block, MIB) != MIB)
			fail("write a memfd");
		took(MIB);
	}
	return fd;
}

static void memfd_child(int i)
{
	(void)i;
	for (long at = 0; at < want / CHILDREN; at += 4 * MIB)
		filled_memfd(4 * MIB);
}

static void non_dumpable_child(int i)
{
	prctl(PR_SET_DUMPABLE, 0);
	memfd_child(i);
}

static void send_fd(int sock, int fd)
{
	char ctl[CMSG_SPACE(sizeof fd)] = {0};
	struct iovec iov = {block, 1};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	if (sendmsg(sock, &m, 0) < 0)
		fail("send a descriptor");
	close(fd);
}

static void in_flight(void)
{
	int p[2];

	socketpair(AF_UNIX, SOCK_STREAM, 0, p);
	for (long at = 0; at < want; at += 16 * MIB)
		send_fd(p[0], filled_memfd(16 * MIB));
	done();
}

/* Not an attack: a worker that is slow to take what its parent hands over, beside much memory. */
static void slow_worker(void)
{
	int p[2];

	socketpair(AF_UNIX, SOCK_STREAM, 0, p);
	fill(map(want, MAP_PRIVATE), want);
	for (int i = 0; i < 3; i++)
		send_fd(p[0], open("/dev/null", O_RDONLY));
	done();
}

static void *thread(void *arg)
{
	(void)arg;
	usleep(20000); /* the first thread ends meanwhile */
	fill(map(want, MAP_PRIVATE), want);
	done();
}

static void no_leader(void)
{
	pthread_t t;

	if (fork() > 0) {
		wait(NULL);
		_exit(0);
	}
	pthread_create(&t, NULL, thread, NULL);
	pthread_exit(NULL);
}

/* Not an attack: children that share their parent's memory. */
static void cow(void)
{
	fill(map(want, MAP_PRIVATE), want);
	for (int i = 0; i < CHILDREN; i++)
		if (fork() == 0) {
			sleep((unsigned)hold + 60);
			_exit(0);
		}
	done();
}

/* Nor is this: a large process that starts many small ones. */
static void spawns(void)
{
	char name[] = "true", *const argv[] = {name, NULL};
	time_t end;

	fill(map(want, MAP_PRIVATE), want);
	for (end = time(NULL) + hold; time(NULL) < end;) {
		pid_t pid;

		if (posix_spawnp(&pid, name, NULL, NULL, argv, NULL) != 0)
			fail("spawn");
		waitpid(pid, NULL, 0);
	}
	hold = 0;
	done();
}

/* A page of zeros a 2 MiB: 4 KiB of tables each. */
static void tables_child(int i)
{
	long n = want / CHILDREN / 4096;
	volatile char *p = mmap(NULL, (size_t)n * 2 * MIB, PROT_READ,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)i;
	if (p == MAP_FAILED)
		fail("mmap");
	madvise((void *)(uintptr_t)p, (size_t)n * 2 * MIB, MADV_NOHUGEPAGE);
	for (long k = 0; k < n; k++) {
		(void)p[k * 2 * MIB];
		took(4096);
	}
}

static void semaphores(void)
{
	for (long at = 0; at < want; at += 256 * 128) {
		if (semget(IPC_PRIVATE, 256, 0600) < 0)
			fail("semget");
		took(256 * 128);
	}
	done();
}

static void sysv(void)
{
	for (long at = 0; at < want; at += 65536) {
		int id = shmget(IPC_PRIVATE, 65536, 0600);
		char *p = id < 0 ? (char *)-1 : shmat(id, NULL, 0);

		if (p == (char *)-1)
			fail("shmget");
		memset(p, 1, 65536);
		took(65536);
		shmdt(p);
	}
	done();
}

static void messages(void)
{
	struct {
		long type;
		char text[8192];
	} m = {.type = 1};

	for (long at = 0; at < want; at += 16384) {
		int id = msgget(IPC_PRIVATE, 0600);

		if (id < 0 || msgsnd(id, &m, 8192, 0) < 0 ||
			msgsnd(id, &m, 8192 - 64, IPC_NOWAIT) < 0)
			fail("msgsnd");
		took(16384);
	}
	done();
}

static void many_pipes(int i)
{
	int p[2];

	(void)i;
	for (long at = 0; at < want / CHILDREN; at += 65536) {
		if (pipe2(p, O_NONBLOCK) < 0)
			fail("pipe");
		for (long n = 0, r; n < 65536 && (r = write(p[1], block, 65536)) > 0; n += r)
			;
		took(65536);
	}
}

/* --- sockets: each step fills what one pair takes without being read --- */

static long stuff(int fd, size_t piece)
{
	long n = 0, r;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while ((r = send(fd, block, piece, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
		n += r;
	return n;
}

static void pair_child(int type, size_t piece, bool drop)
{
	int p[2];

	for (long at = 0, n; at < want / CHILDREN; at += n) {
		if (socketpair(AF_UNIX, type, 0, p) < 0)
			fail("socketpair");
		n = stuff(p[0], piece);
		if (n <= 0)
			fail("send");
		if (drop)
			close(p[0]);
		took(n);
	}
}

static void stream_child(int i)
{
	(void)i;
	pair_child(SOCK_STREAM, 65536, false);
}

static void dgram_child(int i)
{
	(void)i;
	pair_child(SOCK_DGRAM, 20000, false);
}

static void orphan_child(int i)
{
	(void)i;
	pair_child(SOCK_STREAM, 65536, true);
}

static void orphan_dgram_child(int i)
{
	(void)i;
	pair_child(SOCK_DGRAM, 20000, true);
}

static void tcp_child(int i)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0);

	(void)i;
	if (bind(l, (struct sockaddr *)&a, sizeof a) < 0 || listen(l, 500) < 0 ||
		getsockname(l, (struct sockaddr *)&a, &len) < 0)
		fail("listen");
	for (long at = 0, n; at < want / CHILDREN; at += n) {
		int c = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(c, (struct sockaddr *)&a, sizeof a) < 0)
			fail("connect");
		n = stuff(c, 65536);
		usleep(1000); /* what was acknowledged makes room */
		n += stuff(c, 65536);
		took(n);
	}
}

/* --- disk --- */

static int new_file(const char *dir, int i)
{
	char name[200];
	int fd;

	snprintf(name, sizeof name, "%s/.fill-%d-%d", dir, (int)getpid(), i);
	fd = open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
	if (fd < 0)
		fail(name);
	return fd;
}

static void disk(bool unlinked, bool allocate)
{
	const char *dirs[] = {".", getenv("HOME"), "/tmp", "/"};
	int fd = -1;

	for (long at = 0; at < want; at += MIB) {
		long k = at / (16 * MIB);
		char name[200];

		if (at % (16 * MIB) == 0) {
			if (fd >= 0 && !unlinked)
				close(fd);
			fd = new_file(dirs[k % 4], (int)k);
			snprintf(name, sizeof name, "%s/.fill-%d-%d", dirs[k % 4], (int)getpid(),
				(int)k);
			if (unlinked)
				unlink(name);
		}
		if (allocate ? posix_fallocate(fd, at % (16 * MIB), MIB) != 0
			     : write(fd, block, MIB) != MIB)
			fail("write");
		took(MIB);
	}
	done();
}

/* MIB and LIMIT are counts of files here. */
static void inodes(void)
{
	char dir[100];

	for (long i = 0; i < want / MIB; i++) {
		if (i % 1000 == 0) {
			snprintf(dir, sizeof dir, "/tmp/.many-%ld", i);
			mkdir(dir, 0700);
		}
		close(new_file(dir, (int)i));
		took(MIB);
	}
	done();
}

/* 3000 directories deep, beyond any path; the file is at the bottom. */
static void deep(void)
{
	for (int i = 0; i < 3000; i++)
		if (mkdir("a-directory-in-a-directory", 0700) < 0 ||
			chdir("a-directory-in-a-directory") < 0)
			fail("mkdir");
	for (long at = 0; at < want; at += 16 * MIB) {
		int fd = new_file(".", (int)(at / MIB));

		for (int k = 0; k < 16; k++) {
			if (write(fd, block, MIB) != MIB)
				fail("write");
			took(MIB);
		}
		close(fd);
	}
	done();
}

/* Mappings of which nobody touches a page: the kernel's own notes of them, 256 bytes each. */
static void mappings_child(int i)
{
	enum { MAPPINGS = 60000, BYTES = MAPPINGS * 256 };
	char *p = mmap(NULL, MAPPINGS * 4096L, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)i;
	if (p == MAP_FAILED)
		fail("mmap");
	for (long k = 0; k < MAPPINGS; k += 2)
		if (mprotect(p + k * 4096, 4096, PROT_READ) < 0)
			fail("mprotect");
	took(BYTES);
	/* and each child of a fork has its own */
	for (long n = want / CHILDREN / BYTES; n > 1; n--) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork");
		took(pid ? BYTES : 0);
		if (pid == 0) {
			sleep((unsigned)hold + 60);
			_exit(0);
		}
	}
}

/* Locks on single bytes, 300 of each file: 256 bytes of the kernel's each. */
static void locks_child(int i)
{
	(void)i;
	for (long taken = 0; taken < want / CHILDREN; taken += 300 * 256) {
		int fd = memfd_create("l", 0);

		for (int k = 300; k > 0; k--) {
			struct flock l = {.l_type = F_WRLCK,
				.l_whence = SEEK_SET,
				.l_start = 2 * k,
				.l_len = 1};

			if (fd < 0 || fcntl(fd, F_SETLK, &l) < 0)
				fail("lock");
		}
		took(300 * 256);
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*child)(int i);
	} many[] = {{"many", private_child}, {"dontneed", dontneed_child}, {"window", window_child},
		{"memfd", memfd_child}, {"nondumpable", non_dumpable_child},
		{"tables", tables_child}, {"pipes", many_pipes}, {"stream", stream_child},
		{"dgram", dgram_child}, {"orphans", orphan_child},
		{"orphan-dgrams", orphan_dgram_child}, {"tcp", tcp_child},
		{"mappings", mappings_child}, {"locks", locks_child}, {"fifos", sum_fifos},
		{"polls", sum_polls}, {"fdinfo", sum_fdinfo}, {"chains", sum_chains},
		{"dark", sum_dark}, {"socket-filters", sum_socket_filters}};
	static const struct {
		const char *name;
		void (*fn)(void);
	} one[] = {{"flight", in_flight}, {"slow-worker", slow_worker}, {"noleader", no_leader},
		{"cow", cow}, {"spawns", spawns}, {"sem", semaphores}, {"sysv", sysv},
		{"messages", messages}, {"inodes", inodes}, {"deep", deep}};

	if (argc != 5)
		return 2;
	want = atol(argv[2]) * MIB;
	limit = atol(argv[3]) * MIB;
	hold = atol(argv[4]);
	signal(SIGXFSZ, SIG_IGN);
	all = (struct shared *)map(sizeof *all, MAP_SHARED);
	memset(block, 'x', sizeof block);
	for (size_t i = 0; i < sizeof many / sizeof *many; i++)
		if (!strcmp(argv[1], many[i].name))
			in_children(many[i].child);
	for (size_t i = 0; i < sizeof one / sizeof *one; i++)
		if (!strcmp(argv[1], one[i].name))
			one[i].fn();
	if (!strncmp(argv[1], "disk", 4))
		disk(!strcmp(argv[1], "disk-unlinked"), !strcmp(argv[1], "disk-allocate"));
	return 2;
}
