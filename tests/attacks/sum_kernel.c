/* Modes of sum.c: memory of the kernel that belongs to a descriptor, a socket or a thread. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/attacks/sum.h"

/* The buffer of a pipe, behind a name: two pages, when the uid has many. */
void sum_fifos(int i)
{
	enum { FILES = 900, BYTES = 8 << 10 };
	static const char block[BYTES];
	char name[64];

	(void)i;
	for (long n = 0; n < want / CHILDREN / BYTES; n++) {
		int fd;

		if (n % FILES == FILES - 1) {
			if (fork() > 0)
				return; /* the child goes on with descriptors of its own */
			close_range(3, ~0U, 0);
		}
		snprintf(name, sizeof name, "/tmp/.fifo-%d-%ld", (int)getpid(), n);
		fd = mkfifo(name, 0600) < 0 ? -1 : open(name, O_RDWR | O_NONBLOCK);
		if (fd < 0)
			fail("open a FIFO");
		unlink(name);
		if (write(fd, block, sizeof block) < 0)
			fail("write to a FIFO");
		took(BYTES);
	}
}

/* What is waited for stays in an instance of epoll: 192 bytes each, and a quota of the uid. */
void sum_polls(int i)
{
	enum { FILES = 400, BYTES = 192 };
	struct epoll_event ev = {.events = EPOLLIN};
	int files[FILES];

	(void)i;
	for (int k = 0; k < FILES; k++)
		if ((files[k] = eventfd(0, 0)) < 0)
			fail("eventfd");
	for (long at = 0; at < want / CHILDREN; at += FILES * BYTES) {
		int e = epoll_create1(0);

		if (e < 0)
			fail("epoll_create1");
		for (int k = 0; k < FILES; k++)
			if (epoll_ctl(e, EPOLL_CTL_ADD, files[k], &ev) < 0)
				fail("epoll_ctl");
		took(FILES * BYTES);
	}
}

/* A file of /proc that has been read keeps what it was read into: a line for each lock of a file. */
void sum_fdinfo(int i)
{
	enum { LOCKS = 1800, BYTES = 128 << 10 };
	char name[64], c;
	int fd;

	snprintf(name, sizeof name, "/tmp/.locks-%d", i);
	fd = open(name, O_RDWR | O_CREAT, 0600);
	for (int k = LOCKS; k > 0; k--) {
		struct flock l = {.l_type = F_WRLCK, .l_start = 2 * k, .l_len = 1};

		if (fd < 0 || fcntl(fd, F_SETLK, &l) < 0)
			fail("lock");
	}
	snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
	for (long at = 0; at < want / CHILDREN; at += BYTES) {
		int info = open(name, O_RDONLY);

		if (info < 0 || read(info, &c, 1) != 1)
			fail(name);
		took(BYTES);
	}
}

enum { INSTRUCTIONS = 4096, CHAIN = 7, FILTER_BYTES = 86 << 10 };

static struct sock_filter program[INSTRUCTIONS];

static struct sock_fprog longest(unsigned n)
{
	for (int i = 0; i < INSTRUCTIONS; i++)
		program[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4 * (i % 16));
	program[INSTRUCTIONS - 1] = (struct sock_filter)BPF_STMT(
		BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	return (struct sock_fprog){(unsigned short)n, program + INSTRUCTIONS - n};
}

static void *chain(void *arg)
{
	for (int i = 0; i < CHAIN; i++) {
		if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, arg) < 0)
			fail("seccomp");
		took(FILTER_BYTES);
	}
	pause();
	return NULL;
}

/* As many seccomp filters as fit, in each of many threads. */
void sum_chains(int i)
{
	static struct sock_fprog p;
	pthread_t t;

	(void)i;
	p = longest(INSTRUCTIONS);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail("no_new_privs");
	for (long at = 0; at < want / CHILDREN; at += CHAIN * FILTER_BYTES)
		if (pthread_create(&t, NULL, chain, &p) != 0)
			fail("pthread_create");
}

/* Next to nothing, but slow to look at: each descriptor's fdinfo has a line for each lock, and is all that
 * is told of a process that is not dumpable. */
void sum_dark(int i)
{
	enum { LOCKS = 4000, COPIES = 900 };
	char name[64];
	int fd;

	snprintf(name, sizeof name, "/tmp/.dark-%d", i);
	fd = open(name, O_RDWR | O_CREAT, 0600);
	for (int k = LOCKS; k > 0; k--) {
		struct flock l = {.l_type = F_WRLCK, .l_start = 2 * k, .l_len = 1};

		if (fd < 0 || fcntl(fd, F_SETLK, &l) < 0)
			fail("lock");
	}
	for (int k = 0; k < COPIES; k++)
		if (dup(fd) < 0)
			fail("dup");
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		fail("PR_SET_DUMPABLE");
	took(want / CHILDREN);
}

/* A socket's filter, as it was given, as it is run, as it is compiled. */
void sum_socket_filters(int i)
{
	enum { LENGTH = 1800, BYTES = 40 << 10 };
	struct sock_fprog p = longest(LENGTH);

	(void)i;
	for (unsigned k = 0; k < LENGTH; k++) /* a socket's may not load from where seccomp's do */
		if (p.filter[k].code == (BPF_LD | BPF_W | BPF_ABS))
			p.filter[k] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, k);
	for (long at = 0; at < want / CHILDREN; at += BYTES) {
		int s = socket(AF_UNIX, SOCK_DGRAM, 0);

		if (s < 0 || setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p) < 0)
			fail("attach a filter");
		took(BYTES);
	}
}
