#include "isolate/conf.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/buf.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum key_type { K_INT, K_OCTAL, K_ENUM, K_STRING, K_SECRET };

struct key {
	const char *name;
	enum key_type type;
	size_t off;
	int64_t lo, hi;     /* K_INT: bounds; K_OCTAL: the bits that must and that may be set */
	const char *dflt;   /* parsed like a value of the file */
	const char *words;  /* K_ENUM: the words in order, separated by blanks */
	const char *reason; /* one line, shown by the dump */
};

#define INT(f, lo, hi, d, why)                                                                     \
	{                                                                                          \
#f, K_INT, offsetof(struct conf, f), lo, hi, d, NULL, why                          \
	}
#define OCTAL(f, lo, hi, d, why)                                                                   \
	{                                                                                          \
#f, K_OCTAL, offsetof(struct conf, f), lo, hi, d, NULL, why                        \
	}
#define ENUM(f, words, d, why)                                                                     \
	{                                                                                          \
#f, K_ENUM, offsetof(struct conf, f), 0, 0, d, words, why                          \
	}
#define STR(f, d, why)                                                                             \
	{                                                                                          \
#f, K_STRING, offsetof(struct conf, f), 0, 0, d, NULL, why                         \
	}
#define SECRET(f, why)                                                                             \
	{                                                                                          \
#f, K_SECRET, offsetof(struct conf, f), 0, 0, "", NULL, why                        \
	}
#define GIB(n) ((int64_t)(n) << 30)

