/*
 * The names under which other services have their settings, one table: what each sets here, or why it
 * sets nothing. Names without a prefix of their own (HOST, LOG_LEVEL) or with one that two services share
 * (SANDBOX_) count only when settings_of names their service.
 */
#include "isolate/conf.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/log.h"
#include "isolate/own.h"

enum service { DAIV, KWEAVER, RUNTIME, MANAGER };

enum how {
	AS_IS,      /* the value is the key's */
	LEVEL,      /* Python's names of levels, in any case */
	SECONDS_MS, /* seconds, perhaps with a fraction, to milliseconds */
	MINUTES_S,  /* minutes to seconds; -1: never, which is 0 here */
	HOURS_S,    /* the same of hours */
	KIB,        /* to bytes */
	NETWORK,    /* true or false */
	RUNC,       /* nothing to do for runc; another runtime is refused */
	IGNORED,
};

struct alias {
	enum service of;
	const char *name; /* a "*" at its end: all that begin so */
	enum how how;
	const char *key; /* or, IGNORED, why */
};

static const char *const services[] = {"daiv", "kweaver", "runtime", "manager"};

#define WEB_SERVER "the web server listens, not this service"
#define STATE      "state is in files below state_dir"
#define NO_SENTRY  "errors go to the log"
#define NO_EGRESS  "there is no egress proxy"
#define NO_DEAD    "it never had an effect"
#define NO_DEFAULT "templates have their limits"

