#include "fcgi/json_scan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DECODE_STEP = 32768 }; /* characters of base64 a write(2) */

enum state {
	S_VALUE,        /* a value must start */
	S_ARRAY_START,  /* a value, or ] */
	S_OBJECT_START, /* a name, or } */
	S_NAME,         /* a name */
	S_COLON,
	S_AFTER, /* behind a value: a comma, an end, or the end of the document */
	S_STRING,
	S_ESCAPE,
	S_HEX,
	S_LITERAL,
	/* numbers: what has been seen last */
	S_MINUS,
	S_ZERO,
	S_DIGITS,
	S_POINT,
	S_FRACTION,
	S_E,
	S_E_SIGN,
	S_EXPONENT,
};

/* What a byte handler says: the byte was used, or it belongs to what follows. */
enum { USED = 1, AGAIN = 0, FAIL = -1 };

static int bad(struct json_scan *s, size_t pos, const char *what, struct err *e)
{
	snprintf(s->fault, sizeof s->fault, "%s", what);
	s->fault_pos = pos;
	return err_set(e, ERR_REQUEST, 0, "JSON: %s at character %zu", what, pos);
}

void json_scan_init(struct json_scan *s, const struct json_scan_plan *plan)
{
	memset(s, 0, sizeof *s);
	s->plan = *plan;
	s->copy = BUF_INIT((size_t)plan->copy_max);
	s->state = S_VALUE;
}

void json_scan_clear(struct json_scan *s)
{
	buf_clear(&s->copy);
	free(s->names);
	s->names = NULL;
	s->nnames = s->names_cap = 0;
}

static bool in_array(const struct json_scan *s)
{
	return s->arrays >> (s->depth - 1) & 1;
}

/* Objects and arrays. */

static int open_container(struct json_scan *s, bool array, struct err *e)
{
	if (s->depth == JSON_DEPTH_MAX)
		return bad(s, s->pos, "Nested deeper than 64 levels", e);
	s->arrays &= ~((uint64_t)1 << s->depth);
	s->arrays |= (uint64_t)array << s->depth;
	s->first_name[s->depth++] = s->nnames;
	s->state = array ? S_ARRAY_START : S_OBJECT_START;
	return USED;
}

static int name_order(const void *a, const void *b)
{
	const struct json_name *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return x->pos < y->pos ? -1 : x->pos > y->pos;
}

/*
 * Names are compared by a 64-bit hash when their object closes: a sort has no bad case for a
 * hostile document, as a hash table would, and a false match only harms whoever made it.
 */
static int check_names(struct json_scan *s, struct err *e)
{
	size_t first = s->first_name[s->depth - 1], n = s->nnames - first;
	size_t found = SIZE_MAX;
	struct json_name *names;

	s->nnames = first;
	if (n < 2)
		return 0;
	names = s->names + first;
	qsort(names, n, sizeof *names, name_order);
	for (size_t i = 1; i < n; i++)
		if (names[i].hash == names[i - 1].hash && names[i].pos < found)
			found = names[i].pos;
	return found == SIZE_MAX ? 0 : bad(s, found, "Duplicate object key", e);
}

static int close_container(struct json_scan *s, struct err *e)
{
	if (!in_array(s) && check_names(s, e) < 0)
		return FAIL;
	s->depth--;
	s->state = S_AFTER;
	return USED;
}

static int add_name(struct json_scan *s, struct err *e)
{
	if (s->nnames == s->names_cap) {
		size_t cap = s->names_cap ? 2 * s->names_cap : 64;
		void *p = realloc(s->names, cap * sizeof *s->names);

		if (!p)
			return err_set(e, ERR_SETUP, ENOMEM, "JSON member names");
		s->names = p;
		s->names_cap = cap;
	}
	s->names[s->nnames++] = (struct json_name){s->hash, s->start};
	return 0;
}

/* Values. */

