/* What a command cost and its limits, as JSON. */
#include "fcgi/receipt.h"

#include <json-c/json.h>
#include <string.h>

#include "fcgi/limits.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

static int64_t number(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v) : -1;
}

static void test_usage(void)
{
	struct result r = {.wall_us = 1999,
		.user_us = 1000,
		.rss_peak_kib = 4,
		.disk_read_bytes = 1ULL << 40,
		.disk_write_bytes = 7,
		.output_bytes = 9,
		.memory_peak_bytes = 5,
		.pids_peak = 6};
	struct buf b = BUF_INIT(4096);
	struct json_object *o;

	receipt_usage(&b, &r);
	o = json_tokener_parse(b.p);
	ok(number(o, "wall_ms") == 1 && number(o, "user_ms") == 1 && number(o, "system_ms") == 0,
		"times");
	ok(number(o, "disk_read_bytes") == 1LL << 40 && number(o, "disk_write_bytes") == 7,
		"disks");
	ok(number(o, "memory_peak_bytes") == 4096, "memory of a process");
	ok(number(o, "processes") == -1 && number(o, "cpu_ms") == -1 &&
			number(o, "pids_peak") == -1,
		"what nobody measured is not there");
	json_object_put(o);
	buf_clear(&b);
	r.in_cgroup = 1;
	r.processes = 3;
	receipt_usage(&b, &r);
	o = json_tokener_parse(b.p);
	ok(number(o, "memory_peak_bytes") == 5 && number(o, "pids_peak") == 6,
		"of a control group");
	ok(number(o, "processes") == 3 && number(o, "oom_kills") == 0, "and the rest");
	json_object_put(o);
	buf_clear(&b);
}

static void check(struct json_object *o, const char *key, int64_t value, const char *by)
{
	struct json_object *l = NULL, *held = NULL;

	json_object_object_get_ex(o, key, &l);
	json_object_object_get_ex(l, "held_by", &held);
	if (!ok(number(l, "value") == value && held && !strcmp(json_object_get_string(held), by),
		    "%s %lld by %s", key, (long long)value, by))
		printf("# %s\n", json_object_to_json_string(l));
}

static struct json_object *limits(const struct conf *c, const struct receipt_limits *l)
{
	struct buf b = BUF_INIT(1 << 16);
	struct json_object *o;

	receipt_limits(&b, c, l);
	o = json_tokener_parse(b.p);
	ok(o != NULL, "limits are JSON");
	buf_clear(&b);
	return o;
}

static void test_limits(void)
{
	struct receipt_limits l = {.timeout_ms = 2500, .output_max_bytes = 100};
	struct json_object *o;
	struct conf c;

	if (conf_init(&c) < 0)
		return;
	o = limits(&c, &l);
	check(o, "timeout_ms", 2500, "service");
	check(o, "output_max_bytes", 100, "service");
	check(o, "processes_max", c.processes_max, "kernel");
	check(o, "memory_max_bytes", c.memory_max_bytes, "none");
	check(o, "cpu_max_percent", 0, "none");
	ok(number(o, "sessions_max") == -1 && number(o, "body_max_bytes") == -1,
		"what is no command's is left out");
	json_object_put(o);
	l.memory_bytes = 1 << 20;
	l.cpus = 1.5;
	l.means = LIMIT_BY_WATCH_MEMORY;
	o = limits(&c, &l);
	check(o, "memory_max_bytes", 1 << 20, "watchdog");
	check(o, "cpu_max_percent", 150, "kernel");
	json_object_put(o);
	l.means = LIMIT_BY_CGROUP_MEMORY | LIMIT_BY_CGROUP_CPU;
	l.memory_bytes = c.memory_max_bytes + 1;
	l.cpus = 0.25;
	o = limits(&c, &l);
	check(o, "memory_max_bytes", c.memory_max_bytes, "cgroup");
	check(o, "cpu_max_percent", 25, "cgroup");
	json_object_put(o);
	l.means = 0;
	o = limits(&c, &l);
	check(o, "cpu_max_percent", 25, "none");
	json_object_put(o);
	conf_clear(&c);
}

int main(void)
{
	test_usage();
	test_limits();
	return done();
}
