"""What a node and a service manager say to each other: sd_notify(3), sd_listen_fds(3). Nothing where nobody listens.

The protocols are a datagram of lines to the socket that NOTIFY_SOCKET names, and descriptors from 3 on.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

FIRST_FD = 3
PREFIX = "fd:"  # of an address: the socket that was passed under this name


class Notifier:
    """Tells the service manager how the node does; `environ` is the process's."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 if mine else 0.0

    def tell(self, **facts: str) -> None:
        """READY, RELOADING, STOPPING, WATCHDOG, STATUS ...; a manager that went away is no concern of the node's."""
        if not self._address:
            return
        text = "\n".join(f"{name.upper()}={value}" for name, value in facts.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto(text.encode(), self._address)
            except OSError:
                return

    def ready(self, status: str) -> None:
        self.tell(ready="1", status=status)

    def reloading(self) -> None:
        self.tell(reloading="1", monotonic_usec=str(time.monotonic_ns() // 1000))

    def stopping(self) -> None:
        self.tell(stopping="1", status="sessions are ended")

    async def watch(self, is_well: Callable[[], bool], status: Callable[[], str]) -> None:
        """Says that the node lives, as often as the watchdog wants, for as long as it does; until it is cancelled.

        It runs on the node's own event loop: one that hangs says nothing, and is started again. What else the node
        consists of is asked by `is_well`.
        """
        told = ""
        while True:
            if self.watchdog_s and is_well():
                self.tell(watchdog="1")
            if (now := status()) != told:
                self.tell(status=now)
                told = now
            await asyncio.sleep(self.watchdog_s / 3 if self.watchdog_s else 5.0)


def passed_sockets(environ: Mapping[str, str] = os.environ) -> dict[str, int]:
    """The descriptors that were passed to this process, by name."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    return {name or f"fd{FIRST_FD + at}": FIRST_FD + at for at, name in zip(range(count), names + [""] * count)}


def take_over_sockets(from_pid: int) -> None:
    """What was passed to the process that started this one is passed to this one: it has the same descriptors."""
    if os.environ.get("LISTEN_PID") == str(from_pid):
        os.environ["LISTEN_PID"] = str(os.getpid())


def passed_socket(address: str, environ: Mapping[str, str] = os.environ) -> socket.socket | None:
    """The socket behind `fd:NAME`, the node's own copy of it; None for another address. Raises OSError."""
    if not address.startswith(PREFIX):
        return None
    name = address.removeprefix(PREFIX)
    passed = passed_sockets(environ)
    if name not in passed:
        raise OSError(0, f"no socket of that name was passed to this process ({', '.join(passed) or 'none was'})")
    listening = socket.socket(fileno=os.dup(passed[name]))
    listening.setblocking(False)
    return listening
