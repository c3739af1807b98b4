#include "images/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "images/digest.h"
#include "images/inventory.h"
#include "images/layout.h"
#include "images/rmtree.h"
#include "images/unpack.h"
#include "isolate/jail.h"
#include "isolate/own.h"

enum {
	UNPACK_MEMORY_BYTES = 1 << 30,
	DEPTH_MAX = 128,
	PIPE_BYTES = 1 << 20,
	TREE_LINE_BYTES = 512 /* of the file "tree" for an entry; few have longer names */
};

struct layer {
	const struct store *store;
	pid_t pid;      /* 0 when there is no child */
	int feed;       /* write end: archive bytes */
	int reply;      /* read end: one struct answer */
	char tmp[128];  /* name below the store */
	uint64_t bytes; /* unpacked, after layer_end() */
	struct reroute reroute;
	struct inventory_sum inventory; /* after layer_end() */
	bool plain;
};

/* What the child sends, in one write. The parent believes sizes and digits only after a check. */
struct answer {
	struct err err;
	struct unpack_stats stats;
	struct reroute reroute;
	struct inventory_sum inventory;
	char diff_id[65];
};

struct plain {
	struct digest *digest;
	uint64_t *count; /* NULL: nobody asks */
};

static void child_bytes(void *arg, const void *p, size_t n)
{
	struct plain *plain = arg;

	digest_add(plain->digest, p, n);
	if (plain->count)
		__atomic_fetch_add(plain->count, n, __ATOMIC_RELAXED);
}

/* The child's descriptors. */
struct child {
	int in, root, reply;
	int tree; /* -1: an archive that is no layer */
};

static int child_unpack(const struct child *c, const struct layer_limits *lim, struct answer *a)
{
	const struct jail_limits jail = {.address_space_bytes = UNPACK_MEMORY_BYTES,
		.file_max_bytes = lim->bytes_max + lim->entries_max * TREE_LINE_BYTES,
		.time_max_s = lim->time_max_s};
	const int keep[] = {c->in, c->reply, lim->lock, c->tree};
	struct digest *d = digest_new(&a->err);
	struct plain plain = {d, lim->unpacked};
	struct unpack_plan plan = {
		.in_fd = c->in, .dir_fd = -1, .raw_fd = -1, .bytes = child_bytes};
	struct inventory inventory;
	OWN_FD dir = -1;

	inventory_init(&inventory);
	if (!d || jail_enter(c->root, keep, NELEM(keep), &jail, &a->err) < 0)
		return -1;
	dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(&a->err, ERR_SETUP, errno, "open the layer's directory");
	plan.dir_fd = dir;
	plan.arg = &plain;
	plan.reroute = lim->plain ? NULL : &a->reroute;
	plan.inventory = lim->plain ? NULL : &inventory;
	plan.policy = (struct unpack_policy){.layer = !lim->plain,
		.packed_max_bytes = (int64_t)lim->bytes_max,
		.unpacked_max_bytes = (int64_t)lim->bytes_max,
		.entries_max = (int64_t)lim->entries_max,
		.ratio_max = (int64_t)lim->ratio_max,
		.name_max_bytes = 4096,
		.depth_max = DEPTH_MAX};
	if (unpack(&plan, &a->stats, &a->err) < 0)
		return -1;
	if (!lim->plain && inventory_write(&inventory, dir, c->tree, &a->inventory, &a->err) < 0)
		return -1;
	return digest_end(d, a->diff_id, &a->err);
}

/* Proxies' passwords and whatever else people keep there; nothing here reads it any more. */
static void forget_environment(void)
{
	for (char **p = environ; *p; p++)
		explicit_bzero(*p, strlen(*p));
	*environ = NULL;
}

static _Noreturn void child_main(
	const struct child *c, const struct layer_limits *lim, const struct reroute *links)
{
	struct answer a = {.reroute = *links};
	ssize_t n;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG has a message */
	forget_environment();
	child_unpack(c, lim, &a);
	n = write(c->reply, &a, sizeof a);
	_exit(n == (ssize_t)sizeof a ? 0 : 1);
}

