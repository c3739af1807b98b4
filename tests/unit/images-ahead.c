/* plain.h and ahead.h in the jail: the second thread is there, goes on by itself, and ends when asked. */
#include "images/ahead.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "isolate/buf.h"
#include "isolate/jail.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"
#include "tests/unit/user.h"

enum { TIME_MAX_S = 60, PLAIN_BYTES = 5 << 20, WAIT_MS = 20000 };

static uint8_t plain[PLAIN_BYTES];
static char top[64];

/* What the child found out, in shared memory. */
static struct answer {
	struct err e;
	uint64_t bytes, packed;
	uint32_t crc, told; /* of the blocks, and of the bytes that were told of */
	ssize_t last;
	unsigned blocks;
} * answer;

static void fill_plain(void)
{
	unsigned x = 1;

	for (size_t i = 0; i < sizeof plain; i++) {
		x = x * 1103515245 + 12345;
		plain[i] = (uint8_t) "0123456789abcdef"[x >> 16 & 15];
	}
}

static void told(void *arg, const void *p, size_t n)
{
	struct answer *a = arg;

	a->told = (uint32_t)crc32(a->told, p, (uInt)n);
}

typedef int child_fn(struct ahead *a, int control);

static int child_main(int in, int control, child_fn *fn)
{
	const struct jail_limits lim = {.time_max_s = TIME_MAX_S};
	const int keep[] = {in, control};
	struct plain *p;
	struct ahead *a;
	int root, r;

	become_user();
	root = open(top, O_RDONLY | O_DIRECTORY);
	if (jail_enter(root, keep, NELEM(keep), &lim, &answer->e) < 0)
		return 97;
	p = plain_open(in, "limit", &answer->e);
	if (!p)
		return 1;
	a = ahead_new(p, told, answer);
	r = fn(a, control);
	ahead_free(a);
	plain_close(p);
	return r;
}

static pid_t start(int in, int control, int other, child_fn *fn)
{
	pid_t pid;

	memset(answer, 0, sizeof *answer);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		close(other); /* else the pipe would never end */
		_exit(child_main(in, control, fn));
	}
	return pid;
}

static int end(pid_t pid)
{
	int status = 0;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* Reads everything. 1: an error. */
static int read_all(struct ahead *a, int control)
{
	const void *p;

	(void)control;
	while ((answer->last = ahead_next(a, &p, &answer->packed, &answer->e)) > 0) {
		answer->crc = (uint32_t)crc32(answer->crc, p, (uInt)answer->last);
		answer->bytes += (uint64_t)answer->last;
		answer->blocks++;
	}
	return answer->last < 0;
}

/* An archive in memory. */
static int memory(const void *p, size_t n)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);

	if (write(fd, p, n) != (ssize_t)n)
		abort();
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static void gzip_of(size_t n, struct buf *b)
{
	z_stream z = {0};
	uLong room;

	if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		abort();
	room = deflateBound(&z, n);
	z.next_out = (Bytef *)buf_room(b, room);
	z.avail_out = (uInt)room;
	z.next_in = plain;
	z.avail_in = (uInt)n;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		abort();
	b->len = room - z.avail_out;
	deflateEnd(&z);
}

static void whole(const void *p, size_t n, size_t plain_n, const char *what)
{
	int fd = memory(p, n);
	int r = end(start(fd, -1, -1, read_all));

	ok(r == 0 && answer->bytes == plain_n &&
			answer->crc == (uint32_t)crc32(0, plain, (uInt)plain_n) &&
			answer->told == answer->crc,
		"%s, %zu bytes: the same come out (%s)", what, plain_n, answer->e.msg);
	ok(answer->packed == n, "%llu of %zu packed bytes are counted",
		(unsigned long long)answer->packed, n);
	close(fd);
}

static void lengths(void)
{
	static const size_t sizes[] = {1, 9, 10, 511, AHEAD_BLOCK_BYTES, AHEAD_THREAD_FROM - 1,
		AHEAD_THREAD_FROM, AHEAD_THREAD_FROM + 1, AHEAD_THREAD_FROM + AHEAD_BLOCK_BYTES,
		PLAIN_BYTES};

	for (size_t i = 0; i < NELEM(sizes); i++) {
		struct buf b = BUF_INIT(16 << 20);

		gzip_of(sizes[i], &b);
		whole(b.p, b.len, sizes[i], "gzip");
		whole(plain, sizes[i], sizes[i], "as it is");
		buf_clear(&b);
	}
}

