/*
 * sandbox.conf: "key = value" lines, "#" comments. One table in conf.c names every key with its
 * type, unit, bounds, default and reason; it parses, dumps ("cgibox config") and is compared
 * with the man page and with the shipped sandbox.conf by `make check`.
 *
 * An unknown key, a value out of range or trailing junk is ERR_CONF with file and line. Every
 * key can be set as CGIBOX_<KEY> in the environment, which wins over the file.
 */
#ifndef CGIBOX_CONF_H
#define CGIBOX_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "isolate/conf_language.h"
#include "isolate/err.h"

enum conf_backend { BACKEND_ISOLATE, BACKEND_DOCKER };
enum conf_network { NETWORK_NONE, NETWORK_HOST, NETWORK_PASTA };
enum conf_root_emulation { ROOT_EMULATION_AUTO, ROOT_EMULATION_ON, ROOT_EMULATION_OFF };
enum conf_loopback { LOOPBACK_REFUSE, LOOPBACK_ALLOW };
enum conf_dialect { DIALECT_OFF, DIALECT_KEY, DIALECT_OPEN };
enum conf_pull { PULL_NEVER, PULL_MISSING };
enum conf_session_root { SESSION_ROOT_DISK, SESSION_ROOT_TMPFS };
enum conf_engine_root { ENGINE_ROOT_WRITABLE, ENGINE_ROOT_READ_ONLY };
enum conf_engine_as_root { ENGINE_AS_ROOT_REFUSE, ENGINE_AS_ROOT_ALLOW };
enum conf_unenforceable { UNENFORCEABLE_REFUSE, UNENFORCEABLE_REPORT };

/* Numbers are int64_t whatever the key, strings are heap memory owned by the struct. */
struct conf {
	/* where, who */
	char *state_dir;
	int64_t backend; /* enum conf_backend */
	char *api_key;   /* "" when api_key_file is used; conf_load() fills it from the file */
	char *api_key_file;
	char *api_prefix;
	char *listen_socket; /* "" = STATE/cgibox.sock */
	int64_t socket_mode;
	char *socket_group;
	int64_t log_level; /* enum log_level */
	char *access_log;  /* "off", "stderr", or the path of a file */
	char *metrics_key; /* "": the api_key alone */
	char *metrics_key_file;
	int64_t metrics_loopback;   /* enum conf_loopback */
	int64_t kweaver;            /* enum conf_dialect */
	int64_t daiv, native, docs; /* the same */
	char *kweaver_image;
	int64_t kweaver_runtime; /* enum conf_dialect */
	char *kweaver_runtime_image;
	int64_t kweaver_runtime_network; /* 0 off, 1 on */
	int64_t kweaver_runtime_timeout_s, kweaver_runtime_disk_bytes, kweaver_runtime_idle_s;
	char *settings_of; /* words: whose names of settings count in the environment */

	/* the Engine, with backend = docker */
	char *engine; /* "unix:///PATH" or "https://HOST:PORT" */
	char *engine_ca_file, *engine_cert_file, *engine_key_file;
	char *engine_runtime; /* "" = the Engine's own choice */
	int64_t engine_prepared_max;
	char *engine_network;          /* "" = none */
	int64_t engine_read_only_root; /* enum conf_engine_root */
	int64_t engine_as_root;        /* enum conf_engine_as_root */
	int64_t engine_timeout_s;
	int64_t manager; /* enum conf_dialect */
	int64_t manager_age_max_s, manager_idle_s;
	int64_t kweaver_output_max_bytes, kweaver_executions_max, kweaver_templates_max;
	int64_t kweaver_idle_s, kweaver_lifetime_s, kweaver_install_wait_s;
	int64_t manager_port_silence_s, manager_port_time_s;
	char *manager_page_rights;
	int64_t volume_max_bytes, volumes_max;

	/* the front */
	int64_t workers_min, workers_max, workers_reserved, streams_max, worker_idle_s;
	int64_t pending_max;
	int64_t params_timeout_ms, receive_timeout_ms, request_timeout_ms;
	int64_t params_max_bytes, body_max_bytes, json_max_bytes;

	/* sessions */
	int64_t sessions_max, sandboxes_max, session_idle_s;
	int64_t session_lock_wait_ms, session_lock_waiters;
	int64_t keeper_idle_s;
	int64_t sandbox_idle_s;
	int64_t run_spool_max_bytes, runs_kept_max, runs_kept_max_bytes, receipts_kept_max;
	int64_t stream_heartbeat_s;
	int64_t prepared_max, prepared_idle_s;
	int64_t warm_python_max, warm_node_max, warm_idle_s, warm_memory_max_bytes;
	char *warm_python_image, *warm_python_imports, *warm_node_image, *warm_node_imports;
	int64_t fork_max, snapshots_max, export_time_max_s;

