#include "images/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/own.h"

enum { COLUMNS = 8 };

void table_cell(struct table *t, const char *fmt, ...)
{
	OWN_MEM char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		t->text.bad = true;
		text = NULL;
		return;
	}
	for (const unsigned char *p = (unsigned char *)text; *p; p++) {
		if (*p < 0x20 || *p == 0x7f)
			buf_addf(&t->text, "\\x%02x", *p);
		else
			buf_addc(&t->text, (char)*p);
	}
	buf_addc(&t->text, '\t');
}

void table_row(struct table *t)
{
	buf_addc(&t->text, '\n');
}

static void measure(const char *p, int width[COLUMNS])
{
	for (int c = 0; *p; p++) {
		int n = (int)strcspn(p, "\t\n");

		if (c < COLUMNS && n > width[c])
			width[c] = n;
		p += n;
		if (*p == '\n')
			c = 0;
		else
			c++;
	}
}

int table_print(const struct table *t, bool aligned, FILE *out)
{
	const char *p = t->text.p ? t->text.p : "";
	int width[COLUMNS] = {0};

	if (aligned)
		measure(p, width);
	for (int c = 0; *p; p++) {
		int n = (int)strcspn(p, "\t\n");
		bool last = p[n] && p[n + 1] == '\n';

		if (*p == '\n') {
			putc('\n', out);
			c = 0;
			continue;
		}
		fprintf(out, "%-*.*s%s", last || c >= COLUMNS ? 0 : width[c], n, p,
			last      ? ""
			: aligned ? "  "
				  : "\t");
		p += n;
		c++;
	}
	return buf_ok(&t->text) ? 0 : -1;
}

void table_print_text(const char *text, FILE *out)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p < 0x20 || *p == 0x7f || *p == '\\')
			fprintf(out, "\\x%02x", *p);
		else
			putc(*p, out);
	}
}
