"""The process that learners' functions run in: imports torch once, then forks for every task.

It is a program of its own, started outside the sandbox, and has never seen a task, a solution or a submission. For each
task a child of it enters a sandbox, drops its rights, loads the functions of one submission, and answers calls.
"""

import ctypes
import gc
import json
import os
import random
import signal
import socket
import sys

import numpy as np
import psutil
import torch

import coursekit.course
from coursekit.course.grading.limits import drop_rights, join, limit
from coursekit.course.grading.load import load
from coursekit.course.grading.peer import Peer
from coursekit.course.grading.wire import Channel

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Fork for each request that comes over file descriptor 3, until it is closed."""
    control = socket.socket(fileno=3)
    imports = json.loads(sys.argv[1])
    for line in imports:  # of the exercises as they were handed out
        try:
            exec(line, {"__name__": "imports"})
        except Exception as error:
            print(f"{line}: {error}", file=sys.stderr)
    _warm_up()
    assert not [name for name in sys.modules if name.startswith("coursekit.course.tasks.")]
    os.chdir("/")
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    used = psutil.Process().memory_info().vms  # there is no /proc inside
    control.send(b"ready")
    while True:
        data, files, _, _ = socket.recv_fds(control, 4096, 1)
        if not data:
            return
        child = os.fork()
        if child == 0:
            connection = socket.socket(fileno=files[0])
            try:
                _enter(json.loads(data), connection, control, used)
            except Exception as error:
                Channel(connection).send(
                    {"op": "raise", "kinds": ["OSError"], "text": f"{type(error).__name__}: {error}"}
                )
            finally:
                os._exit(1)
        os.close(files[0])
        control.send(str(child).encode())


def _warm_up() -> None:
    """Use once what torch sets up or imports on first use: inside it could not, or every task would pay for it."""
    import torch._dynamo

    torch.set_num_threads(1)
    x = torch.ones(2, 2, requires_grad=True)
    (x @ x).softmax(-1).sum().backward()
    repr(x)
    torch.linalg.svd(torch.eye(2))


def _enter(request: dict, connection: socket.socket, control: socket.socket, used: int) -> None:
    """In a fresh child: into the sandbox if there is one, then, one fork further, to work."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control.close()
    if request["sandbox"]:
        join(request["sandbox"])
        child = os.fork()  # the first that is inside the sandbox's process namespace
        if child:
            connection.close()
            os.waitpid(child, 0)
            os._exit(0)
        drop_rights()
    else:  # nothing else ends it when the grader does
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    limit(request["seconds"], used + (request["megabytes"] << 20), processes=bool(request["sandbox"]))
    _work(Channel(connection))


def _work(channel: Channel) -> None:
    """Load a submission and answer calls until the other side hangs up. From here on the code is not ours."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.nice(5)  # the grader comes first
    keep = channel.connection.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 4096)
    random.seed()
    np.random.seed()
    torch.manual_seed(random.getrandbits(31))
    for name in ("check", "hint", "progress"):
        setattr(coursekit.course, name, lambda *args: None)
    coursekit.course.stand_in = lambda task, answer: answer
    Peer(channel, "w").serve(_answer)


def _answer(peer: Peer, message: dict) -> object:
    """Load the cells and give the object that the task's check is to judge, with what went wrong on the way."""
    names, problems = load(message["cells"])
    try:
        answer = eval(message["answer"], names)
    except NameError:
        return {"found": False, "answer": None, "problems": problems}
    return {"found": True, "answer": answer, "problems": problems}


if __name__ == "__main__":
    main()