static int make_tree(struct layer *l, struct err *e)
{
	char fs[160];
	OWN_FD dir = -1;

	layout_tmp_name(l->tmp, sizeof l->tmp, "layer");
	snprintf(fs, sizeof fs, "%s/fs", l->tmp);
	if (mkdirat(l->store->dir, l->tmp, 0700) < 0 || mkdirat(l->store->dir, fs, 0755) < 0 ||
		fchmodat(l->store->dir, fs, 0755, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "make \"%s\" in the image store", l->tmp);
	dir = openat(l->store->dir, fs, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, ERR_SETUP, errno, "open \"%s\" in the image store", fs);
	return take_fd(&dir);
}

/* The file beside the tree, which the child cannot reach by name. */
static int open_list(struct layer *l, struct err *e)
{
	char name[160];
	int fd;

	snprintf(name, sizeof name, "%s/tree", l->tmp);
	fd = openat(l->store->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? err_set(e, ERR_SETUP, errno, "create \"%s\" in the image store", name) : fd;
}

static int start_child(struct layer *l, int rootfd, const struct layer_limits *lim, struct err *e)
{
	int in[2] = {-1, -1}, reply[2] = {-1, -1};
	OWN_FD tree = -1;

	l->plain = lim->plain;
	if (!l->plain && (tree = open_list(l, e)) < 0)
		return -1;

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(reply, O_CLOEXEC) < 0)
		err_set(e, ERR_SETUP, errno, "make a pipe");
	else if ((l->pid = fork()) < 0)
		err_set(e, ERR_SETUP, errno, "start the unpacker");
	else if (l->pid == 0)
		child_main(&(struct child){in[0], rootfd, reply[1], tree}, lim, &l->reroute);
	own_close(&in[0]);
	own_close(&reply[1]);
	if (l->pid <= 0) {
		l->pid = 0;
		own_close(&in[1]);
		own_close(&reply[0]);
		return -1;
	}
	l->feed = in[1];
	l->reply = reply[0];
	fcntl(l->feed, F_SETPIPE_SZ, PIPE_BYTES); /* fewer switches; a refusal costs nothing */
	return 0;
}

struct layer *layer_begin(const struct store *s, const struct layer_limits *lim,
	const struct reroute *links, struct err *e)
{
	struct layer *l = calloc(1, sizeof *l);
	OWN_FD rootfd = -1;

	if (!l) {
		err_set(e, ERR_SETUP, ENOMEM, "start a layer");
		return NULL;
	}
	l->store = s;
	l->feed = l->reply = -1;
	if (links)
		l->reroute = *links;
	rootfd = make_tree(l, e);
	if (rootfd >= 0 && start_child(l, rootfd, lim, e) == 0)
		return l;
	layer_free(l);
	return NULL;
}

int layer_feed(struct layer *l, const void *p, size_t n, struct err *e)
{
	struct layer_result ignored;
	const char *from = p;
	ssize_t w;

	for (; n; from += w, n -= (size_t)w) {
		w = write(l->feed, from, n);
		if (w < 0 && errno == EINTR) {
			w = 0;
		} else if (w < 0 && errno == EPIPE) {
			if (layer_end(l, &ignored, e) == 0)
				err_set(e, ERR_BUG, 0, "the unpacker ended before the archive");
			return -1;
		} else if (w < 0) {
			return err_set(e, ERR_SETUP, errno, "write to the unpacker");
		}
	}
	return 0;
}

static int check_death(int status, struct err *e)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return err_set(
			e, ERR_LIMIT, 0, "unpacking a layer took longer than pull_timeout_s");
	if (WIFSIGNALED(status))
		return err_set(e, ERR_SETUP, 0, "the unpacker died by signal %d", WTERMSIG(status));
	return err_set(e, ERR_SETUP, 0, "the unpacker ended without an answer");
}

/* What the child says about names is written to a file of lines: checked before. */
static int take_names(struct layer *l, struct reroute *from)
{
	if (from->nnames > REROUTE_NAMES_MAX)
		return -1;
	for (size_t i = 0; i < from->nnames; i++) {
		from->names[i].name[REROUTE_NAME - 1] = '\0';
		for (char *p = from->names[i].name; *p; p++)
			if (*p == '\n' || *p == '/') /* no link of an image has such a name */
				*p = '?';
	}
	memcpy(l->reroute.names, from->names, sizeof from->names);
	l->reroute.nnames = from->nnames;
	l->reroute.overflow = from->overflow;
	l->reroute.used = from->used;
	return 0;
}

int layer_end(struct layer *l, struct layer_result *out, struct err *e)
{
	struct answer a;
	size_t got = 0;
	ssize_t n;
	int status = 0;

	own_close(&l->feed);
	while (got < sizeof a && (n = read(l->reply, (char *)&a + got, sizeof a - got)) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		got += n > 0 ? (size_t)n : 0;
	}
	while (waitpid(l->pid, &status, 0) < 0 && errno == EINTR)
		;
	l->pid = 0;
	if (got != sizeof a)
		return check_death(status, e);
	a.err.msg[sizeof a.err.msg - 1] = a.diff_id[64] = '\0';
	if (a.err.kind != ERR_NONE) {
		if (e)
			*e = a.err;
		return -1;
	}
	if (!ref_is_hex(a.diff_id, 64) || take_names(l, &a.reroute) < 0)
		return err_set(e, ERR_SETUP, 0, "the unpacker sent a malformed answer");
	memcpy(out->diff_id, a.diff_id, sizeof out->diff_id);
	out->bytes = l->bytes = a.stats.unpacked_bytes;
	out->entries = a.stats.entries;
	out->skipped = a.stats.skipped;
	out->rerouted = l->reroute.used;
	out->setid = a.inventory.setid;
	l->inventory = a.inventory;
	return 0;
}

/*
 * Contents of "done": the size, then the directories that layer_fits() must know, then the checksum
 * of the file "tree", files that lost set-id bits, and devices that were left out.
 */
