/*
 * grep: lines that match a regular expression. The patterns are strangers': libpcre2 counts its own
 * steps and stops at a limit, the helper has a limit of time and memory. libc's regcomp() and regexec()
 * have neither.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <errno.h>
#include <fcntl.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/files_int.h"
#include "fcgi/ignore_glob.h"
#include "fcgi/utf8.h"

enum {
	STEP = 1 << 16,
	LINE_MAX_BYTES = 1 << 20, /* a longer one is searched in pieces */
	TEXT_MAX = 8192,          /* shown of a line */
	PATTERN_MAX = 4096,
	NESTED_MAX = 100,        /* parentheses */
	HEAP_MAX_KIB = 32 << 10, /* of one match */
};

struct grep {
	struct files_job *j;
	pcre2_code *code;
	pcre2_match_data *match;
	pcre2_match_context *limits;
	char *line;        /* LINE_MAX_BYTES + STEP */
	const char *shown; /* path of the file */
	bool over;         /* nothing more is looked for */
	bool pieces;       /* the line in hand is a further piece */
};

static void grep_clear(struct grep *g)
{
	pcre2_match_data_free(g->match);
	pcre2_match_context_free(g->limits);
	pcre2_code_free(g->code);
	free(g->line);
}
#define OWN_GREP __attribute__((cleanup(grep_clear))) struct grep

static int prepare(struct grep *g, struct err *e)
{
	const struct files_text *t = &g->j->text[1];
	pcre2_compile_context *c = pcre2_compile_context_create(NULL);
	uint32_t options = PCRE2_NEVER_BACKSLASH_C;
	PCRE2_SIZE at = 0;
	char why[120];
	int fault = 0;

	if (!c)
		return err_set(e, ERR_SETUP, ENOMEM, "compile a pattern");
	if (utf8_valid(t->p, t->n))
		options |= PCRE2_UTF | PCRE2_MATCH_INVALID_UTF;
	pcre2_set_max_pattern_length(c, PATTERN_MAX);
	pcre2_set_parens_nest_limit(c, NESTED_MAX);
	g->code = pcre2_compile((PCRE2_SPTR)t->p, t->n, options, &fault, &at, c);
	pcre2_compile_context_free(c);
	if (!g->code) {
		if (pcre2_get_error_message(fault, (PCRE2_UCHAR *)why, sizeof why) < 0)
			strcpy(why, "cannot be compiled");
		files_code_why(g->j, FILES_BAD_PATTERN, "%s (at %zu)", why, (size_t)at);
		return 0;
	}
	g->match = pcre2_match_data_create(1, NULL);
	g->limits = pcre2_match_context_create(NULL);
	g->line = malloc(LINE_MAX_BYTES + STEP);
	if (!g->match || !g->limits || !g->line)
		return err_set(e, ERR_SETUP, ENOMEM, "prepare a search");
	pcre2_set_match_limit(g->limits, (uint32_t)g->j->lim->grep_steps_max);
	pcre2_set_depth_limit(g->limits, (uint32_t)g->j->lim->grep_steps_max);
	pcre2_set_heap_limit(g->limits, HEAP_MAX_KIB);
	return 1;
}

static int found(struct grep *g, const char *p, size_t n, int64_t number, struct err *e)
{
	struct files_record rec = {.mode = S_IFREG, .line = number};

	if (g->j->r->records >= (uint64_t)g->j->lim->matches_max) {
		g->j->r->flags |= FILES_TRUNCATED;
		g->over = true;
		return 0;
	}
	if (n > 0 && p[n - 1] == '\r')
		n--;
	rec.cut = n > TEXT_MAX;
	rec.text_bytes = (uint32_t)(n > TEXT_MAX ? TEXT_MAX : n);
	if (rec.cut)
		rec.text_bytes -= (uint32_t)utf8_cut_tail(p, rec.text_bytes);
	return files_emit_record(g->j, rec, g->shown, p, e);
}

