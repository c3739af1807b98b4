/*
 * Drives the tree server from a script: one request a line on standard input, one answer a line
 * on standard output. A directory is a session's ws/; its layout is kept here by path.
 *
 *	limits PLAIN_ENTRIES PLAIN_BYTES PATCH_BYTES
 *	create DIR | add DIR ARCHIVE | replace DIR ARCHIVE | patch DIR OUT | delete DIR
 *	plan DIR                     the mount: "tree" or "UPPER WORK LOWER:LOWER.."
 *
 * An answer is "ok MICROSECONDS FORM BYTES" or "error KIND TEXT".
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fcgi/tree.h"
#include "isolate/conf.h"
#include "isolate/own.h"

enum { SESSIONS_MAX = 512 };

struct session {
	char dir[512];
	struct ws_layout layout;
};

struct control {
	struct tree_server *server;
	struct ws_limits limits;
	struct session session[SESSIONS_MAX];
	unsigned n;
};

static struct session *find(struct control *c, const char *dir)
{
	for (unsigned i = 0; i < c->n; i++)
		if (!strcmp(c->session[i].dir, dir))
			return &c->session[i];
	if (c->n == SESSIONS_MAX) /* the oldest has been forgotten by now */
		memmove(c->session, c->session + 1, --c->n * sizeof c->session[0]);
	memset(&c->session[c->n], 0, sizeof c->session[0]);
	snprintf(c->session[c->n].dir, sizeof c->session[0].dir, "%s", dir);
	return &c->session[c->n++];
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void say_error(const struct err *e)
{
	char text[512];

	printf("error %d %s\n", e->kind, err_text(e, text, sizeof text));
}

static void run(struct control *c, struct session *s, struct tree_job *job, const char *file)
{
	struct tree_result r;
	struct err e = {0};
	OWN_FD dir = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	OWN_FD data = -1, fd = -1;
	int64_t start = now_us();

	if (file)
		data = open(file,
			job->op == TREE_PATCH ? O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC
					      : O_RDONLY | O_CLOEXEC,
			0600);
	if (dir < 0 || (file && data < 0)) {
		err_set(&e, ERR_SETUP, errno, "open");
		say_error(&e);
		return;
	}
	job->layout = s->layout;
	job->limits = c->limits;
	job->memory_max_bytes = (uint64_t)1 << 30;
	job->time_max_s = 300;
	fd = tree_start(c->server, job, dir, data, &e);
	if (fd < 0 || tree_finish(fd, &r, &e) < 0) {
		say_error(&e);
		return;
	}
	if (ws_layout_valid(&r.layout))
		s->layout = r.layout;
	if (r.err.kind != ERR_NONE)
		say_error(&r.err);
	else
		printf("ok %" PRId64 " %u %" PRIu64 "\n", now_us() - start, s->layout.form,
			r.patch_bytes);
}

static void say_plan(const struct session *s)
{
	struct ws_mount m;
	struct err e;

	if (ws_mount_plan(&s->layout, &m, &e) < 0) {
		say_error(&e);
		return;
	}
	if (!m.overlay) {
		printf("%s\n", m.tree);
		return;
	}
	printf("%s %s ", m.upper, m.work);
	for (unsigned i = 0; i < m.nlowers; i++)
		printf("%s%s", i ? ":" : "", m.lowers[i]);
	printf("\n");
}

static void obey(struct control *c, char *line)
{
	static const struct {
		const char *word;
		uint32_t op, ephemeral;
	} words[] = {{"create", TREE_CREATE, 0}, {"add", TREE_ADD, 0}, {"replace", TREE_ADD, 1},
		{"patch", TREE_PATCH, 0}, {"delete", TREE_DELETE, 0}};
	char *word = strtok(line, " \n"), *dir = strtok(NULL, " \n"), *file = strtok(NULL, " \n");
	char *last = strtok(NULL, " \n");

	if (!word || !dir)
		return;
	if (!strcmp(word, "limits")) {
		c->limits.plain_entries_max = atoll(dir);
		c->limits.plain_max_bytes = file ? atoll(file) : 0;
		c->limits.patch_max_bytes = last ? atoll(last) : 0;
		printf("ok 0 0 0\n");
	} else if (!strcmp(word, "plan")) {
		say_plan(find(c, dir));
	}
	for (unsigned i = 0; i < NELEM(words); i++)
		if (!strcmp(word, words[i].word)) {
			struct tree_job job = {.op = words[i].op, .ephemeral = words[i].ephemeral};

			run(c, find(c, dir), &job, file);
		}
	fflush(stdout);
}

int main(void)
{
	struct control *c = calloc(1, sizeof *c);
	struct err e = {0};
	struct conf conf; /* the defaults */
	char *line = NULL;
	size_t cap = 0;

	if (!c || conf_init(&conf) < 0)
		return 1;
	c->limits = (struct ws_limits){.archive_max_bytes = conf.archive_max_bytes,
		.archive_unpacked_max_bytes = conf.archive_unpacked_max_bytes,
		.archive_entries_max = conf.archive_entries_max,
		.archive_ratio_max = conf.archive_ratio_max,
		.plain_entries_max = conf.plain_entries_max,
		.plain_max_bytes = conf.plain_max_bytes,
		.patch_max_bytes = conf.patch_max_bytes};
	conf_clear(&conf);
	c->server = tree_server_start(&e);
	if (!c->server) {
		say_error(&e);
		return 1;
	}
	while (getline(&line, &cap, stdin) > 0)
		obey(c, line);
	tree_server_stop(c->server);
	free(line);
	free(c);
	return 0;
}
