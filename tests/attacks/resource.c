/* Class C: resources. Every bound is an argument; a limit that is met below it is what we want. */
#include "atk.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Says how a search for a limit ended: n of what, of at most `most`, then errno `err`. */
_Noreturn static void verdict(const char *what, long n, long most, int err)
{
	if (n == 0)
		unproven("not one of %s: %s", what, strerrorname_np(err));
	if (n >= most)
		breach("%ld of %s and no limit met", n, what);
	note("%ld of %s, then %s", n, what, strerrorname_np(err));
	held();
}

/* MIB */
static void memory(int argc, char **argv)
{
	long most = number(argc, argv, 0, 2048), n = 0;

	for (char *p; n < most; n++) {
		p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			break;
		p[0] = p[1 << 19] = 1; /* two pages: the limit is on what may be written */
	}
	verdict("MiB of private memory", n, most, errno);
}

/* GIB: costs page tables, not memory. */
static void address_space(int argc, char **argv)
{
	long most = number(argc, argv, 0, 1024), n = 0;

	while (n < most &&
		mmap(NULL, 1UL << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			0) != MAP_FAILED)
		n++;
	verdict("GiB of address space", n, most, errno);
}

/* DIR MIB */
static void fill(int argc, char **argv)
{
	static char mib[1 << 20];
	long most = number(argc, argv, 1, 1024), n = 0;
	char path[256];
	int fd, err = 0;

	for (; n < most; n++) {
		ssize_t w;

		snprintf(path, sizeof path, "%s/fill%ld", argc > 0 ? argv[0] : "/tmp", n);
		fd = open(path, O_CREAT | O_WRONLY, 0600);
		w = fd < 0 ? -1 : write(fd, mib, sizeof mib);
		err = errno;
		close(fd);
		if (w < (ssize_t)sizeof mib) {
			n += n == 0 && w > 0;
			break;
		}
	}
	verdict("MiB in files", n, most, n < most && !err ? ENOSPC : err);
}

/* DIR N */
static void inodes(int argc, char **argv)
{
	long most = number(argc, argv, 1, 60000), n = 0;
	char path[256];

	for (int fd; n < most; n++) {
		snprintf(path, sizeof path, "%s/i%ld", argc > 0 ? argv[0] : "/tmp", n);
		fd = open(path, O_CREAT | O_WRONLY, 0600);
		if (fd < 0)
			break;
		close(fd);
	}
	verdict("empty files", n, most, errno);
}

/* N */
static void descriptors(int argc, char **argv)
{
	long most = number(argc, argv, 0, 4096), n = 0;

	while (n < most && dup(0) >= 0)
		n++;
	verdict("descriptors", n, most, errno);
}

/* DIR MIB: a file of that size, sparse. */
static void file_size(int argc, char **argv)
{
	char path[256];
	int fd;

	snprintf(path, sizeof path, "%s/large", argc > 0 ? argv[0] : "/tmp");
	signal(SIGXFSZ, SIG_IGN);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	works(fd, "make a file");
	works(pwrite(fd, "x", 1, 4096), "write to it");
	denied(ftruncate(fd, number(argc, argv, 1, 2048) << 20), "make a large file", EFBIG, 0);
	denied(pwrite(fd, "x", 1, number(argc, argv, 1, 2048) << 20), "write far out", EFBIG, 0);
	held();
}

static void pipes(int argc, char **argv)
{
	int p[2];

	(void)argc, (void)argv;
	works(pipe2(p, O_NONBLOCK), "make a pipe");
	works(fcntl(p[1], F_GETPIPE_SZ), "ask for its size");
	denied(fcntl(p[1], F_SETPIPE_SZ, 1 << 20), "enlarge a pipe", EPERM, 0);
	held();
}

