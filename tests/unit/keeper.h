/*
 * A keeper of one's own in a fresh state directory, and the backend as a worker uses it: real
 * sandboxes on the image "host". As root it becomes an ordinary user first.
 */
#ifndef CGIBOX_TESTS_KEEPER_H
#define CGIBOX_TESTS_KEEPER_H

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fcgi/backend.h"
#include "fcgi/keeper.h"
#include "images/rmtree.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

enum { TEST_UID = 12345 };

/*
 * On a loaded machine everything takes longer. PATIENCE_MS is for what should come: a test that passes never
 * waits for so long. The same for who waits for a session; tests of that wait make it short, by restart_with().
 */
enum { PATIENCE_MS = 60000 };
#define TEST_LOCK_WAIT_MS  "30000"
#define SHORT_LOCK_WAIT_MS "2000"

static const struct backend_ops *const ops = &backend_isolate;

struct service {
	struct conf conf;
	char dir[64];
	int lifeline[2];
	pid_t keeper;
	struct backend *b;
};

static inline void wait_listening(struct service *s)
{
	struct err e;

	/* the keeper tells nobody else: connect until it answers */
	for (int i = 0; i < PATIENCE_MS / 10; i++) {
		if (ops->health(s->b, &e) == 0)
			return;
		usleep(10000);
	}
}

/* The keeper's doctor makes a scratch in the state directory; tests that look there wait for its end. */
static inline void wait_facts(struct service *s)
{
	struct system_info info = {0};
	struct err e;

	if (ops->system(s->b, &info, &e) == 0)
		free(info.facts);
}

static inline void start(struct service *s)
{
	struct err e = {0};

	s->keeper = keeper_spawn(&s->conf, s->lifeline[0], &e);
	wait_listening(s);
	wait_facts(s);
}

/* Another keeper over the same state, with one setting changed; this one is killed. */
static inline bool restart_with(struct service *s, const char *key, const char *value)
{
	struct err e = {0};

	if (conf_set(&s->conf, key, value, &e) < 0)
		return false;
	kill(s->keeper, SIGKILL);
	waitpid(s->keeper, NULL, 0);
	start(s);
	return true;
}

/* extra: further keys and values of sandbox.conf, the last key NULL. */
static inline bool open_service_in(struct service *s, const char *const (*extra)[2])
{
	struct err e = {0};

	if (pipe2(s->lifeline, O_CLOEXEC) < 0)
		return false;
	if (geteuid() == 0 && (chown(s->dir, TEST_UID, TEST_UID) < 0 || setgroups(0, NULL) < 0 ||
				      setgid(TEST_UID) < 0 || setuid(TEST_UID) < 0))
		return false;
	prctl(PR_SET_DUMPABLE, 1); /* which setuid(2) cleared: /proc/self would be root's */
	if (conf_load(&s->conf, NULL, NULL, &e) < 0 ||
		conf_set(&s->conf, "state_dir", s->dir, &e) < 0 ||
		conf_set(&s->conf, "session_lock_wait_ms", TEST_LOCK_WAIT_MS, &e) < 0 ||
		conf_set(&s->conf, "session_lock_waiters", "1", &e) < 0 ||
		conf_set(&s->conf, "log_level", "warning", &e) < 0)
		return false;
	for (; (*extra)[0]; extra++)
		if (conf_set(&s->conf, (*extra)[0], (*extra)[1], &e) < 0)
			return false;
	s->b = ops->new (&s->conf, &e);
	start(s);
	return s->b != NULL;
}

static inline bool open_service_keys(struct service *s, const char *const (*extra)[2])
{
	strcpy(s->dir, "/tmp/cgibox-test-XXXXXX");
	return mkdtemp(s->dir) && open_service_in(s, extra);
}

/* In the directory dir, which is made. */
static inline bool open_service_at(
	struct service *s, const char *dir, const char *const (*extra)[2])
{
	snprintf(s->dir, sizeof s->dir, "%s", dir);
	return mkdir(dir, 0755) == 0 && open_service_in(s, extra);
}

/* key (may be NULL): a setting of sandbox.conf beside those that all tests have. */
static inline bool open_service_with(struct service *s, const char *key, const char *value)
{
	const char *const extra[][2] = {{key, value}, {NULL, NULL}};

	return open_service_keys(s, extra);
}

static inline bool open_service(struct service *s)
{
	return open_service_with(s, NULL, NULL);
}

/* Ends the keeper by its lifeline and removes the state directory. */
static inline void close_service(struct service *s)
{
	struct err e;

	close(s->lifeline[1]);
	ok(waitpid(s->keeper, NULL, 0) == s->keeper, "the keeper ends with its lifeline");
	ops->free(s->b);
	conf_clear(&s->conf);
	ok(rmtree_at(AT_FDCWD, s->dir, &e) == 0, "the state directory can be removed");
}

static inline int run(struct session_call *c, const char *command, int64_t timeout_ms,
	struct result *r, char *out, size_t size)
{
	OWN_FD fd = memfd_create("out", MFD_CLOEXEC);
	struct command_spec spec = {.command = command,
		.timeout_ms = timeout_ms,
		.output_max_bytes = 1000,
		.output_fd = fd};
	struct err e = {0};
	int ret = ops->exec(c, &spec, r, &e);
	ssize_t n = pread(fd, out, size - 1, 0);

	out[n > 0 ? n : 0] = '\0';
	if (ret < 0)
		printf("# %s (%d)\n", e.msg, e.errnum);
	return ret;
}

static inline bool create(struct service *s, struct session_spec *spec, char *id)
{
	struct session_made made = {.id = ""};
	struct err e = {0};
	int ret;

	snprintf(spec->image, sizeof spec->image, "host");
	ret = ops->create(s->b, spec, &made, &e);
	memcpy(id, made.id, sizeof made.id);
	if (ret < 0)
		printf("# create: %s (%s)\n", e.msg, strerror(e.errnum));
	return ret == 0;
}

static inline struct session_call *open_session(
	struct service *s, const char *id, int archive, struct session_info *info, struct err *e)
{
	struct session_call *c;

	*e = (struct err){0};
	c = ops->open(s->b, id, archive, info, e);
	if (!c)
		printf("# open: %s (%s)\n", e->msg, strerror(e->errnum));
	return c;
}

#endif
