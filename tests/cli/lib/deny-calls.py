#!/usr/bin/python3
"""Runs a command under a seccomp filter that refuses calls: deny-calls.py NAME=ERRNO... -- COMMAND...

clone is refused with CLONE_NEWUSER only, as container engines do.
"""
import ctypes
import errno
import os
import platform
import struct
import sys

X86 = {"unshare": 272, "clone": 56, "mount": 165, "umount2": 166, "setns": 308, "memfd_create": 319}
ARM = {"unshare": 97, "clone": 220, "mount": 40, "umount2": 39, "setns": 268, "memfd_create": 279}
YOUNG = {"fsopen": 430, "fsmount": 432, "open_tree": 428, "move_mount": 429, "clone3": 435, "close_range": 436,
         "openat2": 437, "mount_setattr": 442, "landlock_create_ruleset": 444, "pidfd_send_signal": 424}
NUMBERS = dict({"x86_64": X86, "aarch64": ARM}[platform.machine()], **YOUNG)
NEWUSER = 0x10000000
LOAD, EQUAL, SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
end = sys.argv.index("--")
program = []
for rule in sys.argv[1:end]:
    name, _, code = rule.partition("=")
    out = (RETURN, 0, 0, ERRNO | getattr(errno, code))
    program.append((LOAD, 0, 0, 0))  # the call's number
    if name == "clone":
        program += [(EQUAL, 0, 3, NUMBERS[name]), (LOAD, 0, 0, 16), (SET, 0, 1, NEWUSER), out]
    else:
        program += [(EQUAL, 0, 1, NUMBERS[name]), out]
program.append((RETURN, 0, 0, ALLOW))
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in program))
fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(fprog), 0, 0):
    sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