static const struct key keys[] = {
	STR(state_dir, "/var/lib/cgibox",
		"images, sessions and sockets; one service per directory"),
	ENUM(backend, "isolate docker", "isolate", "what runs the commands"),
	SECRET(api_key, "clients send it as X-API-Key; required by the service"),
	STR(api_key_file, "", "file that holds the key, so that it is in no environment"),
	STR(api_prefix, "/api/v1", "every route answers with and without it"),
	STR(listen_socket, "", "FastCGI socket; empty = cgibox.sock in the state directory"),
	OCTAL(socket_mode, 0600, 0660, "0660", "who may connect to the socket: never everybody"),
	STR(socket_group, "", "group of the socket, the web server's; empty = the service's own"),
	ENUM(log_level, "debug info warning error quiet", "info", "least level that is logged"),
	STR(access_log, "stderr",
		"one line of JSON a request: off, stderr, or the absolute path of a file"),
	SECRET(metrics_key, "reads GET /-/metrics and nothing else; the api_key does so, too"),
	STR(metrics_key_file, "", "file that holds the metrics key"),
	ENUM(metrics_loopback, "refuse allow", "refuse",
		"GET /-/metrics without a key from this machine; behind a proxy here that is "
		"everybody"),
	ENUM(kweaver, "off key open", "key",
		"routes of the KWeaver sandbox; open: without a key, as its own clients ask"),
	STR(kweaver_image, "host",
		"image of its first template, python-basic, and what its clients call "
		"sandbox-template-python-basic"),
	INT(kweaver_output_max_bytes, 1024, 1 << 22, "1048576",
		"each output and the return value of one execution, as they are stored"),
	INT(kweaver_install_wait_s, 0, 3600, "20",
		"a request to install dependencies in a session waits so long for their end"),
	INT(kweaver_executions_max, 1, 10000000, "100000",
		"executions that are stored; somewhat more for a while, the oldest go first"),
	INT(kweaver_templates_max, 1, 1000000, "1000", "templates; more is a 503"),
	INT(kweaver_idle_s, 0, 31536000, "3600",
		"a KWeaver session without an execution for so long is ended, 0 = never"),
	INT(kweaver_lifetime_s, 0, 31536000, "0", "and one that is so old, 0 = never"),
	ENUM(daiv, "off key open", "key",
		"routes of daiv-sandbox, which make and run sessions; health and version always "
		"answer"),
	ENUM(native, "off key open", "key",
		"our own routes: runs, files, workspaces, images, system; metrics are "
		"apart"),
	ENUM(docs, "off key open", "open",
		"/openapi.json and its pages: what can be asked for, nothing of this machine"),
	STR(settings_of, "daiv",
		"services whose names of settings count in the environment: daiv kweaver runtime "
		"manager"),

	STR(engine, "unix:///var/run/docker.sock",
		"with backend = docker: the Engine on this machine, unix:///PATH or "
		"https://HOST:PORT"),
	STR(engine_ca_file, "", "certificates that sign the Engine's; empty = the system's"),
	STR(engine_cert_file, "", "our certificate for the Engine"),
	STR(engine_key_file, "", "the key of engine_cert_file; mode 0600"),
	STR(engine_runtime, "",
		"runtime of containers, as the Engine names it: runc, or gVisor's, whose name must "
		"have runsc in it; empty = the Engine's default"),
	STR(engine_network, "",
		"the Engine's network for sessions that ask for one; empty = they get a 422"),
	INT(engine_prepared_max, 0, 64, "4",
		"containers made ahead at most, 0 = none; fewer where fewer are missed"),
	ENUM(engine_read_only_root, "off on", "on",
		"off: containers may fill the Engine's disk by /var/tmp and the like"),
	ENUM(engine_as_root, "refuse allow", "refuse",
		"a service that runs as root makes containers as root of this machine"),
	INT(engine_timeout_s, 1, 600, "30",
		"the longest that the Engine may take for one thing but a pull"),
	ENUM(manager, "off key open", "key",
		"routes of the Docker Sandbox Manager; open: without a key, as its own clients "
		"ask"),
	INT(manager_age_max_s, 0, 31536000, "86400",
		"a sandbox of the Manager ends when it is so old, 0 = never"),
	INT(manager_idle_s, 0, 31536000, "3600",
		"a sandbox of the Manager ends after this long without a request, 0 = never"),
	ENUM(kweaver_runtime, "off key open", "key",
		"routes of the older KWeaver sandbox runtime, /workspace/se; open: without a key"),
	STR(kweaver_runtime_image, "host", "image of its sessions"),
	ENUM(kweaver_runtime_network, "off on", "on",
		"whether its sessions have a network, where network allows one"),
	INT(kweaver_runtime_timeout_s, 1, 86400, "300",
		"its commands, and handlers whose event has no __timeout"),
	INT(kweaver_runtime_disk_bytes, 65536, GIB(1024), "104857600",
		"what its session may write when it names no size"),
	INT(kweaver_runtime_idle_s, 1, 31536000, "86400",
		"its session is deleted after so many seconds without use"),
	INT(manager_port_silence_s, 1, 3600, "60",
		"longest silence of what listens at a published port, then 504"),
	INT(manager_port_time_s, 1, 86400, "3600",
		"one request to a published port, its answer included"),
	STR(manager_page_rights, "",
		"what pages of published ports may do in a browser: words of CSP's sandbox, as "
		"allow-scripts"),
	INT(volume_max_bytes, 4096, GIB(1024), "1073741824",
		"what one volume may hold at most; held by the watchdog"),
	INT(volumes_max, 0, 100000, "1000", "volumes on disk; more is a 503"),

	INT(workers_min, 1, 1024, "4", "worker processes kept ready"),
	INT(workers_max, 1, 1024, "128", "requests handled at the same time"),
	INT(workers_reserved, 0, 64, "4",
		"more of them, when all are busy, for GET, HEAD and DELETE; the last one for "
		"/health"),
	INT(streams_max, 1, 4096, "256",
		"more of them that stream their answer; one beyond is a 503"),
	INT(worker_idle_s, 1, 86400, "30", "seconds after which a worker over the minimum ends"),
	INT(pending_max, 1, 65536, "1024",
		"connections that wait for a worker; more stay in the backlog"),
	INT(params_timeout_ms, 100, 600000, "10000",
		"from the first byte of a request to the end of its parameters"),
	INT(receive_timeout_ms, 100, 600000, "20000", "longest silence while a body arrives"),
	INT(request_timeout_ms, 1000, 86400000, "900000",
		"from the first byte to the end of the body"),
	INT(params_max_bytes, 4096, 1 << 24, "131072", "all FastCGI parameters of one request"),
	INT(body_max_bytes, 1024, GIB(64), "268435456", "a request body; more is a 413"),
	INT(json_max_bytes, 1024, 1 << 28, "8388608", "a JSON body without its archive string"),

	INT(sessions_max, 1, 1000000, "1000", "sessions on disk; more is a 503"),
	INT(sandboxes_max, 1, 100000, "256", "sandboxes alive at once; more is a 503"),
	INT(session_idle_s, 1, 31536000, "3600", "an unused session is deleted after this"),
	INT(session_lock_wait_ms, 0, 600000, "30000", "wait for a busy session, then 409"),
	INT(session_lock_waiters, 0, 1024, "4", "requests that may wait for one session"),
	INT(keeper_idle_s, 1, 86400, "60",
		"an on-demand keeper (mod_fcgid, bin-path) ends after this long without work"),
	INT(sandbox_idle_s, 1, 31536000, "300",
		"the sandbox of a live session is stopped after this long without a run"),
	INT(run_spool_max_bytes, 4096, GIB(64), "16777216",
		"output kept of one run; the oldest goes first"),
	INT(runs_kept_max, 1, 100000, "100", "ended runs kept of one session; the oldest go first"),
	INT(receipts_kept_max, 0, 1000, "64",
		"of commands of POST /session/{id}/, kept of one session without output, 0 = none"),
	INT(runs_kept_max_bytes, 4096, GIB(1024), "134217728",
		"output of all ended runs of one session; the oldest go first"),
	INT(stream_heartbeat_s, 1, 3600, "15",
		"a stream without output says after this long that it is there"),
	INT(prepared_max, 0, 64, "4",
		"sandboxes prepared ahead at most, 0 = none; fewer where fewer are missed"),
	INT(prepared_idle_s, 1, 86400, "300",
		"prepared sandboxes are given up after this long without work"),
	INT(warm_python_max, 0, 64, "0",
		"Pythons that wait for code at most, for each route that runs some, 0 = none; "
		"fewer "
		"where fewer are missed"),
	STR(warm_python_image, "host",
		"image of those that wait for POST /run; elsewhere it is the route's own"),
	STR(warm_python_imports, "", "modules that a waiting Python has imported: by commas"),
	INT(warm_node_max, 0, 64, "0", "the same for node"),
	STR(warm_node_image, "host", "image of nodes that wait for POST /run"),
	STR(warm_node_imports, "", "modules that a waiting node has loaded: by commas"),
	INT(warm_memory_max_bytes, 1 << 20, GIB(1024), "268435456",
		"private memory of all waiting interpreters; no more are made beyond"),
	INT(warm_idle_s, 1, 86400, "600",
		"waiting interpreters are given up after this long without work"),
	INT(fork_max, 1, 10000, "100", "forks of a session in one request"),
	INT(snapshots_max, 1, 10000, "100", "snapshots and named commits of one session"),
	INT(export_time_max_s, 1, 86400, "3600",
		"seconds that an export may take, which keeps its session busy"),

	INT(commands_max, 1, 10000, "256", "commands in one request"),
	INT(command_max_bytes, 1, 131071, "131071", "one command: the kernel's MAX_ARG_STRLEN"),
	INT(environment_max_bytes, 0, 1 << 20, "65536", "all variables of a session"),
	INT(command_timeout_s, 0, 86400, "600",
		"a command without its own timeout; 0 = the maximum"),
	INT(command_timeout_max_s, 1, 86400, "3600", "the longest timeout a client may ask for"),
	INT(output_max_bytes, 1024, GIB(1), "8388608",
		"output kept of one command; the rest is counted"),
	INT(run_uid, 0, 65533, "1000", "user id inside"),
	INT(run_gid, 0, 65533, "1000", "group id inside"),
	ENUM(root_emulation, "auto on off", "auto",
		"whether chown, setuid and the like succeed without effect; auto = when the user "
		"id inside is 0"),
	STR(run_home, "/home/daiv-sandbox", "HOME inside"),
	ENUM(network, "none host pasta", "none",
		"what clients may ask for: host = the machine's own network, pasta = a private "
		"one"),
	STR(network_blocked, "",
		"addresses (CIDR list) that network = pasta does not reach, "
		"besides private, link-local and this host's own"),
	STR(pasta_program, "", "the program pasta of the package passt; empty = along PATH"),
	ENUM(unenforceable_limits, "refuse report", "refuse",
		"a limit this host cannot hold: 422, or run and say so"),

	INT(processes_max, 4, 1 << 20, "512", "processes and threads of one sandbox"),
	INT(files_open_max, 16, 1 << 20, "1024",
		"open descriptors of one process; at least 4096, or half, of our own hard limit "
		"stay ours"),
	INT(file_max_bytes, 1 << 16, GIB(1024), "1073741824", "size of one file"),
	INT(memory_process_max_bytes, 0, GIB(1024), "1073741824",
		"private writable memory of one process, 0 = no limit"),
	INT(address_space_max_bytes, 0, GIB(131072), "34359738368",
		"address space of one process, 0 = no limit (address sanitizers need that)"),
	STR(cgroup, "auto",
		"auto = use a delegated cgroup v2 when there is one; none; or its path"),
	INT(memory_max_bytes, 0, GIB(1024), "805306368",
		"memory of a whole sandbox, 0 = no limit; without cgroup v2 held by the watchdog"),
	INT(memory_reserve_bytes, 0, GIB(1024), "268435456",
		"available memory of the machine below which the largest sandbox is ended; 0 = "
		"never"),
	INT(socket_memory_max_bytes, 0, GIB(64), "67108864",
		"socket buffers of a sandbox, 0 = no limit; held by the watchdog"),
	INT(session_disk_max_bytes, 0, GIB(1024), "402653184",
		"what a session may write beyond its archives, 0 = no limit; held by the watchdog"),
	INT(session_disk_max_inodes, 0, 100000000, "50000",
		"files that a session may make beyond its archives, 0 = no limit"),
	INT(disk_reserve_bytes, 0, GIB(1024), "268435456",
		"free space of the state directory below which no session is made: 503"),
	INT(cpu_time_max_s, 0, 86400, "3600", "processor time of one process, 0 = no limit"),
	INT(cpu_max_percent, 0, 102400, "0",
		"processors of a sandbox, 100 = one, 0 = no limit; exact with cgroup v2 only"),
	INT(io_max_bytes_per_s, 0, GIB(1024), "0",
		"disk traffic of a sandbox, each way, 0 = no limit; with cgroup v2 only"),
	INT(watch_interval_ms, 5, 1000, "20",
		"how often the watchdog looks at free memory and disk while sandboxes run"),
	INT(tmpfs_max_bytes, 1 << 16, GIB(64), "268435456", "each tmpfs inside"),
	INT(tmpfs_max_inodes, 64, 1 << 24, "49152", "files on each tmpfs inside"),
	ENUM(session_root, "disk tmpfs", "disk",
		"where a session's root is written: disk = kept; tmpfs = bounded exactly, and "
		"lost with its sandbox"),

	INT(archive_max_bytes, 512, GIB(64), "268435456", "an uploaded archive as it is sent"),
	INT(archive_unpacked_max_bytes, 512, GIB(256), "2147483648", "an archive unpacked"),
	INT(archive_entries_max, 1, 10000000, "250000", "files and directories of an archive"),
	INT(session_archives_max_bytes, 0, GIB(1024), "8589934592",
		"all archives that a session holds, unpacked, a name as 4 KiB more, 0 = no limit"),
	INT(archive_ratio_max, 1, 100000, "250",
		"unpacked over packed size, an entry as 4 KiB more; checked from 16 MiB on"),
	INT(archive_time_max_s, 1, 86400, "300",
		"seconds that unpacking, and copying of files, may take"),
	INT(archive_memory_max_bytes, 1 << 25, GIB(64), "1073741824",
		"address space of the unpacker"),
	INT(plain_entries_max, 0, 10000000, "20000",
		"archives up to this size get the plain form,"),
	INT(plain_max_bytes, 0, GIB(64), "268435456",
		"where directories can be renamed; larger: overlay"),
	INT(patch_max_bytes, 1024, GIB(1), "134217728", "a patch; more is an error that says so"),

	INT(upload_max_bytes, 1024, GIB(1024), "1073741824",
		"the body of an upload of files or of a seed; more is a 413"),
	INT(download_max_bytes, 1024, GIB(1024), "4294967296",
		"what one download, of a file or a directory, may hold"),
	INT(files_read_max_bytes, 4096, 1 << 26, "512000",
		"text or bytes that one fs/read returns; more is cut and marked"),
	INT(files_scan_max_bytes, 1 << 16, GIB(1024), "268435456",
		"bytes of files that one fs/read or fs/grep looks at"),
	INT(files_edit_max_bytes, 4096, 1 << 28, "16777216",
		"a file that fs/edit may change, or make"),
	INT(files_matches_max, 1, 100000, "200", "lines that one fs/grep returns"),
	INT(files_entries_max, 1, 10000000, "20000", "names that one fs/ls or fs/glob returns"),
	INT(files_time_max_s, 1, 86400, "30",
		"seconds that a file verb may take which moves no contents"),
	INT(grep_steps_max, 1000, 1 << 30, "1000000",
		"steps of the regular expression for one line; more is an invalid pattern"),
	STR(fs_prune_dirs,
		".git,.hg,.svn,.idea,.vs,__pycache__,.ruff_cache,.mypy_cache,.pytest_cache,"
		".pyre,.pytype,.hypothesis,.ipynb_checkpoints,*.egg-info,.eggs,.next,.nuxt,"
		".svelte-kit,.turbo,.parcel-cache,.angular,.vite,.astro,.docusaurus,.cache,"
		".phpunit.cache,.gradle,target,obj",
		"directories that fs/grep and fs/glob leave out: names or patterns, by commas"),

	ENUM(pull, "never missing", "never", "whether a session may cause an image to be pulled"),
	STR(insecure_registries, "",
		"host:port list, registries (and their token servers) reached by plain http"),
	STR(private_registries, "",
		"host:port list, https registries that may have an address that is not public"),
	STR(registry_mirrors, "",
		"registry=host:port list, asked in this order before the registry itself"),
	STR(registry_auth_file, "",
		"credentials in the form of ~/.docker/config.json, for nobody else to read"),
	STR(registry_ca_file, "", "PEM certificates trusted besides the system's"),
	STR(pull_allowed, "*",
		"what clients may cause to be pulled: list of host[/path prefix], *.domain, *"),
	INT(pull_parallel, 1, 16, "4", "layers fetched and unpacked at the same time"),
	INT(pull_stall_s, 1, 3600, "30",
		"seconds with next to nothing from a registry before it is tried again"),
	INT(image_max_bytes, 1 << 20, GIB(1024), "17179869184", "an image, unpacked"),
	INT(image_entries_max, 1, 100000000, "2000000", "files of one layer"),
	INT(image_ratio_max, 1, 100000, "250",
		"a layer unpacked over its packed size, an entry as 4 KiB more; checked from 16 "
		"MiB on"),
	INT(image_layers_max, 1, 500, "128", "layers of one image"),
	INT(pull_timeout_s, 1, 86400, "1800", "seconds that a pull may take"),

	INT(deps_timeout_s, 1, 86400, "600",
		"seconds that the installation of requirements may take"),
	INT(deps_max_bytes, 0, GIB(1024), "2147483648",
		"installed requirements that are kept for who asks next; the longest unused go "
		"first"),
	INT(deps_keep_s, 1, 315360000, "2592000",
		"installed requirements that nobody asked for are forgotten after this"),
};