static int start_string(struct json_scan *s, bool is_name)
{
	s->start = s->pos;
	s->is_name = is_name;
	s->hex_just = false;
	s->high = 0;
	s->name_len = 0;
	s->hash = 0xcbf29ce484222325; /* FNV-1a */
	s->state = S_STRING;
	return USED;
}

static int start_literal(struct json_scan *s, const char *rest)
{
	s->start = s->pos;
	s->literal = rest;
	s->state = S_LITERAL;
	return USED;
}

static int start_number(struct json_scan *s, uint8_t c)
{
	s->start = s->pos;
	s->state = c == '-' ? S_MINUS : c == '0' ? S_ZERO : S_DIGITS;
	return USED;
}

static int on_value(struct json_scan *s, uint8_t c, struct err *e)
{
	if (++s->values > JSON_VALUES_MAX)
		return err_set(e, ERR_LIMIT, 0, "the JSON body holds more than %d values",
			JSON_VALUES_MAX);
	if (c != '"')
		s->is_archive = false; /* strings inside it are not the archive */
	switch (c) {
	case '{':
	case '[':
		return open_container(s, c == '[', e);
	case '"':
		if (s->is_archive)
			s->archive = JSON_ARCHIVE_EMPTY;
		return start_string(s, false);
	case 't':
		return start_literal(s, "rue");
	case 'f':
		return start_literal(s, "alse");
	case 'n':
		return start_literal(s, "ull");
	default:
		if (c == '-' || (c >= '0' && c <= '9'))
			return start_number(s, c);
		return bad(s, s->pos, "Expecting value", e);
	}
}

static int on_literal(struct json_scan *s, uint8_t c, struct err *e)
{
	if (c != (uint8_t)*s->literal)
		return bad(s, s->start, "Expecting value", e);
	if (!*++s->literal)
		s->state = S_AFTER;
	return USED;
}

static int on_after(struct json_scan *s, uint8_t c, struct err *e)
{
	s->is_archive = false;
	if (s->depth == 0)
		return bad(s, s->pos, "Extra data", e);
	if (c == (in_array(s) ? ']' : '}'))
		return close_container(s, e);
	if (c != ',')
		return bad(s, s->pos, "Expecting ',' delimiter", e);
	s->state = in_array(s) ? S_VALUE : S_NAME;
	return USED;
}

/* Goes on behind a number; a part that was begun in vain is what Python finds in its place. */
static int end_number(struct json_scan *s, struct err *e)
{
	bool begun = s->state == S_POINT || s->state == S_E || s->state == S_E_SIGN;

	if (s->state == S_MINUS)
		return bad(s, s->start, "Expecting value", e);
	if (begun)
		return bad(s, s->mark, s->depth ? "Expecting ',' delimiter" : "Extra data", e);
	s->state = S_AFTER;
	return AGAIN;
}

/* The state after a byte of a number; the state itself when the byte is no part of it. */
static int next_in_number(int state, uint8_t c)
{
	bool digit = c >= '0' && c <= '9';

	switch (state) {
	case S_MINUS:
		return c == '0' ? S_ZERO : digit ? S_DIGITS : -1;
	case S_ZERO:
	case S_DIGITS:
		if (digit && state == S_DIGITS)
			return S_DIGITS;
		return c == '.' ? S_POINT : c == 'e' || c == 'E' ? S_E : -1;
	case S_POINT:
		return digit ? S_FRACTION : -1;
	case S_FRACTION:
		return digit ? S_FRACTION : c == 'e' || c == 'E' ? S_E : -1;
	case S_E:
		return c == '+' || c == '-' ? S_E_SIGN : digit ? S_EXPONENT : -1;
	default:
		return digit ? S_EXPONENT : -1;
	}
}

static int on_number(struct json_scan *s, uint8_t c, struct err *e)
{
	int next = next_in_number(s->state, c);

	if (next < 0)
		return end_number(s, e);
	if (next == S_POINT || next == S_E)
		s->mark = s->pos;
	s->state = next;
	return USED;
}

/* The archive. */

