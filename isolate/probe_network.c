/* The network that clients may ask for. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "isolate/launch_pasta.h"
#include "isolate/own.h"
#include "isolate/probe_facts.h"
#include "isolate/sys.h"

enum { LANDLOCK_SCOPES = 6 };

static const char needless[] = "only network = pasta needs it";

void probe_network(const struct probe_env *env, struct fact *f)
{
	int abi = sys_landlock_create(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	switch ((enum conf_network)env->conf->network) {
	case NETWORK_NONE:
		probe_say(f, PROBE_OK, "network = none: loopback only");
		return;
	case NETWORK_PASTA:
		probe_say(f, PROBE_OK, "network = pasta: a private one; see \"tun\" and \"pasta\"");
		return;
	case NETWORK_HOST:
		break;
	}
	probe_say(f, PROBE_WEAKER,
		"network = host: who asks for it reaches what this machine reaches, its loopback "
		"too%s",
		abi >= LANDLOCK_SCOPES ? ""
				       : ", and its abstract sockets (X11, D-Bus, containerd)");
	probe_fix(f, "network = none in sandbox.conf");
}

void probe_tun(const struct probe_env *env, struct fact *f)
{
	OWN_FD fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	bool wanted = env->conf->network == NETWORK_PASTA;
	int why = errno;

	if (fd >= 0 || !wanted) {
		probe_say(f, PROBE_OK, "/dev/net/tun: %s%s%s",
			fd >= 0 ? "can be opened" : strerror(why), wanted ? "" : "; ",
			wanted ? "" : needless);
		return;
	}
	probe_say(
		f, PROBE_BLOCKED, "/dev/net/tun: %s: network = pasta cannot be had", strerror(why));
	probe_fix(f, "%s",
		why == EACCES || why == EPERM ? "chmod 0666 /dev/net/tun"
		: why == ENOENT               ? "modprobe tun; docker run --device /dev/net/tun"
					      : "modprobe tun");
}

void probe_pasta(const struct probe_env *env, struct fact *f)
{
	const char *named = env->conf->pasta_program;
	bool wanted = env->conf->network == NETWORK_PASTA;
	char path[PATH_MAX] = "";
	struct err e;
	bool there = pasta_find_program(named, path, &e) == 0;

	if (there || !wanted) {
		probe_say(f, PROBE_OK, "%s%s%s", there ? path : "not installed", wanted ? "" : "; ",
			wanted ? "" : needless);
		return;
	}
	probe_say(f, PROBE_BLOCKED, "%s: no such program: network = pasta cannot be had",
		*named ? named : "pasta");
	probe_fix(f, *named ? "pasta_program in sandbox.conf, or apt-get install passt"
			    : "apt-get install passt");
}