static const struct key *key_find(const char *name)
{
	for (size_t i = 0; i < NELEM(keys); i++)
		if (!strcmp(keys[i].name, name))
			return &keys[i];
	return NULL;
}

static int64_t *key_int(const struct conf *c, const struct key *k)
{
	return (int64_t *)((char *)(uintptr_t)c + k->off);
}

static char **key_str(const struct conf *c, const struct key *k)
{
	return (char **)((char *)(uintptr_t)c + k->off);
}

static int set_int(struct conf *c, const struct key *k, const char *value, struct err *e)
{
	int base = k->type == K_OCTAL ? 8 : 10;
	char *end;
	long long v;

	errno = 0;
	v = strtoll(value, &end, base);
	if (end == value || *end || errno || (!isdigit((unsigned char)*value) && *value != '-'))
		return err_set(e, ERR_CONF, 0, "%s: \"%.60s\" is not %s", k->name, value,
			base == 8 ? "an octal number" : "a whole number");
	if (base == 8 && ((v & ~k->hi) || (v & k->lo) != k->lo))
		return err_set(e, ERR_CONF, 0, "%s: %.60s is not %04llo with bits of %04llo",
			k->name, value, (long long)k->lo, (long long)k->hi);
	if (base == 10 && (v < k->lo || v > k->hi))
		return err_set(e, ERR_CONF, 0, "%s: %.60s is not between %lld and %lld", k->name,
			value, (long long)k->lo, (long long)k->hi);
	*key_int(c, k) = v;
	return 0;
}

