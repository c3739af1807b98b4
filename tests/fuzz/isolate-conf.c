/*
 * The language of sandbox.conf: whatever the bytes, it is accepted or refused with a message; and
 * what was accepted, dumped and read again, is the same configuration.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/conf.h"

static char *dump(const struct conf *c)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	if (!f)
		abort();
	conf_dump(c, f);
	if (fclose(f) != 0)
		abort();
	return text;
}

/* A string that takes a whole line of the file is too long for one after its "key = ". */
static int too_long(const char *text)
{
	for (const char *nl; *text; text = nl + 1) {
		nl = strchr(text, '\n');
		if (!nl || nl - text > 1023)
			return 1;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct conf c, again;
	struct err e = {0};
	char *first, *second;

	if (conf_init(&c) < 0 || conf_init(&again) < 0)
		abort();
	if (conf_parse(&c, "fuzz", (const char *)p, n, &e) < 0) {
		if (e.kind != ERR_CONF || strncmp(e.msg, "fuzz, line ", 11) != 0)
			abort();
	} else {
		first = dump(&c);
		if (!too_long(first)) {
			if (conf_parse(&again, "dump", first, strlen(first), &e) < 0)
				abort();
			free(again.api_key); /* the dump masks it */
			again.api_key = strdup(c.api_key);
			second = dump(&again);
			if (strcmp(first, second) != 0)
				abort();
			free(second);
		}
		free(first);
	}
	conf_clear(&c);
	conf_clear(&again);
	return 0;
}