static const struct alias table[] = {
	{DAIV, "DAIV_SANDBOX_API_KEY", AS_IS, "api_key"},
	{DAIV, "DAIV_SANDBOX_API_V1_STR", AS_IS, "api_prefix"},
	{DAIV, "DAIV_SANDBOX_COMMAND_TIMEOUT", AS_IS, "command_timeout_s"},
	{DAIV, "DAIV_SANDBOX_MAX_EXECUTION_TIME", AS_IS, "command_timeout_s"},
	{DAIV, "DAIV_SANDBOX_LOG_LEVEL", LEVEL, "log_level"},
	{DAIV, "DAIV_SANDBOX_RUN_UID", AS_IS, "run_uid"},
	{DAIV, "DAIV_SANDBOX_RUN_GID", AS_IS, "run_gid"},
	{DAIV, "DAIV_SANDBOX_FS_PRUNE_DIRS", AS_IS, "fs_prune_dirs"},
	{DAIV, "DAIV_SANDBOX_SESSION_LOCK_WAIT_SECONDS", SECONDS_MS, "session_lock_wait_ms"},
	{DAIV, "DAIV_SANDBOX_SESSION_GRACE_SECONDS", AS_IS, "session_idle_s"},
	{DAIV, "DAIV_SANDBOX_RUNNING_SESSION_MAX_IDLE_SECONDS", AS_IS, "sandbox_idle_s"},
	{DAIV, "DAIV_SANDBOX_RUNTIME", RUNC, NULL},
	{DAIV, "DAIV_SANDBOX_HOST", IGNORED, WEB_SERVER},
	{DAIV, "DAIV_SANDBOX_PORT", IGNORED, WEB_SERVER},
	{DAIV, "DAIV_SANDBOX_ENVIRONMENT", IGNORED, "nothing here depends on it"},
	{DAIV, "DAIV_SANDBOX_SENTRY_*", IGNORED, NO_SENTRY},
	{DAIV, "DAIV_SANDBOX_GIT_IMAGE", IGNORED, "patches need no image"},
	{DAIV, "DAIV_SANDBOX_KEEP_TEMPLATE", IGNORED, "there are no container templates"},
	{DAIV, "DAIV_SANDBOX_REDIS_URL", IGNORED, "locks are built in"},
	{DAIV, "DAIV_SANDBOX_SESSION_LOCK_TTL_SECONDS", IGNORED, "a lock ends with its request"},
	{DAIV, "DAIV_SANDBOX_SESSION_LOCK_REFRESH_SECONDS", IGNORED,
		"a lock ends with its request"},
	{DAIV, "DAIV_SANDBOX_NETWORK", IGNORED, "set network"},
	{DAIV, "DAIV_SANDBOX_EGRESS_*", IGNORED, NO_EGRESS},
	{DAIV, "DAIV_SANDBOX_REAPER_*", IGNORED, "sessions expire by timers"},
	{DAIV, "DAIV_SANDBOX_MAX_STOPPED_SESSIONS", IGNORED, "set sessions_max"},
	{DAIV, "DAIV_SANDBOX_STOP_TIMEOUT_SECONDS", IGNORED, "a sandbox ends at once"},
	{DAIV, "DAIV_SANDBOX_*", IGNORED, "there is no such setting"},

	{KWEAVER, "WORKERS", AS_IS, "workers_min"},
	{KWEAVER, "DEFAULT_TIMEOUT", AS_IS, "command_timeout_s"},
	{KWEAVER, "MAX_TIMEOUT", AS_IS, "command_timeout_max_s"},
	{KWEAVER, "LOG_LEVEL", LEVEL, "log_level"},
	{KWEAVER, "IDLE_THRESHOLD_MINUTES", MINUTES_S, "kweaver_idle_s"},
	{KWEAVER, "HOST", IGNORED, WEB_SERVER},
	{KWEAVER, "PORT", IGNORED, WEB_SERVER},
	{KWEAVER, "ENVIRONMENT", IGNORED, "nothing here depends on it"},
	{KWEAVER, "DATABASE_URL", IGNORED, STATE},
	{KWEAVER, "DB_*", IGNORED, STATE},
	{KWEAVER, "S3_*", IGNORED, STATE},
	{KWEAVER, "DOCKER_HOST", IGNORED, "set backend"},
	{KWEAVER, "KUBERNETES_NAMESPACE", IGNORED, "there is no Kubernetes here"},
	{KWEAVER, "DEFAULT_CPU", IGNORED, NO_DEFAULT},
	{KWEAVER, "DEFAULT_MEMORY", IGNORED, NO_DEFAULT},
	{KWEAVER, "DEFAULT_DISK", IGNORED, NO_DEFAULT},
	{KWEAVER, "DISABLE_BWRAP", IGNORED, "the sandbox cannot be switched off"},
	{KWEAVER, "CONTROL_PLANE_URL", IGNORED, "nothing calls back"},
	{KWEAVER, "MAX_LIFETIME_HOURS", HOURS_S, "kweaver_lifetime_s"},
	{KWEAVER, "CLEANUP_INTERVAL_SECONDS", IGNORED,
		"sessions are looked at as they are asked for"},
	{KWEAVER, "CREATING_TIMEOUT_SECONDS", IGNORED, "a session is made at once, or not"},
	{KWEAVER, "HEARTBEAT_TIMEOUT_SECONDS", IGNORED, "nothing calls back"},
	{KWEAVER, "LOG_FORMAT", IGNORED, "access_log is JSON, the log is text"},
	{KWEAVER, "RATE_LIMIT_*", IGNORED, NO_DEAD},
	{KWEAVER, "WARM_POOL_*", IGNORED, NO_DEAD},
	{KWEAVER, "METRICS_*", IGNORED, NO_DEAD},
	{KWEAVER, "SECRET_KEY", IGNORED, NO_DEAD},
	{KWEAVER, "CORS_ORIGINS", IGNORED, NO_DEAD},

	{RUNTIME, "SANDBOX_CPU_QUOTA", AS_IS, "cpu_time_max_s"},
	{RUNTIME, "SANDBOX_MEMORY_LIMIT", KIB, "memory_max_bytes"},
	{RUNTIME, "SANDBOX_ALLOW_NETWORK", NETWORK, "network"},
	{RUNTIME, "SANDBOX_TIMEOUT_SECONDS", AS_IS, "kweaver_runtime_timeout_s"},
	{RUNTIME, "SANDBOX_POOL_SIZE", AS_IS, "prepared_max"},
	{RUNTIME, "SANDBOX_MAX_USER_PROGRESS", AS_IS, "processes_max"},
	{RUNTIME, "WORKSPACE_EXPIRATION_TIME", AS_IS, "kweaver_runtime_idle_s"},

	{MANAGER, "SANDBOX_MAX_CONTAINER_AGE", AS_IS, "manager_age_max_s"},
	{MANAGER, "SANDBOX_INACTIVE_TIMEOUT", AS_IS, "manager_idle_s"},
	{MANAGER, "SANDBOX_CLEANUP_INTERVAL", IGNORED, "sandboxes expire by timers"},
	{MANAGER, "SANDBOX_DOMAIN", IGNORED, "published ports are paths"},
	{MANAGER, "SANDBOX_VOLUMES_ROOT", IGNORED, "volumes are below state_dir"},
	{MANAGER, "SANDBOX_PROMETHEUS_PORT", IGNORED, "metrics are GET /-/metrics"},
};

/* Whether word is one of the blank-separated words of list. */
static bool listed(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += n)
		if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
			return true;
	return false;
}

