/*
 * The application over a backend of the test's own, and requests from memory. The backend
 * stands in for the verb table alone; what a sandbox does is tested with real ones elsewhere.
 */
#ifndef CGIBOX_TEST_APP_H
#define CGIBOX_TEST_APP_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "fcgi/backend.h"
#include "fcgi/base64.h"
#include "fcgi/http.h"
#include "isolate/conf.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

#define ID      "01234567-89ab-4def-8123-456789abcdef"
#define NO_ID   "01234567-89ab-4def-8123-000000000000"
#define RUN     "/session/" ID "/"
#define RESULTS "{\"results\":["

/* What the backend was told, and what it is to answer. */
static struct {
	struct err fail; /* kind set: the next verb named in fail_at fails with it */
	char fail_at;    /* 'h'ealth 'c'reate 'o'pen 'p'atch 'd'estroy 's'ystem */
	struct session_spec spec;
	char env[256];
	size_t archive_bytes;
	char archive[64];
	bool has_archive, extract_patch;
	unsigned creates, opens, closes, execs, patches, destroys;
	unsigned unenforced; /* what create() reports */
	char workdir[64];
	int64_t timeout_ms, output_max;
	const char *patch;
	struct system_info system; /* facts: borrowed */
	enum image_verb image_verb;
	char image_ref[300];
	const char *image_text;
	int image_code;
	struct files_order files_order; /* of the last file verb */
	struct files_result files;      /* its answer */
	unsigned file_verbs;
	char files_data[64]; /* what came with it */
} be;

static int failing(char verb, struct err *e)
{
	if (be.fail_at != verb)
		return 0;
	*e = be.fail;
	return -1;
}

static struct backend *be_new(const struct conf *c, struct err *e)
{
	(void)c, (void)e;
	return (struct backend *)&be;
}

static void be_free(struct backend *b)
{
	(void)b;
}

static int be_health(struct backend *b, struct err *e)
{
	(void)b;
	return failing('h', e);
}

static int be_create(
	struct backend *b, const struct session_spec *s, struct session_made *out, struct err *e)
{
	(void)b;
	be.creates++;
	be.spec = *s;
	memset(be.env, 0, sizeof be.env);
	if (s->env_bytes)
		memcpy(be.env, s->env, s->env_bytes);
	strcpy(out->id, ID);
	out->unenforced = be.unenforced;
	return failing('c', e);
}

static int be_exists(struct backend *b, const char *id, struct err *e)
{
	(void)b;
	return strcmp(id, ID) ? err_set(e, ERR_NOTFOUND, 0, "no such session") : 0;
}

static struct session_call *be_open(
	struct backend *b, const char *id, int fd, struct session_info *info, struct err *e)
{
	struct stat st = {0};
	ssize_t n = 0;

	if (be_exists(b, id, e) < 0)
		return NULL;
	be.opens++;
	be.has_archive = fd >= 0;
	if (fd >= 0 && fstat(fd, &st) == 0)
		n = read(fd, be.archive, sizeof be.archive - 1);
	be.archive[n > 0 ? n : 0] = '\0';
	be.archive_bytes = (size_t)st.st_size;
	info->extract_patch = be.extract_patch;
	info->has_baseline = fd >= 0;
	return failing('o', e) < 0 ? NULL : (struct session_call *)&be;
}

/* As much output as is kept, and one byte more. */
static int be_fill(const struct command_spec *s, struct result *r)
{
	static char piece[65536];

	memset(piece, 'a', sizeof piece);
	r->truncated = 1;
	while ((int64_t)r->output_kept < s->output_max_bytes) {
		int64_t n = s->output_max_bytes - (int64_t)r->output_kept;

		n = write(s->output_fd, piece, n < 65536 ? (size_t)n : sizeof piece);
		if (n < 0)
			return -1;
		r->output_kept += (uint64_t)n;
	}
	r->output_bytes = r->output_kept + 1;
	return 0;
}

/* "say TEXT", "exit N", "slow TEXT" (a timeout), "cut" (truncated), "odd" (bytes),
 * "mem", "disk" (verdicts), .. */
static int be_exec(
	struct session_call *c, const struct command_spec *s, struct result *r, struct err *e)
{
	const char *text = strlen(s->command) > 5 ? s->command + 5 : "";

