"""Pebble, the ACME authority that Let's Encrypt tests clients with, and its DNS, from Debian's package."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.peers import certificates

START_S = 20.0


class Pebble(NamedTuple):
    """`directory` is served with a certificate of the authority in the file `ca`."""

    directory: str
    ca: Path
    dns: str  # where its DNS is told what to answer


def free_ports(count: int) -> list[int]:
    """So many that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def pebble(folder: Path, http_port: int, *, refused_nonces: int = 0) -> Iterator[Pebble]:
    """It validates HTTP-01 at `http_port` of 127.0.0.1, which all names lead to. Skips the test where it is missing."""
    for program in ("pebble", "pebble-challtestsrv"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: scripts/debian-packages")
    listen, management, dns, dns_management = free_ports(4)
    authority = certificates.authority("Pebble's own")
    own = certificates.server("localhost", issuer=authority)
    for name, data in (("ca.pem", authority.pem), ("cert.pem", own.pem + authority.pem), ("key.pem", own.key_pem)):
        (folder / name).write_bytes(data)
    config = {
        "listenAddress": f"127.0.0.1:{listen}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(folder / "cert.pem"),
        "privateKey": str(folder / "key.pem"),
        "httpPort": http_port,
        "tlsPort": free_ports(1)[0],
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    environment = os.environ | {
        "PEBBLE_VA_NOSLEEP": "1",
        "PEBBLE_WFE_NONCEREJECT": str(refused_nonces),
        "PEBBLE_AUTHZREUSE": "0",
    }
    off = [f"-{what}=" for what in ("http01", "https01", "tlsalpn01", "defaultIPv6")]
    commands = [
        ["pebble-challtestsrv", f"-dns01=127.0.0.1:{dns}", f"-management=127.0.0.1:{dns_management}", *off],
        ["pebble", "-strict", "-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}"],
    ]
    running = []
    try:
        with (folder / "pebble.log").open("wb") as log:
            for command in commands:
                running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        found = Pebble(f"https://localhost:{listen}/dir", folder / "ca.pem", f"http://127.0.0.1:{dns_management}")
        _wait(found)
        yield found
    finally:
        for process in running:
            process.kill()
            process.wait()


def _wait(one: Pebble) -> None:
    context = ssl.create_default_context(cafile=str(one.ca))
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(one.directory, context=context, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
