#include "fcgi/engine_spec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "images/own_json.h"
#include "images/ref.h"
#include "isolate/own.h"

/* --- what a question may say */

static bool all_of(const char *s, const char *extra)
{
	static const char base[] = "abcdefghijklmnopqrstuvwxyz0123456789-";

	for (; *s; s++)
		if (!strchr(base, *s) && !strchr(extra, *s))
			return false;
	return true;
}

static bool ends(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL;
}

bool engine_box_valid(const char *id)
{
	return *id && strnlen(id, ENGINE_BOX_MAX + 1) <= ENGINE_BOX_MAX && all_of(id, "");
}

/* Components of [A-Za-z0-9._-], none of them "", "." or "..". */
static bool plain_path(const char *p)
{
	size_t n;

	for (;; p += n + 1) {
		n = strcspn(p, "/");
		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		if (!p[n])
			return true;
	}
}

static bool path_characters(const char *p)
{
	return all_of(p, "/._ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

/* What sandboxes see of a volume, not its limit beside that. */
static bool is_volume(const char *p)
{
	const char *end = strncmp(p, "volumes/", 8) != 0 ? NULL : strchr(p + 8, '/');

	return end && !strcmp(end, "/fs");
}

static bool source_ok(const char *p)
{
	return path_characters(p) && plain_path(p) &&
	       (!strncmp(p, "sessions/", 9) || !strncmp(p, "engine/", 7) || is_volume(p));
}

static bool below(const char *p, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(p, dir, n) && (p[n] == '\0' || p[n] == '/');
}

static bool target_ok(const char *p)
{
	static const char *const not_there[] = {"/proc", "/sys", "/dev"};

	if (*p != '/' || !path_characters(p) || !plain_path(p + 1))
		return false;
	for (size_t i = 0; i < NELEM(not_there); i++)
		if (below(p, not_there[i]))
			return false;
	return !below(p, "/.cgibox") || !strcmp(p, ENGINE_SOCKET_DIR);
}

static int bad(struct err *e, const char *what)
{
	return err_set(e, ERR_BUG, 0, "a question to the engine broker has a bad %s", what);
}

static int mount_check(const struct engine_mount *m, struct err *e)
{
	if (!ends(m->source, sizeof m->source) || !ends(m->target, sizeof m->target) ||
		!target_ok(m->target))
		return bad(e, "target of a mount");
	if (m->kind == ENGINE_BIND)
		return source_ok(m->source) ? 0 : bad(e, "source of a mount");
	if (m->kind != ENGINE_TMPFS || *m->source)
		return bad(e, "kind of mount");
	return m->bytes > 0 && m->bytes <= ENGINE_TMPFS_MAX_BYTES && m->inodes <= INT32_MAX &&
			       m->mode <= 01777
		       ? 0
		       : bad(e, "tmpfs");
}

static int limits_check(const struct engine_question *q, struct err *e)
{
	static const uint64_t most = (uint64_t)1 << 50;

	if (q->memory_bytes > most || q->shm_bytes > most)
		return bad(e, "number of bytes");
	if (q->cpu_percent > 102400 || q->processes > 1 << 22 || q->files_open > 1 << 30)
		return bad(e, "limit");
	if ((q->flags & ENGINE_STREAM) && (q->flags & ENGINE_CREATE_ONLY))
		return bad(e, "flag");
	return q->flags & ~(uint32_t)ENGINE_FLAGS ? bad(e, "flag") : 0;
}

static int make_check(const struct engine_question *q, struct err *e)
{
	if (!ends(q->session, sizeof q->session) || !all_of(q->session, ""))
		return bad(e, "session");
	if (q->nmounts > ENGINE_MOUNTS_MAX)
		return bad(e, "number of mounts");
	for (uint32_t i = 0; i < q->nmounts; i++)
		if (mount_check(&q->mounts[i], e) < 0)
			return -1;
	return limits_check(q, e);
}

static int image_check(const struct engine_question *q, struct err *e)
{
	OWN_BUF name = BUF_INIT(2 * IMAGE_REF_MAX);

	if (!ends(q->image, sizeof q->image))
		return bad(e, "image");
	return engine_image_name(q->image, &name)
		       ? 0
		       : err_set(e, ERR_REQUEST, 0, "\"%.100s\" is no image reference", q->image);
}

int engine_question_check(const struct engine_question *q, struct err *e)
{
	bool box = q->op >= ENGINE_MAKE && q->op <= ENGINE_STATS;
	bool image = q->op == ENGINE_MAKE ||
		     (q->op >= ENGINE_IMAGE_INSPECT && q->op < ENGINE_ASK_MAX);

	if (q->magic != ENGINE_MAGIC || q->op < ENGINE_INFO || q->op >= ENGINE_ASK_MAX ||
		q->number == 0)
		return bad(e, "head");
	if (box && (!ends(q->box, sizeof q->box) || !engine_box_valid(q->box)))
		return bad(e, "box");
	if (q->op == ENGINE_MAKE && make_check(q, e) < 0)
		return -1;
	return image ? image_check(q, e) : 0;
}

bool engine_image_name(const char *image, struct buf *out)
{
	char text[REF_MAX + 1];
	struct ref r;

	size_t n = strnlen(image, IMAGE_REF_MAX + 1);

	/* an id, or the beginning of one, as the store of the isolator takes it, too */
	if (ref_is_digest(image) || (n >= 12 && n <= 64 && ref_is_hex(image, n)))
		return buf_adds(out, image) == 0;
	if (n > IMAGE_REF_MAX || !ref_parse(image, &r))
		return false;
	ref_fill_tag(&r);
	return ref_format(&r, text) && buf_adds(out, text) == 0;
}

/* --- the body */

static struct json_object *text(const char *s)
{
	return json_object_new_string(s);
}

static struct json_object *number(uint64_t n)
{
	return json_object_new_int64((int64_t)n);
}

static void put(struct json_object *o, const char *key, struct json_object *v)
{
	json_object_object_add(o, key, v);
}

static struct json_object *list_of(const char *const *words, size_t n)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++)
		json_object_array_add(a, text(words[i]));
	return a;
}

