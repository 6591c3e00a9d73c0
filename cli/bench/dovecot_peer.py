"""A private Dovecot to measure beside: own configuration, own mail, loopback only, gone afterwards.

Its sdbox keeps one copy and fsyncs each message before it answers (`mail_fsync = always`), without TLS. As root its
processes run under the accounts that Debian makes for them, otherwise all of them under the one that asks.
"""

import contextlib
import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.bench.processor_time import cpu_seconds, with_descendants
from nodes.process import end_with_parent

USER = PASSWORD = "bench"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 2.0
MOST_PROCESSES = 2000
PATHS = "/usr/sbin:/usr/local/sbin"
CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
mail_location = sdbox:{folder}/mail/%u
mail_fsync = always
mail_uid = {mail_user}
mail_gid = {mail_group}
first_valid_uid = 1
default_internal_user = {internal_user}
default_internal_group = {internal_group}
default_login_user = {login_user}
mail_max_userip_connections = 20000
default_client_limit = 20000
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={mail_user} gid={mail_group} home={folder}/home
}}
service imap {{
  process_limit = {most_processes}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
"""


class PeerError(Exception):
    """Dovecot can not be run here; the text says why."""


class DovecotPeer:
    """`with DovecotPeer(port) as peer:` runs it; USER logs in with PASSWORD at `peer.endpoint`. Raises PeerError."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"127.0.0.1:{port}"
        self._port = port
        self._folder = Path(tempfile.mkdtemp(prefix="dovecot-peer."))
        self._master: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._start(self._program())
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()

    def processes(self) -> list[int]:
        """All of its processes that run now."""
        assert self._master is not None
        return with_descendants(self._master.pid)

    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far."""
        return cpu_seconds(self.processes())

    def _program(self) -> str:
        program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:{PATHS}")
        if program is None:
            raise PeerError("Dovecot is not installed: apt-get install dovecot-imapd, or leave out --peer dovecot")
        version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split()[:1]
        if not version or not version[0].startswith("2.3."):
            raise PeerError(f"Dovecot {' '.join(version)} has another configuration than 2.3: leave out --peer dovecot")
        return program

    def _start(self, program: str) -> None:
        users = self._users()
        self._folder.chmod(0o755)
        for name in ("mail", "home"):
            (self._folder / name).mkdir()
            if os.geteuid() == 0:
                shutil.chown(self._folder / name, users["mail_user"], users["mail_group"])
        text = CONFIGURATION.format(
            folder=self._folder, port=self._port, password=PASSWORD, most_processes=MOST_PROCESSES, **users
        )
        (self._folder / "conf").write_text(text)
        with (self._folder / "said").open("wb") as said:
            self._master = subprocess.Popen(
                [program, "-F", "-c", str(self._folder / "conf")],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                preexec_fn=partial(end_with_parent, os.getpid()),  # if we are killed, the kernel ends it
            )

    @staticmethod
    def _users() -> dict[str, str]:
        own = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
        mail, internal, login = own, own, own[0]
        if os.geteuid() == 0:  # Dovecot serves no mail as root
            mail, internal, login = ("mail", "mail"), ("dovecot", "dovecot"), "dovenull"
        names = ("mail_user", "mail_group", "internal_user", "internal_group")
        return dict(zip(names, (*mail, *internal), strict=True)) | {"login_user": login}

    def _wait(self) -> None:
        assert self._master is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._master.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        logs = [self._folder / name for name in ("said", "log")]
        said = "".join(log.read_text(errors="replace") for log in logs if log.exists())
        raise PeerError(f"Dovecot does not listen on port {self._port}: {said.strip()[-300:]}")

    def _stop(self) -> None:
        if self._master is not None:
            family = self.processes()
            self._master.terminate()
            self._wait_for_end(family)
            for process in self._running(family):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self._wait_for_end(family)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait_for_end(self, family: list[int]) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._running(family) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _running(self, family: list[int]) -> list[int]:
        """Those that are there still: sessions outlive their master."""
        assert self._master is not None
        self._master.poll()
        return [process for process in family if Path(f"/proc/{process}").exists()]
