#include "fcgi/layout_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/session_dir.h"
#include "fcgi/ws_compact.h"
#include "isolate/buf.h"
#include "isolate/own.h"

enum { LAYOUT_MAX_BYTES = 65536 };

static void put_layers(struct buf *b, const char *key, const struct ws_layers *l)
{
	char name[WS_LAYER_NAME];

	for (uint32_t i = 0; i < l->n; i++)
		buf_addf(b, "%s %s\n", key, ws_layer_name(l->id[i], name));
	if (l->n)
		buf_addf(b, "%s_size %llu %llu\n", key, (unsigned long long)l->bytes,
			(unsigned long long)l->inodes);
}

static void put_all(struct buf *b, const struct ws_layout *lay, const struct layout_move *moves,
	unsigned nmoves)
{
	char name[WS_LAYER_NAME];

	buf_addf(b, "%u %u %u %llu %llu", lay->form, lay->top, lay->nlowers,
		(unsigned long long)lay->entries, (unsigned long long)lay->bytes);
	for (uint32_t i = 0; i < lay->nlowers; i++)
		buf_addf(b, " %d", lay->lower[i]);
	buf_addf(b, "\nbase %llu %llu\n", (unsigned long long)lay->base_bytes,
		(unsigned long long)lay->base_inodes);
	put_layers(b, "shared", &lay->shared);
	put_layers(b, "root", &lay->root);
	if (lay->base_kind)
		buf_addf(b, "baseline %u %u\n", lay->base_kind, lay->base_at);
	if (lay->commit_bytes || lay->commit_inodes)
		buf_addf(b, "commit_size %llu %llu\n", (unsigned long long)lay->commit_bytes,
			(unsigned long long)lay->commit_inodes);
	if (lay->stacked_bytes)
		buf_addf(b, "stacked %llu 0\n", (unsigned long long)lay->stacked_bytes);
	if (lay->root_top)
		buf_addf(b, "root_top %u 0\n", lay->root_top);
	if (lay->place)
		buf_addf(b, "place %u 0\n", lay->place);
	for (unsigned i = 0; i < nmoves; i++)
		buf_addf(b, "move %s %s %s\n", moves[i].from, ws_layer_name(moves[i].id, name),
			moves[i].to);
	buf_adds(b, "end\n");
}

int layout_save(int dir, const char *name, const struct ws_layout *lay,
	const struct layout_move *moves, unsigned nmoves, struct err *e)
{
	OWN_BUF b = BUF_INIT(LAYOUT_MAX_BYTES);
	OWN_FD fd = -1;

	put_all(&b, lay, moves, nmoves);
	if (!buf_ok(&b))
		return err_set(e, ERR_BUG, 0, "a layout of more than %d bytes", LAYOUT_MAX_BYTES);
	fd = openat(
		dir, ".layout.new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, b.p, b.len) != (ssize_t)b.len)
		return err_set(e, ERR_SETUP, errno, "write the layout");
	if (renameat(dir, ".layout.new", dir, name) < 0)
		return err_set(e, ERR_SETUP, errno, "replace the layout");
	return 0;
}

static int damaged(struct err *e)
{
	return err_set(e, ERR_SETUP, 0, "the session's layout is damaged");
}

bool layout_layer_id(const char *hex, unsigned char *id)
{
	for (unsigned i = 0; i < WS_LAYER_ID; i++) {
		unsigned v;

		if (strspn(hex + 2 * i, "0123456789abcdef") < 2 ||
			sscanf(hex + 2 * i, "%2x", &v) != 1)
			return false;
		id[i] = (unsigned char)v;
	}
	return hex[2 * WS_LAYER_ID] == '\0';
}

static bool parse_layer(struct ws_layers *l, const char *hex)
{
	return l->n < WS_LAYERS_MAX && layout_layer_id(hex, l->id[l->n]) && ++l->n;
}

static bool parse_pair(const char *value, uint64_t *a, uint64_t *b)
{
	unsigned long long x, y;
	int used = 0;

	if (sscanf(value, "%llu %llu%n", &x, &y, &used) != 2 || value[used])
		return false;
	*a = x;
	*b = y;
	return true;
}

static bool parse_numbers(const char *value, uint32_t *a, uint32_t *b)
{
	uint64_t x, y;

	if (!parse_pair(value, &x, &y) || x > UINT32_MAX || y > UINT32_MAX)
		return false;
	*a = (uint32_t)x;
	*b = (uint32_t)y;
	return true;
}

/* Below ws/ or root/ or one of these, and into one name. */
static bool parse_move(const char *value, struct layout_move *m)
{
	char hex[WS_LAYER_NAME];
	int used = 0;

	return sscanf(value, "%31s %32s %15s%n", m->from, hex, m->to, &used) == 3 && !value[used] &&
	       layout_layer_id(hex, m->id) && !strstr(m->from, "..") && !strchr(m->to, '/') &&
	       m->to[0] != '.' && (!strncmp(m->from, "ws/", 3) || !strncmp(m->from, "root/", 5));
}

static bool parse_line(const char *key, const char *value, struct ws_layout *lay,
	struct layout_move *m, unsigned *nm)
{
	uint64_t nothing;
	uint32_t none;

	if (!strcmp(key, "stacked"))
		return parse_pair(value, &lay->stacked_bytes, &nothing);
	if (!strcmp(key, "base"))
		return parse_pair(value, &lay->base_bytes, &lay->base_inodes);
	if (!strcmp(key, "shared"))
		return parse_layer(&lay->shared, value);
	if (!strcmp(key, "root"))
		return parse_layer(&lay->root, value);
	if (!strcmp(key, "shared_size"))
		return parse_pair(value, &lay->shared.bytes, &lay->shared.inodes);
	if (!strcmp(key, "root_size"))
		return parse_pair(value, &lay->root.bytes, &lay->root.inodes);
	if (!strcmp(key, "baseline"))
		return parse_numbers(value, &lay->base_kind, &lay->base_at);
	if (!strcmp(key, "commit_size"))
		return parse_pair(value, &lay->commit_bytes, &lay->commit_inodes);
	if (!strcmp(key, "root_top"))
		return parse_numbers(value, &lay->root_top, &none);
	if (!strcmp(key, "place"))
		return parse_numbers(value, &lay->place, &none);
	return !strcmp(key, "move") && *nm < LAYOUT_MOVES_MAX && parse_move(value, &m[*nm]) &&
	       ++*nm;
}

static bool parse_first(const char *text, struct ws_layout *lay)
{
	unsigned long long entries, bytes;
	int used = 0;

	if (sscanf(text, "%u %u %u %llu %llu%n", &lay->form, &lay->top, &lay->nlowers, &entries,
		    &bytes, &used) != 5 ||
		lay->nlowers > NELEM(lay->lower))
		return false;
	lay->entries = entries;
	lay->bytes = bytes;
	for (uint32_t i = 0; i < lay->nlowers; i++) {
		int n = 0;

		text += used;
		if (sscanf(text, " %d%n", &lay->lower[i], &n) != 1)
			return false;
		used = n;
	}
	return text[used] == '\0';
}

int layout_parse(char *text, struct ws_layout *lay, struct layout_move *moves, unsigned *nmoves,
	struct err *e)
{
	char *save, *line = strtok_r(text, "\n", &save);

	memset(lay, 0, sizeof *lay);
	*nmoves = 0;
	if (!line || !parse_first(line, lay))
		return damaged(e);
	while ((line = strtok_r(NULL, "\n", &save)) && strcmp(line, "end") != 0) {
		char *value = strchr(line, ' ');

		if (!value)
			return damaged(e);
		*value++ = '\0';
		if (!parse_line(line, value, lay, moves, nmoves))
			return damaged(e);
	}
	return line && ws_layout_valid(lay)
		       ? 0
		       : err_set(e, ERR_SETUP, 0, "the session's layout is inconsistent");
}

static int read_file(int dir, const char *name, char *text, struct err *e)
{
	OWN_FD fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, LAYOUT_MAX_BYTES);

	if (n < 0)
		return err_set(e, errno == ENOENT ? ERR_NOTFOUND : ERR_SETUP, errno,
			"open the session's layout");
	text[n] = '\0';
	return strlen(text) == (size_t)n ? 0 : damaged(e);
}