	(void)c;
	be.execs++;
	snprintf(be.workdir, sizeof be.workdir, "%s", s->workdir ? s->workdir : "(null)");
	be.timeout_ms = s->timeout_ms;
	be.output_max = s->output_max_bytes;
	*r = (struct result){.wall_us = 12345,
		.user_us = 3999,
		.system_us = 2000,
		.rss_peak_kib = 10,
		.disk_read_bytes = 512,
		.disk_write_bytes = 1024,
		.processes = 3};
	if (!strncmp(s->command, "lost", 4))
		return err_set(e, ERR_SETUP, EIO, "a path: /var/lib/secret");
	if (!strncmp(s->command, "exit", 4)) {
		r->exit_code = atoi(text);
		r->verdict = r->exit_code ? VERDICT_EXIT : VERDICT_OK;
		return 0;
	}
	if (!strncmp(s->command, "slow", 4)) {
		r->verdict = VERDICT_TIMEOUT;
		r->exit_code = 137;
	}
	if (!strncmp(s->command, "fill", 4))
		return be_fill(s, r);
	if (!strncmp(s->command, "gone", 4))
		r->verdict = VERDICT_INTERRUPTED;
	if (!strncmp(s->command, "mem", 3)) /* the limit of a control group */
		*r = (struct result){.verdict = VERDICT_MEMORY,
			.exit_code = 137,
			.wall_us = 12345,
			.rss_peak_kib = 10,
			.disk_read_bytes = 512,
			.disk_write_bytes = 1024,
			.processes = 3,
			.in_cgroup = 1,
			.oom_kills = 2,
			.pids_denied = 3,
			.pids_peak = 4,
			.memory_peak_bytes = 123456789,
			.cpu_us = 5999,
			.throttled_us = 6000};
	if (!strncmp(s->command, "disk", 4)) {
		r->verdict = VERDICT_DISK;
		r->exit_code = 137;
	}
	if (!strncmp(s->command, "cut", 3)) {
		r->truncated = 1;
		text = "half \xe2\x82";
	}
	if (!strncmp(s->command, "odd", 3))
		text = "a\xff\"\\\x01\xe2\x82z";
	r->output_kept = strlen(text);
	r->output_bytes = r->output_kept + (r->truncated ? 1000 : 0);
	return write(s->output_fd, text, strlen(text)) < 0 ? -1 : 0;
}

static int be_patch(struct session_call *c, int fd, uint64_t *bytes, struct err *e)
{
	(void)c;
	be.patches++;
	*bytes = strlen(be.patch);
	if (write(fd, be.patch, strlen(be.patch)) < 0)
		return -1;
	return failing('p', e);
}

static void be_close(struct session_call *c)
{
	be.closes += c != NULL;
}

static int be_destroy(struct backend *b, const char *id, struct err *e)
{
	(void)b, (void)id;
	be.destroys++;
	return failing('d', e);
}

static int be_system(struct backend *b, struct system_info *out, struct err *e)
{
	(void)b;
	*out = be.system;
	out->facts = be.system.facts ? strdup(be.system.facts) : NULL;
	return failing('s', e);
}

/* The answer is be.image_text in a file, or in a pipe for a pull. */
static int be_image(struct backend *b, enum image_verb verb, const char *ref,
	struct image_answer *out, struct err *e)
{
	int pair[2];

	(void)b;
	be.image_verb = verb;
	snprintf(be.image_ref, sizeof be.image_ref, "%s", ref);
	if (failing('i', e) < 0)
		return -1;
	if (verb == IMAGE_PULL && pipe(pair) == 0) {
		out->fd = pair[0];
	} else {
		pair[1] = memfd_create("image", MFD_CLOEXEC);
		out->fd = dup(pair[1]);
	}
	out->code = be.image_code;
	if (write(pair[1], be.image_text, strlen(be.image_text)) < 0)
		return err_set(e, ERR_SETUP, errno, "write");
	return close(pair[1]);
}

