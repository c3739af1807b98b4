/* Documents against the tables of the daiv dialect; the 422 bodies must themselves be JSON. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/dialects/daiv.h"
#include "fcgi/json_scan.h"

static void check_response(const struct http_response *rs)
{
	struct json_scan_plan plan = {false, -1, 0, 0};
	struct json_scan s;
	struct err e;

	if (!buf_ok(&rs->body) || rs->status != 422)
		abort();
	json_scan_init(&s, &plan);
	if (json_scan_feed(&s, rs->body.p, rs->body.len, &e) < 0 || json_scan_end(&s, &e) < 0)
		abort();
	json_scan_clear(&s);
}

static void check(const struct conf *conf, struct body *body)
{
	struct http_response rs = {.body = BUF_INIT(16 << 20)};
	struct dialect_call c = {.conf = conf, .rs = &rs, .body = body};
	static struct daiv_run run;
	struct daiv_create create;

	if (daiv_check_create(&c, &create) > 0)
		check_response(&rs);
	else if (create.spec.env_bytes > (size_t)conf->environment_max_bytes)
		abort();
	daiv_create_clear(&create);
	buf_clear(&rs.body);
	if (daiv_check_run(&c, &run) > 0)
		check_response(&rs);
	else if (run.timeout_s <= 0 || strstr(run.workdir, "//") || *run.workdir == '/')
		abort();
	buf_clear(&rs.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct json_scan_plan plan = {true, -1, 1 << 20, 1 << 20};
	struct body body = {.archive_fd = -1};
	static struct conf conf;
	struct err e;

	if (!conf.state_dir && conf_init(&conf) < 0)
		abort();
	json_scan_init(&body.scan, &plan);
	if (json_scan_feed(&body.scan, p, n, &e) == 0 && json_scan_end(&body.scan, &e) == 0) {
		body.doc = json_tokener_parse(body.scan.copy.p);
		if (json_object_is_type(body.doc, json_type_object))
			check(&conf, &body);
	}
	json_object_put(body.doc);
	json_scan_clear(&body.scan);
	return 0;
}
