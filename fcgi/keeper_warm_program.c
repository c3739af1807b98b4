#include "fcgi/keeper_warm_program.h"

#include <errno.h>
#include <string.h>

#include "fcgi/warm.h"
#include "isolate/own.h"
#include "isolate/proto.h"

enum { MODULES_MAX = 64 };

/* Splits text, in place. */
static int split(
	char *text, const char *modules[MODULES_MAX + 1], enum code_language l, struct err *e)
{
	char *save = NULL;
	unsigned n = 0;

	for (char *m = strtok_r(text, ", ", &save); m; m = strtok_r(NULL, ", ", &save)) {
		if (n == MODULES_MAX)
			return err_set(e, ERR_CONF, 0, "warm_%s_imports: over %d modules",
				l == CODE_PYTHON ? "python" : "node", MODULES_MAX);
		modules[n++] = m;
	}
	modules[n] = NULL;
	return 0;
}

int warm_program_open(struct warm_program *p, const struct conf *c, enum code_language l,
	enum code_form form, const char *list, struct err *e)
{
	const struct language *row = warm_file_row(c, l);
	const char *modules[MODULES_MAX + 1];
	OWN_MEM char *copy = strdup(list);

	*p = (struct warm_program){BUF_INIT(PROTO_BLOB_MAX), BUF_INIT(PROTO_BLOB_MAX), {NULL}};
	if (!copy)
		return err_set(e, ERR_SETUP, ENOMEM, "prepare interpreters");
	if (split(copy, modules, l, e) < 0)
		return -1;
	warm_program(l, form, modules, &p->text);
	buf_addc(&p->text, '\0');
	if (form == CODE_FILE && row && buf_ok(&p->text))
		warm_file_command(l, row->file, p->text.p, &p->command);
	buf_addc(&p->command, '\0');
	if (!buf_ok(&p->text) || !buf_ok(&p->command))
		return err_set(e, ERR_SETUP, ENOMEM, "prepare interpreters");
	p->argv[0] = form == CODE_FILE ? p->command.p : code_program(l);
	p->argv[1] = form == CODE_FILE ? NULL : code_option(l);
	p->argv[2] = p->text.p;
	return 0;
}
