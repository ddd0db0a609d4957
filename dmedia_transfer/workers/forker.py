"""Forker: a process that has loaded what workers need, and forks one whenever the pool wants one.

To start Python and load the modules takes a quarter of a second of a processor, half a second where a store is on S3,
and 40 MB; a fork takes a few milliseconds, and shares that memory. Forking is safe here, and would not be in the
daemon: this process has one thread, and neither connections nor databases are open.

It is the parent of the workers, so it tells the pool how each has ended; and it is told whom to kill, as only a
parent knows that a process ID still means its child. If it dies, the kernel kills its workers, and when its pipe
ends, the daemon has died or needs it no more, and it leaves.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import select
import signal
import socket
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Final, NoReturn

from dmedia_transfer import backends, coredumps
from dmedia_transfer.workers import worker
from dmedia_transfer.workers.messages import MAX_MESSAGE, Bear, Died, Kill

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_libc: Final = ctypes.CDLL(None)


class Forker:
    """The process's one and only."""

    def __init__(self, pool: socket.socket) -> None:
        """Nothing is forked yet; `pool` is where one is told what to do."""
        self._pool = pool
        self._children: dict[int, tuple[int, int]] = {}  # number and process ID, by the descriptor of the process
        self._loaded: set[str] = set()  # backends
        self._poll = select.poll()
        self._poll.register(pool, select.POLLIN)

    def serve(self) -> None:
        """Do what is asked until nobody asks any more."""
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._children:
                    self._bury(fd)
                    continue
                data, fds, _, _ = socket.recv_fds(self._pool, MAX_MESSAGE, 1)
                if not data:
                    return
                match pickle.loads(data):  # noqa: S301 - of the daemon, which has started us
                    case Bear(number, plugins):
                        self._bear(number, plugins, Connection(fds[0]))
                    case Kill(number):
                        self._kill(number)

    def _bear(self, number: int, plugins: tuple[str, ...], pipe: Connection) -> None:
        for plugin in set(plugins) - self._loaded:
            backends.preload(plugin)
            self._loaded.add(plugin)
        gc.freeze()  # so that a worker that looks for garbage does not write to all pages that it shares
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(Died(number, 1, f"a worker process could not be started: {error.strerror}"))
            return
        finally:
            if os.getpid() == parent:
                pipe.close()
        if pid == 0:
            self._be_worker(pipe, parent)
        fd = os.pidfd_open(pid)
        self._children[fd] = (number, pid)
        self._poll.register(fd, select.POLLIN)

    def _be_worker(self, pipe: Connection, parent: int) -> NoReturn:
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == parent:
                for fd in self._children:
                    os.close(fd)
                self._pool.close()
                worker.run(pipe)
        except BaseException:
            traceback.print_exc()
        os._exit(1)

    def _bury(self, fd: int) -> None:
        number, pid = self._children.pop(fd)
        self._poll.unregister(fd)
        os.close(fd)
        _, status = os.waitpid(pid, 0)
        self._tell(Died(number, os.waitstatus_to_exitcode(status)))

    def _kill(self, number: int) -> None:
        for child, pid in self._children.values():
            if child == number:
                os.kill(pid, signal.SIGKILL)

    def _tell(self, message: Died) -> None:
        try:
            self._pool.send(pickle.dumps(message))
        except OSError:
            os._exit(0)


def main() -> None:
    """Fork workers, as is asked through the socket whose number is the argument."""
    coredumps.forbid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the daemon, which tells us
    fd = int(sys.argv[1])
    os.set_inheritable(fd, False)
    with socket.socket(fileno=fd) as pool:
        Forker(pool).serve()
    os._exit(0)


if __name__ == "__main__":
    main()
