#include "fcgi/index_db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "isolate/log.h"
#include "isolate/own.h"

enum { BUSY_MS = 5000 };

struct index_db {
	sqlite3 *db;
};

/* seq is the order of birth: times may be equal, or run back. */
static const char schema[] =
	"PRAGMA journal_mode = WAL;"
	"PRAGMA synchronous = NORMAL;" /* a killed process loses nothing, a power cut the last writes */
	"CREATE TABLE IF NOT EXISTS document ("
	" seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL,"
	" parent TEXT NOT NULL, status TEXT NOT NULL, tag TEXT NOT NULL, final INTEGER NOT NULL,"
	" version INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE (kind, id));"
	"PRAGMA temp_store = MEMORY;" /* this process opens no file but its own */
	"CREATE INDEX IF NOT EXISTS by_kind ON document (kind, seq);"
	"CREATE INDEX IF NOT EXISTS by_parent ON document (kind, parent, seq);"
	"CREATE INDEX IF NOT EXISTS of_parent ON document (parent);"
	"CREATE INDEX IF NOT EXISTS by_status ON document (kind, status, seq);"
	"CREATE INDEX IF NOT EXISTS by_tag ON document (kind, tag, id);"
	"CREATE INDEX IF NOT EXISTS of_tag ON document (kind, tag, seq);"
	"CREATE INDEX IF NOT EXISTS by_final ON document (kind, final, seq);";

static int fail(struct index_db *d, const char *what, struct err *e)
{
	return err_set(e, ERR_SETUP, 0, "index: %s: %.180s", what, sqlite3_errmsg(d->db));
}

