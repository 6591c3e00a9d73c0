"""Rspamd, clamd, opendkim and opendmarc of Debian as processes of a test, configured for it alone, without internet.

clamd knows one signature, the test file of EICAR; nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.cluster import free_base_port

START_S = 60.0  # the machine may be busy
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

RSPAMD_CONFIGURATION = """
options {{
  pidfile = "$RUNDIR/rspamd.pid"; cache_file = "$DBDIR/symbols.cache"; url_tld = "$DBDIR/suffixes";
  history_file = ""; stats_file = "$DBDIR/stats"; rrd = ""; control_socket = "$RUNDIR/control mode=0600";
  disable_hyperscan = true; filters = "dkim,spf"; enable_test_patterns = true; local_addrs = ["127.0.0.0/8"];
  dns {{ timeout = 2s; retransmits = 2; nameserver = ["{nameserver}"]; }}
}}
logging {{ type = "file"; filename = "$LOGDIR/rspamd.log"; level = "info"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
worker "controller" {{ enabled = false; }}
actions {{ reject = 15; add_header = 6; greylist = 4; }}
lua = "$RULESDIR/rspamd.lua"
modules {{ path = "$PLUGINSDIR"; }}
spf {{ }}
dkim {{ }}
arc {{ }}
dmarc {{ }}
milter_headers {{ use = ["x-spamd-result"]; skip_local = false; }}
"""


class Program:
    """A process that listens at `address`."""

    def __init__(self, address: str, process: subprocess.Popen[bytes]) -> None:
        self.address = address
        self.process = process

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def wanted(name: str) -> str:
    """The program's path; the test is skipped where there is none."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextlib.contextmanager
def rspamd(folder: Path, nameserver: str = "127.0.0.1:9") -> Iterator[Program]:
    """`nameserver` is host:port, all that it knows of the DNS."""
    program, port = wanted("rspamd"), free_base_port(1)
    for name in ("db", "log", "run"):
        (folder / name).mkdir(parents=True)
    (folder / "db" / "suffixes").write_text("test\ncom\n")
    (folder / "rspamd.conf").write_text(RSPAMD_CONFIGURATION.format(port=port, nameserver=nameserver))
    places = {"DBDIR": "db", "LOGDIR": "log", "RUNDIR": "run"}
    told = [part for name, place in places.items() for part in ("--var", f"{name}={folder / place}")]
    as_root = ["-i"] if os.geteuid() == 0 else []
    with _running(folder, [program, "-f", *as_root, "-c", str(folder / "rspamd.conf"), *told]) as process:
        started = Program(f"127.0.0.1:{port}", process)
        _until(lambda: _answers(("127.0.0.1", port), b"GET /ping HTTP/1.0\r\n\r\n", b"pong"), folder)
        yield started


@contextlib.contextmanager
def clamd(folder: Path, stream_bytes: int = 1024 * 1024) -> Iterator[Program]:
    program = wanted("clamd")
    (folder / "database").mkdir(parents=True)
    (folder / "database" / "local.ndb").write_text(f"Test.Eicar:0:*:{EICAR[28:].hex()}\n")
    socket_path = folder / "clamd.sock"
    (folder / "clamd.conf").write_text(
        f"LocalSocket {socket_path}\nDatabaseDirectory {folder}/database\nForeground yes\n"
        f"StreamMaxLength {stream_bytes}\nMaxThreads 4\n"
    )
    with _running(folder, [program, "-c", str(folder / "clamd.conf")]) as process:
        _until(lambda: _answers(str(socket_path), b"zPING\0", b"PONG"), folder)
        yield Program(f"unix:{socket_path}", process)


@contextlib.contextmanager
def opendkim(folder: Path, *lines: str) -> Iterator[Program]:
    """`lines` of its configuration: what it does. It listens at a Unix socket."""
    program = wanted("opendkim")
    folder.mkdir(parents=True, exist_ok=True)
    socket_path = folder / "opendkim.sock"
    configuration = [f"Socket local:{socket_path}", "Syslog no", "RequireSafeKeys no", "Background no", *lines]
    (folder / "opendkim.conf").write_text("\n".join(configuration) + "\n")
    with _running(folder, [program, "-f", "-x", str(folder / "opendkim.conf")]) as process:
        _until(lambda: _answers(str(socket_path), b"", b""), folder)
        yield Program(f"unix:{socket_path}", process)


@contextlib.contextmanager
def opendmarc(folder: Path, resolver_host: str, *lines: str) -> Iterator[Program]:
    """It asks the name server of resolv.conf, which it is given in a mount namespace of its own: that needs root."""
    program = wanted("opendmarc")
    folder.mkdir(parents=True, exist_ok=True)
    socket_path = folder / "opendmarc.sock"
    (folder / "resolv.conf").write_text(f"nameserver {resolver_host}\n")
    (folder / "opendmarc.conf").write_text("\n".join([f"Socket local:{socket_path}", "Syslog false", *lines]) + "\n")
    script = 'mount --bind "$1/resolv.conf" /etc/resolv.conf && exec "$2" -f -c "$1/opendmarc.conf"'
    with _running(folder, ["unshare", "-m", "sh", "-c", script, "sh", str(folder), program]) as process:
        _until(lambda: _answers(str(socket_path), b"", b""), folder)
        yield Program(f"unix:{socket_path}", process)


@contextlib.contextmanager
def _running(folder: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str | tuple[str, int], question: bytes, answer: bytes) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as asking, contextlib.suppress(OSError):
        asking.settimeout(2)
        asking.connect(address)
        asking.sendall(question)
        return not answer or answer in asking.recv(4096)
    return False


def _until(is_up: Callable[[], bool], folder: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while not is_up():
        assert time.monotonic() < deadline_s, (folder / "output").read_text(errors="replace")
        time.sleep(0.05)
