#include "fcgi/dialects/native.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/capabilities.h"
#include "fcgi/json_out.h"
#include "fcgi/limits.h"
#include "fcgi/warm.h"
#include "isolate/log.h"
#include "isolate/own.h"

/* doctor writes printable ASCII only, so a directory's name is looked for as it shows it. */
static size_t shown_name(const char *dir, char *out, size_t size)
{
	int n = snprintf(out, size, "%s", dir);
	size_t len = n < 0 || (size_t)n >= size ? 0 : (size_t)n;

	for (size_t i = 0; i < len; i++)
		if (out[i] < 0x20 || out[i] > 0x7e)
			out[i] = '?';
	while (len > 1 && out[len - 1] == '/')
		len--;
	out[len] = '\0';
	return len;
}

void native_put_text(struct buf *b, const char *text, const char *state_dir)
{
	char dir[4096];
	size_t n = shown_name(state_dir, dir, sizeof dir);
	const char *at;

	buf_addc(b, '"');
	while (n > 1 && (at = strstr(text, dir))) {
		json_out_raw(b, text, (size_t)(at - text));
		buf_adds(b, "STATE");
		text = at + n;
	}
	json_out_raw(b, text, strlen(text));
	buf_addc(b, '"');
}

/* One fact, with the four members that it must have. */
static bool put_fact(struct dialect_call *c, struct json_object *fact, bool *ready)
{
	static const char *const members[] = {"name", "state", "text", "fix"};
	struct buf *b = &c->rs->body;

	for (size_t i = 0; i < NELEM(members); i++) {
		struct json_object *v;

		if (!json_object_object_get_ex(fact, members[i], &v) ||
			!json_object_is_type(v, json_type_string))
			return false;
		if (!strcmp(members[i], "state") && !strcmp(json_object_get_string(v), "blocked"))
			*ready = false;
		buf_addf(b, "%s\"%s\":", i ? "," : "{", members[i]);
		native_put_text(b, json_object_get_string(v), c->conf->state_dir);
	}
	buf_addc(b, '}');
	return true;
}

/* Returns -1 when text is not what a doctor writes; what was appended then has to go. */
static int put_list(struct dialect_call *c, const char *text, bool *ready)
{
	struct json_object *list = json_tokener_parse(text);
	bool good = json_object_is_type(list, json_type_array);

	buf_addc(&c->rs->body, '[');
	for (size_t i = 0; good && i < json_object_array_length(list); i++) {
		if (i)
			buf_addc(&c->rs->body, ',');
		good = put_fact(c, json_object_array_get_idx(list, i), ready);
	}
	buf_addc(&c->rs->body, ']');
	json_object_put(list);
	return good ? 0 : -1;
}

static void put_limits(struct buf *b, const struct conf *c, unsigned means)
{
	for (const struct limit *l = limit_table; l->name; l++)
		buf_addf(b, "%s\"%s\":{\"value\":%lld,\"held_by\":\"%s\"}",
			l == limit_table ? "{" : ",", l->name, (long long)limit_value(l, c),
			limit_held_by(l, c, means));
	buf_addc(b, '}');
}

static void put_capabilities(struct buf *b, unsigned lacks)
{
	for (int i = 0; i < CAPABILITIES; i++)
		buf_addf(b, "%s\"%s\":%s", i ? "," : ",\"capabilities\":{", capability_name(i),
			lacks >> i & 1 ? "false" : "true");
	buf_addc(b, '}');
}

/* The facts and when they were found. Returns whether they are there and none is blocked. */
static int put_facts(struct dialect_call *c, const struct system_info *info, bool *ready)
{
	*ready = info->facts != NULL;
	buf_adds(&c->rs->body, ",\"facts\":");
	if (info->facts)
		return put_list(c, info->facts, ready);
	buf_adds(&c->rs->body, "null");
	return 0;
}

static void answer(struct dialect_call *c, const struct system_info *info)
{
	struct buf *b = &c->rs->body;
	OWN_BUF facts = BUF_INIT(b->max);
	bool ready;

	if (put_facts(c, info, &ready) < 0) {
		log_line(LOG_ERROR, "request %s: the facts are not in doctor's form",
			c->rq->request_id);
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	buf_add(&facts, b->p, b->len);
	buf_clear(b);
	buf_addf(b, "{\"version\":\"v" VERSION "\",\"backend\":\"%s\",\"uptime_s\":%lld",
		c->ops->name, (long long)(info->uptime_ms / 1000));
	buf_addf(b, ",\"ready\":%s,\"checked_at\":", ready ? "true" : "false");
	if (info->facts)
		buf_addf(b, "%lld", (long long)info->checked_at);
	else
		buf_adds(b, "null");
	buf_add(b, facts.p, facts.len);
	put_capabilities(b, c->ops->lacks);
	buf_adds(b, ",\"limits\":");
	put_limits(b, c->conf, info->means);
	buf_addf(b, ",\"sessions\":%u,\"sandboxes\":%u,\"containers_stuck\":%u", info->sessions,
		info->sandboxes, info->containers_stuck);
	buf_addf(b, ",\"prepared\":{\"ready\":%u,\"taken\":%llu,\"missed\":%llu",
		info->prepared_ready, (unsigned long long)info->prepared_taken,
		(unsigned long long)info->prepared_missed);
	buf_addf(b, ",\"interpreters\":{\"ready\":%u,\"bytes\":%llu,\"taken\":%llu,",
		info->warm_ready, (unsigned long long)info->warm_bytes,
		(unsigned long long)info->warm_taken);
	buf_addf(b, "\"missed\":%llu,\"failed\":%llu,\"cold\":{",
		(unsigned long long)info->warm_missed, (unsigned long long)info->warm_failed);
	for (unsigned i = COLD_NOT + 1; i < COLD_REASONS; i++)
		buf_addf(b, "%s\"%s\":%llu", i > COLD_NOT + 1 ? "," : "",
			warm_cold_name((enum code_cold)i), (unsigned long long)info->warm_cold[i]);
	buf_adds(b, "}}}}");
	dialect_status(c, 200);
}

static void system_now(struct dialect_call *c)
{
	struct system_info info = {0};
	struct err e = {0};

	if (c->ops->system(c->backend, &info, &e) < 0)
		dialect_fail(c, &e, "tell the state of the system");
	else
		answer(c, &info);
	free(info.facts);
}

const struct route native_routes[] = {
	{HTTP_GET, "system", 0, system_now},
};
const size_t native_nroutes = NELEM(native_routes);