static int write_note(const struct layer *l, int fd)
{
	OWN_BUF note = BUF_INIT(1 << 16);
	ssize_t n;

	buf_addf(&note, "%llu\n%s", (unsigned long long)l->bytes,
		l->reroute.overflow ? "any\n" : "");
	for (size_t i = 0; i < l->reroute.nnames; i++)
		if (!l->reroute.names[i].entry)
			buf_addf(&note, "implied %s\n", l->reroute.names[i].name);
	buf_addf(&note, "tree %08x %llu %llu\n", l->inventory.crc,
		(unsigned long long)l->inventory.setid, (unsigned long long)l->inventory.dropped);
	if (!buf_ok(&note))
		return -1;
	n = write(fd, note.p, note.len); /* a part of a note would be taken for another one */
	if (n >= 0 && (size_t)n < note.len)
		errno = ENOSPC;
	return n == (ssize_t)note.len ? 0 : -1;
}

int layer_commit(struct layer *l, const char *id, struct err *e)
{
	char done[160], name[128];
	OWN_FD fd = -1;

	snprintf(done, sizeof done, "%s/done", l->tmp);
	fd = openat(l->store->dir, done, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	/* One sync for all its files: "visible" must mean "whole" after a power cut, too. */
	if (fd < 0 || write_note(l, fd) < 0 || syncfs(fd) < 0)
		return err_set(e, ERR_SETUP, errno, "sync layer %.12s", id);
	snprintf(name, sizeof name, "layers/%s", id);
	if (renameat(l->store->dir, l->tmp, l->store->dir, name) == 0) {
		l->tmp[0] = '\0';
		return 0;
	}
	if (errno != EEXIST && errno != ENOTEMPTY)
		return err_set(e, ERR_SETUP, errno, "put layer %.12s into place", id);
	if (layer_present(l->store, id))
		return 0;
	/* A damaged one: the two change places, and layer_free() removes it. */
	if (renameat2(l->store->dir, l->tmp, l->store->dir, name, RENAME_EXCHANGE) < 0)
		return err_set(e, ERR_SETUP, errno, "put layer %.12s into place", id);
	return 0;
}

void layer_free(struct layer *l)
{
	if (!l)
		return;
	own_close(&l->feed);
	own_close(&l->reply);
	if (l->pid > 0) {
		kill(l->pid, SIGKILL);
		while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	if (l->tmp[0])
		rmtree_at(l->store->dir, l->tmp, NULL); /* else the next writer sweeps it */
	free(l);
}

int layer_tree(const struct layer *l, struct err *e)
{
	char fs[160];
	int fd;

	snprintf(fs, sizeof fs, "%s/fs", l->tmp);
	fd = openat(l->store->dir, fs, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_set(e, ERR_SETUP, errno, "open the unpacked archive") : fd;
}

uint64_t layer_bytes(const struct store *s, const char *diff_id)
{
	OWN_BUF text = BUF_INIT(1 << 16);
	char name[128];

	snprintf(name, sizeof name, "layers/%s/done", diff_id);
	if (layout_read(s, name, &text, NULL) < 0 || !text.p)
		return 0;
	return strtoull(text.p, NULL, 10);
}

bool layer_note(const struct store *s, const char *diff_id, struct layer_note *out)
{
	OWN_BUF text = BUF_INIT(1 << 16);
	char name[128];
	const char *at;

	*out = (struct layer_note){0};
	snprintf(name, sizeof name, "layers/%s/done", diff_id);
	if (layout_read(s, name, &text, NULL) < 0 || !text.p)
		return false;
	out->bytes = strtoull(text.p, NULL, 10);
	at = strstr(text.p, "\ntree ");
	return at && sscanf(at, "\ntree %8x %llu %llu", &out->crc, &out->setid, &out->dropped) == 3;
}

bool layer_fits(const struct store *s, const char *diff_id, const struct reroute *links)
{
	OWN_BUF text = BUF_INIT(1 << 16);
	char name[128], line[REROUTE_NAME + 16];

	snprintf(name, sizeof name, "layers/%s/done", diff_id);
	if (layout_read(s, name, &text, NULL) < 0 || !text.p)
		return false;
	if (links->nlinks && strstr(text.p, "\nany\n"))
		return false;
	for (size_t i = 0; i < links->nlinks; i++) {
		snprintf(line, sizeof line, "\nimplied %s\n", links->links[i].name);
		if (strstr(text.p, line))
			return false;
	}
	return true;
}

bool layer_present(const struct store *s, const char *diff_id)
{
	char name[128];

	snprintf(name, sizeof name, "layers/%s/done", diff_id);
	return faccessat(s->dir, name, F_OK, 0) == 0;
}

int layer_lock(const struct store *s, const char *key, struct err *e)
{
	char name[128];
	OWN_FD fd = -1;
	int r;

	snprintf(name, sizeof name, "tmp/lock-%s", key);
	fd = openat(s->dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open the lock of a layer");
	do {
		r = flock(fd, LOCK_EX);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return err_set(e, ERR_SETUP, errno, "lock a layer");
	return take_fd(&fd);
}
