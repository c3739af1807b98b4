#include "images/relist.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "images/inventory.h"
#include "isolate/ended.h"
#include "isolate/jail.h"
#include "isolate/own.h"

enum { MEMORY_BYTES = 1 << 30 };

struct answer {
	struct err err;
	struct inventory_sum sum;
};

bool relist_needed(const struct store *s, const char *layer)
{
	OWN_BUF text = BUF_INIT(1 << 16);
	char name[128];

	snprintf(name, sizeof name, "layers/%s/tree", layer);
	if (faccessat(s->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
		return false;
	snprintf(name, sizeof name, "layers/%s/done", layer);
	return layout_read(s, name, &text, NULL) == 0 && text.p && text.p[0] >= '0' &&
	       text.p[0] <= '9' && !strstr(text.p, "\ntree ");
}

static int child_list(int root, int list, int reply, unsigned time_max_s, struct answer *a)
{
	const struct jail_limits lim = {
		.address_space_bytes = MEMORY_BYTES, .time_max_s = time_max_s};
	const int keep[] = {list, reply};
	struct inventory nothing;
	OWN_FD dir = -1;

	inventory_init(&nothing);
	if (jail_enter(root, keep, NELEM(keep), &lim, &a->err) < 0)
		return -1;
	dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(&a->err, ERR_SETUP, errno, "open the layer's directory");
	return inventory_write(&nothing, dir, list, &a->sum, &a->err);
}

static _Noreturn void child_main(int root, int list, int reply, unsigned time_max_s)
{
	struct answer a = {.err = {0}};
	ssize_t n;

	child_list(root, list, reply, time_max_s, &a);
	n = write(reply, &a, sizeof a);
	_exit(n == (ssize_t)sizeof a ? 0 : 1);
}

/* Runs the child over the tree; the list goes to the descriptor. */
static int list_tree(const struct store *s, const char *layer, int list, unsigned time_max_s,
	struct inventory_sum *out, struct err *e)
{
	OWN_FD root = -1, in = -1, reply = -1;
	struct answer a;
	char name[128], how[64];
	int pair[2], status = 0;
	pid_t pid;
	ssize_t n;

	snprintf(name, sizeof name, "layers/%s/fs", layer);
	root = openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0)
		return err_set(e, ERR_SETUP, errno, "open layer %.12s", layer);
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	in = pair[0];
	reply = pair[1];
	pid = fork();
	if (pid == 0)
		child_main(root, list, reply, time_max_s);
	if (pid < 0)
		return err_set(e, ERR_SETUP, errno, "start a reader");
	own_close(&reply);
	do {
		n = read(in, &a, sizeof a);
	} while (n < 0 && errno == EINTR);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (n != (ssize_t)sizeof a)
		return err_set(e, ERR_SETUP, 0, "the reader of a layer ended: %s",
			ended_text(status, how, sizeof how));
	a.err.msg[sizeof a.err.msg - 1] = '\0';
	if (a.err.kind != ERR_NONE) {
		*e = a.err;
		return -1;
	}
	*out = a.sum;
	return 0;
}

/* The list first: "done" says that it is there. */
static int put_into_place(const struct store *s, const char *layer, const char *tmp,
	const struct inventory_sum *sum, struct err *e)
{
	OWN_BUF note = BUF_INIT(1 << 16);
	char name[128];

	snprintf(name, sizeof name, "layers/%s/done", layer);
	if (layout_read(s, name, &note, e) < 0)
		return -1;
	buf_addf(&note, "tree %08x %llu %llu\n", sum->crc, (unsigned long long)sum->setid,
		(unsigned long long)sum->dropped);
	snprintf(name, sizeof name, "layers/%s/tree", layer);
	if (!buf_ok(&note) || renameat(s->dir, tmp, s->dir, name) < 0)
		return err_set(
			e, ERR_SETUP, errno, "put the list of layer %.12s into place", layer);
	snprintf(name, sizeof name, "layers/%s/done", layer);
	return layout_write(s, name, note.p, note.len, e);
}

int relist_layer(const struct store *s, const char *layer, unsigned time_max_s, struct err *e)
{
	struct inventory_sum sum = {0};
	OWN_FD list = -1;
	char tmp[128];
	int r;

	layout_tmp_name(tmp, sizeof tmp, "tree");
	list = openat(s->dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (list < 0)
		return err_set(e, ERR_SETUP, errno, "create \"%s\" in the image store", tmp);
	r = list_tree(s, layer, list, time_max_s, &sum, e);
	if (r == 0 && fsync(list) < 0)
		r = err_set(e, ERR_SETUP, errno, "write \"%s\" in the image store", tmp);
	if (r == 0)
		r = put_into_place(s, layer, tmp, &sum, e);
	if (r < 0)
		unlinkat(s->dir, tmp, 0);
	return r;
}
