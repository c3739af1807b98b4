/* execute and execute_code: a command line, or a program, in a session. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fcgi/dialects/files_call.h"
#include "fcgi/dialects/runtime.h"
#include "fcgi/handler.h"
#include "fcgi/json_out.h"
#include "fcgi/schema.h"
#include "isolate/own.h"

enum { ARGS_MAX = 1024, LINE_MAX_BYTES = 8 << 20, VALUE_MAX_BYTES = 4 << 20 };

/*
 * A script arrives on standard input, where no limit of an argument list holds, and is read to its end
 * before it begins; it finds its input empty. bash, as the original, where the image has it.
 */
static const char shell[] =
	"if command -v bash >/dev/null 2>&1; then exec bash -c 'eval \"$(cat)\"' "
	"\"$0\" \"$@\"; fi; eval \"$(cat)\"";

/*
 * Runs code as __main__, as `python3 NAME ARGS` would, and afterwards tells the values of some of its
 * variables, whatever became of it. It is the code of a job of handler.h, whose handler it defines; the exit
 * status is the code's own, which must wait until the values are out and all atexit functions have run.
 */
static const char runner[] =
	"def handler(job):\n"
	"    import sys, os, json, linecache, atexit\n"
	"    space = sys.modules['__main__'].__dict__\n"
	"    del space['handler']\n"
	"    name, code, status = job['name'], job['code'], [0]\n"
	"    def leave():\n"
	"        for f in (sys.stdout, sys.stderr):\n"
	"            try:\n"
	"                f.flush()\n"
	"            except Exception:\n"
	"                pass\n"
	"        if status[0]:\n"
	"            os._exit(status[0])\n"
	"    atexit.register(leave)\n"
	"    sys.argv = [name] + job['args']\n"
	"    sys.path[0] = os.path.dirname(name) or os.getcwd()\n"
	"    space['__file__'] = name\n"
	"    linecache.cache[name] = (len(code), None, code.splitlines(True), name)\n"
	"    try:\n"
	"        exec(compile(code, name, 'exec', dont_inherit=True), space)\n"
	"    except SystemExit as e:\n"
	"        if isinstance(e.code, int):\n"
	"            status[0] = e.code & 255\n"
	"        elif e.code is not None:\n"
	"            print(e.code, file=sys.stderr)\n"
	"            status[0] = 1\n"
	"    except BaseException as e:\n"
	"        kind, value, tb = sys.exc_info()\n"
	"        status[0] = 130 if isinstance(e, KeyboardInterrupt) else 1\n"
	"        tb = tb.tb_next\n" /* this frame */
	"        if sys.excepthook is sys.__excepthook__:\n"
	"            from traceback import print_exception\n"
	"            print_exception(kind, value, tb)\n"
	"        else:\n"
	"            sys.excepthook(kind, value, tb)\n"
	"    values = {}\n"
	"    for k in job['outputs']:\n"
	"        if k in space:\n"
	"            try:\n"
	"                json.dumps(space[k], allow_nan=False)\n"
	"                values[k] = space[k]\n"
	"            except Exception:\n"
	"                try:\n"
	"                    values[k] = json.loads(json.dumps(space[k], default=str))\n"
	"                    json.dumps(values[k], allow_nan=False)\n"
	"                except Exception:\n"
	"                    values[k] = str(space[k])\n"
	"    return values\n";

/* --- what both have in common --- */

/* NULL-ended; -1: one holds a NUL character, or there are too many: the response is complete. */
static int take_args(
	struct dialect_call *c, const struct schema_value *v, const char *out[ARGS_MAX + 1])
{
	size_t n = v->given ? json_object_array_length(v->json) : 0;

	if (n > ARGS_MAX) {
		rt_refuse(c, "Invalid args", "at most 1024 arguments");
		return -1;
	}
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(v->json, i);

		out[i] = json_object_get_string(o);
		if (strlen(out[i]) != (size_t)json_object_get_string_len(o) ||
			strlen(out[i]) > (size_t)c->conf->command_max_bytes) {
			rt_refuse(c, "Invalid args",
				"an argument is too long or holds a NUL character");
			return -1;
		}
	}
	out[n] = NULL;
	return 0;
}