static int try_line(struct grep *g, const char *p, size_t n, int64_t number, struct err *e)
{
	int rc = pcre2_match(g->code, (PCRE2_SPTR)p, n, 0, 0, g->match, g->limits);

	if (rc >= 0)
		return found(g, p, n, number, e);
	if (rc == PCRE2_ERROR_NOMATCH)
		return 0;
	g->over = true;
	if (rc == PCRE2_ERROR_NOMEMORY)
		return err_set(e, ERR_SETUP, ENOMEM, "search a line");
	return files_code_why(g->j, FILES_BAD_PATTERN,
		"takes more than %lld steps for one line (grep_steps_max)",
		(long long)g->j->lim->grep_steps_max);
}

/* The lines in the n bytes of the buffer. Returns how many of them were used, or -1. */
static ssize_t try_lines(struct grep *g, size_t n, int64_t *number, bool last, struct err *e)
{
	size_t at = 0;

	while (!g->over && at < n) {
		char *end = memchr(g->line + at, '\n', n - at);
		size_t len = end ? (size_t)(end - g->line) - at : n - at;

		if (!end && !last && len < LINE_MAX_BYTES)
			break;
		if (try_line(g, g->line + at, len, *number, e) < 0)
			return -1;
		*number += end != NULL;
		at += len + (end != NULL);
	}
	return g->over ? (ssize_t)n : (ssize_t)at;
}

static int search(struct grep *g, int fd, struct err *e)
{
	int64_t number = 1, at = 0;
	size_t held = 0;

	while (!g->over) {
		ssize_t n = pread(fd, g->line + held, STEP, at), used;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, ERR_SETUP, errno, "read a file");
		if (at == 0 && memchr(g->line, '\0', (size_t)n))
			return 0; /* binary, as grep sees it */
		at += n;
		g->j->scanned += n;
		if (g->j->scanned > g->j->lim->scan_max_bytes) {
			g->j->r->flags |= FILES_TRUNCATED;
			g->over = true;
			return 0;
		}
		used = try_lines(g, held + (size_t)n, &number, n == 0, e);
		if (used < 0)
			return -1;
		held = held + (size_t)n - (size_t)used;
		memmove(g->line, g->line + used, held);
		if (n == 0)
			break;
	}
	return 0;
}

/* What the sandbox's user may not read is an error, not silence: half a result looks like a whole one. */
static int unreadable(struct grep *g)
{
	g->over = true;
	return files_code_why(g->j, FILES_UNREADABLE, "%.140s", g->shown);
}

static int search_at(struct grep *g, int dirfd, const char *name, struct err *e)
{
	OWN_FD fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == EACCES || errno == EPERM ? unreadable(g) : 0;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || files_alien(fd))
		return 0;
	if (!(st.st_mode & 0444))
		return unreadable(g);
	return search(g, fd, e);
}

static int visit(void *arg, const struct ws_visit *v, struct err *e)
{
	struct grep *g = arg;

	if (g->over)
		return 0;
	if (v->type == S_IFDIR)
		return !files_excluded(g->j, 3, v->name);
	if (v->type != S_IFREG || (g->j->text[2].n && !glob_name(g->j->text[2].p, v->name)))
		return 0;
	g->shown = v->path;
	return search_at(g, v->dirfd, v->name, e);
}

int files_grep(struct files_job *j, struct err *e)
{
	OWN_GREP g = {.j = j, .shown = ""};
	OWN_PLACE p;
	OWN_FD fd = -1;
	int got = files_place(j, j->text[0].p, PLACE_FOLLOW, false, &p, e);

	if (got <= 0)
		return got;
	if (!p.there)
		return files_code(j, FILES_NOT_FOUND);
	got = prepare(&g, e);
	if (got <= 0)
		return got;
	files_describe(j, &p.st);
	if (!S_ISDIR(p.st.st_mode)) {
		if (j->text[2].n && !glob_name(j->text[2].p, p.name))
			return files_code(j, FILES_OK);
		return S_ISREG(p.st.st_mode) ? search_at(&g, p.dir, p.name, e)
					     : files_code(j, FILES_NOT_FILE);
	}
	got = files_open_dir(j, &p, e);
	if (got < 0)
		return got == -2 ? 0 : -1;
	fd = got;
	return files_walk(fd, visit, &g, e);
}
