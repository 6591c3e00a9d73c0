"""A signed zone of BIND and a validating resolver of unbound before it, on loopback: DNSSEC as it is on the internet.

with SignedZone(zone_text, folder) as dns:         # dns.address is the resolver's
with SignedZone(zone_text, folder, forged=...)     # records that were changed behind the signatures
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.query

from chaos.cluster import free_base_port

PROGRAMS = ("named", "unbound", "dnssec-keygen", "dnssec-signzone")
START_TIMEOUT_S = 20.0
HEADER = "$ORIGIN test.\n$TTL 300\n@ SOA ns.test. admin.test. 1 3600 600 86400 60\n@ NS ns.test.\nns A 127.0.0.1\n"
NAMED = """
options {{ directory "{folder}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no;
           pid-file none; session-keyfile none; dnssec-validation no; }};
controls {{ }};
zone "test" {{ type primary; file "{folder}/zone.signed"; }};
"""
UNBOUND = """
server:
  interface: 127.0.0.1@{port}
  port: {port}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  module-config: "validator iterator"
  trust-anchor-file: "{folder}/anchor"
  do-not-query-localhost: no
  local-zone: "test." nodefault
  qname-minimisation: no
remote-control:
  control-enable: no
stub-zone:
  name: "test"
  stub-addr: 127.0.0.1@{authority}
"""


def missing() -> str:
    """The first program that is not installed, "" if all are."""
    return next((one for one in PROGRAMS if shutil.which(one) is None), "")


class SignedZone:
    """Everything below `test.`, signed. `forged`: (what the signed zone says, what is served)."""

    def __init__(self, zone: str, folder: Path, forged: tuple[str, str] | None = None) -> None:
        self._zone = zone
        self._folder = folder / "dnssec"
        self._forged = forged
        self._processes: list[subprocess.Popen[bytes]] = []
        self._authority = free_base_port(1)  # of TCP; UDP is not looked at, but who takes one takes both
        self._port = self._authority + 1
        self.address = f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        self._folder.mkdir()
        self._sign()
        for name, text in (("named.conf", NAMED), ("unbound.conf", UNBOUND)):
            port = self._authority if name == "named.conf" else self._port
            filled = text.format(folder=self._folder, port=port, authority=self._authority)
            (self._folder / name).write_text(filled)
        self._run("named", "-g", "-c", str(self._folder / "named.conf"))
        _wait(self._authority, secure=False)
        self._run("unbound", "-d", "-c", str(self._folder / "unbound.conf"))
        _wait(self._port, secure=True)

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(10)

    def _sign(self) -> None:
        for flag in ((), ("-f", "KSK")):
            self._call("dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", *flag, "test")
        keys = sorted(self._folder.glob("K*.key"))
        anchors = [line for key in keys for line in key.read_text().splitlines() if " DNSKEY 257 " in line]
        (self._folder / "anchor").write_text("\n".join(anchors) + "\n")
        (self._folder / "zone").write_text(HEADER + self._zone)
        self._call("dnssec-signzone", "-q", "-S", "-o", "test", "-f", "zone.signed", "zone")
        if self._forged is not None:
            signed = self._folder / "zone.signed"
            text = signed.read_text()
            assert self._forged[0] in text
            signed.write_text(text.replace(*self._forged))

    def _call(self, *command: str) -> None:
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True)

    def _run(self, *command: str) -> None:
        log = (self._folder / f"{command[0]}.log").open("wb")
        self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))


def _wait(port: int, *, secure: bool) -> None:
    query = dns.message.make_query("test.", "SOA", want_dnssec=secure)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            answer = dns.query.udp(query, "127.0.0.1", port=port, timeout=0.5)
        except (OSError, dns.exception.DNSException):
            time.sleep(0.05)
            continue
        if answer.answer and (not secure or answer.flags & dns.flags.AD):
            return
        time.sleep(0.05)
    raise AssertionError(f"no {'validated ' if secure else ''}answer from port {port}")
