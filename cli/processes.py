"""The processes of a cluster on this machine: who runs, signals to them, waiting for them, ports that are taken."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Callable

from cli.layout import Cluster, Node
from cli.watch import running_pid
from nodes.config.node import split_address
from nodes.files import holder


def supervisor_pid(found: Cluster) -> int | None:
    """The process that `cluster up` is, None if none runs."""
    pid = holder(found.lock_file)
    return int(pid) if pid.isdigit() else None  # it begins by writing that down


def send(node: Node, *numbers: signal.Signals) -> None:
    """Signals to the node, if it runs on this machine."""
    pid = running_pid(node)
    if pid is None:
        return
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_until(done: Callable[[], bool], patience_s: float) -> bool:
    """Looks until `done`; False if that takes longer."""
    deadline = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_taken(address: str) -> bool:
    """Whether another program listens at host:port of this machine."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
