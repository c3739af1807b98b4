/* How far a long transfer is, for the person at the terminal. Only the program `image` prints. */
#ifndef CGIBOX_PROGRESS_H
#define CGIBOX_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool quiet, terminal; /* terminal: standard error is one, lines are redrawn */
	int64_t last_ms;
	char label[64];
	uint64_t now, total; /* bytes; total 0 = unknown */
};

void progress_init(struct progress *p, bool quiet);
void progress_start(struct progress *p, const char *label, uint64_t total);
void progress_add(struct progress *p, uint64_t n);
/* Ends the line: "label: what". */
void progress_end(struct progress *p, const char *what);

#endif
