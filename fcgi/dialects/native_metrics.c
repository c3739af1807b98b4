/* GET /-/metrics. */
#include "fcgi/dialects/native.h"

#include "fcgi/metrics.h"
#include "fcgi/trace.h"
#include "isolate/own.h"

enum { TEXT_MAX = 4 << 20 };

/* The keeper brings its gauges up to date when it is asked for its health. */
static void metrics(struct dialect_call *c)
{
	struct stats *s = c->rq->trace ? c->rq->trace->stats : NULL;
	struct metrics_info info = {.backend = c->ops->name};
	struct err e = {0};

	if (!s || !s->page) {
		dialect_detail(c, 503, "Nothing is counted here");
		return;
	}
	info.keeper_up = c->ops->health(c->backend, &e) == 0;
	c->rs->body.max = TEXT_MAX;
	metrics_write(s, &info, &c->rs->body);
	c->rs->status = 200;
	c->rs->content_type = METRICS_TYPE;
}

const struct route native_metrics_routes[] = {
	{HTTP_GET, "-/metrics", ROUTE_METRICS, metrics},
};
const size_t native_nmetrics_routes = NELEM(native_metrics_routes);
