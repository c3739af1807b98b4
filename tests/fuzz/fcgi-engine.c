/* What an Engine says: events, the progress of a pull, refusals. Strings that come out end, and labels
 * and ids are of their grammar, since they go into our own JSON and URLs. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/engine_lines.h"
#include "fcgi/engine_reason.h"
#include "fcgi/engine_spec.h"
#include "images/own_json.h"
#include "images/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct engine_progress progress;

static void line(void *arg, const char *text, size_t n)
{
	struct buf *out = arg;
	struct engine_event ev;
	OWN_JSON *o = NULL;

	if (engine_event_read(text, n, &ev) &&
		(!engine_box_valid(ev.box) || !ref_is_hex(ev.container, 64) || ev.exit_code < 0 ||
			ev.exit_code > 255))
		abort();
	out->len = 0;
	engine_progress_line(&progress, text, n, (int64_t)n * 100, out);
	if (out->len && !(o = engine_json(out->p, out->len)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct engine_lines l = {.part = BUF_INIT(ENGINE_LINE_MAX)};
	OWN_BUF out = BUF_INIT(65536);
	struct err e = {0};
	size_t half = n / 2;

	memset(&progress, 0, sizeof progress);
	if (engine_lines_feed(&l, (const char *)p, half, line, &out) == 0)
		engine_lines_feed(&l, (const char *)p + half, n - half, line, &out);
	buf_clear(&l.part);
	engine_reason(n ? 400 + p[0] : 500, (const char *)p, n, "do it", &e);
	if (e.kind == ERR_NONE || strnlen(e.msg, sizeof e.msg) == sizeof e.msg)
		abort();
	return 0;
}
