/*
 * What a container is made from. Everything that grants or limits is a constant of engine_spec.c, a
 * setting of sandbox.conf, or a number of the question; a tenant's text is in one place only, "Image".
 * Pure functions, used by the broker.
 */
#ifndef CGIBOX_ENGINE_SPEC_H
#define CGIBOX_ENGINE_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "fcgi/engine.h"
#include "isolate/buf.h"

/* What is the same for all containers of this broker. Borrowed. */
struct engine_settings {
	const struct conf *conf;
	const char
		*state;   /* STATE, absolute, without symbolic links: a label, and before sources */
	const char *init; /* path of our static pid 1, the same */
	const char *seccomp; /* the profile, JSON; NULL: none (an Engine without seccomp) */
	uint32_t uid, gid;   /* of commands, as the Engine counts */
	bool private_cgroup; /* a cgroup namespace of its own is to be had */
};

/* Labels of containers; that of STATE is what ENGINE_SWEEP goes by. */
#define ENGINE_LABEL_STATE   "cgibox.state"
#define ENGINE_LABEL_BOX     "cgibox.box"
#define ENGINE_LABEL_SESSION "cgibox.session"
/* Before a box id: the container's name. */
#define ENGINE_NAME "cgibox-"

/* Whether id is [a-z0-9-], 1 to ENGINE_BOX_MAX bytes. */
bool engine_box_valid(const char *id);

/* Whether every field that q->op uses is in range and of its grammar. ERR_BUG names the field;
 * ERR_REQUEST: the image's reference, which comes from a client. */
int engine_question_check(const struct engine_question *q, struct err *e);

/*
 * Appends the body of POST /containers/create for a question that passed the check. ERR_CONF: a
 * network that sandbox.conf does not name; ERR_SETUP without memory.
 */
int engine_spec_write(const struct engine_settings *s, const struct engine_question *q,
	struct buf *out, struct err *e);

/*
 * Appends the name under which the Engine knows an image: "sha256:..." as it is, a reference with
 * host, path and tag or digest. false: malformed.
 */
bool engine_image_name(const char *image, struct buf *out);

#endif
