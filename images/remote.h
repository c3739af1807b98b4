/*
 * A registry, asked by a process of its own. Whoever forks unpackers must never have read what logs in:
 * a hole in a decompressor could put it into a layer. So documents are fetched by a child, the
 * clerk, which keeps its connection from one to the next and ends before layers are fetched; these
 * children get the credentials as they are forked (registry_pass()) and read them after they have
 * forked their unpacker (bring.h). The program `image`.
 */
#ifndef CGIBOX_REMOTE_H
#define CGIBOX_REMOTE_H

#include "images/registry.h"

struct remote;

/* As registry_open(). */
struct remote *remote_open(
	const struct ref *r, const struct conf *c, bool for_client, struct err *e);
void remote_close(struct remote *r); /* NULL is fine */

/* As registry_manifest(). */
int remote_manifest(struct remote *r, const char *tag_or_digest, struct buf *out, struct err *e);

/* The rest. It is valid until remote_close(). */
struct source remote_source(struct remote *r);

#endif
