/* The routes of our own: what no dialect of others has. Runs in a worker. */
#ifndef CGIBOX_NATIVE_H
#define CGIBOX_NATIVE_H

#include <stddef.h>

#include "fcgi/dialect.h"
#include "fcgi/route.h"

extern const struct route native_routes[];
extern const size_t native_nroutes;
extern const struct route native_image_routes[]; /* native_images.c */
extern const size_t native_nimage_routes;
extern const struct route native_file_routes[]; /* native_files.c */
extern const size_t native_nfile_routes;
extern const struct route native_code_routes[]; /* native_code.c */
extern const size_t native_ncode_routes;
extern const struct route native_metrics_routes[]; /* native_metrics.c */
extern const size_t native_nmetrics_routes;
extern const struct route native_workspace_routes[]; /* native_workspace.c */
extern const size_t native_nworkspace_routes;

/* A parameter that says yes or no: *out is left when it is not there. -1: the response, a 422, is complete. */
int native_flag(struct dialect_call *c, const char *name, bool *out);

/* A parameter that has one value or is not there: *out says which. -1 as above. */
int native_word(struct dialect_call *c, const char *name, const char *value, bool *out);

/*
 * Appends text as a JSON string, with the state directory's path shown as STATE: clients learn
 * what a machine allows, not where its files are. Pure; exported for its test.
 */
void native_put_text(struct buf *b, const char *text, const char *state_dir);

#endif