static struct json_object *bind(const char *source, const char *target, bool read_only)
{
	struct json_object *m = json_object_new_object(), *options = json_object_new_object();

	put(m, "Type", text("bind"));
	put(m, "Source", text(source));
	put(m, "Target", text(target));
	put(m, "ReadOnly", json_object_new_boolean(read_only));
	/* what is mounted on the host later is no business of the container's, and vice versa */
	put(options, "Propagation", text("rprivate"));
	put(options, "NonRecursive", json_object_new_boolean(true));
	put(m, "BindOptions", options);
	return m;
}

static void add_tmpfs(
	struct json_object *o, const struct engine_settings *s, const struct engine_mount *m)
{
	char options[200];
	int n = snprintf(options, sizeof options,
		"%s,exec,nosuid,nodev,size=%llu,mode=%o,uid=%u,gid=%u", m->read_only ? "ro" : "rw",
		(unsigned long long)m->bytes, m->mode, s->uid, s->gid);

	if (m->inodes)
		snprintf(options + n, sizeof options - (size_t)n, ",nr_inodes=%llu",
			(unsigned long long)m->inodes);
	put(o, m->target, text(options));
}

static void put_mounts(
	struct json_object *host, const struct engine_settings *s, const struct engine_question *q)
{
	struct json_object *mounts = json_object_new_array(), *tmpfs = json_object_new_object();
	char source[ENGINE_PATHS_MAX + ENGINE_SOURCE_MAX + 2];

	json_object_array_add(mounts, bind(s->init, ENGINE_INIT, true));
	for (uint32_t i = 0; i < q->nmounts; i++) {
		const struct engine_mount *m = &q->mounts[i];

		if (m->kind == ENGINE_TMPFS) {
			add_tmpfs(tmpfs, s, m);
			continue;
		}
		snprintf(source, sizeof source, "%s/%s", s->state, m->source);
		json_object_array_add(mounts, bind(source, m->target, m->read_only));
	}
	put(host, "Mounts", mounts);
	put(host, "Tmpfs", tmpfs);
}

static void put_limits(struct json_object *host, const struct engine_question *q)
{
	struct json_object *limits = json_object_new_array(), *files = json_object_new_object();

	if (q->memory_bytes) {
		put(host, "Memory", number(q->memory_bytes));
		put(host, "MemorySwap", number(q->memory_bytes)); /* of both together: no swap */
	}
	if (q->cpu_percent)
		put(host, "NanoCpus", number((uint64_t)q->cpu_percent * 10000000));
	if (q->processes)
		put(host, "PidsLimit", number(q->processes));
	if (q->shm_bytes)
		put(host, "ShmSize", number(q->shm_bytes));
	if (q->files_open) {
		put(files, "Name", text("nofile"));
		put(files, "Soft", number(q->files_open));
		put(files, "Hard", number(q->files_open));
		json_object_array_add(limits, files);
	} else {
		json_object_put(files);
	}
	put(host, "Ulimits", limits);
}

