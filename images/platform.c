#include "images/platform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "isolate/own.h"

enum { SCORE_EQUAL = 1000 };

void platform_own(struct platform *out)
{
	static const char *const names[][3] = {{"x86_64", "amd64", ""}, {"aarch64", "arm64", ""},
		{"armv8l", "arm", "v8"}, {"armv7l", "arm", "v7"}, {"armv6l", "arm", "v6"},
		{"armv5tel", "arm", "v5"}, {"armv5tejl", "arm", "v5"}, {"i686", "386", ""},
		{"i586", "386", ""}, {"loongarch64", "loong64", ""}};
	struct utsname u;

	memset(out, 0, sizeof *out);
	snprintf(out->os, sizeof out->os, "linux");
	if (uname(&u) < 0)
		return;
	snprintf(out->arch, sizeof out->arch, "%.23s", u.machine);
	for (size_t i = 0; i < NELEM(names); i++) {
		if (strcmp(names[i][0], u.machine) != 0)
			continue;
		snprintf(out->arch, sizeof out->arch, "%s", names[i][1]);
		snprintf(out->variant, sizeof out->variant, "%s", names[i][2]);
	}
}

static bool take(const char **text, char *to, size_t size)
{
	size_t n = strspn(*text, "abcdefghijklmnopqrstuvwxyz0123456789_.-");

	if (n == 0 || n >= size || ((*text)[n] && (*text)[n] != '/'))
		return false;
	memcpy(to, *text, n);
	to[n] = '\0';
	*text += n;
	return true;
}

bool platform_parse(const char *text, struct platform *out)
{
	memset(out, 0, sizeof *out);
	if (!take(&text, out->os, sizeof out->os) || *text++ != '/' ||
		!take(&text, out->arch, sizeof out->arch))
		return false;
	if (*text == '\0')
		return true;
	text++;
	return take(&text, out->variant, sizeof out->variant) && *text == '\0';
}

const char *platform_format(const struct platform *p, char out[PLATFORM_TEXT])
{
	snprintf(out, PLATFORM_TEXT, "%s/%s%s%s", p->os, p->arch, p->variant[0] ? "/" : "",
		p->variant);
	return out;
}

/* "v7" is 7; the architecture's default without one; -1 for anything else. */
static int level(const char *arch, const char *variant)
{
	static const struct {
		const char *arch;
		int dflt;
	} leveled[] = {{"arm", 7}, {"arm64", 8}, {"amd64", 1}};

	for (size_t i = 0; i < NELEM(leveled); i++) {
		if (strcmp(arch, leveled[i].arch) != 0)
			continue;
		if (!*variant)
			return leveled[i].dflt;
		return variant[0] == 'v' && variant[1] >= '1' && variant[1] <= '9' && !variant[2]
			       ? variant[1] - '0'
			       : -1;
	}
	return -1;
}

int platform_score(
	const struct platform *want, const char *os, const char *arch, const char *variant)
{
	int ours, theirs;

	if (strcmp(want->os, os) != 0 || strcmp(want->arch, arch) != 0)
		return 0;
	if (!strcmp(want->variant, variant))
		return SCORE_EQUAL;
	ours = level(arch, want->variant);
	theirs = level(arch, variant);
	if (ours < 0 || theirs < 0)
		return *want->variant ? 0 : 1; /* asked for none in particular */
	return theirs <= ours ? SCORE_EQUAL - 1 - (ours - theirs) : 0;
}