static int be_files(struct backend *b, const char *id, struct files_order *o,
	const struct buf *texts, int data, struct files_result *out, struct err *e)
{
	(void)b, (void)id, (void)texts;
	be.file_verbs++;
	be.files_order = *o;
	memset(be.files_data, 0, sizeof be.files_data);
	if (pread(data, be.files_data, sizeof be.files_data - 1, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "read");
	*out = be.files;
	return failing('f', e);
}

static int be_seed(struct backend *b, const char *id, int repo, int skills,
	struct files_result *out, struct err *e)
{
	(void)b, (void)id, (void)repo, (void)skills;
	*out = be.files;
	return failing('f', e);
}

/* The symbols that app.c knows: the linker prefers them to the library's. */
const struct backend_ops backend_isolate = {.name = "test",
	.new = be_new,
	.free = be_free,
	.health = be_health,
	.create = be_create,
	.exists = be_exists,
	.open = be_open,
	.exec = be_exec,
	.patch = be_patch,
	.close = be_close,
	.destroy = be_destroy,
	.image = be_image,
	.files = be_files,
	.seed = be_seed,
	.system = be_system};
const struct backend_ops backend_docker = {.name = "none"},
			 backend_docker_stream = {.name = "none"};

/* A request from memory. */

struct input {
	const char *p;
	size_t n, step;
	int fail; /* error kind at the end instead of an end */
};

static long input_read(struct http_request *r, void *to, size_t n, struct err *e)
{
	struct input *in = r->read_arg;

	if (in->n == 0 && in->fail)
		return err_set(e, in->fail, 0, "the body is not as announced");
	if (n > in->n)
		n = in->n;
	if (n > in->step)
		n = in->step;
	memcpy(to, in->p, n);
	in->p += n;
	in->n -= n;
	return (long)n;
}

static struct conf conf;
static struct app *app;
static struct http_response rs;
static const char *key = "secret";
static const char *type = "application/json";
static int input_fail;
static const char *content_range;

static const char *call_bytes(enum http_method m, const char *uri, const char *body, size_t n)
{
	struct input in = {body, n, 7, input_fail};
	struct http_request rq = {.method = m,
		.uri = uri,
		.content_type = type,
		.content_length = -1,
		.api_key = key,
		.remote_addr = "127.0.0.1",
		.request_id = "0123456789abcdef",
		.content_range = content_range,
		.body_max = INT64_MAX,
		.read = input_read,
		.read_arg = &in};

	buf_clear(&rs.body);
	buf_clear(&rs.headers);
	memset(&rs, 0, sizeof rs);
	in.step = n > 65536 ? 65536 : 7;
	app_handle(app, &rq, &rs);
	if (in.n)
		printf("# %zu bytes of the body were not read\n", in.n);
	return rs.body.p && rs.body.len ? rs.body.p : "";
}

static inline const char *call(enum http_method m, const char *uri, const char *body)
{
	return call_bytes(m, uri, body, strlen(body));
}

static inline void want(int status, const char *body, const char *got, const char *what)
{
	if (!ok(rs.status == status, "%s: %d", what, status))
		printf("#      got: %d %s\n", rs.status, got);
	if (body)
		is_str(got, body, what);
}

#define POST(uri, body) call(HTTP_POST, uri, body)
#define NOT_FOUND       "{\"detail\":\"Session not found or already closed\"}"

#define PROBLEM(type, loc, msg, input, more)                                                       \
	"{\"detail\":[{\"type\":\"" type "\",\"loc\":[\"body\"," loc "],\"msg\":\"" msg            \
	"\",\"input\":" input more "}]}"
#define VALUE_ERROR(loc, text, input)                                                              \
	PROBLEM("value_error", loc, "Value error, " text, input,                                   \
		",\"ctx\":{\"error\":\"" text "\"}")

static char state_dir[] = "/tmp/cgibox-test-XXXXXX";
static char tmp_dir[64];

/* A configuration with its state directory, and the application. */
static inline bool app_start(void)
{
	struct err e = {0};

	be.patch = "";
	log_open("test", LOG_QUIET);
	if (!mkdtemp(state_dir) || conf_init(&conf) < 0)
		return false;
	snprintf(tmp_dir, sizeof tmp_dir, "%s/tmp", state_dir);
	mkdir(tmp_dir, 0700);
	conf_set(&conf, "state_dir", state_dir, &e);
	ok(!app_new(&conf, &e) && e.kind == ERR_CONF, "no service without a key");
	conf_set(&conf, "api_key", "secret", &e);
	app = app_new(&conf, &e);
	return ok(app != NULL, "application");
}

static inline int app_stop(void)
{
	ok(rmdir(tmp_dir) == 0, "nothing is left in the state directory");
	rmdir(state_dir);
	buf_clear(&rs.body);
	app_free(app);
	conf_clear(&conf);
	return done();
}

#endif