static int load(int dir, const char *name, struct ws_layout *lay, struct layout_move *moves,
	unsigned *nmoves, struct err *e)
{
	OWN_MEM char *text = malloc(LAYOUT_MAX_BYTES + 1);

	if (!text)
		return err_set(e, ERR_SETUP, ENOMEM, "read the session's layout");
	return read_file(dir, name, text, e) < 0 ? -1 : layout_parse(text, lay, moves, nmoves, e);
}

int layout_load(int dir, const char *name, struct ws_layout *lay, struct err *e)
{
	OWN_MEM struct layout_move *moves = calloc(LAYOUT_MOVES_MAX, sizeof *moves);
	unsigned n;

	if (!moves)
		return err_set(e, ERR_SETUP, ENOMEM, "read the session's layout");
	return load(dir, name, lay, moves, &n, e);
}

static int do_move(int dir, int layers, const struct layout_move *m, struct err *e)
{
	char name[WS_LAYER_NAME], to[WS_LAYER_NAME + sizeof m->to];

	snprintf(to, sizeof to, "%s/%s", ws_layer_name(m->id, name), m->to);
	/* done before, if it is not there any more, or the layer has its own already */
	if (renameat2(dir, m->from, layers, to, RENAME_NOREPLACE) == 0 || errno == ENOENT ||
		errno == EEXIST)
		return 0;
	return err_set(e, ERR_SETUP, errno, "move %s into the shared layer %s", m->from, to);
}

int layout_settle(int dir, int layers, struct ws_layout *lay, struct err *e)
{
	OWN_MEM struct layout_move *moves = calloc(LAYOUT_MOVES_MAX, sizeof *moves);
	unsigned n;

	if (!moves)
		return err_set(e, ERR_SETUP, ENOMEM, "read the session's layout");
	if (load(dir, "layout", lay, moves, &n, e) < 0)
		return -1;
	for (unsigned i = 0; i < n; i++)
		if (do_move(dir, layers, &moves[i], e) < 0)
			return -1;
	if (lay->place && session_place_set(dir, lay->place, e) < 0)
		return -1;
	/* These names may come to be used again, and the flags change. */
	if (n == 0 && !lay->place)
		return 0;
	lay->place = 0;
	return layout_save(dir, "layout", lay, NULL, 0, e);
}
