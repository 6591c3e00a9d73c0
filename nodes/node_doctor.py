"""What a node needs of its machine: room, descriptors, ports, settings of the kernel, a clock that is right, versions,
certificates. Each is looked at and said; nothing is changed."""

from __future__ import annotations

import datetime
import errno
import os
import platform
import resource
import shutil
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import lmdb
from cryptography import x509

from nodes.config.node import NodeConfig, split_address
from nodes.health import CLOCK_ERROR_S, CLOCK_WARNING_S
from nodes.process import LOCK_NAME, read_pid
from nodes.tls.findings import RENEW, ROTATE

SPARE_DESCRIPTORS = 256
LEAST_SOMAXCONN = 1024
EXPIRY_WARNING_DAYS = 30
TIME = "%Y-%m-%dT%H:%M:%SZ"
PROC = Path("/proc/sys")


class Finding(NamedTuple):
    """`status`: ok, note, warning, error. `advice` is what to do about it."""

    area: str
    status: Literal["ok", "note", "warning", "error"]
    text: str
    advice: str = ""


def examine(config: NodeConfig, clocks: Mapping[str, float]) -> list[Finding]:
    """Everything. `clocks`: by how many seconds each node is ahead of this machine."""
    return [
        *disk(config),
        *descriptors(config),
        *ports(config),
        *kernel(),
        *clock(clocks),
        *versions(),
        *certificates(config, datetime.datetime.now(datetime.UTC)),
    ]


def disk(config: NodeConfig) -> Iterator[Finding]:
    folder = next(part for part in (config.node.data_dir, *config.node.data_dir.parents) if part.is_dir())
    if not os.access(folder, os.W_OK):
        yield Finding("disk", "error", f"{folder} can not be written to", "chown it to the node's account")
    usage = shutil.disk_usage(folder)
    free = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB are free in {folder}"
    if usage.free <= config.storage.reserve_bytes:
        yield Finding("disk", "error", f"{free}: below storage.reserve_bytes, mail is refused", "make room")
    elif usage.free < max(5 * config.storage.reserve_bytes, usage.total // 20):
        yield Finding("disk", "warning", free, "make room before mail is refused at storage.reserve_bytes")
    else:
        yield Finding("disk", "ok", free)


def descriptors(config: NodeConfig) -> Iterator[Finding]:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = config.limits.connections + config.delivery.connections + SPARE_DESCRIPTORS
    if most != resource.RLIM_INFINITY and most < needed:
        text = f"{most} file descriptors are allowed, and limits.connections wants {needed}"
        yield Finding("descriptors", "error", text, "LimitNOFILE= of the unit, or ulimit -n")
    else:
        yield Finding("descriptors", "ok", f"{most} are allowed, {needed} may be needed")


def ports(config: NodeConfig) -> Iterator[Finding]:
    """Whether each address is ours, or can be."""
    running = read_pid(config.node.data_dir / LOCK_NAME)
    running = running if running is not None and Path(f"/proc/{running}").is_dir() else None
    named = [("raft.listen", config.raft.listen), *((f"listen.{key}", address) for key, address in config.listen)]
    for name, address in named:
        if not address or address.startswith("fd:"):
            continue
        reason = _not_bound(address)
        if reason is None:
            yield Finding("ports", "ok", f"{name} = {address} is free")
        elif reason == errno.EADDRINUSE and running is not None:
            yield Finding("ports", "ok", f"{name} = {address} is in use; this node runs (pid {running})")
        elif reason == errno.EADDRINUSE:
            yield Finding("ports", "error", f"{name} = {address} is in use", "stop the other program: ss -ltnp")
        elif reason == errno.EACCES:
            advice = "a socket unit and fd:NAME: mailraft node systemd-unit --socket"
            yield Finding("ports", "error", f"{name} = {address}: this account may not bind it", advice)
        else:
            yield Finding("ports", "error", f"{name} = {address}: {os.strerror(reason)}", "an address of this machine")


def _not_bound(address: str) -> int | None:
    host, port = split_address(address)
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return None


def kernel() -> Iterator[Finding]:
    backlog = _setting("net/core/somaxconn")
    if backlog is not None and backlog < LEAST_SOMAXCONN:
        advice = f"sysctl net.core.somaxconn={LEAST_SOMAXCONN}"
        yield Finding("kernel", "warning", f"net.core.somaxconn is {backlog}: bursts of connections are lost", advice)
    if _setting("vm/overcommit_memory") == 2:
        advice = "sysctl vm.overcommit_memory=0, or a small storage.map_size_bytes"
        yield Finding("kernel", "error", "vm.overcommit_memory is 2: the database can not be mapped", advice)
    swappiness = _setting("vm/swappiness")
    yield Finding("kernel", "ok", f"{platform.system()} {platform.release()}, vm.swappiness {swappiness}")


def _setting(name: str) -> int | None:
    try:
        return int((PROC / name).read_text())
    except (OSError, ValueError):
        return None


def clock(ahead_s: Mapping[str, float]) -> Iterator[Finding]:
    """Against those of the other nodes."""
    if not ahead_s:
        yield Finding("clock", "note", "not compared with other nodes", "--cluster DIR")
    for name, seconds in ahead_s.items():
        text = f"the clock of {name} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
        advice = "NTP on both: timedatectl set-ntp true"
        if abs(seconds) >= CLOCK_ERROR_S:
            yield Finding("clock", "error", f"{text}: what the one that is off proposes is refused", advice)
        elif abs(seconds) >= CLOCK_WARNING_S:
            yield Finding("clock", "warning", text, advice)
        else:
            yield Finding("clock", "ok", text)


def versions() -> Iterator[Finding]:
    database = ".".join(map(str, lmdb.version()))
    yield Finding("versions", "ok", f"Python {platform.python_version()}, LMDB {database}, {ssl.OPENSSL_VERSION}")


def certificates(config: NodeConfig, now: datetime.datetime) -> Iterator[Finding]:
    named = {"tls.ca": (config.tls.ca, ROTATE), "tls.certificate": (config.tls.certificate, RENEW)}
    if config.tls.server_certificate is not None:
        named["tls.server_certificate"] = (config.tls.server_certificate, "a new one in that file, and its key")
    for name, (path, advice) in named.items():
        place = f'{name} = "{path}"'
        try:
            found = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as error:
            yield Finding("certificates", "error", f"{place} can not be read: {error}", "mailraft config check")
            continue
        yield _validity(place, found, now, advice)


def _validity(place: str, found: x509.Certificate, now: datetime.datetime, advice: str) -> Finding:
    """By this machine's clock."""
    begin, end = found.not_valid_before_utc, found.not_valid_after_utc
    if end <= now:
        return Finding("certificates", "error", f"{place} has expired at {end:{TIME}}", advice)
    if begin > now:
        clock_too = f"{advice}; or this machine's clock, which says {now:{TIME}}"
        return Finding("certificates", "error", f"{place} is not valid before {begin:{TIME}}", clock_too)
    left = (end - now).days
    text = f"{place} is valid for {left} days"
    if left < EXPIRY_WARNING_DAYS:
        return Finding("certificates", "warning", text, advice)
    return Finding("certificates", "ok", text)
