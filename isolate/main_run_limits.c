/* --limit: the limits of sandbox.conf(5) that concern one sandbox, by the names a person types. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/cgroup.h"
#include "isolate/main_run.h"
#include "isolate/own.h"

enum limit_unit { COUNT, BYTES };

static const struct limit {
	const char *name, *key; /* key NULL: output, which has no setting */
	enum limit_unit unit;
	unsigned group; /* CGROUP_* that alone holds it; 0 = held everywhere */
} limits[] = {
	{"processes", "processes_max", COUNT, 0},
	{"open-files", "files_open_max", COUNT, 0},
	{"file-size", "file_max_bytes", BYTES, 0},
	{"process-memory", "memory_process_max_bytes", BYTES, 0},
	{"address-space", "address_space_max_bytes", BYTES, 0},
	{"cpu-time", "cpu_time_max_s", COUNT, 0},
	{"tmpfs", "tmpfs_max_bytes", BYTES, 0},
	{"tmpfs-files", "tmpfs_max_inodes", COUNT, 0},
	{"output", NULL, BYTES, 0},
	{"memory", "memory_max_bytes", BYTES, 0},
	{"socket-memory", "socket_memory_max_bytes", BYTES, 0},
	{"disk", "session_disk_max_bytes", BYTES, 0},
	{"disk-files", "session_disk_max_inodes", COUNT, 0},
	{"cpu-percent", "cpu_max_percent", COUNT, CGROUP_CPU},
	{"io", "io_max_bytes_per_s", BYTES, CGROUP_IO},
};

static int scale(char unit, unsigned *shift)
{
	static const char units[] = "kMGT";
	const char *at = unit == 'K' ? units : strchr(units, unit);

	*shift = at ? 10 * (unsigned)(at - units + 1) : 0;
	return at ? 0 : -1;
}

/* Digits, with k, M, G or T behind them where bytes are counted. */
static int parse_amount(const struct limit *l, const char *text, uint64_t *out, struct err *e)
{
	unsigned shift = 0;
	char *end = NULL;

	errno = 0;
	if (isdigit((unsigned char)*text)) /* strtoull() would take blanks and a sign */
		*out = strtoull(text, &end, 10);
	if (!end || errno || (*end && (l->unit != BYTES || end[1] || scale(*end, &shift) < 0)))
		return err_set(e, ERR_CONF, 0, "\"%.60s\" is not a number%s", text,
			l->unit == BYTES ? " of bytes, or of k, M, G or T" : "");
	if (*out > (uint64_t)INT64_MAX >> shift)
		return err_set(e, ERR_CONF, 0, "\"%.60s\" is too large", text);
	*out <<= shift;
	return 0;
}

static int apply(struct run_opts *o, const struct limit *l, uint64_t value, struct err *e)
{
	char text[32];

	if (l->key) {
		snprintf(text, sizeof text, "%llu", (unsigned long long)value);
		return conf_set(&o->conf, l->key, text, e);
	}
	if (value == 0)
		return err_set(e, ERR_CONF, 0, "0 is not a number of bytes from 1 on");
	o->output_max = value;
	return 0;
}

int limit_parse(struct run_opts *o, char *text, struct err *e)
{
	char *value = strchr(text, '=');
	uint64_t amount = 0;

	if (!value || value == text)
		return err_set(e, ERR_CONF, 0, "\"%.60s\" is not NAME=VALUE", text);
	*value++ = '\0';
	for (size_t i = 0; i < NELEM(limits); i++) {
		if (strcmp(limits[i].name, text))
			continue;
		if (o->limits_set >> i & 1)
			return err_set(e, ERR_CONF, 0, "%s is given twice", text);
		if (parse_amount(&limits[i], value, &amount, e) < 0 ||
			apply(o, &limits[i], amount, e) < 0)
			return err_in(e, "%s", text);
		o->limits_set |= (uint64_t)1 << i;
		return 0;
	}
	return err_set(e, ERR_CONF, 0, "there is no limit \"%.60s\"", text);
}

bool limit_given(const struct run_opts *o, const char *name)
{
	for (size_t i = 0; i < NELEM(limits); i++)
		if (!strcmp(limits[i].name, name))
			return o->limits_set >> i & 1;
	return false;
}

int limit_tmpfs(const struct conf *c, const char *text, uint64_t *bytes, struct err *e)
{
	static const struct limit size = {.unit = BYTES};
	struct conf scratch = *c; /* only a number of it changes, no string */
	char value[32];

	if (parse_amount(&size, text, bytes, e) < 0)
		return -1;
	snprintf(value, sizeof value, "%llu", (unsigned long long)*bytes);
	return conf_set(&scratch, "tmpfs_max_bytes", value, e);
}

/* Whole processors are given without a cgroup, too (sched_setaffinity). */
static bool held(const struct run_opts *o, const struct limit *l, unsigned have)
{
	if (!l->group || have & l->group)
		return true;
	return l->group == CGROUP_CPU && o->conf.cpu_max_percent % 100 == 0;
}

int limits_enforceable(const struct run_opts *o, unsigned have, struct err *e)
{
	for (size_t i = 0; i < NELEM(limits); i++) {
		if (!(o->limits_set >> i & 1) || held(o, &limits[i], have))
			continue;
		if (o->conf.unenforceable_limits == UNENFORCEABLE_REFUSE)
			return err_set(e, ERR_LIMIT, 0,
				"--limit %s: needs a delegated cgroup v2 (unenforceable_limits = "
				"refuse)",
				limits[i].name);
		fprintf(stderr, "cgibox: --limit %s is not held here\n", limits[i].name);
	}
	return 0;
}

void limit_layer(const struct run_opts *o, const struct upper *d, struct tree_use *out)
{
	const struct conf *c = &o->conf;

	*out = (struct tree_use){0};
	if (d->kept && limit_given(o, "disk"))
		out->bytes = (uint64_t)c->session_disk_max_bytes;
	if (d->kept && limit_given(o, "disk-files"))
		out->inodes = (uint64_t)c->session_disk_max_inodes;
	if (d->on_disk && !d->kept)
		*out = (struct tree_use){.bytes = (uint64_t)c->tmpfs_max_bytes,
			.inodes = (uint64_t)c->tmpfs_max_inodes};
}
