"""A private Exim: one that receives for example.test into one Maildir, with TLS and a login, and one that sends.

As a Debian package Exim excludes Postfix, so scripts/debian-packages unpacks its program alone.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

CAN_NOT_BE_LOADED = 127  # what the dynamic loader ends a program with
UNPACKED = Path("/usr/local/lib/mailraft-tests/exim4")
START_TIMEOUT_S = 10.0
CONFIG = """
primary_hostname = mx.example.test
exim_path = {program}
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
keep_environment =
deliver_drop_privilege = true
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts = *
tls_certificate = {folder}/chain.pem
tls_privatekey = {folder}/chain.pem
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  accept authenticated = *
  accept domains = example.test
         local_parts = bob : ann
  deny   message = no such user
begin routers
all:
  driver = accept
  transport = inbox
begin transports
inbox:
  driver = appendfile
  directory = {folder}/mail
  maildir_format
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{me}}}}{{eq{{$auth3}}{{s3cret}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""


def program() -> str | None:
    """Exim, installed or unpacked."""
    return shutil.which("exim4") or (str(UNPACKED) if UNPACKED.exists() else None)


def missing() -> str:
    """Why it can not run here, "" if it can."""
    found = program()
    if found is None:
        return "exim4 is not installed"
    if subprocess.run([found, "-bV"], capture_output=True).returncode == CAN_NOT_BE_LOADED:
        return "exim4 lacks its libraries: remove it, then scripts/debian-packages"
    try:
        pwd.getpwnam("Debian-exim")
    except KeyError:
        return "there is no user Debian-exim"
    return "" if os.geteuid() == 0 else "Exim needs root to start"


class EximReceiver:
    """`mails()`: what has come."""

    def __init__(self, port: int, chain: Path) -> None:
        self.port = port
        self._folder = Path(tempfile.mkdtemp(prefix="exim-peer."))
        self._chain = chain

    def __enter__(self) -> Self:
        for name in ("spool", "mail"):
            (self._folder / name).mkdir()
        shutil.copy(self._chain, self._folder / "chain.pem")
        for path in (self._folder, *self._folder.iterdir()):
            shutil.chown(path, "Debian-exim")
        self._folder.chmod(0o755)
        config = self._folder / "exim.conf"
        config.write_text(CONFIG.format(folder=self._folder, port=self.port, program=program()))
        command = [str(program()), "-C", str(config), "-bdf"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        self.__exit__(None, None, None)
        assert self._process.stderr is not None
        raise AssertionError(f"Exim does not start: {self._process.stderr.read().decode()}")

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def mails(self) -> list[bytes]:
        return [one.read_bytes() for one in sorted((self._folder / "mail" / "new").glob("*"))]

    @property
    def log(self) -> str:
        return "".join(one.read_text() for one in self._folder.glob("*log"))


SENDER = """
primary_hostname = mx.remote.test
exim_path = {program}
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
keep_environment =
local_interfaces = 127.0.0.1
trusted_users = root
remote_max_parallel = 1
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {port}
  allow_localhost = true
  hosts_require_tls = *
  tls_verify_certificates = {ca}
  tls_verify_cert_hostnames =
  tls_verify_hosts = *
begin retry
* * F,1h,1m
"""


def send(port: int, ca: Path, sender: str, recipients: list[str], message: bytes) -> str:
    """Hands a message to Exim, which sends it over verified TLS to a port of this machine at once; gives its log."""
    folder = Path(tempfile.mkdtemp(prefix="exim-sender."))
    try:
        (folder / "spool").mkdir()
        shutil.copy(ca, folder / "ca.pem")
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "Debian-exim")
        folder.chmod(0o755)
        config = folder / "exim.conf"
        config.write_text(SENDER.format(folder=folder, port=port, ca=folder / "ca.pem", program=program()))
        command = [str(program()), "-C", str(config), "-odf", "-oi", "-f", sender, *recipients]
        done = subprocess.run(command, input=message, capture_output=True, timeout=60)
        return done.stderr.decode() + "".join(one.read_text() for one in folder.glob("*log"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
