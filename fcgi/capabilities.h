/*
 * What a backend may lack. Each has a name, shown by GET /system/ and in the error of who asks for it, so that no
 * difference between backends is a silent one. Documented in docs/api.md.
 */
#ifndef CGIBOX_CAPABILITIES_H
#define CGIBOX_CAPABILITIES_H

#include "isolate/err.h"

enum capability {
	CAN_HOST_IMAGE,     /* the image "host": this machine's own file system */
	CAN_KEEP_ROOT,      /* changes outside of workspace, home and /tmp outlive the sandbox */
	CAN_ROOT_FILES,     /* file verbs reach what the image has */
	CAN_ROOT_EMULATION, /* run_uid, root_emulation: commands as another user than the service's */
	CAN_LAYERS,         /* fork, snapshots, restore, commit */
	CAN_DEPENDENCIES,   /* requirements that are installed for code */
	CAN_BLOCK_NETWORKS, /* network_blocked: private networks are out of reach */
	/* and with containers that take no descriptors (engine_runtime = runsc) */
	CAN_TERMINAL, /* runs with a terminal */
	CAN_PORTS,    /* requests to ports inside */
	CAPABILITIES
};

/* Bits of those that are lacking. */
enum {
	LACKS_NOTHING = 0,
	LACKS_WITH_DOCKER = (1 << CAN_TERMINAL) - 1,
	LACKS_WITH_STREAM = (1 << CAPABILITIES) - 1,
};

/* The name of a capability. Pure. */
const char *capability_name(enum capability c);

/* ERR_REQUEST that names it. */
int capability_lacking(enum capability c, struct err *e);

#endif
