/*
 * Messages between a worker and the keeper: SOCK_SEQPACKET on STATE/keeper.sock, one connection
 * a request. Fixed size, range-checked by the keeper; text that may be long (the environment)
 * and bytes (archive, patch) travel as descriptors. The end of the connection ends everything
 * the request holds: lock, sandbox, processes.
 */
#ifndef CGIBOX_KEEPER_PROTO_H
#define CGIBOX_KEEPER_PROTO_H

#include <stdint.h>

#include "fcgi/backend.h"
#include "isolate/err.h"

enum { KEEPER_MAGIC = 0x63676b31, KEEPER_FDS_MAX = 2 };
#define KEEPER_SOCKET "keeper.sock"

enum keeper_op {
	KEEPER_HEALTH = 1, /* answers when the keeper's loop turns */
	KEEPER_CREATE,     /* image, flags, limits; fd: environment */
	KEEPER_EXISTS,     /* id */
	KEEPER_OPEN,  /* id; fd: archive, if has_archive. Answer: fds client socket, environment */
	KEEPER_PATCH, /* fd: output */
	KEEPER_DESTROY, /* id */
	KEEPER_SYSTEM,  /* Answer: fd the facts of doctor, sealed; none when there are none */
	KEEPER_IMAGE, /* verb, image. Answer: code; fd what the program `image` wrote, or writes */
	KEEPER_WORKSPACE, /* id, verb, name, count, format, stop; fds: output, path. Answer: fd text */
	KEEPER_OP_MAX,
};

struct keeper_request {
	uint32_t magic, op;
	char id[SESSION_ID_LEN + 1];
	char image[IMAGE_REF_MAX + 1];
	uint32_t ephemeral, extract_patch, network, has_archive;
	uint32_t env_bytes;
	uint32_t verb; /* of KEEPER_IMAGE: enum image_verb */
	int64_t memory_bytes;
	double cpus;
	/* of KEEPER_WORKSPACE, whose verb is an enum workspace_verb */
	char name[WORKSPACE_MARK_MAX + 1];
	uint32_t count, format, stop, path_bytes;
};

struct keeper_reply {
	uint32_t magic, op; /* of the request */
	struct err err;     /* ERR_NONE on success */
	char id[SESSION_ID_LEN + 1];
	uint32_t extract_patch, has_baseline;
	uint32_t unenforced, approximate; /* UNENFORCED_* */
	uint64_t patch_bytes;
	int32_t code; /* of KEEPER_IMAGE: exit status, -1 when it died */
	/* of KEEPER_SYSTEM */
	int64_t checked_at; /* of the facts, seconds since the epoch */
	uint64_t uptime_ms; /* of the keeper */
	uint32_t sessions, sandboxes;
	uint32_t means; /* LIMIT_BY_*, see limits.h */
};

#endif
