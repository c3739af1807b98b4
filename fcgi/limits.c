#include "fcgi/limits.h"

#include <stdint.h>

#define OFF(key) #key, offsetof(struct conf, key)

/* A limit without cgroups' or watchdog's bits is held by its base alone. */
#define KERNEL(key)                                                                                \
	{                                                                                          \
		OFF(key), "kernel", 0, 0, false                                                    \
	}
#define KERNEL_OR_NONE(key)                                                                        \
	{                                                                                          \
		OFF(key), "kernel", 0, 0, true                                                     \
	}
#define SERVICE(key)                                                                               \
	{                                                                                          \
		OFF(key), "service", 0, 0, false                                                   \
	}
#define MEANS(key, cg, w)                                                                          \
	{                                                                                          \
		OFF(key), NULL, cg, w, true                                                        \
	}

/* clang-format off */
const struct limit limit_table[] = {
	/* how much there may be */
	SERVICE(sessions_max),
	SERVICE(sandboxes_max),
	SERVICE(session_idle_s),
	SERVICE(sandbox_idle_s),
	SERVICE(body_max_bytes),
	SERVICE(json_max_bytes),
	/* commands */
	SERVICE(commands_max),
	SERVICE(command_max_bytes),
	SERVICE(environment_max_bytes),
	SERVICE(command_timeout_s),
	SERVICE(command_timeout_max_s),
	SERVICE(output_max_bytes),
	SERVICE(run_spool_max_bytes),
	SERVICE(runs_kept_max),
	SERVICE(runs_kept_max_bytes),
	SERVICE(kweaver_output_max_bytes),
	SERVICE(kweaver_executions_max),
	SERVICE(kweaver_templates_max),
	SERVICE(receipts_kept_max),
	/* volumes, and how long a sandbox of the Manager lives */
	SERVICE(volume_max_bytes),
	SERVICE(volumes_max),
	SERVICE(manager_age_max_s),
	/* one process */
	KERNEL(files_open_max),
	KERNEL(file_max_bytes),
	KERNEL_OR_NONE(memory_process_max_bytes),
	KERNEL_OR_NONE(address_space_max_bytes),
	KERNEL_OR_NONE(cpu_time_max_s),
	/* a sandbox */
	KERNEL(processes_max),
	KERNEL(tmpfs_max_bytes),
	KERNEL(tmpfs_max_inodes),
	MEANS(memory_max_bytes, LIMIT_BY_CGROUP_MEMORY, LIMIT_BY_WATCH_MEMORY),
	MEANS(memory_reserve_bytes, 0, LIMIT_BY_WATCH_MEMORY),
	MEANS(socket_memory_max_bytes, 0, LIMIT_BY_WATCH_SOCKETS),
	MEANS(cpu_max_percent, LIMIT_BY_CGROUP_CPU, 0),
	MEANS(io_max_bytes_per_s, LIMIT_BY_CGROUP_IO, 0),
	MEANS(session_disk_max_bytes, 0, LIMIT_BY_WATCH_DISK),
	MEANS(session_disk_max_inodes, 0, LIMIT_BY_WATCH_DISK),
	MEANS(disk_reserve_bytes, 0, LIMIT_BY_WATCH_DISK),
	/* archives, patches */
	SERVICE(archive_max_bytes),
	SERVICE(archive_unpacked_max_bytes),
	SERVICE(archive_entries_max),
	SERVICE(archive_ratio_max),
	SERVICE(session_archives_max_bytes),
	SERVICE(archive_time_max_s),
	SERVICE(archive_memory_max_bytes),
	SERVICE(patch_max_bytes),
	/* files */
	SERVICE(upload_max_bytes),
	SERVICE(download_max_bytes),
	SERVICE(files_read_max_bytes),
	SERVICE(files_scan_max_bytes),
	SERVICE(files_edit_max_bytes),
	SERVICE(files_matches_max),
	SERVICE(files_entries_max),
	SERVICE(files_time_max_s),
	SERVICE(grep_steps_max),
	/* images */
	SERVICE(image_max_bytes),
	SERVICE(image_ratio_max),
	SERVICE(image_entries_max),
	SERVICE(image_layers_max),
	{NULL, 0, NULL, 0, 0, false},
};
/* clang-format on */

int64_t limit_value(const struct limit *l, const struct conf *c)
{
	return *(const int64_t *)(const void *)((const char *)c + l->off);
}

const char *limit_held_by(const struct limit *l, const struct conf *c, unsigned means)
{
	if (l->zero_is_none && limit_value(l, c) == 0)
		return "none";
	if (l->base)
		return l->base;
	if (l->cgroup & means)
		return "cgroup";
	return l->watch & means ? "watchdog" : "none";
}
