#include "fcgi/volume_name.h"

#include <ctype.h>
#include <string.h>

#include "fcgi/session_dir.h"
#include "isolate/own.h"

bool volume_shared_ok(const char *s)
{
	static const char set[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	size_t n = strspn(s, set);

	return n >= 1 && n <= VOLUME_SHARED_MAX && !s[n] && isalnum((unsigned char)*s);
}

bool volume_name_ok(const char *s)
{
	const char *dot = strchr(s, '.');
	char id[SESSION_ID_LEN + 1];

	if (!dot)
		return volume_shared_ok(s);
	if (dot - s != SESSION_ID_LEN)
		return false;
	memcpy(id, s, SESSION_ID_LEN);
	id[SESSION_ID_LEN] = '\0';
	return session_id_valid(id) && volume_shared_ok(dot + 1);
}

/* What a system is made of, what sandboxes mount themselves, and where the workspace is. */
static bool reserved(const char *s, size_t n)
{
	static const char *const names[] = {"proc", "dev", "sys", "etc", "usr", "bin", "sbin",
		"lib", "lib32", "lib64", "libx32", "boot", "repo", "workspace"};

	for (size_t i = 0; i < NELEM(names); i++)
		if (strlen(names[i]) == n && !memcmp(names[i], s, n))
			return true;
	return false;
}

const char *volume_path_fault(const char *path)
{
	const char *at = path;

	if (*path != '/' || strlen(path) > VOLUME_PATH_MAX)
		return "must be an absolute path of at most 255 bytes";
	for (const char *p = path; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return "must not contain control characters";
	while (*at == '/') {
		size_t n = strcspn(++at, "/");

		if (n == 0 || (n == 1 && *at == '.') || (n == 2 && !memcmp(at, "..", 2)))
			return "must not be \"/\" or contain empty parts, \".\" or \"..\"";
		if (at == path + 1 && reserved(at, n))
			return "must not lie in a directory of the system or in the workspace";
		at += n;
	}
	return NULL;
}
