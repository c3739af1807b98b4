#include "fcgi/body.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fcgi/json_out.h"
#include "fcgi/schema.h"
#include "isolate/own.h"

enum { READ_STEP = 65536 };

bool body_type_is_json(const char *type)
{
	size_t n;

	if (!type || !*type)
		return true;
	type += strspn(type, " \t");
	n = strcspn(type, "; \t");
	if (n < 12 || strncasecmp(type, "application/", 12))
		return false;
	type += 12;
	n -= 12;
	return (n == 4 && !strncasecmp(type, "json", 4)) ||
	       (n > 5 && !strncasecmp(type + n - 5, "+json", 5));
}

int body_drain(struct http_request *rq, struct err *e)
{
	char step[READ_STEP];
	long n;

	while ((n = rq->read(rq, step, sizeof step, e)) > 0)
		;
	return n < 0 ? -1 : 0;
}

void body_clear(struct body *b)
{
	json_scan_clear(&b->scan);
	json_object_put(b->doc);
	b->doc = NULL;
	own_close(&b->archive_fd);
}

/* The answer to a body that could not be read or kept. Returns -1. */
static int refuse(struct http_response *rs, const struct err *e)
{
	rs->content_type = "application/json";
	buf_clear(&rs->body);
	switch (e->kind) {
	case ERR_LIMIT:
		rs->status = 413;
		json_out_detail(&rs->body, e->msg);
		break;
	case ERR_REQUEST:
		rs->status = 400;
		json_out_detail(&rs->body, e->msg);
		break;
	default:
		rs->status = 500;
		json_out_detail(&rs->body, "Internal Server Error");
	}
	return -1;
}

/* A scan that failed: the rest of the body is read all the same, so that the client, which is
 * still sending, gets to read the answer. */
static int refuse_scan(
	struct body *b, struct http_request *rq, struct http_response *rs, const struct err *e)
{
	if (e->kind != ERR_REQUEST) {
		body_drain(rq, NULL);
		return refuse(rs, e);
	}
	body_drain(rq, NULL);
	rs->status = 422;
	rs->content_type = "application/json";
	schema_body_no_json(&rs->body, b->scan.fault, b->scan.fault_pos);
	return -1;
}

static int read_json(
	struct body *b, struct http_request *rq, struct http_response *rs, struct err *e)
{
	char step[READ_STEP];
	bool any = false;
	long n;

	while ((n = rq->read(rq, step, sizeof step, e)) > 0) {
		any = true;
		if (json_scan_feed(&b->scan, step, (size_t)n, e) < 0)
			return refuse_scan(b, rq, rs, e);
	}
	if (n < 0)
		return refuse(rs, e);
	b->form = any ? BODY_OTHER : BODY_EMPTY;
	if (any && json_scan_end(&b->scan, e) < 0)
		return refuse_scan(b, rq, rs, e);
	return 0;
}

static int read_text(
	struct body *b, struct http_request *rq, struct http_response *rs, struct err *e)
{
	char step[READ_STEP];
	long n;

	while ((n = rq->read(rq, step, sizeof step, e)) > 0) {
		size_t room = sizeof b->text - b->text_len;

		b->text_cut = b->text_cut || (size_t)n > room;
		if ((size_t)n < room)
			room = (size_t)n;
		memcpy(b->text + b->text_len, step, room);
		b->text_len += room;
	}
	if (n < 0)
		return refuse(rs, e);
	b->form = b->text_len ? BODY_TEXT : BODY_EMPTY;
	return 0;
}

/* The tree of a document that the scanner has let through. */
static int parse(struct body *b, struct err *e)
{
	struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
	enum json_tokener_error fault;

	if (!tok)
		return err_set(e, ERR_SETUP, ENOMEM, "parse the JSON body");
	/* The NUL behind the copy is included: it ends a number at the top. */
	b->doc = json_tokener_parse_ex(tok, b->scan.copy.p, (int)b->scan.copy.len + 1);
	fault = json_tokener_get_error(tok);
	json_tokener_free(tok);
	if (fault != json_tokener_success)
		return err_set(e, ERR_BUG, 0, "json-c refuses a checked document: %s",
			json_tokener_error_desc(fault));
	b->form = !b->doc                                         ? BODY_EMPTY
		  : json_object_is_type(b->doc, json_type_object) ? BODY_OBJECT
								  : BODY_OTHER;
	return 0;
}

/* An archive of no bytes is no archive. Else the reader finds it at its start. */
static int rewind_archive(struct body *b, struct err *e)
{
	if (b->archive_fd >= 0 && b->scan.archive_bytes == 0)
		own_close(&b->archive_fd);
	if (b->archive_fd >= 0 && lseek(b->archive_fd, 0, SEEK_SET) < 0)
		return err_set(e, ERR_SETUP, errno, "rewind the archive");
	return 0;
}

/*
 * An unnamed file for the archive: on the disk of the state directory, since a hundred of them
 * at once would not fit into memory. A file system without O_TMPFILE gets memory after all.
 */
int body_spool(const struct conf *conf, struct err *e)
{
	char dir[4096];
	int fd;

	if (snprintf(dir, sizeof dir, "%s/tmp", conf->state_dir) >= (int)sizeof dir)
		return err_set(e, ERR_CONF, ENAMETOOLONG, "state_dir");
	fd = open(dir, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT))
		fd = memfd_create("archive", MFD_CLOEXEC);
	return fd < 0 ? err_set(e, ERR_SETUP, errno, "a file for the archive in %s", dir) : fd;
}

struct archive_place {
	struct body *b;
	const struct conf *conf;
};

/* Most bodies have no archive, and a file costs as much as reading them. */
static int open_archive(void *arg, struct err *e)
{
	struct archive_place *p = arg;

	return p->b->archive_fd = body_spool(p->conf, e);
}

int body_read(struct body *b, struct http_request *rq, const struct conf *conf,
	const struct body_plan *plan, struct http_response *rs, struct err *e)
{
	struct json_scan_plan scan = {
		plan->keep, -1, conf->json_max_bytes, conf->archive_max_bytes};
	struct archive_place place = {b, conf};

	memset(b, 0, sizeof *b);
	b->archive_fd = -1;
	if (!body_type_is_json(rq->content_type))
		return read_text(b, rq, rs, e);
	json_scan_init(&b->scan, &scan);
	if (plan->keep && plan->archive) {
		b->scan.open_archive = open_archive;
		b->scan.open_arg = &place;
	}
	if (read_json(b, rq, rs, e) < 0)
		return -1;
	if (b->form == BODY_EMPTY || !plan->keep)
		return 0;
	if (parse(b, e) < 0 || rewind_archive(b, e) < 0)
		return refuse(rs, e);
	return 0;
}
