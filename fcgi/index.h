/*
 * The index: documents (JSON) that dialects list, look up and change: their sessions, executions
 * and templates. One program, libexec/cgibox/index, owns the SQLite file STATE/index/documents; the
 * keeper starts it when somebody connects and it ends when nobody has for a while. A question is
 * one fixed-size message over SOCK_SEQPACKET on STATE/index.sock; documents travel as descriptors.
 *
 * Not for what sessions are made of: there files are the truth, and the index may be lost.
 */
#ifndef CGIBOX_INDEX_H
#define CGIBOX_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/err.h"

#define INDEX_SOCKET "index.sock"

enum {
	INDEX_MAGIC = 0x63676931,
	INDEX_KIND_MAX = 23, /* bytes, of kind and status */
	INDEX_NAME_MAX =
		1087, /* bytes, of id, parent and tag: 256 characters, and the kind before them */
	INDEX_BODY_MAX = 32 << 20,
	INDEX_ANSWER_MAX = 256 << 20, /* bytes of all documents of one list */
	INDEX_LIST_MAX = 10000,       /* documents of one list */
};

enum index_op {
	INDEX_ADD = 1, /* a new document: ERR_REQUEST with EEXIST when kind and id are taken */
	INDEX_CHANGE,  /* all of a document but kind, id and parent; see version */
	INDEX_GET,
	INDEX_LIST,
	/* With everything whose parent is "KIND/ID"; an absent one is not an error, and one with another
	 * tag than that of the question (not empty) is as if absent. */
	INDEX_REMOVE,
	INDEX_OP_MAX,
};

enum index_order { INDEX_NEWEST, INDEX_OLDEST, INDEX_BY_TAG, INDEX_ORDER_MAX };

/* Text fields that are empty are not looked at by LIST. parent: "KIND/ID" of another document. */
struct index_question {
	uint32_t magic, op;
	char kind[INDEX_KIND_MAX + 1], status[INDEX_KIND_MAX + 1];
	char id[INDEX_NAME_MAX + 1], parent[INDEX_NAME_MAX + 1], tag[INDEX_NAME_MAX + 1];
	uint32_t order, limit, offset;
	/* CHANGE: the version that was read, or ERR_BUSY with ESTALE: read again; 0 = any. */
	uint64_t version;
	/* ADD: documents of this kind to keep, the oldest that are final go; 0 = all. */
	uint64_t keep;
	/*
	 * LIST, not 0: the answer is no JSON array but the documents, each with a NUL behind it; in place of
	 * one of more bytes than this its id. (A document begins with a brace, an id here with '='.)
	 */
	uint32_t whole_max;
	/* ADD, CHANGE: nothing changes it any more: ERR_REQUEST with EEXIST. */
	uint32_t final;
};

struct index_answer {
	uint32_t magic, op;
	struct err err;
	uint64_t version; /* of the document, after CHANGE */
	uint64_t total;   /* LIST: documents that match; REMOVE: that went */
	uint64_t bytes;   /* of what comes with it: GET a document, LIST a JSON array of them */
};

/*
 * Asks. body (JSON text of n bytes, for ADD and CHANGE; borrowed) may be NULL. *text, when it is
 * not NULL, becomes what GET and LIST answer, NUL-ended, which the caller frees; NULL otherwise.
 * q's magic is set. ERR_NOTFOUND: GET and CHANGE of what is not there. ERR_BUSY: the index is being
 * started, or ended while it worked: whether a change was made is not known then. Worker.
 */
int index_ask(const char *state_dir, struct index_question *q, const char *body, size_t n,
	struct index_answer *a, char **text, struct err *e);

#endif
