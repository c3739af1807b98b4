#!/usr/bin/python3
"""Runs a command under a seccomp filter as a container engine's: unshare, and clone with CLONE_NEWUSER, are EPERM."""
import ctypes
import os
import platform
import struct
import sys

UNSHARE, CLONE = {"x86_64": (272, 56), "aarch64": (97, 220)}[platform.machine()]
NEWUSER = 0x10000000
LOAD, EQUAL, SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, EPERM = 0x7FFF0000, 0x00050001
program = [
    (LOAD, 0, 0, 0),          # the call's number
    (EQUAL, 4, 0, UNSHARE),
    (EQUAL, 0, 2, CLONE),
    (LOAD, 0, 0, 16),         # clone's flags
    (SET, 1, 0, NEWUSER),
    (RETURN, 0, 0, ALLOW),
    (RETURN, 0, 0, EPERM),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in program))
fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(fprog), 0, 0):
    sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
