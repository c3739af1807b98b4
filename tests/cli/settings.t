#!/usr/bin/python3
"""Settings by the names of other services: each works, or is not used and says why. TAP.

Every name of the table in isolate/conf_alias.c must be here and in docs/operations.md."""
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from tap import done, ok  # noqa: E402

TOP = os.path.join(HERE, "../..")
PROGRAM = os.environ.get("CGIBOX") or os.path.join(TOP, "build/cgibox")


def config(of, file=None, **env):
    """(exit code, settings, messages) with these variables alone."""
    if of is not None:
        env["CGIBOX_SETTINGS_OF"] = of
    r = subprocess.run([PROGRAM] + (["--conf", file] if file else []) + ["config"], env=env, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=300)
    return r.returncode, dict(re.findall(r"^([a-z_]+) = ?(.*)$", r.stdout, re.M)), r.stderr


DEFAULTS = config(None)[1]
# service, name, value -> key, what it becomes
WORKS = [
    ("daiv", "DAIV_SANDBOX_API_V1_STR", "/v9", "api_prefix", "/v9"),
    ("daiv", "DAIV_SANDBOX_COMMAND_TIMEOUT", "77", "command_timeout_s", "77"),
    ("daiv", "DAIV_SANDBOX_MAX_EXECUTION_TIME", "78", "command_timeout_s", "78"),
    ("daiv", "DAIV_SANDBOX_LOG_LEVEL", "DEBUG", "log_level", "debug"),
    ("daiv", "DAIV_SANDBOX_LOG_LEVEL", "CRITICAL", "log_level", "error"),
    ("daiv", "DAIV_SANDBOX_RUN_UID", "11", "run_uid", "11"),
    ("daiv", "DAIV_SANDBOX_RUN_GID", "12", "run_gid", "12"),
    ("daiv", "DAIV_SANDBOX_FS_PRUNE_DIRS", "a,b", "fs_prune_dirs", "a,b"),
    ("daiv", "DAIV_SANDBOX_SESSION_LOCK_WAIT_SECONDS", "1.5", "session_lock_wait_ms", "1500"),
    ("daiv", "DAIV_SANDBOX_SESSION_GRACE_SECONDS", "43200", "session_idle_s", "43200"),
    ("daiv", "DAIV_SANDBOX_RUNNING_SESSION_MAX_IDLE_SECONDS", "14400", "sandbox_idle_s", "14400"),
    ("kweaver", "WORKERS", "5", "workers_min", "5"),
    ("kweaver", "DEFAULT_TIMEOUT", "301", "command_timeout_s", "301"),
    ("kweaver", "MAX_TIMEOUT", "3601", "command_timeout_max_s", "3601"),
    ("kweaver", "LOG_LEVEL", "WARNING", "log_level", "warning"),
    ("kweaver", "IDLE_THRESHOLD_MINUTES", "30", "kweaver_idle_s", "1800"),
    ("kweaver", "IDLE_THRESHOLD_MINUTES", "-1", "kweaver_idle_s", "0"),
    ("kweaver", "MAX_LIFETIME_HOURS", "6", "kweaver_lifetime_s", "21600"),
    ("runtime", "SANDBOX_CPU_QUOTA", "2", "cpu_time_max_s", "2"),
    ("runtime", "SANDBOX_MEMORY_LIMIT", "131072", "memory_max_bytes", "134217728"),
    ("runtime", "SANDBOX_ALLOW_NETWORK", "true", "network", "pasta"),
    ("runtime", "SANDBOX_TIMEOUT_SECONDS", "299", "kweaver_runtime_timeout_s", "299"),
    ("runtime", "WORKSPACE_EXPIRATION_TIME", "7200", "kweaver_runtime_idle_s", "7200"),
    ("runtime", "SANDBOX_POOL_SIZE", "2", "prepared_max", "2"),
    ("runtime", "SANDBOX_MAX_USER_PROGRESS", "10", "processes_max", "10"),
    ("manager", "SANDBOX_MAX_CONTAINER_AGE", "86401", "manager_age_max_s", "86401"),
    ("manager", "SANDBOX_INACTIVE_TIMEOUT", "3601", "manager_idle_s", "3601"),
]
# service, name -> why it is not used
IGNORED = [
    ("daiv", "DAIV_SANDBOX_HOST", "the web server listens"), ("daiv", "DAIV_SANDBOX_PORT", "the web server listens"),
    ("daiv", "DAIV_SANDBOX_ENVIRONMENT", "nothing here depends on it"),
    ("daiv", "DAIV_SANDBOX_SENTRY_DSN", "errors go to the log"), ("daiv", "DAIV_SANDBOX_SENTRY_ENABLE_LOGS", "errors go to the log"),
    ("daiv", "DAIV_SANDBOX_SENTRY_ENABLE_TRACING", "errors go to the log"), ("daiv", "DAIV_SANDBOX_SENTRY_TRACES_SAMPLE_RATE", "errors go to the log"),
    ("daiv", "DAIV_SANDBOX_SENTRY_PROFILES_SAMPLE_RATE", "errors go to the log"), ("daiv", "DAIV_SANDBOX_SENTRY_SEND_DEFAULT_PII", "errors go to the log"),
    ("daiv", "DAIV_SANDBOX_GIT_IMAGE", "patches need no image"), ("daiv", "DAIV_SANDBOX_KEEP_TEMPLATE", "no container templates"),
    ("daiv", "DAIV_SANDBOX_REDIS_URL", "locks are built in"),
    ("daiv", "DAIV_SANDBOX_SESSION_LOCK_TTL_SECONDS", "ends with its request"), ("daiv", "DAIV_SANDBOX_SESSION_LOCK_REFRESH_SECONDS", "ends with its request"),
    ("daiv", "DAIV_SANDBOX_NETWORK", "set network"),
    ("daiv", "DAIV_SANDBOX_EGRESS_PROXY_IMAGE", "no egress proxy"), ("daiv", "DAIV_SANDBOX_EGRESS_CA_KEY_FILE", "no egress proxy"),
    ("daiv", "DAIV_SANDBOX_REAPER_ENABLED", "timers"), ("daiv", "DAIV_SANDBOX_REAPER_INTERVAL_SECONDS", "timers"),
    ("daiv", "DAIV_SANDBOX_MAX_STOPPED_SESSIONS", "set sessions_max"), ("daiv", "DAIV_SANDBOX_STOP_TIMEOUT_SECONDS", "ends at once"),
    ("daiv", "DAIV_SANDBOX_NO_SUCH_THING", "there is no such setting"),
    ("kweaver", "HOST", "the web server listens"), ("kweaver", "PORT", "the web server listens"), ("kweaver", "ENVIRONMENT", "nothing here"),
    ("kweaver", "DATABASE_URL", "files below state_dir"), ("kweaver", "DB_HOST", "files below state_dir"), ("kweaver", "DB_PASSWORD", "files below"),
    ("kweaver", "S3_BUCKET", "files below state_dir"), ("kweaver", "S3_REGION", "files below"), ("kweaver", "S3_ACCESS_KEY_ID", "files below"),
    ("kweaver", "S3_SECRET_ACCESS_KEY", "files below"), ("kweaver", "S3_ENDPOINT_URL", "files below"),
    ("kweaver", "DOCKER_HOST", "set backend"), ("kweaver", "KUBERNETES_NAMESPACE", "no Kubernetes"),
    ("kweaver", "DEFAULT_CPU", "templates"), ("kweaver", "DEFAULT_MEMORY", "templates"), ("kweaver", "DEFAULT_DISK", "templates"),
    ("kweaver", "DISABLE_BWRAP", "cannot be switched off"), ("kweaver", "CONTROL_PLANE_URL", "nothing calls back"),
    ("kweaver", "CLEANUP_INTERVAL_SECONDS", "asked for"),
    ("kweaver", "CREATING_TIMEOUT_SECONDS", "made at once"), ("kweaver", "HEARTBEAT_TIMEOUT_SECONDS", "nothing calls back"),
    ("kweaver", "LOG_FORMAT", "JSON"), ("kweaver", "RATE_LIMIT_ENABLED", "never had"), ("kweaver", "WARM_POOL_SIZE", "never had"),
    ("kweaver", "METRICS_ENABLED", "never had"), ("kweaver", "SECRET_KEY", "never had"), ("kweaver", "CORS_ORIGINS", "never had"),
    ("manager", "SANDBOX_CLEANUP_INTERVAL", "timers"), ("manager", "SANDBOX_DOMAIN", "ports are paths"),
    ("manager", "SANDBOX_VOLUMES_ROOT", "below state_dir"), ("manager", "SANDBOX_PROMETHEUS_PORT", "GET /-/metrics"),
]

