/* The access log's lines: what may be in them, and that nothing forges one. */
#include "fcgi/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/access.h"
#include "fcgi/routes.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

#define ID "01234567-89ab-4def-8123-456789abcdef"

static char dir[] = "/tmp/cgibox-trace.XXXXXX";

static void test_id(void)
{
	char longest[REQUEST_ID_MAX + 2];
	static const char *const bad[] = {"", " ", "a b", "a\n", "\na", "a\r\nb", "a\"", "a\\",
		"a\x7f", "\xc3\xa9", "a/b", "a,b", "a:b", "{}", "a\tb", "\x1b[31m"};

	ok(!trace_id_ok(NULL), "no id");
	for (size_t i = 0; i < NELEM(bad); i++)
		ok(!trace_id_ok(bad[i]), "refused: id %zu", i);
	ok(trace_id_ok("a") && trace_id_ok("A-b_c.9"), "tokens pass");
	memset(longest, 'x', sizeof longest);
	longest[REQUEST_ID_MAX] = '\0';
	ok(trace_id_ok(longest), "%d bytes pass", REQUEST_ID_MAX);
	longest[REQUEST_ID_MAX] = 'x';
	longest[REQUEST_ID_MAX + 1] = '\0';
	ok(!trace_id_ok(longest), "%d do not", REQUEST_ID_MAX + 1);
	for (int c = 1; c < 256; c++) {
		char one[] = {'a', (char)c, '\0'};
		bool safe = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
			    (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-';

		if (trace_id_ok(one) != safe)
			ok(false, "byte %d", c);
	}
}

static struct json_object *line_of(const struct trace *t, struct buf *b)
{
	buf_clear(b);
	*b = BUF_INIT(8192);
	trace_line(t, 1795244400123456, 1234567, 42, b);
	ok(b->len && strchr(b->p, '\n') == b->p + b->len - 1, "one line, and its end");
	for (size_t i = 0; i + 1 < b->len; i++)
		if ((unsigned char)b->p[i] < ' ' || (unsigned char)b->p[i] > 0x7e)
			ok(false, "byte %zu of the line is 0x%02x", i, (unsigned char)b->p[i]);
	return json_tokener_parse(b->p);
}

static const char *str(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	return v ? json_object_get_string(v) : "null";
}

static void test_line(void)
{
	struct buf b = BUF_INIT(8192);
	struct json_object *o;
	struct trace t;

	trace_begin(&t, NULL, "req-1");
	trace_route(&t, HTTP_POST, 2);
	trace_session(&t, ID);
	t.status = 200;
	t.bytes_in = 10;
	t.bytes_out = 5000000000;
	t.verdicts[VERDICT_OK] = 2;
	t.verdicts[VERDICT_TIMEOUT] = 1;
	o = line_of(&t, &b);
	is_str(str(o, "time"), "2026-11-21T07:00:00.123Z", "time");
	is_str(str(o, "id"), "req-1", "id");
	is_str(str(o, "method"), "POST", "method");
	is_str(str(o, "route"), "/session/{id}/", "the template, not the path");
	is_str(str(o, "status"), "200", "status");
	is_str(str(o, "bytes_out"), "5000000000", "bytes");
	is_str(str(o, "ms"), "1234.567", "milliseconds");
	is_str(str(o, "session"), ID, "session");
	is_str(str(o, "verdicts"), "{ \"ok\": 2, \"timeout\": 1 }", "verdicts");
	is_str(str(o, "pid"), "42", "pid");
	json_object_put(o);
	trace_begin(&t, NULL, "x");
	o = line_of(&t, &b);
	is_str(str(o, "method"), "null", "no method was known");
	is_str(str(o, "route"), "none", "nor a route");
	is_str(str(o, "session"), "null", "nor a session");
	json_object_put(o);
	buf_clear(&b);
}

/* What is no session's id, whoever sends it, is not in the line. */
static void test_hostile(void)
{
	static const char *const ids[] = {"\n{\"id\":\"forged\"}", "../../etc/passwd", "",
		"01234567-89ab-4def-8123-456789abcde\"", "01234567-89ab-4def-8123-456789abcdef\n",
		"01234567-89AB-4DEF-8123-456789ABCDEF", "\xff\xfe"};
	struct buf b = BUF_INIT(8192);
	struct trace t;

	for (size_t i = 0; i < NELEM(ids); i++) {
		struct json_object *o;

		trace_begin(&t, NULL, "r");
		trace_route(&t, HTTP_OTHER, 1000000);
		trace_session(&t, ids[i]);
		o = line_of(&t, &b);
		is_str(str(o, "session"), "null", "hostile id is left out");
		is_str(str(o, "route"), "none", "a route out of range is none");
		json_object_put(o);
	}
	trace_session(NULL, ID);
	trace_run_begin(NULL);
	trace_run_end(NULL, NULL);
	buf_clear(&b);
}

/* Templates are of our own making: no byte in them needs an escape, in JSON or in a label. */
static void test_templates(void)
{
	for (unsigned i = 0; i < routes_count() + 2; i++) {
		struct buf b = BUF_INIT(1024);

		routes_template(i, &b);
		ok(b.len && strspn(b.p, "abcdefghijklmnopqrstuvwxyz0123456789/-_{}.") == b.len,
			"route %u: %s", i, b.p);
		if (i && i < routes_count())
			ok(routes_number(routes_at(i)) == i, "and back");
		buf_clear(&b);
	}
	ok(routes_at(0) == NULL && routes_at(routes_count()) == NULL, "out of range");
	ok(routes_number(NULL) == ROUTES_NONE, "no route");
}

static size_t count_lines(const char *path)
{
	FILE *f = fopen(path, "r");
	size_t n = 0;
	int c;

	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

static void write_one(const struct access *a)
{
	struct trace t;

	trace_begin(&t, NULL, "r");
	access_write(a, &t, 1);
}

/* The file is renamed under our feet, as by logrotate, and removed. */
static void test_file(void)
{
	char path[64], old[64];
	struct conf c = {.access_log = path};
	struct access a;
	struct err e;
	struct stat st;

	snprintf(path, sizeof path, "%s/log", dir);
	snprintf(old, sizeof old, "%s/log.1", dir);
	ok(access_open(&a, &c, &e) == 0, "opened");
	ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0640, "mode 0640");
	write_one(&a);
	access_follow(&a, 0);
	ok(a.generation == 1, "the same file");
	rename(path, old);
	write_one(&a);
	ok(count_lines(old) == 2, "a line goes where the file is");
	access_follow(&a, 500);
	ok(a.generation == 1, "not looked at yet");
	access_follow(&a, 1000);
	ok(a.generation == 2, "another file after a second");
	write_one(&a);
	ok(count_lines(old) == 2 && count_lines(path) == 1, "lines go there");
	unlink(path);
	access_follow(&a, 2000);
	write_one(&a);
	ok(a.generation == 3 && count_lines(path) == 1, "removed: made again");
	unlink(path);
	ok(symlink(old, path) == 0, "a link in its place");
	access_follow(&a, 3000);
	ok(a.generation == 3, "is not followed");
	access_close(&a);
	ok(access_open(&a, &c, &e) < 0 && e.kind == ERR_CONF && e.errnum == ELOOP, "nor at start");
	unlink(path);
	ok(mkfifo(path, 0600) == 0 && access_open(&a, &c, &e) < 0 && e.kind == ERR_CONF,
		"a fifo is refused");
	unlink(path);
	unlink(old);
	c.access_log = (char[]){"off"};
	ok(access_open(&a, &c, &e) == 0 && a.fd < 0, "off");
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	test_id();
	test_line();
	test_hostile();
	test_templates();
	test_file();
	rmdir(dir);
	return done();
}
