/* For schema.c alone: holds a value against the bounds of its field. Pure. */
#ifndef CGIBOX_SCHEMA_BOUNDS_H
#define CGIBOX_SCHEMA_BOUNDS_H

#include "fcgi/schema.h"

/* Reports what v, of the right type, breaks of f->bounds, which is not NULL. */
void schema_bound(
	const struct schema_field *f, const struct schema_value *v, struct schema_report *r);

#endif