for of, name, value, key, want in WORKS:
    code, now, said = config(of, **{name: value})
    if key not in DEFAULTS:
        ok(code == 0 and "%s is not used: there is no %s here" % (name, key) in said, "%s: there is no %s" % (name, key), said)
        continue
    ok(code == 0 and now.get(key) == want and not said, "%s sets %s" % (name, key), code, now.get(key), said)
    other = dict(now, settings_of=DEFAULTS["settings_of"], **{key: DEFAULTS[key]})
    ok(other == DEFAULTS, "and nothing else")
    if of != "daiv":
        code, now, said = config(None, **{name: value})
        ok(code == 0 and now == DEFAULTS and not said, "not unless settings_of says %s" % of, said)
    code, now, said = config(of, **{name: value, "CGIBOX_" + key.upper(): DEFAULTS[key]} if DEFAULTS[key] else {name: value})
    ok(code == 0 and now.get(key) == (DEFAULTS[key] or want), "our own name wins over it", now.get(key), said)
for of, name, why in IGNORED:
    code, now, said = config(of, **{name: "hidden-value"})
    ok(code == 0 and dict(now, settings_of="") == dict(DEFAULTS, settings_of=""), "%s changes nothing" % name, said)
    ok(re.search(r"warning: %s is not used: .*%s" % (name, re.escape(why)), said) and "hidden-value" not in said, "and says why", said)

