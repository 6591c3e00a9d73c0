"""etcd beside our log: three members of Debian's etcd-server with the same certificates, asked by the same client."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from cli.bench.members import Members
from cli.bench.results import Row
from cli.supervisor import environment
from nodes.config.node import split_address

START_S = 20.0
IN_FLIGHT = 256
ROUNDS = 3
SIZES = ((4096, 1), (16384, 4))  # bytes of a put, and by how much fewer of them are put
SETTING = "one request a put through a socket, to the leader; 256 in flight; peers by mutual TLS; by turns"


class EtcdError(Exception):
    """etcd is not there, or did not do its part; the text says what to do."""


def compare_with_etcd(members: Members, folder: Path, names: tuple[str, ...], puts: int) -> Iterator[Row]:
    """Puts a second of both, by turns, and their ratio (medians), for each size. Raises EtcdError, MemberError."""
    with _etcd(folder, names) as leader:
        address = members.ask(members.leader, "listen")["address"]
        for size_bytes, fewer in SIZES:
            yield from _compare(address, leader, puts // fewer, size_bytes)


def _compare(address: str, leader: str, puts: int, size_bytes: int) -> Iterator[Row]:
    ours, theirs = [], []
    for server, where in (("mailraft", address), ("etcd", leader)):
        _rate(server, where, puts // 10, size_bytes)  # connections and caches warm
    for _ in range(ROUNDS):
        ours.append(_rate("mailraft", address, puts, size_bytes))
        theirs.append(_rate("etcd", leader, puts, size_bytes))
    what = f"puts of {size_bytes} bytes through a socket"
    yield Row(f"{what}, mailraft", median(ours), "puts/s", True, SETTING)
    yield Row(f"{what}, etcd", median(theirs), "puts/s", True, SETTING)
    yield Row(f"{what}, mailraft / etcd", median(ours) / median(theirs), "ratio", True, SETTING)


def _rate(server: str, address: str, puts: int, size_bytes: int) -> float:
    load = [server, address, str(puts), str(IN_FLIGHT), str(size_bytes)]
    command = [sys.executable, "-P", "-m", "cli.bench.put_client", *load]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300, check=False)
    if done.returncode != 0:
        raise EtcdError(f"{server}: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
    return puts / float(json.loads(done.stdout)["seconds"])


@contextmanager
def _etcd(folder: Path, names: tuple[str, ...]) -> Iterator[str]:
    """Three members on loopback; gives the client address of the leader."""
    program = shutil.which("etcd")
    if program is None:
        raise EtcdError("etcd is not installed: apt-get install etcd-server")
    ports = _free_ports(2 * len(names))
    clients = dict(zip(names, ports[: len(names)]))
    peers = dict(zip(names, ports[len(names) :]))
    cluster = ",".join(f"{name}=https://127.0.0.1:{peers[name]}" for name in names)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name in names:
            own = folder / name
            with (own / "etcd.log").open("ab") as log:
                processes.append(
                    subprocess.Popen(
                        [program, "--name", name, "--data-dir", str(own / "etcd"), "--initial-cluster", cluster,
                         "--listen-client-urls", f"http://127.0.0.1:{clients[name]}",
                         "--advertise-client-urls", f"http://127.0.0.1:{clients[name]}",
                         "--listen-peer-urls", f"https://127.0.0.1:{peers[name]}",
                         "--initial-advertise-peer-urls", f"https://127.0.0.1:{peers[name]}",
                         "--peer-cert-file", str(own / "node.pem"), "--peer-key-file", str(own / "node.key"),
                         "--peer-trusted-ca-file", str(own / "ca.pem"), "--peer-client-cert-auth",
                         "--quota-backend-bytes", str(8 << 30), "--logger", "zap", "--log-level", "error"],
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    )
                )  # fmt: skip
        yield _leader([f"127.0.0.1:{port}" for port in clients.values()])
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _leader(addresses: list[str]) -> str:
    """The member that says of itself that it leads, by its metrics. Raises EtcdError."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for address in addresses:
            if "\netcd_server_is_leader 1" in _metrics(address):
                return address
        time.sleep(0.2)
    raise EtcdError(f"etcd has no leader after {START_S:.0f} s: read etcd.log in the folders of its members")


def _metrics(address: str) -> str:
    try:
        with socket.create_connection(split_address(address), timeout=2) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            parts: list[bytes] = []
            while part := connection.recv(65536):
                parts.append(part)
    except OSError:
        return ""
    return b"".join(parts).decode(errors="replace")


def _free_ports(count: int) -> list[int]:
    sockets: list[Any] = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