/* Finds value among the blank-separated words; -1 when it is none of them. */
static int64_t word_index(const char *words, const char *value)
{
	size_t n = strlen(value);
	int64_t i = 0;

	for (const char *w = words; *w; i++) {
		size_t len = strcspn(w, " ");

		if (len == n && !memcmp(w, value, n))
			return i;
		w += len;
		w += strspn(w, " ");
	}
	return -1;
}

static int set_enum(struct conf *c, const struct key *k, const char *value, struct err *e)
{
	int64_t i = word_index(k->words, value);

	if (i < 0)
		return err_set(
			e, ERR_CONF, 0, "%s: \"%.60s\" is none of: %s", k->name, value, k->words);
	*key_int(c, k) = i;
	return 0;
}

static int set_string(struct conf *c, const struct key *k, const char *value, struct err *e)
{
	char *copy;

	/* A value of the environment may hold newlines, which the dump could not show. */
	for (const char *p = value; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return err_set(e, ERR_CONF, 0, "%s holds a control byte", k->name);
	copy = strdup(value);
	if (!copy)
		return err_set(e, ERR_SETUP, ENOMEM, "%s", k->name);
	free(*key_str(c, k));
	*key_str(c, k) = copy;
	return 0;
}

static int key_set(struct conf *c, const struct key *k, const char *value, struct err *e)
{
	switch (k->type) {
	case K_INT:
	case K_OCTAL:
		return set_int(c, k, value, e);
	case K_ENUM:
		return set_enum(c, k, value, e);
	case K_STRING:
	case K_SECRET:
		return set_string(c, k, value, e);
	}
	return err_set(e, ERR_BUG, 0, "%s: key of unknown type", k->name);
}

int conf_set(struct conf *c, const char *key, const char *value, struct err *e)
{
	const struct key *k = key_find(key);

	if (!k && conf_language_key(key))
		return conf_language_set(&c->languages, key, value, e);
	if (!k)
		return conf_unknown(key, e);
	c->state_dir_named |= !strcmp(key, "state_dir");
	return conf_check_value(key, value, e) < 0 ? -1 : key_set(c, k, value, e);
}

bool conf_emulates_root(const struct conf *c, int64_t uid)
{
	if (c->root_emulation == ROOT_EMULATION_AUTO)
		return uid == 0;
	return c->root_emulation == ROOT_EMULATION_ON;
}

const char *conf_name(size_t i)
{
	return i < NELEM(keys) ? keys[i].name : NULL;
}

bool conf_known(const char *key)
{
	return key_find(key) != NULL || conf_language_key(key);
}

int conf_init(struct conf *c)
{
	struct err e;

	memset(c, 0, sizeof *c);
	for (size_t i = 0; i < NELEM(keys); i++) {
		if (key_set(c, &keys[i], keys[i].dflt, &e) < 0) {
			conf_clear(c);
			return -1;
		}
	}
	if (conf_languages_init(&c->languages) < 0) {
		conf_clear(c);
		return -1;
	}
	return 0;
}

void conf_clear(struct conf *c)
{
	for (size_t i = 0; i < NELEM(keys); i++) {
		if (keys[i].type != K_STRING && keys[i].type != K_SECRET)
			continue;
		free(*key_str(c, &keys[i]));
		*key_str(c, &keys[i]) = NULL;
	}
	conf_languages_clear(&c->languages);
}

/* Parses one line (without its newline) in place. */
static int parse_line(struct conf *c, char *line, struct err *e)
{
	char *value, *end;

	line += strspn(line, " \t");
	for (end = line + strlen(line); end > line && isspace((unsigned char)end[-1]); end--)
		end[-1] = '\0';
	if (!*line || *line == '#')
		return 0;
	value = strchr(line, '=');
	if (!value)
		return err_set(e, ERR_CONF, 0, "\"%.60s\" is not \"key = value\"", line);
	for (end = value; end > line && (end[-1] == ' ' || end[-1] == '\t'); end--)
		;
	*value++ = '\0';
	*end = '\0';
	value += strspn(value, " \t");
	if (strstr(value, " #") || strstr(value, "\t#"))
		return err_set(e, ERR_CONF, 0, "%.60s: a comment needs a line of its own", line);
	return conf_set(c, line, value, e);
}

int conf_parse(struct conf *c, const char *name, const char *text, size_t n, struct err *e)
{
	size_t line_no = 1;

	for (size_t at = 0; at < n; line_no++) {
		const char *nl = memchr(text + at, '\n', n - at);
		size_t len = nl ? (size_t)(nl - (text + at)) : n - at;
		char line[1024];

		if (len >= sizeof line)
			return err_set(e, ERR_CONF, 0, "%s, line %zu: longer than %zu bytes", name,
				line_no, sizeof line - 1);
		if (memchr(text + at, '\0', len))
			return err_set(
				e, ERR_CONF, 0, "%s, line %zu: holds a NUL byte", name, line_no);
		memcpy(line, text + at, len);
		line[len] = '\0';
		if (parse_line(c, line, e) < 0)
			return err_in(e, "%s, line %zu", name, line_no);
		at += len + (nl != NULL);
	}
	return 0;
}

static void print_value(const struct conf *c, const struct key *k, FILE *out)
{
	const char *w = k->words;

	switch (k->type) {
	case K_INT:
		fprintf(out, "%lld", (long long)*key_int(c, k));
		break;
	case K_OCTAL:
		fprintf(out, "%04llo", (long long)*key_int(c, k));
		break;
	case K_ENUM:
		for (int64_t i = *key_int(c, k); i > 0; i--)
			w += strcspn(w, " ") + 1;
		fprintf(out, "%.*s", (int)strcspn(w, " "), w);
		break;
	case K_STRING:
		fputs(*key_str(c, k), out);
		break;
	case K_SECRET:
		break;
	}
}

void conf_dump(const struct conf *c, FILE *out)
{
	for (size_t i = 0; i < NELEM(keys); i++) {
		const struct key *k = &keys[i];

		fprintf(out, "# %s\n", k->reason);
		if (k->type == K_INT)
			fprintf(out, "# %lld to %lld, default %s\n", (long long)k->lo,
				(long long)k->hi, k->dflt);
		else if (k->type == K_OCTAL)
			fprintf(out, "# octal, default %s\n", k->dflt);
		else if (k->type == K_ENUM)
			fprintf(out, "# one of: %s; default %s\n", k->words, k->dflt);
		else
			fprintf(out, "# default \"%s\"\n", k->dflt);
		/* Commented out when set: the dump may be used as a file, the mask never as a key. */
		if (k->type == K_SECRET && **key_str(c, k))
			fprintf(out, "# it is set\n# ");
		fprintf(out, "%s = ", k->name);
		print_value(c, k, out);
		fputs("\n\n", out);
	}
	conf_languages_dump(&c->languages, out);
}
