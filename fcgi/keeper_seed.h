/*
 * The directories of a container that is made before its session is known: home, /tmp and the workspace. An
 * Engine binds directories, not names, so they become the session's by rename(2), in the place of its
 * own as long as those are empty. STATE/engine/<box>.seed/ is where they lie until then. Keeper.
 */
#ifndef CGIBOX_KEEPER_SEED_H
#define CGIBOX_KEEPER_SEED_H

#include <stdbool.h>
#include <sys/stat.h>

#include "fcgi/engine.h"
#include "isolate/conf.h"
#include "isolate/err.h"

struct keeper;
struct call;

enum { SEED_HOME, SEED_TMP, SEED_TREE, SEEDS };

struct seed {
	char box[ENGINE_BOX_MAX + 1];
	struct {
		dev_t dev;
		ino_t ino;
	} dir[SEEDS];
};

/* Whether the three lie apart from each other, as sandbox.conf has it (run_home). */
bool seed_possible(const struct conf *c);

/* Makes them for the container box and adds their mounts to q. */
int seed_make(struct keeper *k, const char *box, struct seed *s, struct engine_question *q,
	struct err *e);

/* Whether the session that c holds, its layout loaded, has nothing that s would replace. */
bool seed_fits(struct keeper *k, const struct call *c);

/* Moves them there. The workspace of a session that gets an archive with this request (c->rq) becomes what
 * is made of it (ws_intake.c). */
int seed_plant(struct keeper *k, const struct call *c, const struct seed *s, struct err *e);

/* Whether the session's own are these, whatever happened since. */
bool seed_grew(struct keeper *k, const struct call *c, const struct seed *s);

/* What was not planted goes. */
void seed_remove(struct keeper *k, const struct seed *s);

#endif
