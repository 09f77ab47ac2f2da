"""Runs the command in a process that has Python and sharkstat loaded already: that is half of a short run's time.

`Warm` is a child of the tests which has imported everything and waits. For every command it forks a process that
is given its own arguments, environment, folder and standard streams, and in which the console script's function
runs to its end, interpreter exit included. Nothing of an earlier command is in it: the parent runs none.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

# What Python itself reads when it starts.
AT_START = ("PYTHON", "LC_", "LANG", "_SHARKSTAT_COMPLETE")


class Warm:
    """Starts its process when it is first asked for something."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def call(
        self, arguments: Sequence[str], env: Mapping[str, str], cwd: str, streams: Sequence[int], timeout: float
    ) -> int:
        """Run one command; its status, as subprocess has it. The three streams are closed here when it has them."""
        our_end, its_end = os.pipe()
        request = json.dumps({"argv": [self._program, *arguments], "env": dict(env), "cwd": cwd}).encode()
        with self._lock:
            self._ask(request, [*streams, its_end])
        for fd in (*streams, its_end):
            os.close(fd)
        with os.fdopen(our_end, "rb") as end:
            pid = int(end.readline())
            watch = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
            watch.start()
            said = end.read()
            watch.cancel()
        if not said:
            raise ChildProcessError(f"{arguments}: its process did not say how it ended")
        return int(said)

    def run(
        self, arguments: Sequence[str], env: Mapping[str, str], cwd: str, given: bytes, timeout: float
    ) -> tuple[int, bytes, bytes]:
        """The command's status and what it wrote; `given` is its standard input."""
        (its_in, our_in), (our_out, its_out), (our_err, its_err) = (os.pipe() for _ in range(3))
        written: dict[int, bytes] = {}

        def read(fd: int) -> None:
            with os.fdopen(fd, "rb") as stream:
                written[fd] = stream.read()

        def write() -> None:
            with contextlib.suppress(BrokenPipeError), os.fdopen(our_in, "wb") as stream:
                stream.write(given)

        threads = [threading.Thread(target=write)]
        threads += [threading.Thread(target=read, args=(fd,)) for fd in (our_out, our_err)]
        for thread in threads:
            thread.start()
        status = self.call(arguments, env, cwd, (its_in, its_out, its_err), timeout)
        for thread in threads:
            thread.join()
        return status, written[our_out], written[our_err]

    def _ask(self, request: bytes, fds: list[int]) -> None:
        if self._process is None or self._process.poll() is not None:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(its.fileno())], pass_fds=[its.fileno()], stdin=subprocess.DEVNULL
            )
            its.close()
            self._socket = ours
            atexit.register(self.close)
        assert self._socket is not None
        self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])

    def close(self) -> None:
        """End its process."""
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.wait()
            self._process = None


def serve(listening: socket.socket) -> None:
    """Until the tests end. Returns in the process of a command, which then runs it."""
    while True:
        fds = array.array("i")
        message, ancillary, _, _ = listening.recvmsg(1 << 20, socket.CMSG_SPACE(4 * fds.itemsize))
        if not message:
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.wait()
            os._exit(0)
        for _, _, data in ancillary:
            fds.frombytes(data)
        *streams, end = fds
        if os.fork() == 0:
            break
        for fd in fds:
            os.close(fd)
        with contextlib.suppress(ChildProcessError):  # those that ended meanwhile
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    # This process waits for that of the command and tells how it ended.
    listening.close()
    command = os.fork()
    if command:
        for fd in streams:
            os.close(fd)
        os.write(end, b"%d\n" % command)
        status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        os.write(end, b"%d" % status)
        os._exit(0)
    os.close(end)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    request = json.loads(message)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
    sys.path[0] = str(Path(sys.argv[0]).parent)


def standard_streams() -> None:
    """As Python opens them when it starts."""
    sys.stdin = sys.__stdin__ = open(0, encoding=sys.stdin.encoding, errors=sys.stdin.errors)  # type: ignore[misc] # noqa: SIM115
    for number, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        new = open(number, "w", encoding=old.encoding, errors=old.errors, buffering=1 if number == 2 else -1)  # noqa: SIM115, PTH123
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def main() -> None:
    sys.path.pop(0)
    import gc
    import pkgutil
    from importlib import import_module
    from importlib.metadata import entry_points

    import sharkstat

    for module in pkgutil.walk_packages(sharkstat.__path__, "sharkstat."):
        if "testing" not in module.name and not module.name.startswith("sharkstat.commands.templates"):
            import_module(module.name)
    for plugin in entry_points(group="sharkstat"):
        plugin.load()
    (script,) = entry_points(group="console_scripts", name="sharkstat")
    command = script.load()
    gc.freeze()
    sys.path.insert(0, "")
    serve(socket.socket(fileno=int(sys.argv[1])))
    standard_streams()
    sys.exit(command())


if __name__ == "__main__":
    main()
