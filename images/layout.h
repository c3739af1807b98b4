/*
 * The inside of a struct store (store.h), for the files of this directory: where things are, the
 * lock, and how a small file is put into place.
 */
#ifndef CGIBOX_LAYOUT_H
#define CGIBOX_LAYOUT_H

#include "images/record.h"
#include "images/ref.h"
#include "images/store.h"
#include "isolate/buf.h"

struct store {
	int dir;    /* STATE/images */
	int state;  /* STATE */
	char *path; /* of dir, absolute, without links */
};

/*
 * Takes STATE/images/lock: LOCK_SH while something is written below tmp/, LOCK_EX to sweep or
 * remove. nonblock: ERR_BUSY instead of waiting. Returns a descriptor, closed to unlock.
 */
int layout_lock(const struct store *s, int how, bool nonblock, struct err *e);

/* Reads a whole small file below the store. ERR_NOTFOUND when absent. */
int layout_read(const struct store *s, const char *name, struct buf *out, struct err *e);

/* Writes name (a path below the store) through tmp/, synced, and renames it into place. */
int layout_write(const struct store *s, const char *name, const void *p, size_t n, struct err *e);

/* A fresh name below tmp/ for this process: "tmp/KIND-PID-NUMBER". */
void layout_tmp_name(char *out, size_t size, const char *kind);

/* File name below refs/ of a formatted reference: "/" becomes "+", which no reference holds. */
void layout_ref_name(const char *ref, char *out, size_t size);

/* What a file below refs/ holds. */
struct named {
	char id[65];
	char manifest[65];        /* digits; "" when there is none */
	char origin[REF_MAX + 1]; /* "host/path" it was pulled from, or "" */
};
/* name: "refs/..." as layout_ref_name() makes it. ERR_NOTFOUND, ERR_SETUP when damaged. */
int layout_named(const struct store *s, const char *name, struct named *out, struct err *e);

/* Writes the file of a formatted reference. */
int layout_name(const struct store *s, const char *ref, const struct named *named, struct err *e);

/* Holds a directory below the store for out, see store_resolve(). */
int layout_pin(const struct store *s, const char *name, struct image *out, struct err *e);

/* Reads and parses the record of an image id. */
int layout_record(const struct store *s, const char *id, struct record *out, struct err *e);

/* The image id (64 digits) that a reference names, or ERR_REQUEST, ERR_NOTFOUND. */
int layout_find(const struct store *s, const char *ref, char id[72], struct err *e);

/* Fills out for the built-in image "host"; makes its skeleton when there is none (host.c). */
int host_resolve(const struct store *s, struct image *out, struct err *e);

/* The name below the store, "host/<hex>", of the skeleton that fits this machine now. */
void host_name(char out[64]);

/* Appends a copy of text to a list of strings. */
int layout_push(char ***list, size_t *n, const char *text, struct err *e);

#endif
