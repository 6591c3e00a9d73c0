"""A private Postfix to measure beside: own configuration, own queue, loopback only, gone afterwards.

It fsyncs each message into its queue and then discards it: one copy on one disk. Needs root, as Postfix's master does.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.bench.processor_time import cpu_seconds, with_descendants

START_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 60.0
MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = peer.example.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
mynetworks = 127.0.0.0/8
default_transport = discard:
relay_transport = discard:
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
default_process_limit = 200
in_flow_delay = 0
maillog_file_prefixes = {folder}
maillog_file = {folder}/maillog
"""
MASTERS = (Path("/usr/share/postfix/master.cf.dist"), Path("/etc/postfix/master.cf"))


class PeerError(Exception):
    """Postfix can not be run here; the text says why."""


class PostfixPeer:
    """`with PostfixPeer(port) as peer:` runs it; `peer.endpoint` is where it takes mail. Raises PeerError.

    settings: lines of main.cf that overrule those of MAIN_CF.
    """

    def __init__(self, port: int, settings: str = "") -> None:
        self.endpoint = f"127.0.0.1:{port}"
        self._port = port
        self._settings = settings
        self._folder = Path(tempfile.mkdtemp(prefix="postfix-peer."))

    def __enter__(self) -> Self:
        try:
            self._configure()
            self._postfix("start")
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()

    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far."""
        master = int((self._folder / "queue" / "pid" / "master.pid").read_text())
        return cpu_seconds(with_descendants(master))

    def settle(self) -> None:
        """Waits until it has nothing left to do, so that the next to be measured has the machine. Raises PeerError."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        queue = self._folder / "queue"
        while any(next((queue / name).iterdir(), None) for name in ("maildrop", "incoming", "active")):
            if time.monotonic() > deadline:
                raise PeerError(f"Postfix has not discarded what it took within {SETTLE_TIMEOUT_S:.0f} s")
            time.sleep(0.1)

    def restart(self, settings: str) -> None:
        """Stops it and has it go on with other settings; its queue stays."""
        self._postfix("stop")
        self._settings = settings
        self._write_settings()
        self._postfix("start")

    def _write_settings(self) -> None:
        main = MAIN_CF.format(folder=self._folder)
        (self._folder / "etc" / "main.cf").write_text(f"{main}{self._settings}\n")

    def _configure(self) -> None:
        if os.geteuid() != 0:
            raise PeerError("Postfix's master process needs root: run as root, or leave out --peer postfix")
        master = next((path for path in MASTERS if path.exists()), None)
        if master is None or shutil.which("postfix") is None:
            raise PeerError("Postfix is not installed: apt-get install postfix, or leave out --peer postfix")
        for name in ("etc", "queue", "data"):
            (self._folder / name).mkdir()
        self._folder.chmod(0o755)
        shutil.chown(self._folder / "data", "postfix")
        self._write_settings()
        (self._folder / "etc" / "master.cf").write_text("\n".join(self._master_lines(master)) + "\n")

    def _master_lines(self, dist: Path) -> list[str]:
        """The distribution's services without chroot, SMTP on our port, and a log daemon of our own."""
        lines = []
        for line in dist.read_text().splitlines():
            fields = line.split()
            if not line.startswith((" ", "\t", "#")) and len(fields) >= 8 and fields[0] != "postlog":
                name = f"127.0.0.1:{self._port}" if fields[:2] == ["smtp", "inet"] else fields[0]
                chroot = "n" if fields[4] == "y" else fields[4]
                line = " ".join([name, *fields[1:4], chroot, *fields[5:]])
            elif fields[:1] == ["postlog"]:
                continue
            lines.append(line)
        return [*lines, "postlog unix-dgram n - n - 1 postlogd"]

    def _postfix(self, action: str) -> None:
        done = subprocess.run(
            ["postfix", action],
            env=os.environ | {"MAIL_CONFIG": str(self._folder / "etc")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        if done.returncode != 0 and action == "start":
            raise PeerError(f"postfix start: {done.stderr.strip()}")

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise PeerError(f"Postfix does not listen on port {self._port} after {START_TIMEOUT_S:.0f} s")

    def _stop(self) -> None:
        if (self._folder / "etc" / "main.cf").exists():
            self._postfix("stop")
        shutil.rmtree(self._folder, ignore_errors=True)
