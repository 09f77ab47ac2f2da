"""Whom tshark runs as where root started it: a user that nobody else is, or nobody."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

OWN = "sharkstat"  # a user of that name is taken where there is one
# Users for a time, as systemd has them (systemd.exec, DynamicUser): nobody has these numbers, two runs never the same.
_DYNAMIC = range(61184, 65520)
_LOCKS = Path("/run/sharkstat")


class User(NamedTuple):
    """`alone` is True where no other process is this user: then what it left behind can be ended with it."""

    uid: int
    gid: int
    alone: bool = False
    lock: int = -1

    def release(self) -> None:
        """No process of this user's is left, and another run may be it."""
        if self.alone:
            for pid in _processes(self.uid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            os.close(self.lock)


def unprivileged_user() -> User | None:
    """The user that tshark runs as: None for who we are, unless that is root."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam(OWN)
        if entry.pw_uid and entry.pw_gid:
            return User(entry.pw_uid, entry.pw_gid)
    return _dynamic() or _nobody()


def _nobody() -> User:
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam("nobody")
        if entry.pw_uid and entry.pw_gid:
            return User(entry.pw_uid, entry.pw_gid)
    return User(65534, 65534)


def _dynamic() -> User | None:
    """A user that no other process is; None where there can be none (in containers with few users, as one reason)."""
    if not (_mapped("uid") and _mapped("gid")):
        return None
    try:
        _LOCKS.mkdir(mode=0o700, exist_ok=True)
        state = _LOCKS.lstat()
        if not _LOCKS.is_dir() or _LOCKS.is_symlink() or state.st_uid != 0 or state.st_mode & 0o022:
            return None
        for number in random.sample(_DYNAMIC, 20):
            if _known(number) or any(_processes(number)):
                continue
            lock = os.open(_LOCKS / str(number), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                continue
            return User(number, number, True, lock)
    except OSError:
        pass
    return None


def _mapped(kind: str) -> bool:
    """Whether this user namespace has the numbers."""
    try:
        lines = Path(f"/proc/self/{kind}_map").read_text().splitlines()
    except OSError:
        return False
    spans = [list(map(int, line.split())) for line in lines]
    return any(first <= _DYNAMIC.start and _DYNAMIC.stop <= first + count for first, _, count in spans)


def _known(number: int) -> bool:
    for ask in (pwd.getpwuid, grp.getgrgid):
        with contextlib.suppress(KeyError):
            ask(number)
            return True
    return Path(f"/run/systemd/dynamic-uid/{number}").exists()


def _processes(uid: int) -> Iterator[int]:
    """Those of this user, here: a container's have the same numbers, and its runs know nothing of our locks."""
    here = Path("/proc/self/ns/pid").readlink()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid and Path(entry.path, "ns/pid").readlink() == here:
                    yield int(entry.name)
