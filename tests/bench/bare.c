#include "tests/bench/bare.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/creds.h"
#include "isolate/idmap.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum { ARGS_MAX = 64, INNER_ID = 1000, FILTER_FD = 3 };

int bare_open(struct bare *b, const char *program, const struct filter *f, const char *root,
	const char *staging, struct err *e)
{
	OWN_FD from = open(program, O_RDONLY | O_CLOEXEC),
	       filter = memfd_create("filter", MFD_CLOEXEC);
	OWN_FD init = memfd_create("bare", MFD_CLOEXEC);
	size_t bytes = f->len * sizeof *f->ins;
	struct stat st;

	if (from < 0 || fstat(from, &st) < 0 || init < 0 || filter < 0 ||
		sendfile(init, from, NULL, (size_t)st.st_size) != st.st_size ||
		fchmod(init, 0111) < 0 || write(filter, f->ins, bytes) != (ssize_t)bytes)
		return err_set(e, ERR_SETUP, errno, "%s", program);
	/* not 3, which is the filter's place in pid 1 */
	*b = (struct bare){fcntl(init, F_DUPFD_CLOEXEC, FILTER_FD + 1),
		fcntl(filter, F_DUPFD_CLOEXEC, FILTER_FD + 1), root, staging};
	return b->init_fd < 0 || b->filter_fd < 0 ? err_set(e, ERR_SETUP, errno, "%s", program) : 0;
}

struct birth {
	const struct bare *b;
	char *const *argv;
	int out, errs;
	uid_t uid;
	gid_t gid;
	struct err err;
};

/* In our memory, until it executes. */
static int birth_main(void *arg)
{
	struct birth *x = arg;
	char *argv[ARGS_MAX + 4] = {(char *)(uintptr_t) "bare", (char *)(uintptr_t)x->b->root,
		(char *)(uintptr_t)x->b->staging};
	char *none[] = {NULL};
	/* chown, the three of files' modes, network, mounts, as the overlay and pid 1 need them */
	const uint64_t caps = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 8 | 1 << 12 | 1 << 18 | 1 << 21;

	for (int i = 0; x->argv[i] && i < ARGS_MAX; i++)
		argv[i + 3] = x->argv[i];
	if (idmap_write(INNER_ID, INNER_ID, x->uid, x->gid, &x->err) < 0 ||
		creds_raise_ambient(caps, &x->err) < 0)
		_exit(127);
	dup2(x->out, 1);
	dup2(x->errs, 2);
	dup2(x->b->filter_fd, FILTER_FD);
	sys_execveat(x->b->init_fd, "", argv, none, AT_EMPTY_PATH);
	err_set(&x->err, ERR_SETUP, errno, "execute pid 1");
	_exit(127);
}

pid_t bare_start(const struct bare *b, char *const *argv, int out, int errs, struct err *e)
{
	char stack[32768] __attribute__((aligned(16)));
	struct birth x = {b, argv, out, errs, geteuid(), getegid(), {0}};
	pid_t pid = clone(birth_main, stack + sizeof stack,
		CLONE_VM | CLONE_VFORK | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC |
			CLONE_NEWUTS | CLONE_NEWCGROUP | SIGCHLD,
		&x);

	if (pid < 0)
		return err_set(e, ERR_SETUP, errno, "create namespaces");
	if (x.err.kind != ERR_NONE)
		*e = x.err;
	return pid;
}