# --- the key, and what is refused
code, now, said = config(None, DAIV_SANDBOX_API_KEY="sesame")
r = subprocess.run([PROGRAM, "config"], env={"DAIV_SANDBOX_API_KEY": "sesame"}, stdout=subprocess.PIPE, text=True)
ok("# it is set\n# api_key = " in r.stdout and "sesame" not in r.stdout + said, "DAIV_SANDBOX_API_KEY sets api_key, which is not shown")
code, now, said = config(None, DAIV_SANDBOX_RUNTIME="runc")
ok(code == 0 and now == DEFAULTS and not said, "DAIV_SANDBOX_RUNTIME=runc: nothing to do")
code, now, said = config(None, DAIV_SANDBOX_RUNTIME="runsc")
ok(code == 78 and 'DAIV_SANDBOX_RUNTIME: "runsc" is not here' in said, "another runtime is refused, not passed over", code, said)
for of, name, value, text in (
        ("daiv", "DAIV_SANDBOX_COMMAND_TIMEOUT", "soon", 'command_timeout_s: "soon" is not a whole number'),
        ("daiv", "DAIV_SANDBOX_LOG_LEVEL", "LOUD", 'log_level: "loud" is none of'),
        ("daiv", "DAIV_SANDBOX_SESSION_LOCK_WAIT_SECONDS", "1e300", 'session_lock_wait_ms: "1e300" is not a number'),
        ("daiv", "DAIV_SANDBOX_SESSION_LOCK_WAIT_SECONDS", "601", "session_lock_wait_ms: 601000 is not between"),
        ("kweaver", "IDLE_THRESHOLD_MINUTES", "1.5", 'kweaver_idle_s: "1.5" is not a whole number'),
        ("runtime", "SANDBOX_MEMORY_LIMIT", "nan", 'memory_max_bytes: "nan" is not a whole number'),
        ("runtime", "SANDBOX_ALLOW_NETWORK", "maybe", 'network: "maybe" is not true or false'),
        ("daiv docker", "X", "y", 'settings_of: "docker" is none of')):
    code, now, said = config(of, **{name: value})
    ok(code == 78 and text in said, "refused: %s=%s" % (name, value), code, said)
with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
    f.write("network = host\nsettings_of = runtime\n")
    f.flush()
    ok(config(None, f.name, SANDBOX_ALLOW_NETWORK="true")[1]["network"] == "host", "a network that sandbox.conf allows stays")
    ok(config(None, f.name, SANDBOX_ALLOW_NETWORK="False")[1]["network"] == "none", "false closes it")
    ok(config(None, f.name, DAIV_SANDBOX_RUN_UID="7")[1]["run_uid"] == "1000", "names of services that are not listed do not count")
    both = config("runtime manager", None, SANDBOX_CPU_QUOTA="3", SANDBOX_DOMAIN="x")
    ok(both[1]["cpu_time_max_s"] == "3" and "SANDBOX_DOMAIN is not used" in both[2], "two services may share a prefix", both[2])

# --- secrets from files
with tempfile.NamedTemporaryFile("w", dir="/var/tmp") as f:
    f.write("from-a-file\n")
    f.flush()
    os.chmod(f.name, 0o600)
    r = subprocess.run([PROGRAM, "config"], env={"CGIBOX_API_KEY_FILE": f.name}, stdout=subprocess.PIPE, text=True)
    ok("# it is set\n# api_key = " in r.stdout, "CGIBOX_API_KEY_FILE names a file with the key")
    os.chmod(f.name, 0o604)
    r = subprocess.run([PROGRAM, "config"], env={"CGIBOX_API_KEY_FILE": f.name}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ok(r.returncode == 78 and "open to everybody" in r.stderr, "which nobody else may read", r.stderr)

# --- nothing is missing
with open(os.path.join(TOP, "isolate/conf_alias.c"), encoding="utf-8") as f:
    names = re.findall(r'^\t{[A-Z]+, "([A-Z0-9_*]+)"', f.read(), re.M)
here = {n for _, n, *_ in WORKS + IGNORED} | {"DAIV_SANDBOX_API_KEY", "DAIV_SANDBOX_RUNTIME"}
untested = [n for n in names if not any(h == n or (n[-1] == "*" and h.startswith(n[:-1])) for h in here)]
ok(len(names) > 60 and not untested, "every name of the table is tried here", untested)
with open(os.path.join(TOP, "docs/operations.md"), encoding="utf-8") as f:
    text = f.read()
missing = [n for n in names if n.replace("DAIV_SANDBOX_", "", 1) not in text]
ok(not missing, "and in docs/operations.md", missing)
done()
