/* Name-value pairs: no crash, and what is accepted is what libfcgi's strings will say, too. */
#include "fcgi/params.h"

#include <stdlib.h>
#include <string.h>

#include "fcgi/record.h"

/* As libfcgi makes them: NAME=value, and a NULL behind the last. */
static char **strings(const uint8_t *p, size_t n, size_t count)
{
	char **envp = calloc(count + 1, sizeof *envp);

	for (size_t i = 0; envp && i < count; i++) {
		struct record_pair r;
		long used = record_pair(p, n, &r);

		if (used < 2 || (size_t)used > n)
			abort();
		envp[i] = malloc(r.name_len + r.value_len + 2);
		memcpy(envp[i], r.name, r.name_len);
		envp[i][r.name_len] = '=';
		memcpy(envp[i] + r.name_len + 1, r.value, r.value_len);
		envp[i][r.name_len + 1 + r.value_len] = '\0';
		if (strlen(envp[i]) != r.name_len + 1 + r.value_len ||
			(size_t)(strchr(envp[i], '=') - envp[i]) != r.name_len || r.name_len == 0)
			abort();
		p += used;
		n -= (size_t)used;
	}
	if (n)
		abort();
	return envp;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct http_request rq = {0};
	size_t count, keys = 0;
	char **envp;
	struct err e;

	if (params_scan(p, n, &count, &e) < 0)
		return 0;
	envp = strings(p, n, count);
	for (size_t i = 0; i < count; i++)
		keys += !strncmp(envp[i], "HTTP_X_API_KEY=", 15);
	if (keys > 1)
		abort();
	if (params_take(&rq, envp, &e) == 0) {
		if (!rq.uri || !*rq.uri || strpbrk(rq.uri, " \r\n\t") || rq.content_length < -1)
			abort();
		if (!!rq.api_key != !!keys)
			abort();
	}
	for (size_t i = 0; i < count; i++)
		free(envp[i]);
	free(envp);
	return 0;
}
