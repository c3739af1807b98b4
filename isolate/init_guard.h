/*
 * The guard of one pasta: cgibox-init with one argument. It is process 1 of a pid namespace that
 * holds pasta and nothing else, so pasta ends with it, whatever ends it. It ends when the sandbox
 * does, when its starter does, and when pasta does. launch_pasta.c starts it.
 */
#ifndef CGIBOX_INIT_GUARD_H
#define CGIBOX_INIT_GUARD_H

enum {
	/* descriptors that the guard starts with */
	GUARD_FD_CTL = 3, /* SEQPACKET to the starter: one struct proto_reply, READY or FAILED */
	GUARD_FD_SANDBOX, /* pidfd of the sandbox's pid 1 */
	GUARD_FD_NETNS,   /* the network namespace to serve */
	GUARD_START_MS = 10000,
	/* pasta's open files: two a connection. At the limit further connections fail. */
	GUARD_FILES_MAX = 2048,
};

/* The whole life of a guard. pasta: path of the program. Returns the exit status. */
int init_guard(const char *pasta);

#endif
