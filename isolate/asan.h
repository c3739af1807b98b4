/*
 * For a child that ran on a stack of its parent's, in its memory, and ended by execve or _exit: what
 * AddressSanitizer marked there for the child's frames stays, and would be held against whatever
 * the parent puts there next. Nothing in other builds.
 */
#ifndef CGIBOX_ASAN_H
#define CGIBOX_ASAN_H

#include <stddef.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
void __asan_unpoison_memory_region(void const volatile *at, size_t n);
#define ASAN_FORGET(at, n) __asan_unpoison_memory_region(at, n)
#else
#define ASAN_FORGET(at, n) ((void)(at), (void)(n))
#endif

#endif
