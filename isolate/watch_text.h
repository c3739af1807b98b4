/*
 * What the kernel's text files say, for the watchdog. Pure functions over bytes: names of
 * processes and files in them are a tenant's, so nothing is found by searching, only by place:
 * at the start of a line, after the last ')', in a column. proc(5), sysvipc(7).
 */
#ifndef CGIBOX_WATCH_TEXT_H
#define CGIBOX_WATCH_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* /proc/PID/status. Memory in bytes; all 0 for a process without memory (zombie). */
struct watch_status {
	uint64_t anon, swap, page_tables, huge, size;
	uint64_t threads;
	uint64_t filters; /* seccomp's, since Linux 5.10 */
	char state;       /* 'R', 'Z', ... */
};

/* False: no State line, so this is no status file. */
bool watch_text_status(const char *text, size_t n, struct watch_status *out);

/* The number after the line-leading key (with its colon), in the unit of the file; false: none. */
bool watch_text_key(const char *text, size_t n, const char *key, uint64_t *out);

/* One line of /proc/PID/maps, without its newline; false: not of that form. */
struct watch_map {
	uint64_t start, end, offset, ino;
	unsigned major, minor;
	bool shared;
	bool sysv; /* the name begins with "/SYSV" */
};
bool watch_text_map(const char *line, size_t n, struct watch_map *out);

/*
 * What tells one address space from another in /proc/PID/stat, folded into one number: equal for
 * two processes that share it (vfork), and only rarely else. 0: not of that form.
 */
uint64_t watch_text_space(const char *text, size_t n);

/* Minor faults of the process of /proc/PID/stat and of its children that were waited for; 0: none. */
uint64_t watch_text_faults(const char *text, size_t n);

/* Whether /proc/PID/syscall says that the thread waits for a child that shares its memory. */
bool watch_text_vfork(const char *text, size_t n);

/* The sum of up to two named columns of a table with a heading: *a, *b; returns the rows. */
size_t watch_text_columns(
	const char *text, size_t n, const char *col_a, const char *col_b, uint64_t *a, uint64_t *b);

/* One line of /proc/PID/mountinfo: true when it is a tmpfs; the mount point, unescaped, goes to
 * path (size bytes; one that does not fit is not told). */
bool watch_text_tmpfs(const char *line, size_t n, char *path, size_t size);

/* One line of mountinfo: true when it is the whole of the file system of device major:minor; *id as
 * fdinfo says it. */
bool watch_text_mount(const char *line, size_t n, unsigned major, unsigned minor, uint64_t *id);

/* The lines that begin with word. */
size_t watch_text_lines(const char *text, size_t n, const char *word);

#endif
