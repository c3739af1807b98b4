/* Names in /proc/PID/mountinfo. Pure. */
#ifndef CGIBOX_MOUNTINFO_H
#define CGIBOX_MOUNTINFO_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Undoes the kernel's "\040" and the like (proc_pid_mountinfo(5)) in the n bytes of s. out gets the
 * name and a NUL. False: it does not fit in size bytes, or a backslash is not followed by a byte
 * in three octal digits. Any process.
 */
bool mountinfo_unescape(const char *s, size_t n, char *out, size_t size);

#endif