static void put_security(struct json_object *host, const struct engine_settings *s)
{
	static const char *const all[] = {"ALL"};
	/* what an Engine hides of itself, and what our own sandboxes do not show either */
	static const char *const masked[] = {"/proc/acpi", "/proc/asound", "/proc/config.gz",
		"/proc/interrupts", "/proc/kallsyms", "/proc/kcore", "/proc/key-users",
		"/proc/keys", "/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount",
		"/proc/kpageflags", "/proc/latency_stats", "/proc/pagetypeinfo",
		"/proc/sched_debug", "/proc/scsi", "/proc/slabinfo", "/proc/timer_list",
		"/proc/timer_stats", "/proc/vmallocinfo", "/proc/vmcore",
		"/sys/devices/virtual/powercap", "/sys/firmware"};
	static const char *const read_only[] = {
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
	struct json_object *options = json_object_new_array();
	OWN_BUF profile = BUF_INIT(1 << 20);

	json_object_array_add(options, text("no-new-privileges"));
	if (s->seccomp && buf_addf(&profile, "seccomp=%s", s->seccomp) == 0)
		json_object_array_add(options, text(profile.p));
	put(host, "SecurityOpt", options);
	put(host, "MaskedPaths", list_of(masked, NELEM(masked)));
	put(host, "ReadonlyPaths", list_of(read_only, NELEM(read_only)));
	put(host, "CapDrop", list_of(all, 1));
	put(host, "IpcMode", text("private"));
	if (s->private_cgroup)
		put(host, "CgroupnsMode", text("private"));
	put(host, "ReadonlyRootfs",
		json_object_new_boolean(s->conf->engine_read_only_root == ENGINE_ROOT_READ_ONLY));
	put(host, "Init", json_object_new_boolean(false)); /* pid 1 is ours */
}

static struct json_object *host_config(
	const struct engine_settings *s, const struct engine_question *q)
{
	struct json_object *host = json_object_new_object(), *log = json_object_new_object(),
			   *restart = json_object_new_object();

	put_mounts(host, s, q);
	put_limits(host, q);
	put_security(host, s);
	put(host, "NetworkMode",
		text(q->flags & ENGINE_NETWORK ? s->conf->engine_network : "none"));
	put(log, "Type", text("none")); /* output comes by pid 1; a log would fill the disk */
	put(host, "LogConfig", log);
	put(restart, "Name", text("no"));
	put(host, "RestartPolicy", restart);
	put(host, "AutoRemove", json_object_new_boolean(false)); /* how it ended is asked for */
	if (*s->conf->engine_runtime)
		put(host, "Runtime", text(s->conf->engine_runtime));
	return host;
}

static void put_process(
	struct json_object *o, const struct engine_settings *s, const struct engine_question *q)
{
	static const char *const entry[] = {ENGINE_INIT, ENGINE_INIT_MODE},
				 *const streamed[] = {ENGINE_INIT, ENGINE_STREAM_MODE},
				 *const none[] = {"NONE"};
	bool stream = q->flags & ENGINE_STREAM;
	struct json_object *health = json_object_new_object();
	char user[32];

	put(o, "Entrypoint", list_of(stream ? streamed : entry, 2));
	put(o, "Cmd", json_object_new_array()); /* not the image's */
	snprintf(user, sizeof user, "%u:%u", s->uid, s->gid);
	put(o, "User", text(user));
	put(o, "WorkingDir", text("/"));
	put(health, "Test", list_of(none, 1)); /* an image's own would be run by the Engine */
	put(o, "Healthcheck", health);
	put(o, "Tty", json_object_new_boolean(false));
	put(o, "OpenStdin", json_object_new_boolean(stream));
	put(o, "StdinOnce", json_object_new_boolean(stream)); /* its end is pid 1's */
	put(o, "AttachStdin", json_object_new_boolean(stream));
	put(o, "AttachStdout", json_object_new_boolean(stream));
	put(o, "AttachStderr", json_object_new_boolean(stream));
	put(o, "StopSignal", text("SIGKILL"));
}

static void put_labels(
	struct json_object *o, const struct engine_settings *s, const struct engine_question *q)
{
	struct json_object *labels = json_object_new_object();

	put(labels, ENGINE_LABEL_STATE, text(s->state));
	put(labels, ENGINE_LABEL_BOX, text(q->box));
	if (*q->session)
		put(labels, ENGINE_LABEL_SESSION, text(q->session));
	put(o, "Labels", labels);
}

int engine_spec_write(const struct engine_settings *s, const struct engine_question *q,
	struct buf *out, struct err *e)
{
	OWN_BUF image = BUF_INIT(2 * IMAGE_REF_MAX);
	OWN_JSON *o = NULL;
	const char *body;

	if ((q->flags & ENGINE_NETWORK) && !*s->conf->engine_network)
		return err_set(e, ERR_CONF, 0,
			"sandbox.conf names no network for containers (engine_network)");
	if (!engine_image_name(q->image, &image))
		return err_set(e, ERR_REQUEST, 0, "\"%.100s\" is no image reference", q->image);
	o = json_object_new_object();
	put(o, "Image", text(image.p));
	put_process(o, s, q);
	put_labels(o, s, q);
	put(o, "HostConfig", host_config(s, q));
	body = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!body || buf_adds(out, body) < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "describe a container");
	return 0;
}
