/*
 * Talks to the engine broker for tests/cli/engine.py: a question a line on standard input, words of
 * key=value; what the broker says, a JSON object a line, on standard output. Ends with its input.
 *	make box=b image=i [session=s memory=N cpu=N pids=N shm=N files=N create_only=1 network=1
 *	     bind=SOURCE:TARGET[:ro] tmpfs=TARGET:BYTES:MODE]
 *	fd=PATH: goes with the question, opened to read; pipe=1: the write end of a pipe whose
 *	bytes are shown when it ends
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/engine.h"
#include "fcgi/json_out.h"
#include "isolate/log.h"
#include "isolate/own.h"

static const char *const verbs[] = {[ENGINE_INFO] = "info",
	[ENGINE_MAKE] = "make",
	[ENGINE_START] = "start",
	[ENGINE_KILL] = "kill",
	[ENGINE_REMOVE] = "remove",
	[ENGINE_STATS] = "stats",
	[ENGINE_SWEEP] = "sweep",
	[ENGINE_IMAGE_LIST] = "image-list",
	[ENGINE_IMAGE_INSPECT] = "image-inspect",
	[ENGINE_IMAGE_REMOVE] = "image-remove",
	[ENGINE_IMAGE_RESOLVE] = "image-resolve",
	[ENGINE_IMAGE_PULL] = "image-pull",
	[ENGINE_IMAGE_IMPORT] = "image-import"};

static int pipe_end = -1;

static void add_mount(struct engine_question *q, enum engine_mount_kind kind, char *text)
{
	struct engine_mount *m = &q->mounts[q->nmounts++ % ENGINE_MOUNTS_MAX];
	char *first = strsep(&text, ":"), *second = strsep(&text, ":"), *third = text;

	memset(m, 0, sizeof *m);
	m->kind = kind;
	if (kind == ENGINE_BIND) {
		snprintf(m->source, sizeof m->source, "%s", first);
		snprintf(m->target, sizeof m->target, "%s", second ? second : "");
		m->read_only = third != NULL;
	} else {
		snprintf(m->target, sizeof m->target, "%s", first);
		m->bytes = second ? strtoull(second, NULL, 0) : 0;
		m->mode = third ? (uint32_t)strtoul(third, NULL, 8) : 01777;
	}
}

static void set_text(struct engine_question *q, const char *key, const char *value)
{
	if (!strcmp(key, "box"))
		snprintf(q->box, sizeof q->box, "%s", value);
	else if (!strcmp(key, "session"))
		snprintf(q->session, sizeof q->session, "%s", value);
	else if (!strcmp(key, "image"))
		snprintf(q->image, sizeof q->image, "%s", value);
}

static void set_number(struct engine_question *q, const char *key, uint64_t n)
{
	if (!strcmp(key, "memory"))
		q->memory_bytes = n;
	else if (!strcmp(key, "cpu"))
		q->cpu_percent = (uint32_t)n;
	else if (!strcmp(key, "pids"))
		q->processes = (uint32_t)n;
	else if (!strcmp(key, "shm"))
		q->shm_bytes = n;
	else if (!strcmp(key, "files"))
		q->files_open = n;
	else if (!strcmp(key, "create_only"))
		q->flags |= ENGINE_CREATE_ONLY;
	else if (!strcmp(key, "network"))
		q->flags |= ENGINE_NETWORK;
	else if (!strcmp(key, "nmounts"))
		q->nmounts = (uint32_t)n;
	else if (!strcmp(key, "flags"))
		q->flags = (uint32_t)n;
}

static int open_pipe(void)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	own_close(&pipe_end);
	pipe_end = p[0];
	return p[1];
}

static void ask(int sock, char *line, uint64_t number)
{
	struct engine_question q = {.number = number};
	OWN_FD fd = -1;
	struct err e;
	char *word = strsep(&line, " "), *value;

	for (uint32_t i = 0; i < NELEM(verbs); i++)
		if (verbs[i] && !strcmp(verbs[i], word))
			q.op = i;
	while ((word = strsep(&line, " "))) {
		value = strchr(word, '=');
		if (!value)
			continue;
		*value++ = '\0';
		if (!strcmp(word, "bind") || !strcmp(word, "tmpfs"))
			add_mount(&q, *word == 'b' ? ENGINE_BIND : ENGINE_TMPFS, value);
		else if (!strcmp(word, "fd"))
			fd = open(value, O_RDONLY | O_CLOEXEC);
		else if (!strcmp(word, "pipe"))
			fd = open_pipe();
		set_text(&q, word, value);
		set_number(&q, word, strtoull(value, NULL, 0));
	}
	if (engine_ask(sock, &q, fd, &e) < 0)
		printf("{\"op\":\"ask\",\"number\":%llu,\"kind\":%d,\"msg\":\"%s\"}\n",
			(unsigned long long)number, e.kind, e.msg);
}

static void put_text(struct buf *b, const char *key, const char *value)
{
	if (!*value)
		return;
	buf_addf(b, ",\"%s\":", key);
	json_out_text(b, value);
}

static void put_fd(struct buf *b, int fd, uint64_t n)
{
	OWN_MEM char *text = malloc(n + 1);

	if (!text || pread(fd, text, n, 0) != (ssize_t)n)
		return;
	buf_adds(b, ",\"text\":");
	json_out_string(b, text, n);
}

static void put_info(struct buf *b, const struct engine_info *i)
{
	put_text(b, "version", i->version);
	put_text(b, "api", i->api);
	put_text(b, "name", i->name);
	put_text(b, "runtimes", i->runtimes);
	put_text(b, "runtime", i->runtime);
	put_text(b, "storage", i->storage);
	put_text(b, "security", i->security);
	buf_addf(b, ",\"cgroup_version\":%u,\"lacks\":%u", i->cgroup_version, i->lacks);
}

static void show(const struct engine_answer *a, int fd)
{
	OWN_BUF b = BUF_INIT(64 << 20);
	const char *op = a->op < NELEM(verbs)    ? verbs[a->op]
			 : a->op == ENGINE_ENDED ? "ENDED"
			 : a->op == ENGINE_STATE ? "STATE"
			 : a->op == ENGINE_OOM   ? "OOM"
			 : a->op == ENGINE_LOST  ? "LOST"
						 : NULL;

	buf_addf(&b, "{\"op\":\"%s\",\"number\":%llu,\"kind\":%d,\"errno\":%d", op ? op : "?",
		(unsigned long long)a->number, a->err.kind, a->err.errnum);
	put_text(&b, "msg", a->err.msg);
	put_text(&b, "box", a->box);
	put_text(&b, "container", a->container);
	put_text(&b, "image", a->image);
	put_text(&b, "user", a->user);
	put_text(&b, "workdir", a->workdir);
	buf_addf(&b,
		",\"exit\":%d,\"oom\":%u,\"count\":%u,\"processes\":%u,\"memory\":%llu,"
		"\"cpu_us\":%llu",
		a->exit_code, a->oom_killed, a->count, a->processes,
		(unsigned long long)a->memory_bytes, (unsigned long long)a->cpu_us);
	put_info(&b, &a->info);
	if (fd >= 0)
		put_fd(&b, fd, a->bytes);
	puts(buf_adds(&b, "}") == 0 ? b.p : "{}");
	fflush(stdout);
}

static void show_pipe(void)
{
	char piece[4096];
	ssize_t n = read(pipe_end, piece, sizeof piece);
	OWN_BUF b = BUF_INIT(1 << 20);

	buf_adds(&b, "{\"op\":\"PIPE\",\"number\":0,\"text\":");
	json_out_string(&b, piece, n > 0 ? (size_t)n : 0);
	puts(buf_adds(&b, "}") == 0 ? b.p : "{}");
	fflush(stdout);
	if (n <= 0)
		own_close(&pipe_end);
}

/* false: the end. */
static bool turn(int sock, uint64_t *number)
{
	struct pollfd p[] = {{.fd = sock, .events = POLLIN}, {.fd = 0, .events = POLLIN},
		{.fd = pipe_end, .events = POLLIN}};
	struct engine_answer a;
	struct err e;
	char line[8192];
	int fd, r = 0;

	poll(p, 3, -1);
	if (p[2].revents)
		show_pipe();
	while (p[0].revents && (r = engine_hear(sock, &a, &fd, &e)) == 1) {
		show(&a, fd);
		own_close(&fd);
	}
	if (r < 0) {
		printf("{\"op\":\"GONE\",\"number\":0}\n");
		return false;
	}
	if (!p[1].revents)
		return true;
	if (!fgets(line, sizeof line, stdin))
		return false;
	line[strcspn(line, "\n")] = '\0';
	ask(sock, line, ++*number);
	return true;
}

int main(void)
{
	struct err e = {0};
	struct conf c;
	uint64_t number = 0;
	pid_t pid = 0;
	int sock;

	setvbuf(stdin, NULL, _IONBF, 0); /* poll() looks at the descriptor */
	setvbuf(stdout, NULL, _IOLBF, 0);
	log_open("enginectl", LOG_INFO);
	if (conf_load(&c, NULL, environ, &e) < 0 || (sock = engine_spawn(&c, &pid, &e)) < 0) {
		log_err(LOG_ERROR, &e, "start");
		return err_exit_code(e.kind);
	}
	printf("{\"op\":\"PID\",\"number\":0,\"pid\":%d}\n", (int)pid);
	while (turn(sock, &number))
		;
	conf_clear(&c);
	return 0;
}
