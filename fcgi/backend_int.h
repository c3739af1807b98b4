/* Shared by the files of the backend on our own isolator. A worker's side. */
#ifndef CGIBOX_BACKEND_INT_H
#define CGIBOX_BACKEND_INT_H

#include "fcgi/backend.h"
#include "fcgi/backend_live.h"
#include "fcgi/deps.h"

struct backend {
	const struct conf *conf;
};

extern const struct live_ops backend_isolate_live;
extern const struct deps_ops backend_isolate_deps;

#endif
