/* What a session's workspace can be asked for: patch, commit, discard, forks, snapshots, export. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fcgi/dialects/native.h"
#include "fcgi/json_out.h"
#include "fcgi/mark.h"
#include "fcgi/query.h"
#include "fcgi/schema.h"
#include "fcgi/session_dir.h"
#include "fcgi/ws_export.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { LIST_STEP = 4096, EXPORT_WAIT_MS = 60000, EXPORT_PIECE = 1 << 16 };

/* What a request says, after its check. */
struct asked {
	struct workspace_order order;
	char mark[WORKSPACE_MARK_MAX + 1], path[WORKSPACE_PATH_MAX + 1];
};

/* --- what is said --- */

static void refused(struct dialect_call *c, const struct err *e, const char *doing)
{
	if (e->kind == ERR_BUSY && (e->errnum == EWOULDBLOCK || e->errnum == EEXIST))
		dialect_detail(c, 409, e->msg);
	else if (e->kind == ERR_NOTFOUND)
		dialect_detail(c, 404,
			e->errnum == ENOENT ? "Session not found or already closed" : e->msg);
	else
		dialect_fail(c, e, doing);
}

static int no_session(struct dialect_call *c)
{
	dialect_detail(c, 404, "Session not found or already closed");
	return -1;
}

/* Begins an order on the session that the path names. -1: the response is complete. */
static int begin(struct dialect_call *c, struct asked *a, enum workspace_verb verb)
{
	memset(a, 0, sizeof *a);
	a->order = (struct workspace_order){
		.verb = verb, .mark = a->mark, .path = a->path, .fd = -1};
	if (!session_id_valid(c->param))
		return no_session(c);
	return native_flag(c, "stop", &a->order.stop);
}

static void check_name(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const char *s = json_object_get_string(v->json);

	(void)arg;
	if (strlen(s) != (size_t)json_object_get_string_len(v->json) || !mark_name_good(s))
		schema_value_error(r, f, NULL, -1, v->json,
			"1 to 64 of A-Z a-z 0-9 . _ - that do not begin with a dot or hyphen");
}

static void check_count(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const struct dialect_call *c = arg;
	char text[80];

	snprintf(text, sizeof text, "1 to %lld (fork_max)", (long long)c->conf->fork_max);
	if (v->i < 1 || v->i > c->conf->fork_max)
		schema_value_error(r, f, NULL, -1, v->json, text);
}

enum { B_STOP, B_NAME, B_COUNT, B_FIELDS };

/* The members of the body: those that the verb knows. -1: the response is complete. */
static int body(struct dialect_call *c, struct asked *a, bool name, bool needs_name, bool count)
{
	const struct schema_field all[B_FIELDS] = {
		[B_STOP] = {.name = "stop", .type = SCHEMA_BOOL, .nullable = true},
		[B_NAME] = {.name = name ? "name" : "count",
			.type = name ? SCHEMA_STRING : SCHEMA_INT,
			.required = needs_name,
			.nullable = !needs_name,
			.check = name ? check_name : check_count},
	};
	struct json_object *none = c->body->doc ? NULL : json_object_new_object();
	struct schema_value v[B_FIELDS] = {{.given = false}};
	unsigned bad = schema_check(
		all, 1 + (name || count), c->body->doc ? c->body->doc : none, v, c, &c->rs->body);

	if (bad) {
		json_object_put(none);
		dialect_status(c, 422);
		return -1;
	}
	buf_clear(&c->rs->body);
	if (v[B_STOP].given)
		a->order.stop = v[B_STOP].b;
	if (name && v[B_NAME].given)
		snprintf(a->mark, sizeof a->mark, "%s", json_object_get_string(v[B_NAME].json));
	a->order.count = count && v[B_NAME].given ? (unsigned)v[B_NAME].i : 1;
	json_object_put(none);
	return 0;
}