static int try_open(struct index_db *d, const char *path)
{
	int rc = sqlite3_open_v2(path, &d->db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW, NULL);

	if (rc != SQLITE_OK)
		return rc;
	sqlite3_busy_timeout(d->db, BUSY_MS);
	sqlite3_db_config(d->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	return sqlite3_exec(d->db, schema, NULL, NULL, NULL);
}

static void put_aside(const char *path)
{
	static const char *const parts[] = {"", "-wal", "-shm"};
	char from[4096], to[4096 + 16];

	for (size_t i = 0; i < NELEM(parts); i++) {
		snprintf(from, sizeof from, "%s%s", path, parts[i]);
		snprintf(to, sizeof to, "%s.damaged%s", path, parts[i]);
		if (rename(from, to) < 0 && errno != ENOENT)
			log_line(LOG_ERROR, "index: move %s aside: %s", from, strerror(errno));
	}
}

struct index_db *index_db_open(const char *path, struct err *e)
{
	struct index_db *d = calloc(1, sizeof *d);
	int rc = d ? try_open(d, path) : SQLITE_NOMEM;

	if (rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT) {
		log_line(LOG_ERROR, "index: %s is damaged (%s); it is kept as %s.damaged", path,
			sqlite3_errstr(rc), path);
		sqlite3_close(d->db);
		d->db = NULL;
		put_aside(path);
		rc = try_open(d, path);
	}
	if (rc == SQLITE_OK)
		return d;
	err_set(e, ERR_SETUP, 0, "open the index %s: %s", path, sqlite3_errstr(rc));
	index_db_close(d);
	return NULL;
}

void index_db_close(struct index_db *d)
{
	if (d)
		sqlite3_close(d->db);
	free(d);
}

static void own_stmt(sqlite3_stmt **s)
{
	sqlite3_finalize(*s);
}
#define OWN_STMT __attribute__((cleanup(own_stmt))) sqlite3_stmt *

static sqlite3_stmt *prepare(struct index_db *d, const char *sql, struct err *e)
{
	sqlite3_stmt *s = NULL;

	if (sqlite3_prepare_v2(d->db, sql, -1, &s, NULL) != SQLITE_OK)
		fail(d, "prepare", e);
	return s;
}

/* By name, so that each statement takes what it mentions. */
static void bind_text(sqlite3_stmt *s, const char *name, const char *text)
{
	sqlite3_bind_text(s, sqlite3_bind_parameter_index(s, name), text, -1, SQLITE_STATIC);
}

static void bind_number(sqlite3_stmt *s, const char *name, int64_t n)
{
	sqlite3_bind_int64(s, sqlite3_bind_parameter_index(s, name), n);
}

static void bind_question(
	sqlite3_stmt *s, const struct index_question *q, const char *body, size_t n)
{
	bind_text(s, ":kind", q->kind);
	bind_text(s, ":id", q->id);
	bind_text(s, ":parent", q->parent);
	bind_text(s, ":status", q->status);
	bind_text(s, ":tag", q->tag);
	bind_number(s, ":final", q->final != 0);
	bind_number(s, ":limit", q->limit);
	bind_number(s, ":offset", q->offset);
	bind_number(s, ":version", (int64_t)q->version);
	bind_number(s, ":keep", (int64_t)q->keep);
	if (body)
		sqlite3_bind_text64(s, sqlite3_bind_parameter_index(s, ":body"), body, n,
			SQLITE_STATIC, SQLITE_UTF8);
}

/* Runs one statement that returns nothing; the number of rows it changed, or -1. */
static int change(struct index_db *d, const char *sql, const struct index_question *q,
	const char *body, size_t n, struct err *e)
{
	OWN_STMT s = prepare(d, sql, e);
	int rc;

	if (!s)
		return -1;
	bind_question(s, q, body, n);
	rc = sqlite3_step(s);
	if (rc == SQLITE_CONSTRAINT)
		return err_set(e, ERR_REQUEST, EEXIST, "\"%s\" exists", q->id);
	return rc == SQLITE_DONE ? sqlite3_changes(d->db) : fail(d, "write", e);
}

static int add(struct index_db *d, const struct index_question *q, const char *body, size_t n,
	struct index_answer *a, struct err *e)
{
	if (change(d,
		    "INSERT INTO document (kind, id, parent, status, tag, final, version, body)"
		    " VALUES (:kind, :id, :parent, :status, :tag, :final, 1, :body)",
		    q, body, n, e) < 0)
		return -1;
	a->version = 1;
	if (!q->keep)
		return 0;
	/* what is over the number, among the oldest, goes when it is final */
	return change(d,
		       "DELETE FROM document WHERE kind = :kind AND final = 1 AND seq <="
		       " (SELECT seq FROM document WHERE kind = :kind"
		       "  ORDER BY seq DESC LIMIT 1 OFFSET :keep)",
		       q, NULL, 0, e) < 0
		       ? -1
		       : 0;
}

/* version, final and body of the document that q names, to be finalized by the caller; NULL with e. */
static sqlite3_stmt *look(struct index_db *d, const struct index_question *q, struct err *e)
{
	OWN_STMT s = prepare(
		d, "SELECT version, final, body FROM document WHERE kind = :kind AND id = :id", e);
	int rc;

	if (!s)
		return NULL;
	bind_question(s, q, NULL, 0);
	rc = sqlite3_step(s);
	if (rc == SQLITE_ROW)
		return take_ptr(&s);
	if (rc == SQLITE_DONE)
		err_set(e, ERR_NOTFOUND, ENOENT, "no %s \"%s\"", q->kind, q->id);
	else
		fail(d, "read", e);
	return NULL;
}

/* One process and one thread: nothing comes between the look and the change. */
static int replace(struct index_db *d, const struct index_question *q, const char *body, size_t n,
	struct index_answer *a, struct err *e)
{
	OWN_STMT s = look(d, q, e);
	uint64_t version = s ? (uint64_t)sqlite3_column_int64(s, 0) : 0;

	if (!s)
		return -1;
	if (sqlite3_column_int(s, 1))
		return err_set(e, ERR_REQUEST, EEXIST, "%s \"%s\" has its result", q->kind, q->id);
	if (q->version && q->version != version)
		return err_set(e, ERR_BUSY, ESTALE, "%s \"%s\" has changed", q->kind, q->id);
	if (change(d,
		    "UPDATE document SET status = :status, tag = :tag, final = :final,"
		    " version = version + 1, body = :body WHERE kind = :kind AND id = :id",
		    q, body, n, e) < 0)
		return -1;
	a->version = version + 1;
	return 0;
}

static int get(struct index_db *d, const struct index_question *q, struct index_answer *a,
	struct buf *out, struct err *e)
{
	OWN_STMT s = look(d, q, e);

	if (!s)
		return -1;
	a->version = (uint64_t)sqlite3_column_int64(s, 0);
	buf_add(out, sqlite3_column_blob(s, 2), (size_t)sqlite3_column_bytes(s, 2));
	return 0;
}

/* Only what the question names, so that each list has an index that serves it. */
static void put_where(struct buf *sql, const struct index_question *q)
{
	buf_adds(sql, " FROM document WHERE kind = :kind");
	if (q->parent[0])
		buf_adds(sql, " AND parent = :parent");
	if (q->status[0])
		buf_adds(sql, " AND status = :status");
	if (q->tag[0])
		buf_adds(sql, " AND tag = :tag");
}

static int count(
	struct index_db *d, const struct index_question *q, struct index_answer *a, struct err *e)
{
	OWN_BUF sql = BUF_INIT(1024);
	OWN_STMT s = NULL;

	buf_adds(&sql, "SELECT count(*)");
	put_where(&sql, q);
	s = prepare(d, sql.p, e);
	if (!s)
		return -1;
	bind_question(s, q, NULL, 0);
	if (sqlite3_step(s) != SQLITE_ROW)
		return fail(d, "count", e);
	a->total = (uint64_t)sqlite3_column_int64(s, 0);
	return 0;
}

static void put_row(sqlite3_stmt *s, const struct index_question *q, struct buf *out)
{
	size_t n = (size_t)sqlite3_column_bytes(s, 0);

	if (!q->whole_max) {
		if (out->len > 1)
			buf_addc(out, ',');
		buf_add(out, sqlite3_column_blob(s, 0), n);
	} else if (n > q->whole_max) {
		buf_addc(out, '=');
		buf_add(out, sqlite3_column_text(s, 1), (size_t)sqlite3_column_bytes(s, 1) + 1);
	} else {
		buf_add(out, sqlite3_column_text(s, 0), n + 1);
	}
}

static int list(struct index_db *d, const struct index_question *q, struct index_answer *a,
	struct buf *out, struct err *e)
{
	static const char *const order[] = {[INDEX_NEWEST] = " ORDER BY seq DESC",
		[INDEX_OLDEST] = " ORDER BY seq",
		[INDEX_BY_TAG] = " ORDER BY tag, id"};
	OWN_BUF sql = BUF_INIT(1024);
	OWN_STMT s = NULL;
	int rc;

	buf_adds(&sql, "SELECT body, id");
	put_where(&sql, q);
	buf_adds(&sql, order[q->order]);
	buf_adds(&sql, " LIMIT :limit OFFSET :offset");
	s = prepare(d, sql.p, e);
	if (!s || count(d, q, a, e) < 0)
		return -1;
	bind_question(s, q, NULL, 0);
	if (!q->whole_max)
		buf_addc(out, '[');
	while ((rc = sqlite3_step(s)) == SQLITE_ROW)
		put_row(s, q, out);
	if (!q->whole_max)
		buf_addc(out, ']');
	return rc == SQLITE_DONE ? 0 : fail(d, "list", e);
}

static int drop(
	struct index_db *d, const struct index_question *q, struct index_answer *a, struct err *e)
{
	int self = change(d,
		"DELETE FROM document WHERE kind = :kind AND id = :id"
		" AND (:tag = '' OR tag = :tag)",
		q, NULL, 0, e);
	int children = self <= 0
			       ? 0
			       : change(d,
					 "DELETE FROM document WHERE parent = :kind || '/' || :id",
					 q, NULL, 0, e);

	if (self < 0 || children < 0)
		return -1;
	a->total = (uint64_t)self + (uint64_t)children;
	return 0;
}

static bool ends(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL;
}

static int check(const struct index_question *q, const char *body, struct err *e)
{
	bool writes = q->op == INDEX_ADD || q->op == INDEX_CHANGE;

	if (q->magic != INDEX_MAGIC || q->op < INDEX_ADD || q->op >= INDEX_OP_MAX ||
		!ends(q->kind, sizeof q->kind) || !ends(q->status, sizeof q->status) ||
		!ends(q->id, sizeof q->id) || !ends(q->parent, sizeof q->parent) ||
		!ends(q->tag, sizeof q->tag) || q->order >= INDEX_ORDER_MAX ||
		q->limit > INDEX_LIST_MAX || !q->kind[0] || (q->op != INDEX_LIST && !q->id[0]) ||
		(writes != (body != NULL)))
		return err_set(e, ERR_BUG, 0, "a question to the index is out of shape");
	return 0;
}

static int answer(struct index_db *d, const struct index_question *q, const char *body, size_t n,
	struct index_answer *a, struct buf *out, struct err *e)
{
	switch (q->op) {
	case INDEX_ADD:
		return add(d, q, body, n, a, e);
	case INDEX_CHANGE:
		return replace(d, q, body, n, a, e);
	case INDEX_GET:
		return get(d, q, a, out, e);
	case INDEX_LIST:
		return list(d, q, a, out, e);
	default:
		return drop(d, q, a, e);
	}
}

int index_db_ask(struct index_db *d, const struct index_question *q, const char *body, size_t n,
	struct index_answer *a, struct buf *out, struct err *e)
{
	bool writes = q->op != INDEX_GET && q->op != INDEX_LIST;
	int ret;

	if (check(q, body, e) < 0)
		return -1;
	if (writes && sqlite3_exec(d->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
		return fail(d, "begin", e);
	ret = answer(d, q, body, n, a, out, e);
	if (ret == 0 && !buf_ok(out))
		ret = err_set(e, ERR_LIMIT, EFBIG, "the answer is over %zu bytes", out->max);
	if (writes &&
		sqlite3_exec(d->db, ret < 0 ? "ROLLBACK" : "COMMIT", NULL, NULL, NULL) !=
			SQLITE_OK &&
		ret == 0)
		ret = fail(d, "commit", e);
	a->bytes = out->len;
	return ret;
}
