#include "fcgi/session_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/volume_name.h"
#include "isolate/cgfile.h"

enum { CPU_PERCENT_MAX = 102400 };

/* Rounded up to whole percents: a fraction asked for must not become 0, which is no limit. */
static unsigned cpu_percent(double cpus)
{
	double percent = cpus * 100;
	unsigned whole;

	if (!(percent > 0))
		return 0;
	if (percent >= CPU_PERCENT_MAX)
		return CPU_PERCENT_MAX;
	whole = (unsigned)percent;
	return whole < percent ? whole + 1 : whole;
}

int session_record_text(
	struct buf *b, const struct image *im, const struct keeper_request *rq, struct err *e)
{
	buf_addf(b, "image %s\n", im->id);
	for (size_t i = 0; i < im->nlowers; i++)
		buf_addf(b, "lower %s\n", im->lowers[i]);
	for (size_t i = 0; i < im->nhost_binds; i++)
		buf_addf(b, "bind %s\n", im->host_binds[i]);
	buf_addf(b, "ephemeral %u\nextract_patch %u\nnetwork %u\n", rq->ephemeral,
		rq->extract_patch, rq->network);
	if (rq->live)
		buf_adds(b, "live 1\n");
	if (rq->disk_bytes)
		buf_addf(b, "disk_bytes %lld\n", (long long)rq->disk_bytes);
	buf_addf(b, "memory_bytes %lld\ncpu_percent %u\nend\n", (long long)rq->memory_bytes,
		cpu_percent(rq->cpus));
	if (!buf_ok(b))
		return err_set(e, ERR_LIMIT, 0, "the session's record is over %d bytes",
			SESSION_RECORD_MAX);
	return 0;
}

static int add_path(char ***list, size_t *n, const char *value)
{
	char **more = realloc(*list, (*n + 1) * sizeof **list);

	if (!more)
		return -1;
	*list = more;
	more[*n] = strdup(value);
	return more[*n] ? (int)(++*n, 0) : -1;
}

static int record_number(const char *value, uint64_t max, uint64_t *out)
{
	return cgfile_number(value, out) && *out <= max ? 0 : -1;
}

static int record_line(struct session_record *r, const char *key, const char *value)
{
	uint64_t n;

	if (!strcmp(key, "image"))
		return (r->image = strdup(value)) ? 0 : -1;
	if (!strcmp(key, "lower") && *value == '/')
		return add_path(&r->lowers, &r->nlowers, value);
	if (!strcmp(key, "bind") && *value == '/')
		return add_path(&r->binds, &r->nbinds, value);
	if (!strcmp(key, "ephemeral"))
		return (r->ephemeral = *value == '1', 0);
	if (!strcmp(key, "extract_patch"))
		return (r->extract_patch = *value == '1', 0);
	if (!strcmp(key, "network"))
		return (r->network = *value == '1', 0);
	if (!strcmp(key, "live"))
		return (r->live = *value == '1', 0);
	if (!strcmp(key, "memory_bytes"))
		return record_number(value, INT64_MAX, &r->memory_bytes);
	if (!strcmp(key, "disk_bytes"))
		return record_number(value, INT64_MAX, &r->disk_bytes);
	if (!strcmp(key, "cpu_percent") && record_number(value, CPU_PERCENT_MAX, &n) == 0)
		return (r->cpu_percent = (uint32_t)n, 0);
	return -1;
}

/* "end" is the last line: a record cut short by a crash is not taken for a whole one. */
int session_record_parse(char *text, struct session_record *r, struct err *e)
{
	char *save, *line = strtok_r(text, "\n", &save);

	for (; line && strcmp(line, "end"); line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, ' ');

		if (!value || (*value++ = '\0', record_line(r, line, value) < 0))
			return err_set(e, ERR_SETUP, 0, "the session's record is damaged");
	}
	return line && r->nlowers ? 0
				  : err_set(e, ERR_SETUP, 0, "the session's record is incomplete");
}

int session_volumes_parse(struct session_record *r, char *text, struct err *e)
{
	char *save, *line = strtok_r(text, "\n", &save);

	for (; line; line = strtok_r(NULL, "\n", &save)) {
		char *path = strchr(line, ' ');
		struct session_volume *more = realloc(r->volumes, (r->nvolumes + 1) * sizeof *more);

		if (!more)
			return err_set(e, ERR_SETUP, ENOMEM, "read a list of volumes");
		r->volumes = more;
		if (!path || (*path++ = '\0', !volume_name_ok(line)) || volume_path_fault(path) ||
			r->nvolumes == VOLUMES_MAX)
			return err_set(e, ERR_SETUP, 0, "a list of volumes is damaged");
		more[r->nvolumes++] = (struct session_volume){strdup(line), strdup(path)};
		if (!more[r->nvolumes - 1].name || !more[r->nvolumes - 1].path)
			return err_set(e, ERR_SETUP, ENOMEM, "read a list of volumes");
	}
	return 0;
}

void session_record_clear(struct session_record *r)
{
	for (size_t i = 0; i < r->nlowers; i++)
		free(r->lowers[i]);
	for (size_t i = 0; i < r->nbinds; i++)
		free(r->binds[i]);
	for (size_t i = 0; i < r->nvolumes; i++) {
		free(r->volumes[i].name);
		free(r->volumes[i].path);
	}
	free(r->volumes);
	free(r->lowers);
	free(r->binds);
	free(r->image);
	memset(r, 0, sizeof *r);
}
