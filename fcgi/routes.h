/*
 * All routes of all dialects, with a number each: what a request was is counted and logged by that
 * number and the route's template, never by the path that a client sent. Pure; any process.
 */
#ifndef CGIBOX_ROUTES_H
#define CGIBOX_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fcgi/route.h"
#include "isolate/buf.h"
#include "isolate/conf.h"

enum { ROUTES_NONE = 0 }; /* a path that nobody knows, or a method that it does not have */

/*
 * Asks each dialect that c has not switched off; as route_find(). *allow: what the first one that
 * knows the path says.
 */
const struct route *routes_find(const struct conf *c, struct url *url, enum http_method method,
	const char *params[ROUTE_PARAMS], const char **allow);

/* Whether sandbox.conf opens the dialect of r to clients without a key. */
bool routes_open(const struct conf *c, const struct route *r);

/* Headers of the dialect of r that all its answers have; us: what the request took. */
struct dialect_call;
void routes_finish(
	const struct conf *c, const struct route *r, struct dialect_call *call, int64_t us);

/* Whether a browser may be told that pages of other origins can use the path of url: its dialect is open
 * and says so. */
bool routes_shared(const struct conf *c, struct url *url);

/* The number of r, which is one of ours: 1 and up; ROUTES_NONE for NULL. */
unsigned routes_number(const struct route *r);

/* How many numbers there are, ROUTES_NONE included. */
unsigned routes_count(void);

/* The route of a number below routes_count(), NULL for ROUTES_NONE and for what is out of range. */
const struct route *routes_at(unsigned number);

/* Appends the template, "/session/{id}/" say, or "none". */
void routes_template(unsigned number, struct buf *out);

/* "GET", "POST", .. "OTHER". */
const char *routes_method(enum http_method m);

/* A hash of all methods and templates in order: two programs that differ in it must not count in
 * one file. */
uint64_t routes_layout(void);

#endif
