/*
 * The scanner: pieces give what the whole gives, and json-c, which comes next, takes every
 * document that it lets through.
 */
#include "fcgi/json_scan.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

static int scan(struct json_scan *s, const uint8_t *p, size_t n, size_t step, struct err *e)
{
	struct json_scan_plan plan = {true, -1, 1 << 20, 1 << 20};

	json_scan_init(s, &plan);
	for (size_t i = 0; i < n; i += step) {
		size_t len = n - i < step ? n - i : step;
		uint8_t *piece = malloc(len);
		int rc;

		if (!piece)
			abort();
		memcpy(piece, p + i, len);
		rc = json_scan_feed(s, piece, len, e);
		free(piece);
		if (rc < 0)
			return -1;
	}
	return json_scan_end(s, e);
}

static void parse(const struct json_scan *s)
{
	struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);

	if (!tok)
		abort();
	json_object_put(json_tokener_parse_ex(tok, s->copy.p, (int)s->copy.len + 1));
	if (json_tokener_get_error(tok) != json_tokener_success)
		abort();
	json_tokener_free(tok);
}

/* The same in pieces of step bytes gives the same. */
static void compare(struct json_scan *one, int rc, const struct err *e1, const uint8_t *p, size_t n,
	size_t step)
{
	struct json_scan two;
	struct err e2 = {0};

	if (scan(&two, p, n, step, &e2) != rc || e1->kind != e2.kind)
		abort();
	if (rc < 0 && (strcmp(one->fault, two.fault) || one->fault_pos != two.fault_pos))
		abort();
	if (rc == 0) {
		if (one->copy.len != two.copy.len || memcmp(one->copy.p, two.copy.p, one->copy.len))
			abort();
		if (one->archive != two.archive || one->base64.fault != two.base64.fault)
			abort();
	}
	json_scan_clear(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct json_scan one;
	struct err e1 = {0};
	int rc = scan(&one, p, n, n ? n : 1, &e1);

	compare(&one, rc, &e1, p, n, n ? p[n / 2] % 7 + 1 : 1);
	compare(&one, rc, &e1, p, n, 1); /* no run of bytes is taken at once */
	if (rc == 0)
		parse(&one);
	json_scan_clear(&one);
	return 0;
}
