/* Paths, modes and contents as the original's clients send them. */
#include "fcgi/dialects/daiv_fs.h"

#include <stdio.h>
#include <string.h>

#include "fcgi/base64.h"
#include "fcgi/json_out.h"
#include "fcgi/utf8.h"
#include "isolate/own.h"

/* ASCII as Python shows it; of the rest only what can be mistaken is escaped: C1 and no-break space. */
void daiv_repr(struct buf *b, const char *s, size_t n)
{
	char quote = memchr(s, '\'', n) && !memchr(s, '"', n) ? '"' : '\'';

	buf_addc(b, quote);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == (unsigned char)quote || c == '\\')
			buf_addf(b, "\\%c", c);
		else if (c == '\n' || c == '\r' || c == '\t')
			buf_addf(b, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
		else if (c < ' ' || c == 0x7f)
			buf_addf(b, "\\x%02x", c);
		else if (c == 0xc2 && i + 1 < n && (unsigned char)s[i + 1] <= 0xa0)
			buf_addf(b, "\\x%02x", (unsigned char)s[++i]);
		else
			buf_addc(b, (char)c);
	}
	buf_addc(b, quote);
}

/* Takes "." and double slashes out. false: it has "..", *long_ says whether it did not fit. */
static bool canonical(const char *s, size_t n, char out[DAIV_PATH_MAX], bool *too_long)
{
	size_t o = 0;

	*too_long = false;
	while (n > 0) {
		const char *slash = memchr(s, '/', n);
		size_t len = slash ? (size_t)(slash - s) : n;

		if (len == 2 && !memcmp(s, "..", 2))
			return false;
		if (o + len + 2 > DAIV_PATH_MAX) {
			*too_long = true;
			return false;
		}
		if (len && !(len == 1 && *s == '.')) {
			out[o++] = '/';
			memcpy(out + o, s, len);
			o += len;
		}
		len += slash != NULL;
		s += len;
		n -= len;
	}
	out[o] = '\0';
	return true;
}

static bool refuse(struct buf *why, const char *text, const char *s, size_t n)
{
	buf_adds(why, text);
	daiv_repr(why, s, utf8_clip(s, n, 2048));
	return false;
}

bool daiv_path(struct json_object *path, const char *root, bool allow_root, char out[DAIV_PATH_MAX],
	struct buf *why)
{
	size_t n = (size_t)json_object_get_string_len(path), len = strlen(root);
	const char *s = json_object_get_string(path);
	char text[96];
	bool too_long;

	if (memchr(s, '\0', n) || memchr(s, '\n', n) || memchr(s, '\r', n))
		return refuse(why, "path must not contain NUL or newline characters: ", s, n);
	if (n == 0 || *s != '/')
		return refuse(why, "path must be absolute, got: ", s, n);
	if (!canonical(s, n, out, &too_long))
		return refuse(why,
			too_long ? "path is too long: " : "path must not contain '..' segments: ",
			s, n);
	/* Two slashes at the start, and no third, are a root of their own to Python. */
	if (n > 1 && s[1] == '/' && !(n > 2 && s[2] == '/'))
		out[0] = '\0';
	if (!strcmp(out, root))
		return allow_root || refuse(why, "path must not equal a reserved root: ", s, n);
	if (!strncmp(out, root, len) && out[len] == '/')
		return true;
	snprintf(text, sizeof text, "path must be under one of ('%s',), got: ", root);
	return refuse(why, text, s, n);
}

uint32_t daiv_mode(int64_t mode)
{
	uint32_t base = (uint32_t)mode & 0777;

	return base | 0444 | 0200 | (base & 0111 ? 0111 : 0);
}

void daiv_decode(const struct schema_field *f, struct json_object *v, struct buf *out,
	struct schema_report *r)
{
	size_t n = (size_t)json_object_get_string_len(v), made = 0, used;
	const char *s = json_object_get_string(v), *what;
	char text[192], msg[256], *to = buf_room(out, base64_room(n));
	OWN_BUF ctx = BUF_INIT(512);
	struct base64 b = {0};

	if (!to) {
		schema_value_error(r, f, NULL, -1, v, "the content is too long");
		return;
	}
	used = base64_decode(&b, s, n, (uint8_t *)to, &made);
	out->len += made;
	if (used < n)
		b.fault = BASE64_ALPHABET;
	if (base64_end(&b) == BASE64_OK)
		return;
	what = base64_fault_text(&b, text, sizeof text);
	snprintf(msg, sizeof msg, "Base64 decoding error: '%s'", what);
	buf_adds(&ctx, "{\"error\":");
	json_out_text(&ctx, what);
	buf_addc(&ctx, '}');
	schema_problem(r, &(struct schema_fault){"base64_decode", f->name, NULL, -1, msg, v,
				  buf_ok(&ctx) ? ctx.p : NULL});
}
