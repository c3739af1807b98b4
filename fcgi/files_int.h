/* Shared by the helper's side of the file verbs only: files_run.c (places, dispatch), files_walk.c,
 * files_list.c, files_read.c, files_grep.c, files_write.c, files_edit.c, files_pack.c. */
#ifndef CGIBOX_FILES_INT_H
#define CGIBOX_FILES_INT_H

#include <limits.h>
#include <sys/stat.h>

#include "fcgi/files.h"
#include "fcgi/ws_walk.h"
#include "isolate/own.h"

struct files_job {
	const struct files_order *o;
	const struct files_limits *lim;
	struct files_text text[FILES_TEXTS_MAX];
	int ntexts;
	int data; /* borrowed */
	struct files_result *r;
	int64_t scanned; /* bytes read of the tree so far */
};

/*
 * A name in a directory that is held. A link is never followed from here on: what is done to the name
 * goes by dir and O_NOFOLLOW.
 */
struct place {
	int dir; /* O_PATH, owned; -1: none */
	char name[NAME_MAX + 1];
	bool there; /* st is valid */
	struct stat st;
};

static inline void place_close(struct place *p)
{
	own_close(&p->dir);
}
#define OWN_PLACE __attribute__((cleanup(place_close))) struct place

enum place_how { PLACE_FOLLOW, PLACE_ITSELF };

/* Sets the code, with or without a text; returns 0, what a verb returns when it has been tried. */
int files_code(struct files_job *j, enum files_code code);
int files_code_why(struct files_job *j, enum files_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The code for an error of the file system; -1 with e when it is our own trouble. */
int files_errno(struct files_job *j, int errnum, const char *doing, struct err *e);

/*
 * Finds path in the root. make: missing directories above are made (0755). 1: found its directory,
 * and p->there says more. 0: the code is set. -1: error.
 */
int files_place(struct files_job *j, const char *path, enum place_how how, bool make,
	struct place *p, struct err *e);

/* Opens what is at p as a regular file for reading: a descriptor, -2 when the code is set, -1. */
int files_open(struct files_job *j, const struct place *p, struct err *e);

/* Opens what is at p as a directory, in the same way. */
int files_open_dir(struct files_job *j, const struct place *p, struct err *e);

/* Whether fd lies on a file system that is no place for files: proc, sysfs, cgroup. */
bool files_alien(int fd);

/* Fills mode, size and times of the result. */
void files_describe(struct files_job *j, const struct stat *st);

/* Writes all to the data, at its end. */
int files_emit(struct files_job *j, const void *p, size_t n, struct err *e);
int files_emit_record(struct files_job *j, struct files_record rec, const char *name,
	const char *text, struct err *e);

/* files_walk.c: like ws_walk(), but what vanishes or changes meanwhile is passed over. */
int files_walk(int root, ws_visit_fn *fn, void *arg, struct err *e);

/* Whether one of the texts from the n-th on, taken as a pattern for a name, matches. */
bool files_excluded(const struct files_job *j, int n, const char *name);

/* The verbs. 0: the code is set (FILES_OK is 0). -1: error. */
int files_stat(struct files_job *j, struct err *e);
int files_list(struct files_job *j, struct err *e);
int files_glob(struct files_job *j, struct err *e);
int files_lines(struct files_job *j, struct err *e);
int files_fetch(struct files_job *j, struct err *e);
int files_grep(struct files_job *j, struct err *e);
int files_write(struct files_job *j, struct err *e);
int files_append(struct files_job *j, struct err *e);
int files_delete(struct files_job *j, struct err *e);
int files_mkdir(struct files_job *j, struct err *e);
int files_edit(struct files_job *j, struct err *e);
int files_pack(struct files_job *j, struct err *e);
int files_unpack(struct files_job *j, struct err *e);

/* files_write.c: puts a file that was made aside into its place. */
struct aside {
	int fd; /* O_RDWR, owned; -1: none */
	char name[NAME_MAX + 1];
};
int files_aside(struct files_job *j, const struct place *p, struct aside *a, struct err *e);
/* Names it as p says. keep: an existing name stays, and the code says so. 0 with the code set. */
int files_replace(
	struct files_job *j, const struct place *p, struct aside *a, bool keep, struct err *e);
void files_aside_drop(const struct place *p, struct aside *a);

#endif
