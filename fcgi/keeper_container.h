/*
 * A sandbox that is a container of an Engine. It is made with everything it will have; its pid 1
 * connects to a socket in a directory of its own, and is from then on like any other (keeper_box.c).
 * STATE/container/<box>/ is that directory; it goes with the box.
 */
#ifndef CGIBOX_KEEPER_CONTAINER_H
#define CGIBOX_KEEPER_CONTAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "fcgi/engine.h"
#include "isolate/err.h"

struct conf;
struct keeper;
struct call;
struct box;

/* At start: makes STATE/engine and empties it. */
int container_dirs_open(struct keeper *k, struct err *e);

/*
 * Has the Engine make and start the container of b, for the session that c holds; client (borrowed) becomes pid
 * 1's first client. Later box_connected(), or box_fail().
 */
int container_launch(struct keeper *k, struct box *b, struct call *c, int client, struct err *e);

/* b->state is BOX_STOPPING: ends its processes. True: box_ended() follows, false: it has ended. */
bool container_stop(struct keeper *k, struct box *b);

/* No process of it is left; frees it. */
void container_free(struct keeper *k, struct box *b);

/* What the broker says: the container has ended; it was removed, or that failed. */
void container_has_ended(struct keeper *k, const struct engine_answer *a);
/* The kernel has ended one of its processes for want of memory. */
void container_oom(struct keeper *k, const struct engine_answer *a);
/* No process of b is left, and b->lost_ms: whether the Engine is still to say why; box_ended() follows. */
bool container_asks_why(struct keeper *k, struct box *b);
void container_removed(struct keeper *k, const char *box);

/*
 * keeper_container_volume.c. Whether a container can have a volume at path (absolute, of session_record.h); ERR_REQUEST
 * says why not. The places of the volumes of c's session in its own root, made where they are missing; ERR_REQUEST when
 * something is in the way. Keeper.
 */
int container_volume_place(const struct conf *f, const char *path, struct err *e);
int container_volume_dirs(struct keeper *k, const struct call *c, struct err *e);

/* What the watchdog's process does for others: has those measured whose disk was written to. ms. */
int container_disk_work(struct keeper *k);

#endif
