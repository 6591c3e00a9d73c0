"""A small internet on one machine: real ports, names under `test.` in a signed zone, a resolver that validates.

Everything runs in a network namespace of its own, so that it needs root and changes nothing outside. BIND serves the
zone, Unbound validates it against the zone's own key, as a resolver on the real internet does from the root's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

NAME_SERVER, RESOLVER = "192.0.2.1", "192.0.2.2"
NETNS_ETC = Path("/etc/netns")
START_TIMEOUT_S = 20.0
TTL_S = 2
PROGRAMS = ("ip", "named", "unbound", "dnssec-keygen", "dnssec-signzone", "dig")

NAMED = """\
options {{
  directory "{folder}";
  listen-on {{ 192.0.2.1; }};
  listen-on-v6 {{ none; }};
  pid-file "{folder}/named.pid";
  session-keyfile "{folder}/session.key";
  recursion no;
  dnssec-validation no;
}};
controls {{ }};
zone "test" {{ type master; file "{folder}/test.zone.signed"; }};
zone "2.0.192.in-addr.arpa" {{ type master; file "{folder}/reverse.zone"; }};
"""

UNBOUND = """\
server:
  interface: 192.0.2.2
  access-control: 0.0.0.0/0 allow
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: "{folder}/unbound.pid"
  use-syslog: no
  logfile: "{folder}/unbound.log"
  do-not-query-localhost: no
  trust-anchor-file: "{folder}/anchor"
  local-zone: "test." nodefault
  local-zone: "2.0.192.in-addr.arpa." nodefault
  domain-insecure: "2.0.192.in-addr.arpa."
  cache-max-ttl: 2
  cache-max-negative-ttl: 1
stub-zone:
  name: "test."
  stub-addr: 192.0.2.1
stub-zone:
  name: "2.0.192.in-addr.arpa."
  stub-addr: 192.0.2.1
remote-control:
  control-enable: no
"""

ZONE_HEAD = """\
$ORIGIN test.
$TTL {ttl_s}
@ SOA ns.test. root.test. {serial} 3600 600 86400 1
@ NS ns.test.
ns A 192.0.2.1
"""

REVERSE_HEAD = """\
$ORIGIN 2.0.192.in-addr.arpa.
$TTL {ttl_s}
@ SOA ns.test. root.test. {serial} 3600 600 86400 1
@ NS ns.test.
"""


def missing() -> str:
    """Why there can be no such internet here, "" if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    lacking = [name for name in PROGRAMS if _found(name) is None]
    return f"not installed: {', '.join(lacking)} (scripts/debian-packages)" if lacking else ""


