"""Entering a sandbox that is there, and giving up what is not needed: a few system calls, through ctypes.

bubblewrap makes the sandbox: the namespaces of files, processes and network, with nothing in them but what is listed
in `grading.sandbox`. A process that has imported torch already joins it (setns), which saves the seconds of an import
per task, and then drops every right that it has.
"""

import ctypes
import os
import resource
import secrets

NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts")
FILE_BYTES, FILES, PROCESSES = 64 << 20, 256, 32
PR_SET_NO_NEW_PRIVS, CAPABILITY_VERSION = 38, 0x20080522


def join(pid: int) -> None:
    """Enter the namespaces of a process; the process namespace holds for children only. OSError if it cannot be."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in NAMESPACES}
    files = []
    for name in NAMESPACES:  # opened before the first is entered: there is no /proc inside
        path = f"/proc/{pid}/ns/{name}"
        if os.stat(path).st_ino != own[name]:
            files.append(os.open(path, os.O_RDONLY))
    for file in files:
        if libc.setns(file, 0):
            raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")
        os.close(file)
    os.chdir("/")


def drop_rights() -> None:
    """Become nobody: as root a user that nothing else runs as, otherwise without a capability. OSError if refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        for user in (1_900_000_000 + secrets.randbelow(100_000_000), 65534):
            try:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
                break
            except OSError:
                continue
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) or libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "rights cannot be dropped")


def limit(seconds: float, space: int, *, processes: bool) -> None:
    """Limits on this process and its children: seconds of CPU, bytes of address space, files, and processes."""
    chosen = {
        resource.RLIMIT_CPU: int(seconds) + 1,
        resource.RLIMIT_AS: space,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_CORE: 0,
    }
    if processes:
        chosen[resource.RLIMIT_NPROC] = PROCESSES
    for kind, most in chosen.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