/* The name in the path. -1: the response is complete. */
static int path_name(struct dialect_call *c, struct asked *a)
{
	if (!mark_name_good(c->param2)) {
		dialect_detail(c, 404, "no snapshot or commit has this name");
		return -1;
	}
	snprintf(a->mark, sizeof a->mark, "%s", c->param2);
	return 0;
}

/* Does it. -1: the response is complete, an error. */
static int obey(struct dialect_call *c, const struct asked *a, struct workspace_answer *out,
	const char *doing)
{
	struct err e = {0};

	*out = (struct workspace_answer){.fd = -1};
	if (c->ops->workspace(c->backend, c->param, &a->order, out, &e) == 0)
		return 0;
	refused(c, &e, doing);
	return -1;
}

/* --- patch --- */

/* fd: taken over; its position is the writer's. */
static void answer_file(struct dialect_call *c, int fd, uint64_t bytes, const char *type)
{
	if (lseek(fd, 0, SEEK_SET) == 0) {
		dialect_stream(c, 200, type, fd, (int64_t)bytes);
		return;
	}
	close(fd);
	dialect_detail(c, 500, "Internal Server Error");
}

/* The patch as a member of an object; it is UTF-8. */
static void answer_patch_json(struct dialect_call *c, int fd, uint64_t bytes)
{
	struct buf *b = &c->rs->body;
	char *text = bytes ? mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;

	if (bytes && text == MAP_FAILED) {
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	b->max = 6 * bytes + 4096;
	buf_addf(b, "{\"bytes\":%llu,\"patch\":", (unsigned long long)bytes);
	if (bytes)
		json_out_string(b, text, bytes);
	else
		buf_adds(b, "null");
	buf_addc(b, '}');
	if (bytes)
		munmap(text, bytes);
	dialect_status(c, 200);
}

/* since and format. -1: the response is complete. */
static int patch_query(struct dialect_call *c, struct asked *a, bool *json)
{
	char format[8];
	int got = query_get(c->rq->uri, "since", a->mark, sizeof a->mark);

	if (got < 0 || (got > 0 && !mark_name_good(a->mark))) {
		dialect_detail(c, 404, "no snapshot or commit has this name");
		return -1;
	}
	got = query_get(c->rq->uri, "format", format, sizeof format);
	*json = got > 0 && !strcmp(format, "json");
	if (got == 0 || *json || (got > 0 && !strcmp(format, "diff")))
		return 0;
	dialect_detail(c, 422, "format: diff or json");
	return -1;
}

static void patch(struct dialect_call *c)
{
	OWN_FD fd = -1;
	struct workspace_answer out;
	struct asked a;
	bool json;

	if (begin(c, &a, WORKSPACE_PATCH) < 0 || patch_query(c, &a, &json) < 0)
		return;
	fd = memfd_create("patch", MFD_CLOEXEC);
	a.order.fd = fd;
	if (fd < 0) {
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	if (obey(c, &a, &out, "make a patch") < 0)
		return;
	if (json)
		answer_patch_json(c, fd, out.patch_bytes);
	else if (out.patch_bytes == 0)
		dialect_no_content(c);
	else
		answer_file(c, take_fd(&fd), out.patch_bytes, "text/x-diff; charset=utf-8");
}

/* --- commit, discard, snapshots --- */

static void simple(struct dialect_call *c, const struct asked *a, const char *doing)
{
	struct workspace_answer out;

	if (obey(c, a, &out, doing) < 0)
		return;
	own_close(&out.fd);
	dialect_no_content(c);
}

static void commit(struct dialect_call *c)
{
	struct asked a;

	if (begin(c, &a, WORKSPACE_COMMIT) == 0 && body(c, &a, true, false, false) == 0)
		simple(c, &a, "commit");
}

static void discard(struct dialect_call *c)
{
	struct asked a;

	if (begin(c, &a, WORKSPACE_DISCARD) == 0 && body(c, &a, false, false, false) == 0)
		simple(c, &a, "discard changes");
}

static void snapshot(struct dialect_call *c)
{
	struct workspace_answer out;
	struct asked a;

	if (begin(c, &a, WORKSPACE_SNAPSHOT) < 0 || body(c, &a, true, true, false) < 0 ||
		obey(c, &a, &out, "make a snapshot") < 0)
		return;
	buf_addf(&c->rs->body, "{\"name\":\"%s\"}", a.mark);
	dialect_status(c, 201);
}

static void restore(struct dialect_call *c)
{
	struct asked a;

	if (begin(c, &a, WORKSPACE_RESTORE) == 0 && path_name(c, &a) == 0 &&
		body(c, &a, false, false, false) == 0)
		simple(c, &a, "restore a snapshot");
}

static void forget(struct dialect_call *c)
{
	struct asked a;

	if (begin(c, &a, WORKSPACE_FORGET) == 0 && path_name(c, &a) == 0)
		simple(c, &a, "delete a snapshot");
}

/* --- lists, a line each --- */

typedef void put_line_fn(struct buf *b, const char *line);

static void put_id(struct buf *b, const char *line)
{
	json_out_text(b, line);
}

/* "seconds name" */
static void put_mark(struct buf *b, const char *line)
{
	const char *name = strchr(line, ' ');

	buf_addf(b, "{\"name\":");
	json_out_text(b, name ? name + 1 : "");
	buf_addf(b, ",\"created_at\":%lld}", atoll(line));
}

/* fd: taken over. */
static int put_lines(struct buf *b, int fd, put_line_fn *put)
{
	OWN_FILE f = fdopen(fd, "r");
	OWN_MEM char *line = NULL;
	const char *comma = "";
	size_t size = 0;
	ssize_t n;

	if (!f) {
		close(fd);
		return -1;
	}
	rewind(f); /* the position is the writer's */
	while ((n = getline(&line, &size, f)) > 0) {
		line[n - (line[n - 1] == '\n')] = '\0';
		buf_adds(b, comma);
		put(b, line);
		comma = ",";
	}
	return ferror(f) ? -1 : 0;
}

static void answer_list(struct dialect_call *c, const char *key, int fd, put_line_fn *put)
{
	buf_addf(&c->rs->body, "{\"%s\":[", key);
	if (fd < 0 || put_lines(&c->rs->body, fd, put) < 0) {
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	buf_adds(&c->rs->body, "]}");
	dialect_status(c, 200);
}

static void fork_session(struct dialect_call *c)
{
	struct workspace_answer out;
	struct asked a;

	if (begin(c, &a, WORKSPACE_FORK) == 0 && body(c, &a, false, false, true) == 0 &&
		obey(c, &a, &out, "fork a session") == 0)
		answer_list(c, "session_ids", out.fd, put_id);
}

static void snapshots(struct dialect_call *c)
{
	struct workspace_answer out;
	struct asked a;

	if (begin(c, &a, WORKSPACE_SNAPSHOTS) == 0 && obey(c, &a, &out, "list snapshots") == 0)
		answer_list(c, "snapshots", out.fd, put_mark);
}

/* --- export --- */

static const struct {
	const char *name, *type, *disposition;
} formats[] = {
	[WS_TAR] = {"tar", "application/x-tar", "attachment; filename=\"workspace.tar\""},
	[WS_TAR_GZ] = {"tar.gz", "application/gzip", "attachment; filename=\"workspace.tar.gz\""},
	[WS_ZIP] = {"zip", "application/zip", "attachment; filename=\"workspace.zip\""},
};

struct exported {
	int pipe, end; /* end: tells how it went */
	int (*export_end)(int fd, struct err *e);
	char piece[EXPORT_PIECE];
};

static void export_free(void *arg)
{
	struct exported *x = arg;

	own_close(&x->pipe);
	own_close(&x->end);
	free(x);
}

/* An archive that is not whole must not end as one that is: -1 cuts the answer off. */
static int more_of_export(struct http_response *rs, struct buf *out)
{
	struct exported *x = rs->more_arg;
	struct err e = {0};
	ssize_t got;

	do {
		got = read(x->pipe, x->piece, sizeof x->piece);
	} while (got < 0 && errno == EINTR);
	if (got > 0) {
		buf_add(out, x->piece, (size_t)got);
		return 1;
	}
	if (got < 0)
		err_set(&e, ERR_SETUP, errno, "read the export");
	else if (x->export_end(take_fd(&x->end), &e) == 0)
		return 0;
	log_err(LOG_WARN, &e, "an export breaks off");
	return -1;
}

/* Whether bytes come; else it is over before it began, and export_end() says why. */
static bool bytes_come(int pipe)
{
	struct pollfd p = {.fd = pipe, .events = POLLIN};

	while (poll(&p, 1, EXPORT_WAIT_MS) <= 0)
		;
	return p.revents & POLLIN;
}

static int export_query(struct dialect_call *c, struct asked *a)
{
	char format[8];
	int got = query_get(c->rq->uri, "format", format, sizeof format);
	size_t n;

	if (query_get(c->rq->uri, "path", a->path, sizeof a->path) < 0) {
		dialect_detail(c, 422, "path: not a path below the workspace");
		return -1;
	}
	n = strlen(a->path);
	while (n && a->path[n - 1] == '/')
		a->path[--n] = '\0';
	for (unsigned i = 0; i < NELEM(formats); i++)
		if (got == 0 || (got > 0 && !strcmp(format, formats[i].name))) {
			a->order.format = i;
			return 0;
		}
	dialect_detail(c, 422, "format: tar, tar.gz or zip");
	return -1;
}

static int start_export(
	struct dialect_call *c, const struct asked *a, struct exported *x, struct err *e)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	x->pipe = ends[0];
	x->end = c->ops->export_begin(c->backend, c->param, &a->order, ends[1], e);
	if (x->end < 0)
		return -1;
	if (bytes_come(x->pipe))
		return 0;
	if (c->ops->export_end(take_fd(&x->end), e) < 0)
		return -1;
	return err_set(e, ERR_BUG, 0, "an export without a byte");
}

static void export(struct dialect_call *c)
{
	struct exported *x;
	struct err e = {0};
	struct asked a;

	if (begin(c, &a, WORKSPACE_EXPORT) < 0 || export_query(c, &a) < 0)
		return;
	x = calloc(1, sizeof *x);
	if (!x) {
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	x->pipe = x->end = -1;
	x->export_end = c->ops->export_end;
	if (start_export(c, &a, x, &e) < 0) {
		export_free(x);
		refused(c, &e, "export a workspace");
		return;
	}
	c->rs->status = 200;
	c->rs->content_type = formats[a.order.format].type;
	dialect_header(c, "Content-Disposition", formats[a.order.format].disposition);
	c->rs->more = more_of_export;
	c->rs->more_arg = x;
	c->rs->more_end = export_free;
}

const struct route native_workspace_routes[] = {
	{HTTP_GET, "session/*/patch", 0, patch},
	{HTTP_POST, "session/*/commit", ROUTE_JSON | ROUTE_EMPTY, commit},
	{HTTP_POST, "session/*/discard", ROUTE_JSON | ROUTE_EMPTY, discard},
	{HTTP_POST, "session/*/fork", ROUTE_JSON | ROUTE_EMPTY, fork_session},
	{HTTP_GET, "session/*/snapshots", 0, snapshots},
	{HTTP_POST, "session/*/snapshots", ROUTE_JSON, snapshot},
	{HTTP_POST, "session/*/snapshots/*/restore", ROUTE_JSON | ROUTE_EMPTY, restore},
	{HTTP_DELETE, "session/*/snapshots/*", 0, forget},
	{HTTP_GET, "session/*/export", 0, export},
};
const size_t native_nworkspace_routes = NELEM(native_workspace_routes);
