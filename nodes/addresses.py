"""Addresses of listeners and of who is connected to."""

from __future__ import annotations


def split_address(value: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as a pair; raises ValueError that says what is wrong."""
    host, colon, port = value.rpartition(":")
    if not colon or not host:
        raise ValueError("must be host:port, as in 127.0.0.1:20000")
    if not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("the port must be a number from 0 to 65535")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 address stands in brackets, as in [::1]:20000")
    return host.strip("[]"), int(port)
