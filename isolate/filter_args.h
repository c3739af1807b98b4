/* Calls that are fine but for some of their arguments. For filter.c only. */
#ifndef CGIBOX_FILTER_ARGS_H
#define CGIBOX_FILTER_ARGS_H

#include <seccomp.h>
#include <stdbool.h>

/* Adds the rules for payloads to ctx; core_handler: crashes start a program of the host. 0, or a negative errno of libseccomp. The parent. */
int filter_arguments(scmp_filter_ctx ctx, bool core_handler);

#endif
