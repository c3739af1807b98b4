/* GET /system/ over a backend of the test's own: form, readiness, what is not shown. */
#include "fcgi/dialects/native.h"

#include "fcgi/limits.h"
#include "tests/unit/app.h"

#define GET(uri)  call(HTTP_GET, uri, "")
#define FACT(s)   "{\"name\": \"n\", \"state\": \"" s "\", \"text\": \"t\", \"fix\": \"\"}"
#define SHOWN(s)  "{\"name\":\"n\",\"state\":\"" s "\",\"text\":\"t\",\"fix\":\"\"}"
#define VERSION_S "{\"version\":\"v" VERSION "\",\"backend\":\"test\",\"uptime_s\":12,"

static void test_routes(void)
{
	static const char *const paths[] = {
		"/api/v1/system/", "/api/v1/system", "/system/", "/system", "/system/?x=1"};

	be.system = (struct system_info){.facts = (char *)(uintptr_t) "[]"};
	for (size_t i = 0; i < NELEM(paths); i++)
		want(200, NULL, GET(paths[i]), paths[i]);
	key = NULL;
	want(403, "{\"detail\":\"API Key header is missing\"}", GET(paths[0]), "no key");
	key = "wrong";
	want(403, "{\"detail\":\"Invalid API Key\"}", GET(paths[0]), "wrong key");
	key = "secret";
	want(405, "{\"detail\":\"Method Not Allowed\"}", POST(paths[0], "{}"), "POST");
	is_str(rs.allow, "GET", "Allow");
	want(404, "{\"detail\":\"Not Found\"}", GET("/api/v1/system/x"), "deeper");
}

static void starts(const char *got, const char *head, const char *what)
{
	if (!ok(!strncmp(got, head, strlen(head)), "%s", what))
		printf("#      got: %.300s\n# expected: %s\n", got, head);
}

static void test_facts(void)
{
	static const char *const wrong[] = {"", "[", "{}", "[1]", "[{}]", "[{\"name\":\"a\"}]",
		"[" FACT("ok") ",{\"name\":1,\"state\":\"ok\",\"text\":\"\",\"fix\":\"\"}]"};
	struct system_info info = {.checked_at = 77,
		.uptime_ms = 12999,
		.sessions = 3,
		.sandboxes = 2,
		.prepared_ready = 1,
		.prepared_taken = 5,
		.prepared_missed = 4,
		.warm_ready = 2,
		.warm_bytes = 4096,
		.warm_taken = 6,
		.containers_stuck = 9,
		.warm_missed = 7,
		.warm_failed = 8,
		.warm_cold = {0, 1, 2, 3, 4},
		.facts = (char *)(uintptr_t) "[" FACT("ok") ",\n " FACT("weaker") "]\n"};
	const char *got;

	be.system = info;
	got = GET("/system/");
	starts(got,
		VERSION_S "\"ready\":true,\"checked_at\":77,\"facts\":[" SHOWN("ok") "," SHOWN(
			"weaker") "],\"capabilities\":{\"host_image\":true,\"keep_root\":true,",
		"ok and weaker: ready");
	ok(strstr(got, "}},\"sessions\":3,\"sandboxes\":2,\"containers_stuck\":9,"
		       "\"prepared\":{\"ready\":1,\"taken\":5,"
		       "\"missed\":4,\"interpreters\":{\"ready\":2,\"bytes\":4096,"
		       "\"taken\":6,\"missed\":7,\"failed\":8,\"cold\":{\"environment\":1,"
		       "\"image\":2,\"dependencies\":3,\"command\":4}}}}") != NULL,
		"the live numbers");
	be.system.facts = (char *)(uintptr_t) "[" FACT("ok") "," FACT("blocked") "]";
	starts(GET("/system/"), VERSION_S "\"ready\":false,\"checked_at\":77,",
		"blocked: not ready");
	be.system.facts = NULL;
	starts(GET("/system/"), VERSION_S "\"ready\":false,\"checked_at\":null,\"facts\":null,",
		"unknown: not ready");
	for (size_t i = 0; i < NELEM(wrong); i++) {
		be.system.facts = (char *)(uintptr_t)wrong[i];
		want(500, "{\"detail\":\"Internal Server Error\"}", GET("/system/"),
			"no facts of doctor's");
	}
	be.fail_at = 's';
	be.fail = (struct err){.kind = ERR_BUSY, .errnum = ECONNREFUSED};
	be.system.facts = NULL;
	want(503, NULL, GET("/system/"), "no keeper");
	be.fail_at = 0;
}