/* BYTES: one segment of that size. */
static void sysv(int argc, char **argv)
{
	size_t bytes = (size_t)number(argc, argv, 0, 65537);
	long n = 0;

	works(shmget(IPC_PRIVATE, 4096, 0600), "a segment of a page");
	denied(shmget(IPC_PRIVATE, bytes, 0600), "a large segment", EINVAL, 0);
	while (n < 8192 && shmget(IPC_PRIVATE, 65536, 0600) >= 0)
		n++;
	verdict("SysV segments of 64 KiB", n, 8192, errno);
}

static void inotify(int argc, char **argv)
{
	long most = number(argc, argv, 0, 128), n = 0;

	while (n < most && inotify_init1(0) >= 0)
		n++;
	verdict("inotify instances", n, most, errno);
}

static void fanotify(int argc, char **argv)
{
	(void)argc, (void)argv;
	works(inotify_init1(0), "inotify_init");
	denied(fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID, O_RDONLY), "fanotify_init", EPERM,
		EMFILE, 0);
	held();
}

/* N signals that nobody takes. */
static void pending(int argc, char **argv)
{
	long most = number(argc, argv, 0, 8192), n = 0;
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	while (n < most && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0)
		n++;
	verdict("pending signals", n, most, errno);
}

/* N queues of 80 KiB. */
static void mqueues(int argc, char **argv)
{
	long most = number(argc, argv, 0, 50), n = 0;
	struct mq_attr a = {.mq_maxmsg = 10, .mq_msgsize = 8192};

	char name[32];
	int err;

	for (; n < most; n++) {
		snprintf(name, sizeof name, "q%ld", n);
		if (syscall(SYS_mq_open, name, O_CREAT | O_RDWR, 0600, &a) < 0)
			break;
	}
	err = errno;
	for (long i = 0; i < n; i++) { /* they outlive us where there is no sandbox */
		snprintf(name, sizeof name, "q%ld", i);
		syscall(SYS_mq_unlink, name);
	}
	verdict("message queues", n, most, err);
}

/* MIB */
static void locked(int argc, char **argv)
{
	size_t bytes = (size_t)number(argc, argv, 0, 16) << 20;
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	works(mlock(p, 4096), "lock a page");
	denied(mlock(p, bytes), "lock much memory", ENOMEM, EPERM, 0);
	held();
}

/* SECONDS of processor time; the harness sees the signal. */
static void spin(int argc, char **argv)
{
	clock_t end = number(argc, argv, 0, 5) * CLOCKS_PER_SEC;

	signal(SIGXCPU, SIG_IGN);
	while (clock() < end)
		;
	/* A machine that stands still takes seconds in one step: the kernel gets steps in which to look. */
	for (int i = 0; i < 20; i++)
		for (clock_t next = clock() + CLOCKS_PER_SEC / 20; clock() < next;)
			;
	breach("%ld s of processor time", number(argc, argv, 0, 5));
}

/* MIB of output. */
static void flood(int argc, char **argv)
{
	static char line[65536];
	long most = number(argc, argv, 0, 64);

	memset(line, 'x', sizeof line);
	for (long n = 0; n < most * 16; n++)
		if (write(1, line, sizeof line) < 0)
			_exit(1);
	_exit(0);
}

const struct attack attacks_resource[] = {
	{"memory", memory, "private memory of one process"},
	{"address-space", address_space, "reserving address space: page tables"},
	{"fill", fill, "filling a file system with bytes"},
	{"inodes", inodes, "filling a file system with files"},
	{"descriptors", descriptors, "open descriptors"},
	{"file-size", file_size, "a large, also a sparse file"},
	{"pipes", pipes, "enlarging pipes, whose pages are counted for the uid"},
	{"sysv", sysv, "SysV shared memory"},
	{"inotify", inotify, "inotify instances, counted for the uid"},
	{"fanotify", fanotify, "fanotify groups"},
	{"pending", pending, "queued signals"},
	{"mqueues", mqueues, "POSIX message queues"},
	{"locked", locked, "locked memory"},
	{"spin", spin, "processor time"},
	{"flood", flood, "(writes much output)"},
	{NULL, NULL, NULL},
};
