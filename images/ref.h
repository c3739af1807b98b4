/*
 * Image references, [host[:port]/]path[:tag][@sha256:hex], after the grammar of the
 * distribution project ("distribution/reference"); a host may be an IPv6 literal in brackets.
 * Pure.
 */
#ifndef CGIBOX_REF_H
#define CGIBOX_REF_H

#include <stdbool.h>
#include <stddef.h>

enum { REF_MAX = 255 };

struct ref {
	char host[REF_MAX + 1]; /* "" when the text names none */
	char path[REF_MAX + 1];
	char tag[129];   /* "" when absent */
	char digest[72]; /* "sha256:" and 64 digits, "" when absent */
};

/* false: malformed; out is then unspecified. */
bool ref_parse(const char *text, struct ref *out);

/* Fills in the tag "latest" when there is neither tag nor digest. */
void ref_fill_tag(struct ref *r);

/*
 * Also fills in the host docker.io, which has other names, too, and its library/: what a registry
 * is asked for.
 */
void ref_fill_all(struct ref *r);

/* Writes the text form; false when it would pass REF_MAX. */
bool ref_format(const struct ref *r, char out[REF_MAX + 1]);

/* Whether s is n lower-case hexadecimal digits and nothing else. */
bool ref_is_hex(const char *s, size_t n);

/* Whether s is "sha256:" with 64 digits. */
bool ref_is_digest(const char *s);

#endif
