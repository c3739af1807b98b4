/*
 * The description of all routes: an OpenAPI 3.1 document and a page for people, under the names that
 * each of the services has whose routes are here. Both are made by scripts/check-openapi and carried
 * inside the program. Runs in a worker.
 */
#ifndef CGIBOX_DOCS_H
#define CGIBOX_DOCS_H

#include <stddef.h>

#include "fcgi/route.h"

extern const struct route docs_routes[];
extern const size_t docs_nroutes;

#endif
