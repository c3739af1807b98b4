/*
 * What a session was made with, as text: "key value" lines of its file spec, "end" the last. session_dir.h
 * says where it lies. Keeper.
 */
#ifndef CGIBOX_SESSION_RECORD_H
#define CGIBOX_SESSION_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fcgi/keeper_proto.h"
#include "images/store.h"
#include "isolate/buf.h"
#include "isolate/err.h"

enum { SESSION_RECORD_MAX = 1 << 20 /* bytes of such a text */ };

/* The parts of a record. Strings and arrays are heap memory of the record. */
struct session_volume {
	char *name, *path;
};

struct session_record {
	char *image;   /* id */
	char **lowers; /* layers of the root, topmost first */
	size_t nlowers;
	char **binds; /* host directories shown read-only (image "host") */
	size_t nbinds;
	struct session_volume *volumes;
	size_t nvolumes;
	bool ephemeral, extract_patch, network;
	bool live;             /* its sandbox stays between calls */
	uint64_t memory_bytes; /* of the whole sandbox; 0 = as sandbox.conf says */
	uint32_t cpu_percent;  /* 100 = one processor; 0 = as sandbox.conf says */
	uint64_t disk_bytes;   /* 0 = as sandbox.conf says */
};

/* Appends the text for a session on im that rq asks for. ERR_LIMIT when b is too small for it. */
int session_record_text(
	struct buf *b, const struct image *im, const struct keeper_request *rq, struct err *e);

/*
 * Fills r, all zero, from text, which is cut up. ERR_SETUP when it is damaged, or was cut short by a crash;
 * the caller clears r then, too. Pure.
 */
int session_record_parse(char *text, struct session_record *r, struct err *e);

/* Takes a list of volumes. ERR_SETUP when it is damaged. The volumes are the record's to free. Pure. */
int session_volumes_parse(struct session_record *r, char *text, struct err *e);

/* Frees what r holds. */
void session_record_clear(struct session_record *r);

#endif
