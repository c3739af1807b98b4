/*
 * Streams of an Engine: JSON values, one a line (the events of containers; the progress of a pull).
 * Pure: bytes in, facts out; a fuzz target.
 */
#ifndef CGIBOX_ENGINE_LINES_H
#define CGIBOX_ENGINE_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fcgi/engine.h"
#include "isolate/buf.h"

enum { ENGINE_LINE_MAX = 65536, ENGINE_LAYERS_MAX = 128, ENGINE_EVENT_MS = 1000 };

/* A line that is not complete yet; BUF_INIT(ENGINE_LINE_MAX) in `part`. */
struct engine_lines {
	struct buf part;
};

/* Calls fn for each complete line of what came. -1: a line is longer than ENGINE_LINE_MAX. */
int engine_lines_feed(struct engine_lines *l, const char *p, size_t n,
	void (*fn)(void *arg, const char *line, size_t n), void *arg);

/* What happened to a container of ours. */
struct engine_event {
	char box[ENGINE_BOX_MAX + 1];
	char container[65];
	bool oom;          /* a process was ended for want of memory; else: it has ended */
	int32_t exit_code; /* of its end */
};

/* Whether the line tells of a container with our labels one of these two things; fills out. */
bool engine_event_read(const char *line, size_t n, struct engine_event *out);

/* A pull, as far as its lines tell. Starts as zeros. */
struct engine_progress {
	struct engine_layer {
		char label[13];
		uint64_t now, total;
		int64_t told_ms;
		bool ended;
	} layers[ENGINE_LAYERS_MAX];
	unsigned nlayers;  /* more are not told of */
	char failure[400]; /* the Engine's words; "" = none yet */
};

/*
 * Takes one line in, and appends to out the events, as `cgibox image --json pull` writes them, that it
 * gives rise to; of one layer at most one each ENGINE_EVENT_MS but its last. now_ms: monotonic.
 */
void engine_progress_line(
	struct engine_progress *p, const char *line, size_t n, int64_t now_ms, struct buf *out);

#endif
