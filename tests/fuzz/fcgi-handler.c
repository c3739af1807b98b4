/* Standard output of a stranger's code: the parts are in the text, in order, and a value is one line. */
#include "fcgi/handler.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const char nonce[] = "0123456789abcdef0123456789abcdef";
	const char *text = (const char *)p;
	struct handler_output o;
	struct err e = {0};
	enum handler_outcome got = handler_parse(text, n, nonce, &o, &e);

	if (o.before > n || o.after < text || o.after + o.after_bytes != text + n)
		abort();
	if (got == HANDLER_NO_VALUE && (o.before != n || o.after_bytes || o.value))
		abort();
	if ((got == HANDLER_VALUE) != (o.value != NULL) || (got == HANDLER_BAD_VALUE) != !!e.kind)
		abort();
	if (o.value && (o.value < text + o.before || o.value + o.value_bytes >= o.after ||
			       !o.value_bytes || memchr(o.value, '\n', o.value_bytes) ||
			       memchr(o.value, 0x1e, o.value_bytes)))
		abort();
	return 0;
}
