#include "fcgi/dialects/files_call.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "fcgi/dialects/daiv.h"
#include "isolate/own.h"

void files_call_clear(struct files_call *f)
{
	buf_clear(&f->texts);
	own_close(&f->data);
}

void files_call_text(struct files_call *f, const char *s)
{
	files_put_text(&f->texts, s, strlen(s));
}

void files_refuse(struct dialect_call *c, const struct err *e, const char *doing)
{
	if (e->kind == ERR_NOTFOUND)
		dialect_detail(c, 404, "Session not found or already closed");
	else if (e->kind == ERR_BUSY && e->errnum == EWOULDBLOCK)
		dialect_detail(c, 409, "Session is busy");
	else
		dialect_fail(c, e, doing);
}

int files_call(struct dialect_call *c, struct files_call *f)
{
	struct err e = {0};
	int ret = 0;

	if (f->data < 0)
		f->data = memfd_create("files", MFD_CLOEXEC);
	if (f->data < 0)
		ret = err_set(&e, ERR_SETUP, errno, "memory for a file verb");
	else if (!daiv_id_valid(c->param))
		ret = err_set(&e, ERR_NOTFOUND, 0, "no session id");
	else
		ret = c->ops->files(c->backend, c->param, &f->o, &f->texts, f->data, &f->r, &e);
	if (ret == 0)
		return 0;
	files_refuse(c, &e, "work on a session's files");
	return -1;
}

const char *files_code_name(uint32_t code)
{
	static const char *const names[FILES_CODE_MAX] = {
		[FILES_OK] = "ok",
		[FILES_NOT_FOUND] = "not_found",
		[FILES_NOT_DIR] = "not_a_directory",
		[FILES_IS_DIR] = "is_a_directory",
		[FILES_NOT_FILE] = "not_a_file",
		[FILES_NOT_TEXT] = "not_a_text_file",
		[FILES_NO_MATCH] = "string_not_found",
		[FILES_AMBIGUOUS] = "multiple_occurrences",
		[FILES_EXISTS] = "already_exists",
		[FILES_TOO_LARGE] = "too_large",
		[FILES_BAD_OFFSET] = "invalid_offset",
		[FILES_DENIED] = "permission_denied",
		[FILES_BAD_PATTERN] = "invalid_pattern",
		[FILES_BAD_PATH] = "invalid_path",
		[FILES_NOT_EMPTY] = "not_empty",
		[FILES_NO_SPACE] = "no_space",
		[FILES_BUSY] = "busy",
		[FILES_CHANGED] = "changed",
		[FILES_UNREADABLE] = "permission_denied",
		[FILES_BAD_ARCHIVE] = "invalid_archive",
	};

	return code < FILES_CODE_MAX ? names[code] : "unknown";
}
