/* The range check of a worker's message: the keeper believes nothing that it has not looked at. */
#include <string.h>

#include "fcgi/backend_live.h"
#include "fcgi/keeper_int.h"
#include "fcgi/receipt_log.h"

static unsigned fds_wanted(const struct keeper_request *rq)
{
	switch (rq->op) {
	case KEEPER_CREATE:
		return rq->env_bytes > 0;
	case KEEPER_CODE:
		return (rq->env_bytes > 0) + (rq->has_output != 0);
	case KEEPER_OPEN:
		return rq->has_archive != 0;
	case KEEPER_PATCH:
	case KEEPER_DEPS:
	case KEEPER_DEPS_LATER:
	case KEEPER_RECEIPTS:
		return 1;
	case KEEPER_RUN:
		return rq->flags & PROTO_STDIN_FILE ? 3 : 2;
	case KEEPER_FILES:
	case KEEPER_SEED:
		return files_fds(rq);
	case KEEPER_WORKSPACE:
		return workspace_request_fds(rq);
	case KEEPER_VOLUME:
		return rq->verb == VOLUME_MOUNTS;
	default:
		return 0;
	}
}

/* What a run may be; pid 1 checks the counts against the blob. */
static bool run_ok(const struct keeper_request *rq)
{
	const uint32_t known = PROTO_SHELL | PROTO_MERGE | PROTO_TTY | PROTO_STDIN |
			       PROTO_STDIN_FILE;

	if (rq->op == KEEPER_RUN)
		return !(rq->flags & ~known) && rq->about_bytes <= RUN_ABOUT_MAX &&
		       rq->blob_bytes <= PROTO_BLOB_MAX && rq->rows <= UINT16_MAX &&
		       rq->cols <= UINT16_MAX && rq->timeout_ms > 0 &&
		       rq->timeout_ms <= (uint64_t)INT32_MAX * 1000 &&
		       rq->retries <= RUN_RETRIES_MAX;
	if (rq->op == KEEPER_RUN_OPEN || rq->op == KEEPER_RUN_FORGET)
		return run_id_valid(rq->run);
	return rq->op != KEEPER_LIST || !rq->id[0] || session_id_valid(rq->id);
}

static bool names_session(uint32_t op)
{
	return op == KEEPER_EXISTS || op == KEEPER_OPEN || op == KEEPER_DESTROY ||
	       (op >= KEEPER_RUN && op < KEEPER_OP_MAX && op != KEEPER_LIST && op != KEEPER_CODE &&
		       op != KEEPER_DEPS && op != KEEPER_DEPS_LATER && op != KEEPER_RECEIPTS &&
		       op != KEEPER_VOLUME);
}

/* KEEPER_DEPS makes one, too: its installer's. */
static bool makes_session(uint32_t op)
{
	return op == KEEPER_CREATE || op == KEEPER_CODE || op == KEEPER_DEPS;
}

/* An installer's session is as sandbox.conf has it, and its descriptor is no environment. */
static bool session_ok(const struct keeper *k, const struct keeper_request *rq)
{
	if (rq->op == KEEPER_DEPS &&
		(rq->env_bytes || rq->live || rq->bounded || rq->ephemeral || rq->extract_patch ||
			rq->at_workspace || rq->memory_bytes || rq->cpus != 0 || rq->disk_bytes))
		return false;
	return memchr(rq->image, '\0', sizeof rq->image) &&
	       rq->env_bytes <= k->conf->environment_max_bytes + 65536 && rq->memory_bytes >= 0 &&
	       rq->cpus >= 0 && rq->disk_bytes >= 0 && rq->idle_s <= SESSION_AGE_MAX_S &&
	       rq->age_s <= SESSION_AGE_MAX_S;
}

static bool code_ok(const struct keeper_request *rq)
{
	return rq->language < CODE_LANGUAGES && rq->form < CODE_FORMS && rq->cold < COLD_REASONS &&
	       (rq->form == CODE_TEXT || rq->waiting) &&
	       (!rq->has_output || rq->form == CODE_FILE) && rq->timeout_ms > 0 &&
	       rq->timeout_ms <= (uint64_t)INT32_MAX * 1000;
}

bool check_request(const struct keeper *k, const struct call *c, unsigned nfds)
{
	const struct keeper_request *rq = &c->rq;

	if (rq->magic != KEEPER_MAGIC || rq->op == 0 || rq->op >= KEEPER_OP_MAX ||
		nfds != fds_wanted(rq))
		return false;
	if ((names_session(rq->op) && !session_id_valid(rq->id)) || !run_ok(rq) ||
		(files_op(rq) && !files_request_ok(rq)) ||
		(rq->op == KEEPER_WORKSPACE && !workspace_request_ok(k, rq)) ||
		(rq->op == KEEPER_VOLUME && !volume_request_ok(rq)))
		return false;
	if (rq->op == KEEPER_IMAGE &&
		(!memchr(rq->image, '\0', sizeof rq->image) || rq->verb >= IMAGE_VERB_MAX))
		return false;
	if (makes_session(rq->op) && !session_ok(k, rq))
		return false;
	if ((makes_session(rq->op) || rq->op == KEEPER_DEPS_ATTACH ||
		    rq->op == KEEPER_DEPS_LATER) &&
		!deps_request_ok(rq))
		return false;
	if (rq->op == KEEPER_CODE && !code_ok(rq))
		return false;
	/* one session a connection, opened once; who holds one can only ask for its patch, and who made
	 * one that ends with the connection for its runs */
	if (c->tied[0])
		return !strcmp(rq->id, c->tied) &&
		       (rq->op == KEEPER_ENV || rq->op == KEEPER_RUN || rq->op == KEEPER_RUN_OPEN ||
			       rq->op == KEEPER_KEEP);
	if (rq->op == KEEPER_KEEP)
		return false;
	if (rq->op == KEEPER_RECEIPTS)
		return rq->count > 0 && rq->count <= RECEIPTS_MAX;
	return rq->op == KEEPER_PATCH || rq->op == KEEPER_HEALTH || (!c->held && !c->box);
}

bool check_wants_lock(struct keeper *k, const struct call *c)
{
	struct session *s = c->rq.op == KEEPER_RUN ? lock_find(k, c->rq.id) : NULL;

	if (c->held)
		return false;
	if (c->rq.op == KEEPER_RUN)
		return !s || !box_usable(s->box);
	return c->rq.op == KEEPER_OPEN || c->rq.op == KEEPER_DESTROY || c->rq.op == KEEPER_STOP ||
	       c->rq.op == KEEPER_WORKSPACE || c->rq.op == KEEPER_DEPS_ATTACH ||
	       (files_op(&c->rq) && !volume_files_wanted(&c->rq));
}