	/* commands */
	int64_t commands_max, command_max_bytes, environment_max_bytes;
	int64_t command_timeout_s, command_timeout_max_s, output_max_bytes;
	int64_t run_uid, run_gid;
	char *run_home;
	int64_t root_emulation;       /* enum conf_root_emulation */
	int64_t network;              /* enum conf_network */
	char *network_blocked;        /* CIDR list */
	char *pasta_program;          /* "" = found along PATH */
	int64_t unenforceable_limits; /* enum conf_unenforceable */

	/* limits inside, and how they are watched */
	char *cgroup; /* "auto", "none", or the path of a delegated directory */
	int64_t memory_max_bytes, memory_reserve_bytes, socket_memory_max_bytes;
	int64_t session_disk_max_bytes, session_disk_max_inodes, disk_reserve_bytes;
	int64_t cpu_time_max_s, cpu_max_percent, io_max_bytes_per_s;
	int64_t watch_interval_ms;
	int64_t processes_max, files_open_max, file_max_bytes;
	int64_t memory_process_max_bytes, address_space_max_bytes;
	int64_t tmpfs_max_bytes, tmpfs_max_inodes;
	int64_t session_root; /* enum conf_session_root */

	/* archives and patches */
	int64_t archive_max_bytes, archive_unpacked_max_bytes, archive_entries_max;
	int64_t session_archives_max_bytes;
	int64_t archive_ratio_max, archive_time_max_s, archive_memory_max_bytes;
	int64_t plain_entries_max, plain_max_bytes, patch_max_bytes;

	/* files */
	int64_t upload_max_bytes, download_max_bytes;
	int64_t files_read_max_bytes, files_scan_max_bytes, files_edit_max_bytes;
	int64_t files_matches_max, files_entries_max, files_time_max_s, grep_steps_max;
	char *fs_prune_dirs;

	/* images */
	int64_t pull; /* enum conf_pull */
	char *insecure_registries, *private_registries, *registry_mirrors;
	char *registry_auth_file, *registry_ca_file;
	char *pull_allowed;
	int64_t pull_parallel, pull_stall_s, pull_timeout_s;
	int64_t image_max_bytes, image_entries_max, image_ratio_max, image_layers_max;

	/* dependencies */
	int64_t deps_timeout_s, deps_max_bytes, deps_keep_s;

	/* programming languages: a family of keys */
	struct conf_languages languages;

	bool state_dir_named; /* by the file or the environment */
};

/*
 * Fills c with the defaults, then with file (NULL: none; a missing file is an error), then with
 * the CGIBOX_* variables of env (NULL: none) and those of settings_of. Secrets named by *_file are
 * read. On failure c is cleared. Called by every program at start-up.
 */
int conf_load(struct conf *c, const char *file, char *const *env, struct err *e);

/* The same parser over bytes; `name` is used in messages. Pure but for c; a fuzz target. */
int conf_parse(struct conf *c, const char *name, const char *text, size_t n, struct err *e);

/* Whether root is emulated in a sandbox of this user id inside. */
bool conf_emulates_root(const struct conf *c, int64_t uid);

/*
 * What a person's programs (cgibox, image, doctor) do after conf_load(): where nobody has named a state
 * directory, the default one is not there and the caller is not root, state_dir becomes
 * $XDG_STATE_HOME/cgibox, else $HOME/.local/state/cgibox, and what is above it is made. The service's
 * user has neither, and keeps the default. Source: XDG Base Directory Specification 0.8.
 */
int conf_person(struct conf *c, struct err *e);

/* Sets one key from text; e names key and value but no place. */
int conf_set(struct conf *c, const char *key, const char *value, struct err *e);

/* Whether there is a key of this name. */
bool conf_known(const char *key);

/* The name of key i in the order of the table, NULL behind the last one. */
const char *conf_name(size_t i);

/*
 * The key that somebody meant who wrote this one: at most two letters are wrong, missing, too many
 * or in the wrong order. NULL when there is none. Pure; conf_near.c.
 */
const char *conf_near(const char *key);

/* The error for a key that is not there, with the one that was meant. Always returns -1. */
int conf_unknown(const char *key, struct err *e);

/*
 * Sets what an environment variable of another service stands for (conf_alias.c), when c->settings_of
 * names that service; a line in the log says what is not used. name has n bytes. 0 also for names that
 * nobody has; -1: e names key and value, and not the variable.
 */
int conf_alias(struct conf *c, const char *name, size_t n, const char *value, struct err *e);

/* Whether list holds names of services alone. -1: ERR_CONF. */
int conf_check_services(const char *list, struct err *e);
/* Of conf_set(): whether a text for key has the form that the key wants, 0 also where it wants none. Pure. */
int conf_check_value(const char *key, const char *value, struct err *e);

/* Fills c with the defaults (strings are allocated). Returns -1 without memory. */
int conf_init(struct conf *c);
void conf_clear(struct conf *c);

/* Writes every key with value, default, unit, bounds and reason. The secret is masked. */
void conf_dump(const struct conf *c, FILE *out);

#endif
