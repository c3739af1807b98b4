#include "images/progress.h"
#include "isolate/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { REDRAW_MS = 100, EVENT_MS = 1000, BAR = 24 };

void progress_init(struct progress *p, enum progress_form form)
{
	memset(p, 0, sizeof *p);
	p->form = form;
	p->terminal = form == PROGRESS_LINES && isatty(STDERR_FILENO) == 1;
}

void progress_add(struct progress *p, const char *label, uint64_t total)
{
	struct progress_line *l;

	if (p->nlines == PROGRESS_LINES_MAX)
		return;
	l = &p->lines[p->nlines++];
	snprintf(l->label, sizeof l->label, "%.12s", label);
	l->total = total;
}

void progress_set(struct progress *p, size_t line, uint64_t now)
{
	struct progress_line *l = &p->lines[line];

	if (line >= p->nlines || l->ended)
		return;
	if (now && !l->start_ms)
		l->start_ms = clock_ms();
	l->now = now;
}

/* "label: [====    ] 1.2/3.4 MB 5.6 MB/s 0:07" */
static void draw_line(const struct progress_line *l, const char *what)
{
	static const char full[] = "========================";
	int64_t ms = l->start_ms ? clock_ms() - l->start_ms : 0;
	double speed = ms > 0 ? (double)l->now / (double)ms * 1000 : 0;
	int n = l->total ? (int)((double)l->now / (double)l->total * BAR) : 0;

	if (n > BAR)
		n = BAR;
	fprintf(stderr, "%s: [%-*.*s] %.1f", l->label, BAR, n, full, (double)l->now / 1e6);
	if (l->total)
		fprintf(stderr, "/%.1f", (double)l->total / 1e6);
	fprintf(stderr, " MB");
	if (speed > 0)
		fprintf(stderr, " %.1f MB/s", speed / 1e6);
	if (!what && speed > 0 && l->total > l->now) {
		long s = (long)((double)(l->total - l->now) / speed);

		fprintf(stderr, " %ld:%02ld", s / 60, s % 60);
	}
	fprintf(stderr, "%s%s\n", what ? " " : "", what ? what : "");
}

static void wipe(struct progress *p)
{
	fputc('\r', stderr);
	if (p->drawn)
		fprintf(stderr, "\033[%zuA", p->drawn);
	fputs("\033[J", stderr);
	p->drawn = 0;
}

/* Only what moves: more lines than the terminal has could not be redrawn. */
static void draw_moving(struct progress *p)
{
	for (size_t i = 0; i < p->nlines; i++) {
		if (p->lines[i].ended || !p->lines[i].now)
			continue;
		draw_line(&p->lines[i], NULL);
		p->drawn++;
	}
	fflush(stderr);
}

static void print_json(const struct progress_line *l, const char *state)
{
	printf("{\"event\":\"layer\",\"layer\":\"%s\",\"state\":\"%s\",\"bytes\":%llu,"
	       "\"total\":%llu}\n",
		l->label, state, (unsigned long long)l->now, (unsigned long long)l->total);
	fflush(stdout);
}

void progress_draw(struct progress *p)
{
	int64_t now = clock_ms();

	if (now - p->last_ms < (p->form == PROGRESS_JSON ? EVENT_MS : REDRAW_MS))
		return;
	p->last_ms = now;
	if (p->terminal) {
		wipe(p);
		draw_moving(p);
	}
	for (size_t i = 0; p->form == PROGRESS_JSON && i < p->nlines; i++)
		if (!p->lines[i].ended && p->lines[i].now)
			print_json(&p->lines[i], "progress");
}

void progress_end(struct progress *p, size_t line, const char *what)
{
	struct progress_line *l = &p->lines[line];

	if (line >= p->nlines || l->ended)
		return;
	l->ended = true;
	if (p->form == PROGRESS_JSON) {
		print_json(l, what);
	} else if (p->terminal) {
		wipe(p);
		draw_line(l, what);
		draw_moving(p);
	} else if (p->form == PROGRESS_LINES) {
		fprintf(stderr, "%s: %s\n", l->label, what);
	}
}

static void put_string(const char *value)
{
	putchar('"');
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			printf("\\%c", *value);
		else if ((unsigned char)*value < 0x20 || (unsigned char)*value >= 0x7f)
			printf("\\u%04x", (unsigned char)*value);
		else
			putchar(*value);
	}
	putchar('"');
}

static void put_member(const char *key, const char *value)
{
	printf(",\"%s\":", key);
	put_string(value);
}

void progress_collected(
	const char *what, const char *name, uint64_t bytes, const char *kept_by, const char *who)
{
	printf("{\"event\":\"%s\"", kept_by ? "kept" : "removed");
	put_member("what", what);
	put_member("name", name);
	printf(",\"bytes\":%llu", (unsigned long long)bytes);
	if (kept_by) {
		put_member("by", kept_by);
		put_member("who", who);
	}
	puts("}");
	fflush(stdout);
}

void progress_damage(
	const char *event, const char *what, const char *name, const char *path, const char *why)
{
	printf("{\"event\":\"%s\"", event);
	put_member("what", what);
	put_member("name", name);
	put_member("path", path);
	put_member("why", why);
	puts("}");
	fflush(stdout);
}

void progress_event(const struct progress *p, const char *event, const char *key, const char *value)
{
	if (p->form != PROGRESS_JSON)
		return;
	printf("{\"event\":\"%s\"", event);
	put_member(key, value);
	puts("}");
	fflush(stdout);
}

void progress_warn(const struct progress *p, const char *message)
{
	progress_event(p, "warning", "message", message);
	if (p->form == PROGRESS_LINES)
		fprintf(stderr, "cgibox image: warning: %s\n", message);
}
