"""Where a front end listens: an address that it binds itself, or a socket that the service manager bound for it."""

from __future__ import annotations

import socket
from typing import Any

from nodes.config.node import split_address
from nodes.systemd import passed_socket


def place(address: str, backlog: int) -> dict[str, Any]:
    """Arguments of `create_server` for `host:port` or `fd:NAME`. Raises OSError for a socket that was not passed."""
    passed = passed_socket(address)
    if passed is not None:
        return {"sock": passed, "backlog": backlog}
    host, port = split_address(address)
    return {"host": host, "port": port, "backlog": backlog}


def bound_socket(address: str, backlog: int) -> socket.socket:
    """The same as a socket that listens, without waiting. Raises OSError."""
    listening = passed_socket(address)
    if listening is None:
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=backlog)
    listening.setblocking(False)
    return listening