static void refused(const struct buf *b, size_t n, int kind, const char *message)
{
	int fd = memory(b->p, n);
	int r = end(start(fd, -1, -1, read_all));

	ok(r == 1 && answer->e.kind == kind && strstr(answer->e.msg, message), "refused: %s",
		message);
	if (!strstr(answer->e.msg, message))
		printf("# got: %d %s\n", r, answer->e.msg);
	close(fd);
}

static void errors(void)
{
	struct buf b = BUF_INIT(16 << 20), empty = BUF_INIT(4096);

	gzip_of(PLAIN_BYTES, &b);
	refused(&b, 0, ERR_REQUEST, "Invalid or truncated archive: empty file");
	refused(&b, 5, ERR_REQUEST, "Invalid or truncated archive: truncated gzip data");
	refused(&b, b.len - 1, ERR_REQUEST, "Invalid or truncated archive: truncated gzip data");
	ok(answer->bytes == PLAIN_BYTES || answer->bytes > AHEAD_THREAD_FROM,
		"the thread says so, after %llu bytes", (unsigned long long)answer->bytes);
	b.p[b.len - 5] ^= 1;
	refused(&b, b.len, ERR_REQUEST,
		"Invalid or truncated archive: the checksum of a gzip member is wrong");
	b.p[b.len - 5] ^= 1;
	b.p[b.len / 2] ^= 0x55;
	refused(&b, b.len, ERR_REQUEST, "Invalid or truncated archive: ");
	gzip_of(0, &empty);
	refused(&empty, empty.len, ERR_REQUEST, "Invalid or truncated archive: empty file");
	buf_clear(&b);
	buf_clear(&empty);
}

/* Reads past where the thread starts, says so, and waits to be told to go on. */
static int read_some(struct ahead *a, int control)
{
	const void *p;
	char c = 0;

	while (answer->bytes <= AHEAD_THREAD_FROM) {
		answer->last = ahead_next(a, &p, &answer->packed, &answer->e);
		if (answer->last <= 0)
			return 1;
		answer->bytes += (uint64_t)answer->last;
	}
	if (write(control, &c, 1) != 1 || read(control, &c, 1) != 1)
		return 2;
	return 0;
}

/* Writes without waiting for longer than WAIT_MS. false: nobody reads. */
static bool write_soon(int fd, const void *p, size_t n)
{
	const char *from = p;
	struct pollfd w = {fd, POLLOUT, 0};
	ssize_t k;

	while (n) {
		if (poll(&w, 1, WAIT_MS) != 1)
			return false;
		k = write(fd, from, n < 4096 ? n : 4096); /* which there is room for */
		if (k <= 0)
			return false;
		from += k;
		n -= (size_t)k;
	}
	return true;
}

/*
 * While the consumer does not ask, the blocks that are ahead of it are read all the same; then the
 * thread waits for a pipe that nobody writes to or closes, and ends at once when it is not needed.
 */
static void goes_on_and_ends(void)
{
	const size_t ahead = (size_t)(AHEAD_BLOCKS - 2) * AHEAD_BLOCK_BYTES;
	int in[2], control[2];
	pid_t pid;
	char c;

	if (pipe2(in, O_CLOEXEC) < 0 || fcntl(in[1], F_SETPIPE_SZ, 4096) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) < 0)
		abort();
	pid = start(in[0], control[1], in[1], read_some);
	close(in[0]);
	close(control[1]);
	ok(write_soon(in[1], plain, AHEAD_THREAD_FROM + AHEAD_BLOCK_BYTES) &&
			read(control[0], &c, 1) == 1,
		"the consumer has what it wants: %s", answer->e.msg);
	ok(write_soon(in[1], plain, ahead), "%zu bytes more are taken without it", ahead);
	ok(write(control[0], "x", 1) == 1 && end(pid) == 0, "the thread ends while it waits");
	close(in[1]);
	close(control[0]);
}

int main(void)
{
	answer = mmap(
		NULL, sizeof *answer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(top, sizeof top, "/tmp/images-ahead-XXXXXX");
	if (answer == MAP_FAILED || !mkdtemp(top) || chmod(top, 0755) < 0)
		return 1;
	fill_plain();
	lengths();
	errors();
	goes_on_and_ends();
	rmdir(top);
	return done();
}
