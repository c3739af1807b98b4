/*
 * What became of a payload. A verdict is not an error: an error (err.h) says that we could not
 * start or follow it. Fixed size; sent by pid 1 to whoever asked for the run.
 */
#ifndef CGIBOX_RESULT_H
#define CGIBOX_RESULT_H

#include <stdint.h>

enum verdict {
	VERDICT_OK,          /* exit status 0 */
	VERDICT_EXIT,        /* exit status 1..255 */
	VERDICT_SIGNAL,      /* ended by a signal of its own or another process inside */
	VERDICT_TIMEOUT,     /* wall clock, and then the whole tree is dead; or CPU time */
	VERDICT_MEMORY,      /* a memory limit */
	VERDICT_OUTPUT,      /* an output limit that ends the run */
	VERDICT_PIDS,        /* the process limit */
	VERDICT_DISK,        /* the disk limit */
	VERDICT_KILLED,      /* by the API */
	VERDICT_INTERRUPTED, /* the keeper or the host died */
	VERDICT_MAX,
};

struct result {
	uint32_t verdict;   /* enum verdict */
	int32_t exit_code;  /* as a shell reports it: 0..255, 128+signal, 124 on timeout */
	int32_t signal;     /* 0 when none */
	uint32_t truncated; /* 1: output was dropped over the limit */
	uint64_t wall_us;   /* from the start message to the verdict */
	uint64_t user_us;   /* CPU time of the command and its waited-for children */
	uint64_t system_us;
	uint64_t rss_peak_kib;
	uint64_t output_bytes; /* all that was written, kept or not */
	uint64_t output_kept;  /* bytes in the spool */
	/* Processes and threads that the sandbox started during this run, the command among them; 0:
	 * unknown, because numbers began anew or the kernel does not tell. */
	uint32_t processes, pad;
	/* Of the whole sandbox, from its cgroup; all 0 where there is none (in_cgroup 0). */
	uint32_t in_cgroup;
	uint32_t oom_kills;   /* processes that the memory limit ended during this run */
	uint32_t pids_denied; /* forks that the process limit refused during this run */
	uint32_t pids_peak;   /* most processes at once so far; 0 = this kernel does not tell */
	uint64_t memory_peak_bytes; /* most memory at once so far */
	uint64_t cpu_us;            /* processor time during this run, descendants included */
	uint64_t throttled_us;      /* waited for the processor limit during this run */
	/* Of the command and its waited-for children, from and to disks; caches are not counted. */
	uint64_t disk_read_bytes, disk_write_bytes;
};

/* "ok", "exit", "signal", ... the words of the API; "unknown" for other numbers. */
const char *verdict_name(uint32_t verdict);

#endif
