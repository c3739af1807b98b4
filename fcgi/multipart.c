#include "fcgi/multipart.h"

#include <string.h>
#include <strings.h>

enum state {
	PREAMBLE, /* before the first delimiter */
	AFTER,    /* behind a delimiter: "--", blanks, or the end of the line */
	AFTER_CR,
	HEADERS,
	DATA,
	EPILOGUE,
};

static bool boundary_char(char c)
{
	return c && (strchr("'()+_,-./:=? ", c) || (c >= '0' && c <= '9') ||
			    (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'));
}

/*
 * One parameter of a header's value, at p (behind ";"): name = token or "quoted". Returns what follows it,
 * or NULL at the end or for what is malformed. The value is cut at size - 1; *len is its whole length.
 */
static const char *next_param(
	const char *p, const char **name, size_t *name_len, char *value, size_t size, size_t *len)
{
	size_t o = 0;
	bool quoted;

	p += strspn(p, "; \t");
	*name = p;
	*name_len = strcspn(p, "=; \t");
	if (*name_len == 0)
		return NULL;
	p += *name_len;
	p += strspn(p, " \t");
	if (*p != '=')
		return NULL;
	p++;
	p += strspn(p, " \t");
	quoted = *p == '"';
	p += quoted;
	while (*p && (quoted ? *p != '"' : !strchr("; \t", *p))) {
		if (quoted && *p == '\\' && (p[1] == '"' || p[1] == '\\'))
			p++;
		if (o + 1 < size)
			value[o] = *p;
		o++;
		p++;
	}
	value[o + 1 < size ? o : size - 1] = '\0';
	*len = o;
	if (quoted && *p != '"')
		return NULL;
	return p + quoted;
}

bool multipart_init(struct multipart *m, const char *type)
{
	static const char form[] = "multipart/form-data";
	char boundary[MULTIPART_BOUNDARY_MAX + 2];
	size_t n = 0, len = 0;
	const char *name;

	*m = (struct multipart){.state = PREAMBLE};
	if (!type || strncasecmp(type, form, sizeof form - 1) ||
		!strchr("; \t", type[sizeof form - 1]))
		return false;
	for (type += sizeof form - 1;;) {
		type = next_param(type, &name, &n, boundary, sizeof boundary, &len);
		if (!type)
			return false;
		if (n == 8 && !strncasecmp(name, "boundary", 8))
			break;
	}
	if (len == 0 || len > MULTIPART_BOUNDARY_MAX || boundary[len - 1] == ' ')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!boundary_char(boundary[i]))
			return false;
	memcpy(m->delimiter, "\r\n--", 4);
	memcpy(m->delimiter + 4, boundary, len + 1);
	m->delimiter_len = len + 4;
	m->matched = 2; /* the first one may stand at the very start */
	return true;
}

/* The value of the header Content-Disposition, or NULL. Lines end with a NUL here. */
static const char *find_disposition(const char *p, const char *end)
{
	static const char name[] = "content-disposition:";

	for (; p < end; p += strlen(p) + 1)
		if (!strncasecmp(p, name, sizeof name - 1))
			return p + sizeof name - 1;
	return NULL;
}

/* CR LF ends a line, an empty one the headers; a lone LF is no end. */
static void cut_lines(char *p, size_t n)
{
	for (size_t i = 0; i + 1 < n; i++)
		if (p[i] == '\r' && p[i + 1] == '\n')
			p[i] = p[i + 1] = '\0';
}

static int take_names(const char *value, char *name, char *file, struct err *e)
{
	char text[MULTIPART_NAME_MAX + 1];
	bool named = false;
	const char *key;
	size_t n, len;

	value += strspn(value, " \t");
	if (strncasecmp(value, "form-data", 9))
		return err_set(e, ERR_REQUEST, 0, "a part is no form-data");
	value += 9;
	while ((value = next_param(value, &key, &n, text, sizeof text, &len))) {
		bool is_name = n == 4 && !strncasecmp(key, "name", 4);
		bool is_file = n == 8 && !strncasecmp(key, "filename", 8);

		if ((is_name || is_file) && len > MULTIPART_NAME_MAX)
			return err_set(e, ERR_REQUEST, 0, "the name of a part is too long");
		if (is_name || is_file)
			memcpy(is_name ? name : file, text, sizeof text);
		named |= is_name;
	}
	return named ? 0 : err_set(e, ERR_REQUEST, 0, "a part has no name");
}

static int begin_part(struct multipart *m, struct err *e)
{
	char name[MULTIPART_NAME_MAX + 1] = "", file[MULTIPART_NAME_MAX + 1] = "";
	const char *value;

	if (memchr(m->headers, '\0', m->headers_len))
		return err_set(e, ERR_REQUEST, 0, "a NUL in the headers of a part");
	if (++m->parts > MULTIPART_PARTS_MAX)
		return err_set(
			e, ERR_LIMIT, 0, "the form has more than %d parts", MULTIPART_PARTS_MAX);
	m->headers[m->headers_len] = '\0';
	cut_lines(m->headers, m->headers_len);
	value = find_disposition(m->headers, m->headers + m->headers_len);
	if (!value)
		return err_set(e, ERR_REQUEST, 0, "a part has no Content-Disposition");
	if (take_names(value, name, file, e) < 0)
		return -1;
	return m->begin(m->arg, name, file, e);
}

/* Behind a delimiter. */
static int take_after(struct multipart *m, char c, struct err *e)
{
	if (m->state == AFTER_CR && c == '\n') {
		m->state = HEADERS;
		m->headers_len = 0;
		return 0;
	}
	if (m->state == AFTER && m->dash) {
		m->state = EPILOGUE;
		return c == '-' ? 0 : err_set(e, ERR_REQUEST, 0, "a broken boundary");
	}
	if (m->state == AFTER && (c == ' ' || c == '\t'))
		return 0;
	if (m->state == AFTER && c == '-') {
		m->dash = true;
		return 0;
	}
	if (m->state == AFTER && c == '\r') {
		m->state = AFTER_CR;
		return 0;
	}
	return err_set(e, ERR_REQUEST, 0, "a broken boundary");
}

static int take_header(struct multipart *m, char c, struct err *e)
{
	size_t n = m->headers_len;

	if (n == MULTIPART_HEADERS_MAX)
		return err_set(e, ERR_LIMIT, 0, "the headers of a part are over %d bytes",
			MULTIPART_HEADERS_MAX);
	m->headers[m->headers_len++] = c;
	if (c != '\n' || n == 0 || m->headers[n - 1] != '\r')
		return 0;
	n++;
	if (n != 2 && (n < 4 || memcmp(m->headers + n - 4, "\r\n", 2)))
		return 0;
	m->state = DATA;
	m->matched = 0;
	return begin_part(m, e);
}

static int tell(struct multipart *m, const char *p, size_t n, struct err *e)
{
	return n == 0 || m->state != DATA ? 0 : m->data(m->arg, p, n, e);
}

/*
 * Contents, or the preamble, up to a delimiter. The delimiter has its CR at its start alone, so bytes that
 * began like it and went on differently hold no other start but where they broke off.
 * Returns how many bytes were used, or -1.
 */
static long take_data(struct multipart *m, const char *p, size_t n, struct err *e)
{
	size_t from = 0, i = 0;

	while (i < n) {
		if (p[i] == m->delimiter[m->matched]) {
			if (m->matched == 0 && tell(m, p + from, i - from, e) < 0)
				return -1;
			i++;
			if (++m->matched == m->delimiter_len)
				break;
			from = i;
			continue;
		}
		if (m->matched > 0) { /* what was held back is data after all */
			if (tell(m, m->delimiter, m->matched, e) < 0)
				return -1;
			m->matched = 0;
			from = i;
			continue;
		}
		i++;
	}
	if (m->matched < m->delimiter_len)
		return m->matched == 0 && tell(m, p + from, i - from, e) < 0 ? -1 : (long)i;
	if (m->state == DATA && m->end(m->arg, e) < 0)
		return -1;
	m->state = AFTER;
	m->dash = false;
	return (long)i;
}

int multipart_feed(struct multipart *m, const void *bytes, size_t n, struct err *e)
{
	const char *p = bytes;

	while (n > 0) {
		long used = 1;
		int ret = 0;

		switch ((enum state)m->state) {
		case PREAMBLE:
		case DATA:
			used = take_data(m, p, n, e);
			break;
		case AFTER:
		case AFTER_CR:
			ret = take_after(m, *p, e);
			break;
		case HEADERS:
			ret = take_header(m, *p, e);
			break;
		case EPILOGUE:
			return 0;
		}
		if (used < 0 || ret < 0)
			return -1;
		p += used;
		n -= (size_t)used;
	}
	return 0;
}

int multipart_end(struct multipart *m, struct err *e)
{
	return m->state == EPILOGUE
		       ? 0
		       : err_set(e, ERR_REQUEST, 0, "the form ends before its last boundary");
}