/* Seconds, as the client asks or sandbox.conf says. -1: the response is complete. */
static int take_timeout(struct dialect_call *c, const struct schema_value *v, int64_t *ms)
{
	int64_t max = c->conf->command_timeout_max_s, usual = c->conf->kweaver_runtime_timeout_s;

	*ms = 1000 * (usual < max ? usual : max);
	if (!v->given)
		return 0;
	if (!(v->d > 0) || v->d > (double)max) {
		rt_refuse(
			c, "Invalid timeout", "more than 0, at most command_timeout_max_s seconds");
		return -1;
	}
	*ms = (int64_t)(v->d * 1000);
	*ms += *ms == 0;
	return 0;
}

static int input_file(const char *p, size_t n, struct err *e)
{
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	OWN_FD fd = memfd_create("script", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || write(fd, p, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET) < 0 ||
		fcntl(fd, F_ADD_SEALS, seals) < 0)
		return err_set(e, ERR_SETUP, errno, "memory for a script");
	return take_fd(&fd);
}

/* more: further members of the answer, each after its comma. */
static void answer_ran(struct dialect_call *c, struct rt_ran *ran, const struct buf *more)
{
	struct buf *b = &c->rs->body;
	size_t max = (size_t)c->conf->output_max_bytes;

	b->max = 16 * max + VALUE_MAX_BYTES + 65536;
	buf_clear(b);
	buf_adds(b, "{\"stdout\":\"");
	if (ran->out.len)
		rt_put_output(b, ran, ran->out.p, ran->out.len, max);
	buf_adds(b, "\",\"stderr\":");
	json_out_string(b, ran->err.p, ran->err.len);
	buf_addf(b, ",\"returncode\":%d,\"verdict\":\"%s\",\"truncated\":%s", ran->result.exit_code,
		verdict_name(ran->result.verdict),
		ran->cut || ran->result.truncated ? "true" : "false");
	if (more)
		buf_add(b, more->p, more->len);
	buf_addc(b, '}');
	dialect_status(c, 200);
}

static void run_failed(struct dialect_call *c, const struct err *e)
{
	files_refuse(c, e, "run a command");
}

/* Runs a script of n bytes under a name, with arguments. */
static void run_shell(struct dialect_call *c, const char *script, size_t n, const char *name,
	const char *const *args, int64_t timeout_ms)
{
	const char *argv[ARGS_MAX + 5] = {"sh", "-c", shell, name};
	struct run_spec s = {.argv = argv};
	struct rt_ran ran = {.cut = false};
	struct err e = {0};
	OWN_FD in = input_file(script, n, &e);

	for (size_t i = 0; args[i]; i++)
		argv[4 + i] = args[i];
	s.stdin_fd = in;
	if (in < 0 || rt_run(c, c->param, &s, timeout_ms, &ran, &e) < 0) {
		run_failed(c, &e);
	} else {
		rt_explain(&ran, timeout_ms);
		answer_ran(c, &ran, NULL);
	}
	rt_ran_clear(&ran);
}

/* --- POST execute/{sid} --- */

enum { E_COMMAND, E_ARGS, E_TIMEOUT, E_MAX };

static const struct schema_field execute_fields[E_MAX] = {
	[E_COMMAND] = {"command", SCHEMA_STRING, true, false, NULL, NULL},
	[E_ARGS] = {"args", SCHEMA_STRING_LIST, false, true, NULL, NULL},
	[E_TIMEOUT] = {"timeout", SCHEMA_FLOAT, false, true, NULL, NULL},
};

/* An argument as one word of the shell, whatever is in it. */
static void put_quoted(struct buf *b, const char *arg)
{
	buf_adds(b, " '");
	for (; *arg; arg++)
		if (*arg == '\'')
			buf_adds(b, "'\\''");
		else
			buf_addc(b, *arg);
	buf_addc(b, '\'');
}