static int archive_write(struct json_scan *s, const uint8_t *p, size_t n, struct err *e)
{
	if (s->plan.archive_fd < 0 && s->open_archive &&
		(s->plan.archive_fd = s->open_archive(s->open_arg, e)) < 0)
		return -1;
	if (s->plan.archive_fd < 0)
		return 0;
	if ((int64_t)n > s->plan.archive_max - s->archive_bytes)
		return err_set(e, ERR_LIMIT, 0, "the archive is larger than %lld bytes",
			(long long)s->plan.archive_max);
	s->archive_bytes += (int64_t)n;
	while (n) {
		ssize_t w = write(s->plan.archive_fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return err_set(e, ERR_SETUP, w < 0 ? errno : EIO, "write the archive");
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

/* Takes what is base64 of p[0..n); returns the number of bytes, or -1. */
static long archive_take(struct json_scan *s, const uint8_t *p, size_t n, struct err *e)
{
	uint8_t out[DECODE_STEP / 4 * 3 + 3];
	size_t done = 0;

	while (done < n) {
		size_t step = n - done < DECODE_STEP ? n - done : DECODE_STEP, made, took;

		took = base64_decode(&s->base64, (const char *)p + done, step, out, &made);
		if (made && archive_write(s, out, made, e) < 0)
			return -1;
		done += took;
		if (took < step)
			break;
	}
	if (done)
		s->archive = JSON_ARCHIVE_DATA;
	return (long)done;
}

/* One character of the archive's text, decoded from an escape or no base64 as it stands. */
static int archive_char(struct json_scan *s, uint32_t c, struct err *e)
{
	uint8_t byte = c < 0x80 ? (uint8_t)c : 0;
	long took = archive_take(s, &byte, 1, e);

	if (took == 0 && s->base64.fault == BASE64_OK)
		s->base64.fault = BASE64_ALPHABET;
	s->archive = JSON_ARCHIVE_DATA;
	return took < 0 ? FAIL : USED;
}

/* Strings. */

static void name_byte(struct json_scan *s, uint8_t c)
{
	if (s->name_len < sizeof s->name)
		s->name[s->name_len] = (char)c;
	if (s->name_len < 255)
		s->name_len++;
	s->hash = (s->hash ^ c) * 0x100000001b3;
}

/* A character that came as an escape. In values it stays as written, in the copy. */
static int string_char(struct json_scan *s, uint32_t c, struct err *e)
{
	if (s->is_archive)
		return archive_char(s, c, e);
	if (!s->is_name)
		return USED;
	if (c == 0)
		return bad(s, s->start, "Object key contains a NUL character", e);
	if (c < 0x80) {
		name_byte(s, (uint8_t)c);
	} else if (c < 0x800) {
		name_byte(s, (uint8_t)(0xc0 | c >> 6));
	} else if (c < 0x10000) {
		name_byte(s, (uint8_t)(0xe0 | c >> 12));
		name_byte(s, (uint8_t)(0x80 | (c >> 6 & 63)));
	} else {
		name_byte(s, (uint8_t)(0xf0 | c >> 18));
		name_byte(s, (uint8_t)(0x80 | (c >> 12 & 63)));
		name_byte(s, (uint8_t)(0x80 | (c >> 6 & 63)));
	}
	if (c >= 0x80)
		name_byte(s, (uint8_t)(0x80 | (c & 63)));
	return USED;
}

static int end_string(struct json_scan *s, struct err *e)
{
	bool archive;

	if (!s->is_name) {
		if (s->is_archive)
			base64_end(&s->base64);
		s->is_archive = false;
		s->state = S_AFTER;
		return USED;
	}
	archive = s->depth == 1 && s->name_len == 7 && !memcmp(s->name, "archive", 7);
	if (archive && s->archive != JSON_ARCHIVE_ABSENT)
		return bad(s, s->start, "Duplicate object key", e);
	s->is_archive = archive;
	s->state = S_COLON;
	return add_name(s, e) < 0 ? FAIL : USED;
}

static int on_string(struct json_scan *s, uint8_t c, struct err *e)
{
	s->hex_just = false;
	if (s->high && c != '\\')
		return bad(
			s, s->high ? s->first : s->mark, "Unpaired surrogate in \\uXXXX escape", e);
	if (c == '"' && utf8_whole(&s->utf8))
		return end_string(s, e);
	if (c == '\\' && utf8_whole(&s->utf8)) {
		s->mark = s->pos;
		s->state = S_ESCAPE;
		return USED;
	}
	if (c < 0x20)
		return bad(s, s->pos, "Invalid control character at", e);
	if (!utf8_push(&s->utf8, c))
		return bad(s, s->pos, "Invalid UTF-8", e);
	if (s->is_name)
		name_byte(s, c);
	else if (s->is_archive)
		return archive_char(s, c < 0x80 ? c : 0, e);
	return USED;
}

static int on_escape(struct json_scan *s, uint8_t c, struct err *e)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at = c ? strchr(from, c) : NULL;

	if (c == 'u') {
		s->mark = s->pos;
		s->hex = 0;
		s->hex_left = 4;
		s->state = S_HEX;
		return USED;
	}
	if (s->high)
		return bad(
			s, s->high ? s->first : s->mark, "Unpaired surrogate in \\uXXXX escape", e);
	if (!at)
		return bad(s, s->mark, "Invalid \\escape", e);
	s->state = S_STRING;
	return string_char(s, (uint8_t)to[at - from], e);
}

/* Four digits are in: a character, the first or the second half of one. */
static int end_hex(struct json_scan *s, struct err *e)
{
	uint32_t c = s->hex, high = s->high;
	bool first = c >= 0xd800 && c <= 0xdbff, second = c >= 0xdc00 && c <= 0xdfff;

	s->state = S_STRING;
	s->hex_just = true;
	if ((high != 0) != second)
		return bad(
			s, s->high ? s->first : s->mark, "Unpaired surrogate in \\uXXXX escape", e);
	s->high = first ? c : 0;
	s->first = s->mark;
	if (first)
		return USED;
	return string_char(s, high ? 0x10000 + ((high & 0x3ff) << 10 | (c & 0x3ff)) : c, e);
}

static int on_hex(struct json_scan *s, uint8_t c, struct err *e)
{
	uint32_t v = c >= '0' && c <= '9' ? c - (uint32_t)'0' : (c | 0x20u) - 'a' + 10u;

	if (v > 15 || (c > '9' && v < 10))
		return bad(s, s->mark, "Invalid \\uXXXX escape", e);
	s->hex = s->hex << 4 | v;
	return --s->hex_left ? USED : end_hex(s, e);
}

/* The rest. */

static int on_structure(struct json_scan *s, uint8_t c, struct err *e)
{
	if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
		return USED;
	switch (s->state) {
	case S_ARRAY_START:
		if (c == ']')
			return close_container(s, e);
		return on_value(s, c, e);
	case S_VALUE:
		return on_value(s, c, e);
	case S_OBJECT_START:
		if (c == '}')
			return close_container(s, e);
		/* fall through */
	case S_NAME:
		if (c != '"')
			return bad(
				s, s->pos, "Expecting property name enclosed in double quotes", e);
		return start_string(s, true);
	case S_COLON:
		if (c != ':')
			return bad(s, s->pos, "Expecting ':' delimiter", e);
		s->state = S_VALUE;
		return USED;
	default:
		return on_after(s, c, e);
	}
}

static int on_byte(struct json_scan *s, uint8_t c, struct err *e)
{
	switch (s->state) {
	case S_STRING:
		return on_string(s, c, e);
	case S_ESCAPE:
		return on_escape(s, c, e);
	case S_HEX:
		return on_hex(s, c, e);
	case S_LITERAL:
		return on_literal(s, c, e);
	default:
		return s->state >= S_MINUS ? on_number(s, c, e) : on_structure(s, c, e);
	}
}

static int copy_add(struct json_scan *s, const uint8_t *p, size_t n, struct err *e)
{
	if (!s->plan.copy || buf_add(&s->copy, p, n) == 0)
		return 0;
	if (n > s->copy.max - s->copy.len)
		return err_set(e, ERR_LIMIT, 0,
			"the JSON body without its archive is larger than %lld bytes",
			(long long)s->plan.copy_max);
	return err_set(e, ERR_SETUP, ENOMEM, "copy of the JSON body");
}

/* Bytes of an ordinary run inside a string value: plain ASCII that needs no look. */
static size_t plain_run(const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i < n && p[i] >= 0x20 && p[i] < 0x80 && p[i] != '"' && p[i] != '\\')
		i++;
	return i;
}

/* Takes as much of a string as needs no decision. Returns bytes, or -1. */
static long take_run(struct json_scan *s, const uint8_t *p, size_t n, struct err *e)
{
	long took;

	if (s->state != S_STRING || s->is_name || s->high || !utf8_whole(&s->utf8))
		return 0;
	if (s->is_archive && s->base64.fault == BASE64_OK)
		took = archive_take(s, p, n, e);
	else
		took = (long)plain_run(p, n);
	/* Line breaks may stand in base64 as escapes, but never bare in a JSON string. */
	if (took > 0 && s->is_archive) {
		const uint8_t *cr = memchr(p, '\r', (size_t)took);
		const uint8_t *lf = memchr(p, '\n', cr ? (size_t)(cr - p) : (size_t)took);
		const uint8_t *at = lf ? lf : cr;

		if (at)
			return bad(s, s->pos + (size_t)(at - p), "Invalid control character at", e);
	}
	if (took > 0) {
		s->pos += (size_t)took;
		s->hex_just = false;
	}
	return took;
}

int json_scan_feed(struct json_scan *s, const void *data, size_t n, struct err *e)
{
	const uint8_t *p = data;
	size_t from = 0; /* of the bytes that are not copied yet */

	for (size_t i = 0; i < n;) {
		bool was_inside = s->is_archive && s->state >= S_STRING && s->state <= S_HEX;
		long took = take_run(s, p + i, n - i, e);
		bool inside;

		if (took == 0) {
			took = on_byte(s, p[i], e);
			if (took > 0)
				s->pos += (p[i] & 0xc0) != 0x80;
		}
		if (took < 0)
			return -1;
		inside = s->is_archive && s->state >= S_STRING && s->state <= S_HEX;
		i += (size_t)took;
		if (inside && !was_inside) { /* just behind the opening quote */
			if (copy_add(s, p + from, i - from, e) < 0 ||
				copy_add(s, (const uint8_t *)"...", 3, e) < 0)
				return -1;
		}
		if (was_inside)
			from = inside ? i : i - 1; /* the closing quote belongs to the copy */
		else if (inside)
			from = i;
	}
	return from < n ? copy_add(s, p + from, n - from, e) : 0;
}

int json_scan_end(struct json_scan *s, struct err *e)
{
	if (s->state >= S_MINUS && end_number(s, e) < 0)
		return -1;
	switch (s->state) {
	case S_AFTER:
		return s->depth ? bad(s, s->pos, "Expecting ',' delimiter", e) : 0;
	case S_OBJECT_START:
	case S_NAME:
		return bad(s, s->pos, "Expecting property name enclosed in double quotes", e);
	case S_COLON:
		return bad(s, s->pos, "Expecting ':' delimiter", e);
	case S_STRING:
	case S_ESCAPE:
		if (s->hex_just)
			return bad(s, s->mark, "Invalid \\uXXXX escape", e);
		return bad(s, s->start, "Unterminated string starting at", e);
	case S_HEX:
		return bad(s, s->mark, "Invalid \\uXXXX escape", e);
	case S_LITERAL:
		return bad(s, s->start, "Expecting value", e);
	default:
		return bad(s, s->pos, "Expecting value", e);
	}
}
