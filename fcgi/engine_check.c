/* What `cgibox doctor` says about the Engine: a line each of state, text and fix, by tabs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/engine_int.h"
#include "isolate/clock.h"
#include "isolate/own.h"

enum { CHECK_MS = 8000 };

static void say(const char *state, const char *text, const char *fix)
{
	printf("%s\t%s\t%s\n", state, text, fix);
}

/* What to type. */
static const char *fix_for(const struct err *e)
{
	if (e->errnum == EACCES || e->errnum == EPERM)
		return "usermod -aG docker USER, then start the service anew";
	if (e->errnum == ENOENT || e->errnum == ECONNREFUSED)
		return "systemctl start docker; or engine in sandbox.conf";
	return e->kind == ERR_CONF ? "engine, engine_* in sandbox.conf"
				   : "docker info; journalctl -u docker";
}

static void tell_limits(const struct engine_info *i)
{
	static const struct {
		uint32_t lack;
		const char *text;
	} lacks[] = {
		{ENGINE_LACKS_MEMORY, "the Engine holds no limit of memory"},
		{ENGINE_LACKS_SWAP,
			"the Engine does not count swap: containers may use it besides"},
		{ENGINE_LACKS_CPUS, "the Engine holds no limit of processors"},
		{ENGINE_LACKS_PIDS, "the Engine holds no limit of processes"},
	};

	for (size_t n = 0; n < NELEM(lacks); n++)
		if (i->lacks & lacks[n].lack)
			say("weaker", lacks[n].text,
				"cgroup v2 with its memory, cpu and pids controllers; "
				"cgroup_enable=memory swapaccount=1 on the kernel's command line");
}

static void tell(const struct engine_info *i)
{
	char text[400];

	snprintf(text, sizeof text, "%s %s, API %s, runtime %s, storage %s, cgroup v%u, %s%s",
		i->name, i->version, i->api, i->runtime, i->storage, i->cgroup_version, i->security,
		i->rootless ? ", rootless" : "");
	say("ok", text, "");
	tell_limits(i);
}

int engine_check(const struct conf *c)
{
	static struct engine g;
	struct err e = {0};
	int64_t until = clock_ms() + CHECK_MS;
	char text[400];

	g.conf = c;
	g.sock = -1;
	g.checking = true;
	g.settings.conf = c;
	g.settings.state = c->state_dir;
	TAILQ_INIT(&g.waiting);
	TAILQ_INIT(&g.running);
	g.http = engine_http_open(c, &e);
	if (g.http)
		engine_open(&g);
	while (!e.kind && g.phase != PHASE_OPEN && g.phase != PHASE_CLOSED) {
		if (clock_ms() >= until)
			err_set(&e, ERR_BUSY, 0, "the Engine at \"%.100s\" is too slow", c->engine);
		else
			engine_http_turn(g.http, NULL, 0, (int)(until - clock_ms()), &e);
	}
	if (g.phase == PHASE_CLOSED && !e.kind)
		e = g.trouble;
	if (e.kind)
		say("blocked", err_text(&e, text, sizeof text), fix_for(&e));
	else
		tell(&g.info);
	return e.kind ? 1 : 0;
}
