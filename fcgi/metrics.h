/*
 * The counters in the text format of Prometheus, version 0.0.4 (prometheus.io/docs/instrumenting/
 * exposition_formats). Each family has its HELP and TYPE once, its samples together, label values
 * escaped; a histogram's buckets are cumulative and end with +Inf. Labels hold words of our own
 * tables alone.
 */
#ifndef CGIBOX_METRICS_H
#define CGIBOX_METRICS_H

#include <stdbool.h>

#include "fcgi/stats.h"
#include "isolate/buf.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metrics_info {
	const char *backend;
	bool keeper_up;
};

/* Appends all families. Reads s while others count: each number is right, and a histogram's count
 * is the sum of its buckets. Any process that has s. */
void metrics_write(const struct stats *s, const struct metrics_info *info, struct buf *out);

#endif
