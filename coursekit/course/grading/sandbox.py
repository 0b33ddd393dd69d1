"""Where submissions run: a warm process, and for each task a sandbox that bubblewrap makes and that process joins.

In the sandbox there are the interpreter, its packages and the course's library, all read-only; no tasks, no solutions,
no submissions, no /proc, no network, no other process. What is written to its /tmp is gone with it.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from coursekit.course.grading.names import LIBRARY
from coursekit.course.grading.wire import Channel

PACKAGE = Path(__file__).resolve().parents[2]
MODULES = ("__init__.py", "errors.py", "files.py", "hub.py")
VISIBLE = (*MODULES, "viz", "train", *(name.partition(".")[2] for name in LIBRARY))
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/proc/cpuinfo")
PATIENCE = 6
TMP_BYTES = 128 << 20
INSTALL = "on Debian or Ubuntu `apt install bubblewrap`"


@dataclass(frozen=True)
class Limits:
    """What a submission may use: seconds of computing for a task, MB, and how many tasks may have to be stopped.

    Time is the processors', so that a busy machine costs nobody points; asleep, a task has PATIENCE times as long.
    """

    seconds: float = 10.0
    megabytes: int = 2048
    stops: int = 3


def bubblewrap(hidden: list[Path]) -> list[str]:
    """The command that makes a sandbox which does not show the folders `hidden`.

    Raises RuntimeError with one line where bubblewrap is missing or may not make one.
    """
    program = shutil.which("bwrap")
    why = "submissions are run in a sandbox, for which bubblewrap is needed"
    if sys.platform != "linux" or program is None:
        raise RuntimeError(f"{why} ({INSTALL}); --trusted runs them without one, with all your rights")
    sizes = "--size" in subprocess.run([program, "--help"], capture_output=True, text=True).stdout
    said = ""
    for user in ([], ["--unshare-user"]) if os.geteuid() == 0 else (["--unshare-user"],):
        command = [program, *user, *_options(hidden, sizes)]
        tried = subprocess.run([*command, "--", "/bin/true"], capture_output=True, text=True)
        if tried.returncode == 0:
            return command
        said = " ".join(tried.stderr.split())
    raise RuntimeError(f"bubblewrap cannot make a sandbox here ({said}); --trusted runs submissions without one")


def _options(hidden: list[Path], sizes: bool) -> list[str]:
    """Namespaces and files of the sandbox. Deeper paths come later, so that they win."""
    shown = {Path(path) for path in SYSTEM if os.path.exists(path)}
    shown |= {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    shown |= {Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    library = {PACKAGE / name for name in VISIBLE}
    masked = {path.resolve() for path in hidden}
    masked |= {PACKAGE, Path(sys.prefix) / "share" / "coursekit"}
    steps = []
    for path in sorted(shown | library | masked, key=lambda path: (len(path.parts), str(path))):
        if path in library or path in shown:
            if path.is_symlink():
                steps += ["--symlink", os.readlink(path), str(path)]
            elif path.exists():
                steps += [*_parents(path), "--ro-bind", str(path), str(path)]
        elif any(path.is_relative_to(above) for above in shown) and path.is_dir():
            steps += ["--tmpfs", str(path)]  # inside a folder that is shown
    namespaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--die-with-parent"]
    devices = ["--dir", "/dev", "--dir", "/proc"]
    devices += [part for path in DEVICES for part in ("--dev-bind-try", path, path)]
    temporary = ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"] if sizes else ["--dir", "/tmp"]
    # /tmp before what is shown: the course itself may lie under it
    return [*namespaces, "--new-session", *temporary, *steps, *devices, "--remount-ro", "/"]


def _parents(path: Path) -> list[str]:
    """Folders above a path, made so that everybody may pass; those made on the way would be root's alone."""
    return [part for above in reversed(path.parents[:-1]) for part in ("--dir", str(above))]


class Workshop:
    """The warm process and its sandboxes. `command` is bubblewrap's, or None to run without one."""

    def __init__(self, command: list[str] | None, limits: Limits, imports: list[str]) -> None:
        self.command, self.limits = command, limits
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment |= {"MPLBACKEND": "agg", "MPLCONFIGDIR": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}
        environment |= {
            "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno()), json.dumps(imports)],
            pass_fds=[theirs.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        if self._control.recv(100) != b"ready":
            said = " ".join(self._process.stderr.read().decode(errors="replace").split())[-300:]
            raise RuntimeError(f"the process that runs submissions did not start: {said}")

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """A fresh process in a fresh sandbox; both are gone afterwards, with all that was started there."""
        ours, theirs = socket.socketpair()
        holder, inside = self._sandbox() if self.command else (None, 0)
        try:
            limits = {"seconds": self.limits.seconds, "megabytes": self.limits.megabytes}
            request = json.dumps({"sandbox": inside} | limits).encode()
            socket.send_fds(self._control, [request], [theirs.fileno()])
            theirs.close()
            child = int(self._control.recv(100))
            yield Place(Channel(ours), child, holder)
        finally:
            if holder is not None:
                holder.kill()
                holder.communicate()
            else:
                with suppress(ProcessLookupError, PermissionError, NameError):
                    os.killpg(child, signal.SIGKILL)
            ours.close()

    def _sandbox(self) -> tuple[subprocess.Popen, int]:
        """A sandbox with nothing in it but a process that waits, and that process's number."""
        read, write = os.pipe()
        holder = subprocess.Popen(
            [*self.command, "--info-fd", str(write), "--", "/bin/cat"],  # it ends when nobody holds its input any more
            pass_fds=[write],
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        os.write(holder.stdin.fileno(), b"ready")
        with os.fdopen(read) as told:
            number = json.loads(told.read())["child-pid"]
        if holder.stdout.read(5) != b"ready":  # what cat repeats: everything is mounted
            raise RuntimeError("bubblewrap did not make a sandbox")
        return holder, number

    def close(self) -> None:
        """End the warm process."""
        self._control.close()
        self._process.stderr.close()
        self._process.wait()

    def __enter__(self) -> "Workshop":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
sys.argv[1:] = sys.argv[2:]
from coursekit.course.grading.worker import main
main()
"""


@dataclass(frozen=True)
class Place:
    """A process in its sandbox: the channel to it, its number, and bubblewrap's process."""

    channel: Channel
    process: int
    holder: subprocess.Popen | None

    def used(self) -> tuple[float, float]:
        """Seconds of computing, and MB that the sandbox's processes have to themselves, all together."""
        seconds, size = 0.0, 0
        for number in filter(None, (self.process, self.holder and self.holder.pid)):
            with suppress(psutil.Error):
                for process in psutil.Process(number).children(recursive=True) + [psutil.Process(number)]:
                    with suppress(psutil.Error):
                        seconds += sum(process.cpu_times()[:4])
                        size += process.memory_full_info().uss
        return seconds, size / (1 << 20)

    def kill(self) -> None:
        """End every process there."""
        with suppress(ProcessLookupError):
            if self.holder is not None:
                self.holder.kill()
            else:
                os.killpg(self.process, signal.SIGKILL)
