#include "isolate/main_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate/clock.h"
#include "isolate/jail.h"
#include "isolate/own.h"

enum {
	REST_MS = 20,
	REST_FACTOR = 4, /* a measurement is followed by a rest of as many times its length */
	MEMORY_BYTES = 64 << 20,
};

static bool over(const struct tree_use *have, const struct tree_use *limit)
{
	return (limit->bytes && have->bytes > limit->bytes) ||
	       (limit->inodes && have->inodes > limit->inodes);
}

static uint64_t beyond(uint64_t have, uint64_t base)
{
	return have > base ? have - base : 0;
}

/* Waits; false: the other end of the socket has gone. */
static bool rest(int sock, int64_t took_ms)
{
	struct pollfd p = {.fd = sock};

	return poll(&p, 1, (int)(REST_MS + REST_FACTOR * took_ms)) == 0;
}

/* A directory that is moved while it is read is measured again, and so is a tree that was over: what
 * was met twice is not there twice. */
static int watch(int sock, const struct run_disk *d, bool count_all, struct tree_use *have)
{
	struct tree_use base = {0};
	struct err e;
	int64_t took = 0;
	int strikes = 0;

	if (!count_all && tree_measure(".", &base, &e) < 0)
		return -1;
	while (rest(sock, took)) {
		int64_t begin = clock_ms();

		*have = (struct tree_use){0};
		if (tree_measure(".", have, &e) < 0 && e.kind != ERR_BUSY)
			return -1;
		took = clock_ms() - begin;
		have->bytes = beyond(have->bytes, base.bytes);
		have->inodes = beyond(have->inodes, base.inodes);
		strikes = over(have, &d->limit) ? strikes + 1 : 0;
		if (strikes == 2)
			return 0;
	}
	return 1;
}

static _Noreturn void helper(int root, int sock, const struct run_disk *d, bool count_all)
{
	const struct jail_limits lim = {.address_space_bytes = MEMORY_BYTES};
	struct tree_use have = {0};
	struct err e;

	/* What cannot be measured is over: the socket ends without a message. */
	if (jail_enter(root, &sock, 1, &lim, &e) < 0 || watch(sock, d, count_all, &have) != 0)
		_exit(1);
	_exit(send(sock, &have, sizeof have, MSG_NOSIGNAL) == (ssize_t)sizeof have ? 0 : 1);
}

int run_disk_begin(struct run_disk *d, const char *upper, const struct tree_use *limit,
	bool count_all, struct err *e)
{
	OWN_FD root = -1, here = -1, there = -1;
	int pair[2];

	*d = RUN_DISK_NONE;
	d->limit = *limit;
	if (!limit->bytes && !limit->inodes)
		return 0;
	root = open(upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "watch the writable layer");
	here = pair[0];
	there = pair[1];
	d->pid = fork();
	if (d->pid == 0) {
		own_close(&here);
		helper(root, there, d, count_all);
	}
	if (d->pid < 0) {
		d->pid = 0;
		return err_set(e, ERR_SETUP, errno, "watch the writable layer");
	}
	d->fd = take_fd(&here);
	return 0;
}

void run_disk_read(struct run_disk *d)
{
	if (recv(d->fd, &d->have, sizeof d->have, MSG_DONTWAIT) != (ssize_t)sizeof d->have)
		d->have = (struct tree_use){0};
	own_close(&d->fd);
}

void run_disk_text(const struct run_disk *d, char *out, size_t size)
{
	bool bytes = d->limit.bytes && d->have.bytes > d->limit.bytes;

	if (!d->have.bytes && !d->have.inodes)
		snprintf(out, size, "its writable layer cannot be measured");
	else
		snprintf(out, size, "%llu %s in its writable layer, it had %llu",
			(unsigned long long)(bytes ? d->limit.bytes : d->limit.inodes),
			bytes ? "bytes" : "files",
			(unsigned long long)(bytes ? d->have.bytes : d->have.inodes));
}

void run_disk_close(struct run_disk *d)
{
	own_close(&d->fd);
	if (d->pid > 0) {
		kill(d->pid, SIGKILL);
		while (waitpid(d->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	d->pid = 0;
}