static void test_paths(void)
{
	static const struct {
		const char *text, *dir, *want;
	} cases[] = {
		{"/a/b: cannot write", "/a/b", "\"STATE: cannot write\""},
		{"in /a/b/c and /a/b", "/a/b", "\"in STATE/c and STATE\""},
		{"/a/b/x", "/a/b//", "\"STATE/x\""},
		{"/a/?b/x",
			"/a/\xc3"
			"b",
			"\"STATE/x\""},
		{"/ and /", "/", "\"/ and /\""},
		{"a \"b\" \\", "/s", "\"a \\\"b\\\" \\\\\""},
	};

	for (size_t i = 0; i < NELEM(cases); i++) {
		OWN_BUF b = BUF_INIT(1000);

		native_put_text(&b, cases[i].text, cases[i].dir);
		is_str(b.p, cases[i].want, cases[i].text);
	}
}

/* Keys that bound something and are no limit on a tenant: the service's own shape. */
static const char *const not_tenants[] = {"workers_max", "workers_reserved", "streams_max",
	"pending_max", "params_max_bytes", "plain_entries_max", "plain_max_bytes", "prepared_max",
	"deps_max_bytes", "fork_max", "engine_prepared_max", "snapshots_max", "export_time_max_s",
	"warm_python_max", "warm_node_max", "warm_memory_max_bytes"};

static bool listed(const char *name)
{
	for (size_t i = 0; i < NELEM(not_tenants); i++)
		if (!strcmp(not_tenants[i], name))
			return true;
	for (const struct limit *l = limit_table; l->name; l++)
		if (!strcmp(l->name, name))
			return true;
	return false;
}

/* Every key that is a maximum or a reserve has to be thought about. */
static void test_table_complete(void)
{
	char *text = NULL, *line, *rest;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	conf_dump(&conf, f);
	fclose(f);
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *end = strstr(line, " = ");

		if (*line == '#' || !end)
			continue;
		*end = '\0';
		if (strstr(line, "_max") || strstr(line, "_reserve"))
			ok(listed(line), "%s is a limit of a tenant, or known not to be", line);
	}
	free(text);
}

static const struct limit *find(const char *name)
{
	for (const struct limit *l = limit_table; l->name; l++)
		if (!strcmp(l->name, name))
			return l;
	return &limit_table[0];
}

static void test_holders(void)
{
	static const struct {
		const char *name, *value;
		unsigned means;
		const char *want;
	} cases[] = {
		{"processes_max", "10", 0, "kernel"},
		{"processes_max", "10", ~0U, "kernel"},
		{"output_max_bytes", "2000", 0, "service"},
		{"memory_process_max_bytes", "0", ~0U, "none"},
		{"memory_process_max_bytes", "1", 0, "kernel"},
		{"memory_max_bytes", "1", 0, "none"},
		{"memory_max_bytes", "1", LIMIT_BY_WATCH_MEMORY, "watchdog"},
		{"memory_max_bytes", "1", LIMIT_BY_WATCH_MEMORY | LIMIT_BY_CGROUP_MEMORY, "cgroup"},
		{"memory_max_bytes", "1", LIMIT_BY_WATCH_DISK | LIMIT_BY_CGROUP_CPU, "none"},
		{"memory_max_bytes", "0", ~0U, "none"},
		{"cpu_max_percent", "50", LIMIT_BY_WATCH_MEMORY, "none"},
		{"cpu_max_percent", "50", LIMIT_BY_CGROUP_CPU, "cgroup"},
		{"session_disk_max_bytes", "1", LIMIT_BY_WATCH_DISK, "watchdog"},
	};
	struct err e;

	for (size_t i = 0; i < NELEM(cases); i++) {
		const struct limit *l = find(cases[i].name);

		ok(conf_set(&conf, cases[i].name, cases[i].value, &e) == 0, "%s = %s",
			cases[i].name, cases[i].value);
		ok(limit_value(l, &conf) == atoll(cases[i].value), "its value");
		is_str(limit_held_by(l, &conf, cases[i].means), cases[i].want, "who holds it");
	}
}

int main(void)
{
	if (!app_start())
		return done();
	test_routes();
	test_facts();
	test_paths();
	test_table_complete();
	test_holders();
	return app_stop();
}
