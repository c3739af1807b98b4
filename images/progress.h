/*
 * How far a long transfer is: a line for each layer, redrawn on a terminal; or events as lines of
 * JSON on standard output. Only the program `image` prints.
 */
#ifndef CGIBOX_PROGRESS_H
#define CGIBOX_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROGRESS_LINES_MAX = 1024 };

enum progress_form {
	PROGRESS_LINES, /* on standard error: bars on a terminal, else a line when one ends */
	PROGRESS_QUIET,
	PROGRESS_JSON,
};

struct progress_line {
	char label[16];
	uint64_t now, total; /* bytes; total 0 = unknown */
	int64_t start_ms;    /* monotonic, of its first byte; 0 = not yet */
	bool ended;
};

struct progress {
	enum progress_form form;
	bool terminal;
	int64_t last_ms;
	size_t drawn; /* lines below which the cursor stands */
	size_t nlines;
	struct progress_line lines[PROGRESS_LINES_MAX];
};

void progress_init(struct progress *p, enum progress_form form);

/* One more line; its number is the count of those before. Labels are cut to 12 bytes. */
void progress_add(struct progress *p, const char *label, uint64_t total);

/* Numbers that progress_add() had no room for are ignored. */
void progress_set(struct progress *p, size_t line, uint64_t now);
void progress_draw(struct progress *p); /* when it is time */
/* "label: what". */
void progress_end(struct progress *p, size_t line, const char *what);

/* {"event":..., key: value}, when the form is JSON; value is escaped. */
void progress_event(
	const struct progress *p, const char *event, const char *key, const char *value);

/* {"event":"warning","message":..}, or a line on standard error. */
void progress_warn(const struct progress *p, const char *message);

/*
 * Other events, always written: {"event":"removed"|"kept","what","name","bytes"[,"by","who"]} and
 * {"event":event,"what","name","path","why"}.
 */
void progress_collected(
	const char *what, const char *name, uint64_t bytes, const char *kept_by, const char *who);
void progress_damage(
	const char *event, const char *what, const char *name, const char *path, const char *why);

#endif