void rt_execute(struct dialect_call *c)
{
	static const char *const none[] = {NULL};
	const char *args[ARGS_MAX + 1];
	struct schema_value v[E_MAX];
	OWN_BUF line = BUF_INIT(LINE_MAX_BYTES);
	char id[SESSION_ID_LEN + 1];
	const char *command;
	int64_t timeout_ms;

	if (schema_check(execute_fields, E_MAX, c->body->doc, v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
		return;
	}
	buf_clear(&c->rs->body);
	command = json_object_get_string(v[E_COMMAND].json);
	if (take_args(c, &v[E_ARGS], args) < 0 || take_timeout(c, &v[E_TIMEOUT], &timeout_ms) < 0)
		return;
	buf_adds(&line, command);
	for (size_t i = 0; args[i]; i++)
		put_quoted(&line, args[i]);
	if (!buf_ok(&line) ||
		strlen(command) != (size_t)json_object_get_string_len(v[E_COMMAND].json)) {
		rt_refuse(c, "Invalid command", "it is too long or holds a NUL character");
		return;
	}
	if (rt_enter(c, id) == 0)
		run_shell(c, line.p ? line.p : "", line.len, "bash", none, timeout_ms);
}

/* --- POST execute_code/{sid} --- */

enum { X_CODE, X_FILENAME, X_ARGS, X_TYPE, X_OUTPUTS, X_TIMEOUT, X_MAX };

static const char *const script_types[] = {"python", "shell", NULL};
static const struct schema_bounds types = {.literals = script_types};

static const struct schema_field code_fields[X_MAX] = {
	[X_CODE] = {"code", SCHEMA_STRING, true, false, NULL, NULL},
	[X_FILENAME] = {"filename", SCHEMA_STRING, false, true, NULL, NULL},
	[X_ARGS] = {"args", SCHEMA_STRING_LIST, false, true, NULL, NULL},
	[X_TYPE] = {"script_type", SCHEMA_STRING, false, true, NULL, &types},
	[X_OUTPUTS] = {"output_params", SCHEMA_STRING_LIST, false, true, NULL, NULL},
	[X_TIMEOUT] = {"timeout", SCHEMA_FLOAT, false, true, NULL, NULL},
};

/* One execute_code on its way. */
struct code {
	struct dialect_call *c;
	struct schema_value v[X_MAX];
	const char *text;
	size_t bytes;
	bool shell;
	bool named;                    /* by the client: then it becomes a file, too */
	char path[FILES_PATH_MAX + 1]; /* what the code is told that it is called */
	const char *args[ARGS_MAX + 1];
	int64_t timeout_ms;
};

static bool ends_with(const char *s, size_t n, const char *end)
{
	size_t k = strlen(end);

	return n >= k && !memcmp(s + n - k, end, k);
}

/* -1: the response is complete. */
static int take_name(struct code *x)
{
	const struct schema_value *v = &x->v[X_FILENAME];
	const char *end = x->shell ? ".sh" : ".py", *why, *name;
	OWN_BUF b = BUF_INIT(FILES_PATH_MAX + 8);
	size_t n;

	x->named = v->given && json_object_get_string_len(v->json) > 0;
	name = x->named ? json_object_get_string(v->json) : "script";
	n = x->named ? (size_t)json_object_get_string_len(v->json) : strlen(name);
	why = rt_path(name, n, false, x->path); /* as the client wrote it: ".." is no "...py" */
	if (why) {
		rt_bad_path(x->c, why);
		return -1;
	}
	buf_add(&b, name, n);
	if (!ends_with(name, n, end))
		buf_adds(&b, end);
	why = buf_ok(&b) ? rt_path(b.p, b.len, false, x->path) : "it is too long";
	if (!why)
		return 0;
	rt_bad_path(x->c, why);
	return -1;
}

static int take_code(struct code *x)
{
	struct json_object *o = x->v[X_CODE].json;

	x->shell = x->v[X_TYPE].given &&
		   !strcmp(json_object_get_string(x->v[X_TYPE].json), "shell");
	x->text = json_object_get_string(o);
	x->bytes = (size_t)json_object_get_string_len(o);
	if (strlen(x->text) != x->bytes) {
		rt_refuse(x->c, "Invalid code", "it holds a NUL character");
		return -1;
	}
	if (take_name(x) < 0 || take_args(x->c, &x->v[X_ARGS], x->args) < 0)
		return -1;
	return take_timeout(x->c, &x->v[X_TIMEOUT], &x->timeout_ms);
}

static void put_list(struct buf *b, const char *name, const struct schema_value *v)
{
	buf_addf(b, ",\"%s\":", name);
	buf_adds(b,
		v->given ? json_object_to_json_string_ext(v->json, JSON_C_TO_STRING_PLAIN) : "[]");
}

/* What the runner is told. */
static void put_job(const struct code *x, struct buf *b)
{
	buf_adds(b, "{\"name\":");
	json_out_text(b, x->path);
	buf_adds(b, ",\"code\":");
	json_out_string(b, x->text, x->bytes);
	put_list(b, "args", &x->v[X_ARGS]);
	put_list(b, "outputs", &x->v[X_OUTPUTS]);
	buf_addc(b, '}');
}

/* Takes the values of variables out of what was printed. */
static void split_values(struct rt_ran *ran, const char *nonce, struct buf *values)
{
	struct handler_output o;
	struct err e;

	if (!ran->out.len ||
		handler_parse(ran->out.p, ran->out.len, nonce, &o, &e) != HANDLER_VALUE)
		return;
	buf_add(values, o.value, o.value_bytes);
	memmove(ran->out.p + o.before, o.after, o.after_bytes);
	ran->out.len = o.before + o.after_bytes;
}

static void answer_code(struct code *x, struct rt_ran *ran, const char *nonce)
{
	OWN_BUF values = BUF_INIT(VALUE_MAX_BYTES), more = BUF_INIT(VALUE_MAX_BYTES + 64);
	bool asked = x->v[X_OUTPUTS].given && json_object_array_length(x->v[X_OUTPUTS].json) > 0;

	split_values(ran, nonce, &values);
	rt_explain(ran, x->timeout_ms);
	if (asked) {
		buf_adds(&more, ",\"output_variables\":");
		buf_add(&more, values.len ? values.p : "{}", values.len ? values.len : 2);
	}
	answer_ran(x->c, ran, &more);
}

static void run_python(struct code *x)
{
	OWN_BUF job = BUF_INIT(256 << 20);
	struct handler_job j = {.language = HANDLER_PYTHON,
		.code = runner,
		.code_bytes = sizeof runner - 1,
		.value_max_bytes = VALUE_MAX_BYTES};
	struct rt_ran ran = {.cut = false};
	struct handler h = {.stdin_fd = -1};
	struct run_spec s = {.stdin_fd = -1};
	struct err e = {0};
	int ret;

	put_job(x, &job);
	j.event = job.p;
	ret = buf_ok(&job) ? handler_prepare(&j, &h, &e)
			   : err_set(&e, ERR_LIMIT, ENOMEM, "the code is too large");
	s.argv = h.argv;
	s.stdin_fd = h.stdin_fd;
	if (ret == 0)
		ret = rt_run(x->c, x->c->param, &s, x->timeout_ms, &ran, &e);
	if (ret < 0)
		run_failed(x->c, &e);
	else
		answer_code(x, &ran, h.nonce);
	own_close(&h.stdin_fd);
	rt_ran_clear(&ran);
}

static void run_code(struct code *x)
{
	char id[SESSION_ID_LEN + 1];

	if (take_code(x) < 0 || rt_enter(x->c, id) < 0)
		return;
	if (x->named && rt_put(x->c, x->path, x->shell ? 0755 : 0644, x->text, x->bytes) < 0)
		return;
	if (x->shell)
		run_shell(x->c, x->text, x->bytes, x->path, x->args, x->timeout_ms);
	else
		run_python(x);
}

void rt_execute_code(struct dialect_call *c)
{
	OWN_MEM struct code *x = calloc(1, sizeof *x);

	if (!x) {
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	x->c = c;
	if (schema_check(code_fields, X_MAX, c->body->doc, x->v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
	} else {
		buf_clear(&c->rs->body);
		run_code(x);
	}
}
