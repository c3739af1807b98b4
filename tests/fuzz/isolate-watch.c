/* The watchdog's parsers over bytes that a tenant's names may have shaped. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "isolate/watch_sock.h"
#include "isolate/watch_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *text = (const char *)data;
	struct watch_sockets sum = {0};
	struct watch_status status;
	struct watch_map map;
	char path[64];
	uint64_t a, b;

	watch_text_status(text, n, &status);
	if (watch_text_map(text, n, &map) && map.end < map.start)
		abort();
	watch_text_space(text, n);
	watch_text_columns(text, n, "rss", "swap", &a, &b);
	watch_text_mount(text, n, 0, 21, &a);
	if (watch_text_lines(text, n, "tfd:") > n)
		abort();
	if (watch_text_tmpfs(text, n, path, sizeof path) && !memchr(path, '\0', sizeof path))
		abort();
	for (int family = 0; family < 3; family++)
		if (watch_sock_parse(data, n, family ? AF_INET : AF_UNIX, &sum) == 1 && n < 16)
			abort();
	return 0;
}
