"""Where a front end listens: an address that it binds itself, or a socket that the service manager bound for it."""

from __future__ import annotations

import socket
from typing import Any

from nodes.config.node import split_address
from nodes.systemd import passed_socket

_shared = False  # whether every address is shared with other processes of this node


def share_addresses() -> None:
    """From here on this process shares each address that it binds: the kernel spreads connections (SO_REUSEPORT)."""
    global _shared
    _shared = True


def reserve(address: str) -> socket.socket:
    """Binds `host:port` for processes that share it, and takes no connection itself; or the socket that was passed.

    The port is first asked for alone: another program that listens there would share it without a word. Raises OSError.
    """
    passed = passed_socket(address)
    if passed is not None:
        return passed
    host, port = split_address(address)
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    bound = found[4]
    for options in ((socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)):
        one = socket.socket(found[0], socket.SOCK_STREAM)
        try:
            for option in options:
                one.setsockopt(socket.SOL_SOCKET, option, 1)
            one.bind(bound)
        except OSError:
            one.close()
            raise
        if len(options) == 1:
            bound = one.getsockname()
            one.close()
    return one


def place(address: str, backlog: int) -> dict[str, Any]:
    """Arguments of `create_server` for `host:port` or `fd:NAME`. Raises OSError for a socket that was not passed."""
    passed = passed_socket(address)
    if passed is not None:
        return {"sock": passed, "backlog": backlog}
    host, port = split_address(address)
    return {"host": host, "port": port, "backlog": backlog, "reuse_port": _shared or None}


def bound_socket(address: str, backlog: int) -> socket.socket:
    """The same as a socket that listens, without waiting. Raises OSError."""
    listening = passed_socket(address)
    if listening is None:
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=backlog, reuse_port=_shared)
    listening.setblocking(False)
    return listening
