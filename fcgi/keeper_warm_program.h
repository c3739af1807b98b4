/* What an interpreter that waits executes, as the keeper starts it. Keeper. */
#ifndef CGIBOX_KEEPER_WARM_PROGRAM_H
#define CGIBOX_KEEPER_WARM_PROGRAM_H

#include "fcgi/backend.h"
#include "isolate/buf.h"
#include "isolate/conf.h"
#include "isolate/err.h"

struct warm_program {
	struct buf text, command;
	const char *argv[4]; /* NULL-ended; for the shell if the form is CODE_FILE */
};

/* list: names of modules, by commas. ERR_CONF: too many; ERR_SETUP. */
int warm_program_open(struct warm_program *p, const struct conf *c, enum code_language l,
	enum code_form form, const char *list, struct err *e);

#endif
