"""Layers that keep the process that opens a user's file from doing anything else. Set by the process itself, never undone.

Each layer stands alone; which ones a machine has is found out by setting them, and reported. Linux only beyond the limits:
landlock (docs.kernel.org/userspace-api/landlock.html) gives files, seccomp (seccomp(2)) gives system calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

LIMITS, NO_NETWORK, FILES, CALLS = "rlimits", "no-network", "files", "system-calls"
ALL_LAYERS = (LIMITS, NO_NETWORK, FILES, CALLS)

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
#: landlock's system calls have these numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read file, read folder
_WRITE = 1 << 1 | 1 << 5 | 1 << 8 | 1 << 14  # write file, remove file, make regular file, truncate
#: Rights that landlock's version n knows: bits below these.
_KNOWN_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_BITS = 0b11  # bind and connect by TCP, from version 4 on

#: architecture -> (audit number, system call numbers)
_DENIED = {
    "x86_64": (0xC000003E, {"socket": 41, "socketpair": 53, "fork": 57, "vfork": 58, "execve": 59, "ptrace": 101,
                            "mount": 165, "kexec_load": 246, "keyctl": 250, "unshare": 272, "setns": 308,
                            "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321, "execveat": 322,
                            "io_uring_setup": 425, "kill": 62, "tkill": 200, "link": 86, "symlink": 88, "linkat": 265,
                            "symlinkat": 266}),
    "aarch64": (0xC00000B7, {"socket": 198, "socketpair": 199, "execve": 221, "ptrace": 117, "mount": 40,
                             "kexec_load": 104, "keyctl": 219, "unshare": 97, "setns": 268, "process_vm_readv": 270,
                             "process_vm_writev": 271, "bpf": 280, "execveat": 281, "io_uring_setup": 425, "kill": 129,
                             "tkill": 130, "linkat": 37, "symlinkat": 36}),
}  # fmt: skip
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_CLONE_THREAD = 0x10000
_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


def confine(folder: Path, limits: dict[int, int]) -> list[str]:
    """Confine this process to `folder`; return the layers that are on.

    Args:
        folder: the only place where files may be written, and beside the installed programs the only one to read from.
        limits: `resource.RLIMIT_*` -> value, soft and hard.
    """
    for limit, value in limits.items():
        _, hard = resource.getrlimit(limit)
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bounded, bounded))
    layers = [LIMITS]
    with contextlib.suppress(OSError, AttributeError):
        _cut_network()
        layers.append(NO_NETWORK)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
            libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
            with contextlib.suppress(OSError):
                _restrict_files(libc, folder)
                layers.append(FILES)
            with contextlib.suppress(OSError):
                _restrict_calls(libc)
                layers.append(CALLS)
    return layers


def _cut_network() -> None:
    """An empty network namespace, with a user namespace when we are not root."""
    os.unshare(os.CLONE_NEWNET if os.geteuid() == 0 else os.CLONE_NEWNET | os.CLONE_NEWUSER)


def readable_folders() -> list[Path]:
    """What Python, GDAL and PROJ need to read: programs and libraries, and devices without content."""
    root = Path(__file__).parents[2]  # its packages, not itself: users' files may lie in a folder below it
    packages = {root / name for name in ("ingest", "lineage", "db")}
    installed = {Path(folder) for folder in (sys.prefix, sys.base_prefix, *sys.path) if folder and Path(folder) != root}
    system = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/null",
              "/sys/devices/system/cpu", "/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/sys/fs/cgroup")  # fmt: skip
    return [path for path in sorted({*installed, *packages, *map(Path, system)}) if path.exists()]


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "the kernel does not have this layer")
    return result


def _restrict_files(libc: ctypes.CDLL, folder: Path) -> None:
    version = _checked(libc.syscall(_CREATE_RULESET, None, 0, 1))
    handled = (1 << _KNOWN_BITS[min(version, 5)]) - 1
    attributes = struct.pack("QQ", handled, _NETWORK_BITS) if version >= 4 else struct.pack("Q", handled)
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        _allow(libc, ruleset, readable_folders(), _READ & handled)
        _allow(libc, ruleset, [folder], (_READ & ~1 | _WRITE) & handled)
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, paths: Iterable[Path], rights: int) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            granted = rights if path.is_dir() else rights & (1 << 0 | 1 << 1 | 1 << 2 | 1 << 14)
            rule = struct.pack("=Qi", granted, descriptor)  # packed, as the kernel declares it
            _checked(libc.syscall(_ADD_RULE, ruleset, 1, rule, 0))
        finally:
            os.close(descriptor)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _restrict_calls(libc: ctypes.CDLL) -> None:
    """No sockets, no new processes or programs, nothing that reaches other processes: these calls fail with EPERM."""
    machine = platform.machine()
    if machine not in _DENIED:
        raise OSError("unknown architecture")
    code = _filter(*_DENIED[machine], _CLONE[machine])
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    _checked(libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0))


def _filter(audit: int, denied: dict[str, int], clone: int) -> bytes:
    """The filter as classic BPF: 8 bytes an instruction (code, jump if true, jump if false, value)."""
    load, equal, is_set, answer = 0x20, 0x15, 0x45, 0x06

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    refuse, allow = step(answer, _ERROR | _EPERM), step(answer, _ALLOW)
    program = step(load, 4) + step(equal, audit, 1) + refuse + step(load, 0)
    if audit == _DENIED["x86_64"][0]:  # numbers of the x32 interface reach the same calls
        program += step(0x35, 0x40000000, 0, 1) + refuse
    for number in denied.values():
        program += step(equal, number, 0, 1) + refuse
    program += step(equal, _CLONE3, 0, 1) + step(answer, _ERROR | _ENOSYS)  # glibc then makes threads by clone
    program += step(equal, clone, 0, 3) + step(load, 16) + step(is_set, _CLONE_THREAD, 1, 0) + refuse
    return program + allow
