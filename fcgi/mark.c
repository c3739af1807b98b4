#include "fcgi/mark.h"

#include <string.h>

#include "fcgi/backend.h"

bool mark_name_good(const char *name)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				  "0123456789._-";
	size_t n = strlen(name);

	return n > 0 && n <= WORKSPACE_MARK_MAX && name[0] != '.' && name[0] != '-' &&
	       strspn(name, set) == n;
}