int conf_check_services(const char *list, struct err *e)
{
	for (const char *at = list; *at; at += strspn(at, " ")) {
		size_t n = strcspn(at, " "), i = 0;

		while (i < NELEM(services) &&
			(strlen(services[i]) != n || memcmp(services[i], at, n)))
			i++;
		if (n && i == NELEM(services))
			return err_set(e, ERR_CONF, 0,
				"settings_of: \"%.*s\" is none of: daiv kweaver runtime manager",
				(int)n, at);
		at += n;
	}
	return 0;
}

static int not_a(const struct alias *a, const char *value, const char *what, struct err *e)
{
	return err_set(e, ERR_CONF, 0, "%s: \"%.60s\" is not %s", a->key, value, what);
}

static int set_level(struct conf *c, const struct alias *a, const char *value, struct err *e)
{
	char word[16];
	size_t n = strlen(value);

	if (n >= sizeof word)
		return conf_set(c, a->key, value, e);
	for (size_t i = 0; i <= n; i++)
		word[i] = (char)tolower((unsigned char)value[i]);
	return conf_set(c, a->key, strcmp(word, "critical") ? word : "error", e);
}

/* The value times factor; whole says that it may have no fraction. */
static int set_scaled(struct conf *c, const struct alias *a, const char *value, double factor,
	bool whole, struct err *e)
{
	char text[32], *end;
	double v;

	errno = 0;
	v = strtod(value, &end);
	if (end == value || *end || errno || !isfinite(v) || fabs(v) > 1e12 ||
		(whole && v != (double)(int64_t)v))
		return not_a(a, value, whole ? "a whole number" : "a number", e);
	snprintf(text, sizeof text, "%.0f", v * factor);
	return conf_set(c, a->key, text, e);
}

static int set_time(
	struct conf *c, const struct alias *a, const char *value, int unit_s, struct err *e)
{
	if (!strcmp(value, "-1"))
		return conf_set(c, a->key, "0", e);
	return set_scaled(c, a, value, unit_s, true, e);
}

static int set_network(struct conf *c, const struct alias *a, const char *value, struct err *e)
{
	static const char *const yes[] = {"1", "on", "true", "yes"};
	static const char *const no[] = {"0", "off", "false", "no"};

	for (size_t i = 0; i < NELEM(yes); i++) {
		if (!strcasecmp(value, no[i]))
			return conf_set(c, a->key, "none", e);
		/* what sandbox.conf allows besides stays */
		if (!strcasecmp(value, yes[i]))
			return c->network == NETWORK_NONE ? conf_set(c, a->key, "pasta", e) : 0;
	}
	return not_a(a, value, "true or false", e);
}

static int set_runtime(const char *value, struct err *e)
{
	if (!strcmp(value, "runc"))
		return 0;
	return err_set(e, ERR_CONF, 0,
		"\"%.60s\" is not here; sandboxes are made by this program (unset it to accept "
		"that)",
		value);
}

static int apply(struct conf *c, const struct alias *a, const char *name, size_t n,
	const char *value, struct err *e)
{
	if (a->how != IGNORED && a->how != RUNC && !conf_known(a->key)) {
		log_line(LOG_WARN, "%.*s is not used: there is no %s here", (int)n, name, a->key);
		return 0;
	}
	switch (a->how) {
	case AS_IS:
		return conf_set(c, a->key, value, e);
	case LEVEL:
		return set_level(c, a, value, e);
	case SECONDS_MS:
		return set_scaled(c, a, value, 1000, false, e);
	case MINUTES_S:
		return set_time(c, a, value, 60, e);
	case HOURS_S:
		return set_time(c, a, value, 3600, e);
	case KIB:
		return set_scaled(c, a, value, 1024, true, e);
	case NETWORK:
		return set_network(c, a, value, e);
	case RUNC:
		return set_runtime(value, e);
	case IGNORED:
		break;
	}
	/* the name alone: values may be secrets */
	log_line(LOG_WARN, "%.*s is not used: %s", (int)n, name, a->key);
	return 0;
}

static bool matches(const struct alias *a, const char *name, size_t n)
{
	size_t len = strlen(a->name);

	if (a->name[len - 1] == '*')
		return n >= len && !memcmp(a->name, name, len - 1);
	return n == len && !memcmp(a->name, name, n);
}

int conf_alias(struct conf *c, const char *name, size_t n, const char *value, struct err *e)
{
	for (size_t i = 0; i < NELEM(table); i++)
		if (matches(&table[i], name, n) && listed(c->settings_of, services[table[i].of]))
			return apply(c, &table[i], name, n, value, e);
	return 0;
}