class Internet:
    """`with Internet(folder) as net:` has the network and DNS; `hosts` by name with their addresses.

    `publish` adds records below `test.`; `run` and `start` run programs inside.
    """

    def __init__(self, folder: Path, hosts: dict[str, str]) -> None:
        self.folder = folder
        self.hosts = hosts
        self.space = f"mailraft-net-{os.getpid()}"
        self._records: list[str] = []
        self._serial = 0
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._make_network()
            self._start_dns()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()

    def publish(self, records: str) -> None:
        """More records, names relative to `test.` unless they end in a dot; answered at once afterwards."""
        self._records += textwrap.dedent(records).strip().splitlines()
        self._write_zone()
        if self._processes:
            self._processes[0].send_signal(1)  # SIGHUP: named reads its zones again
            self._wait_serial()
            time.sleep(TTL_S)  # what the resolver knew is forgotten

    def wrap(self, command: Sequence[str]) -> list[str]:
        """The command as it is to be given to be run inside."""
        return ["ip", "netns", "exec", self.space, *command]

    def run(self, *command: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a program inside to its end."""
        done = subprocess.run(
            self.wrap(command), input=stdin, capture_output=True, text=True, timeout=120, env=_environment()
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Starts a program inside; it is ended with the internet."""
        with (self.folder / f"{Path(command[0]).name}.out").open("ab") as log:
            process = subprocess.Popen(
                self.wrap(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=_environment()
            )
        self._processes.append(process)
        return process

    # -- the network

    def _make_network(self) -> None:
        _ip("netns", "add", self.space)
        _ip("-n", self.space, "link", "set", "lo", "up")
        for address in (NAME_SERVER, RESOLVER, *self.hosts.values()):
            _ip("-n", self.space, "address", "add", f"{address}/32", "dev", "lo")
        etc = NETNS_ETC / self.space
        etc.mkdir(parents=True)
        (etc / "resolv.conf").write_text(f"nameserver {RESOLVER}\noptions edns0 trust-ad\n")
        (etc / "hosts").write_text("127.0.0.1 localhost\n")

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        self._end_all()
        subprocess.run(["ip", "netns", "delete", self.space], capture_output=True)
        shutil.rmtree(NETNS_ETC / self.space, ignore_errors=True)

    def _end_all(self) -> None:
        """Whatever still runs inside, daemons that were started there among them."""
        said = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True).stdout
        for pid in map(int, said.split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # -- names

    def _start_dns(self) -> None:
        (self.folder / "named.conf").write_text(NAMED.format(folder=self.folder))
        (self.folder / "unbound.conf").write_text(UNBOUND.format(folder=self.folder))
        keys = self.folder / "keys"
        keys.mkdir()
        for flags in ([], ["-f", "KSK"]):
            run("dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", *flags, "-K", str(keys), "test")
        ksk = next(path for path in keys.glob("*.key") if " 257 " in path.read_text())
        (self.folder / "anchor").write_text(ksk.read_text())
        self._records += [f"{name.removesuffix('.test')} A {address}" for name, address in self.hosts.items()]
        self._write_zone()
        self.start(_program("named"), "-f", "-c", str(self.folder / "named.conf"))
        self.start(_program("unbound"), "-d", "-p", "-c", str(self.folder / "unbound.conf"))
        self._wait_serial()

    def _write_zone(self) -> None:
        self._serial += 1
        head = {"ttl_s": TTL_S, "serial": self._serial}
        reverse = [f"{address.rpartition('.')[2]} PTR {name}." for name, address in self.hosts.items()]
        (self.folder / "reverse.zone").write_text(REVERSE_HEAD.format(**head) + "\n".join(reverse) + "\n")
        zone = self.folder / "test.zone"
        zone.write_text(ZONE_HEAD.format(**head) + "\n".join(self._records) + "\n")
        run(
            "dnssec-signzone",
            "-S",
            "-Q",
            "-K",
            str(self.folder / "keys"),
            "-o",
            "test",
            "-d",
            str(self.folder),
            str(zone),
        )

    def _wait_serial(self) -> None:
        """Until the resolver gives the newest zone, validated."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            said = self.run("dig", f"@{RESOLVER}", "+dnssec", "+time=1", "+tries=1", "test.", "SOA", check=False).stdout
            if f"root.test. {self._serial} " in said and " ad;" in said.replace(" ad ", " ad;"):
                return
            time.sleep(0.2)
        raise RuntimeError(f"DNS does not answer with zone {self._serial}; look into {self.folder}")


def wait_listening(net: Internet, address: str, port: int, timeout_s: float = START_TIMEOUT_S) -> None:
    """Until somebody listens there, inside."""
    code = f"import socket; socket.create_connection(('{address}', {port}), 1).close()"
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if net.run("python3", "-c", code, check=False).returncode == 0:
            return
        time.sleep(0.2)
    raise RuntimeError(f"nobody listens at {address}:{port}")


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}


def _found(name: str) -> str | None:
    return shutil.which(name, path=_environment()["PATH"])


def _program(name: str) -> str:
    found = _found(name)
    assert found is not None, name
    return found


def run(name: str, *arguments: str) -> None:
    """Runs a program outside, to its end. Raises RuntimeError with what it said."""
    done = subprocess.run([_program(name), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stderr}")


def _ip(*arguments: str) -> None:
    run("ip", *arguments)
