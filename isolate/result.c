#include "isolate/result.h"

#include "isolate/own.h"

const char *verdict_name(uint32_t verdict)
{
	static const char *const name[] = {"ok", "exit", "signal", "timeout", "memory", "output",
		"pids", "disk", "killed", "interrupted"};

	_Static_assert(NELEM(name) == VERDICT_MAX, "a name for each verdict");
	return verdict < VERDICT_MAX ? name[verdict] : "unknown";
}
