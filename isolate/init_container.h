/*
 * A pid 1 that an Engine (Docker and the like) has started: root, namespaces, network and control group
 * of the container are the Engine's work, and no right is left when this program begins. What it
 * inherits elsewhere it is told by the keeper, over a connection that it makes itself.
 */
#ifndef CGIBOX_INIT_CONTAINER_H
#define CGIBOX_INIT_CONTAINER_H

#include "isolate/init.h"

/* Whether the arguments are those of a container's entrypoint. */
bool init_container(int argc, char *const *argv);

/*
 * Connects to PLAN_CONTAINER_SOCKET as s->keeper, and waits without limit for one PROTO_CLAIM; the end of
 * the connection ends that. Then s->plan is the plan of the claim. ERR_SETUP, ERR_BUG.
 */
int init_container_claim(struct init_state *s, struct err *e);

/* Opens what must be opened before pid 1 is non-dumpable: /dev/null, its own oom_score_adj (s->oom), and
 * the counters of the container's control group, as far as they are shown, as PLAN_FD_*. ERR_SETUP. */
int init_container_open(struct init_state *s, struct err *e);

/*
 * Before a command is started (true) and after it has executed (false): the kernel is to choose it and its
 * descendants when memory runs out, not pid 1, which is in the same control group. Nothing where s->oom is -1.
 */
void init_container_victim(const struct init_state *s, bool born);

#endif
