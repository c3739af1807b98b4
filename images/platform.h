/* Platforms as image indexes name them: os/architecture[/variant], in the words of GOOS, GOARCH. */
#ifndef CGIBOX_PLATFORM_H
#define CGIBOX_PLATFORM_H

#include <stdbool.h>

enum { PLATFORM_TEXT = 80 };

struct platform {
	char os[24], arch[24], variant[24]; /* variant "" = the architecture's least, or none */
};

/* This machine. */
void platform_own(struct platform *out);

/* "os/architecture[/variant]"; false when malformed. Pure. */
bool platform_parse(const char *text, struct platform *out);
const char *platform_format(const struct platform *p, char out[PLATFORM_TEXT]);

/*
 * How well an image for (os, arch, variant) fits: 0 = not at all, more is better. Images for
 * older variants run on newer processors: arm v5 < v6 < v7 < v8 (absent: v7), amd64 v1 .. v4
 * (absent: v1), arm64 v8 .. (absent: v8). Other variants must be equal. Pure.
 */
int platform_score(
	const struct platform *want, const char *os, const char *arch, const char *variant);

#endif
