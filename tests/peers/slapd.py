"""OpenLDAP's server, from Debian's package: run as whoever runs the tests, on loopback, with a database of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ldap3
import pytest
from ldap3.core.exceptions import LDAPException

from tests.peers import certificates
from tests.peers.pebble import free_ports

START_S = 20.0
BASE, SERVICE, SERVICE_PASSWORD = "dc=example,dc=test", "cn=mail,dc=example,dc=test", "secret of the service"
ROOT, ROOT_PASSWORD = "cn=root,dc=example,dc=test", "secret of root"
_CONF = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/cert.pem
TLSCertificateKeyFile {folder}/key.pem
allow bind_anon_cred bind_anon_dn
database mdb
suffix "{base}"
rootdn "{root}"
rootpw "{root_password}"
directory {folder}/db
maxsize 16777216
limits dn.exact="{service}" size.prtotal=unlimited
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{service}" read by * none
"""
_LDIF = """dn: {base}
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: {service}
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: mail
userPassword: {service_password}
"""
_USER = """
dn: uid={uid},{base}
objectClass: inetOrgPerson
uid: {uid}
cn: {uid}
sn: {uid}
mail: {mail}
"""


class Slapd:
    """`ca`: the file of the authority that its certificate, for localhost, is from. Unauthenticated binds succeed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._plain, self._tls = free_ports(2)
        self.ca, self.password_file = folder / "ca.pem", folder / "service.password"
        self.starttls_url, self.ldaps_url = f"ldap://localhost:{self._plain}", f"ldaps://localhost:{self._tls}"
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Waits until it answers."""
        command = [_program(), "-f", str(self._folder / "slapd.conf"), "-d", "0"]
        urls = f"ldap://127.0.0.1:{self._plain} ldaps://127.0.0.1:{self._tls}"
        with (self._folder / "slapd.log").open("ab") as log:
            self._running = subprocess.Popen([*command, "-h", urls], stdout=log, stderr=log)
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                with self._as_root():
                    return
            except LDAPException:
                assert self._running.poll() is None, (self._folder / "slapd.log").read_text()
                assert time.monotonic() < deadline_s, "slapd does not answer"
                time.sleep(0.05)

    def stop(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None

    def freeze(self) -> None:
        """It takes connections (the kernel does), and says nothing."""
        assert self._running is not None
        os.kill(self._running.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._running is not None
        os.kill(self._running.pid, signal.SIGCONT)

    def change_password(self, uid: str, password: str) -> None:
        with self._as_root() as connection:
            changes = {"userPassword": [(ldap3.MODIFY_REPLACE, [password])]}
            done = connection.modify(f"uid={uid},{BASE}", changes)  # type: ignore[no-untyped-call]
            assert done, connection.result

    def change(self, uid: str, **values: str) -> None:
        """Sets attributes of a user's entry; "" takes one away."""
        with self._as_root() as connection:
            changes = {name: [(ldap3.MODIFY_REPLACE, [value] if value else [])] for name, value in values.items()}
            done = connection.modify(f"uid={uid},{BASE}", changes)  # type: ignore[no-untyped-call]
            assert done, connection.result

    def add(self, uid: str, **values: str) -> None:
        """One more user."""
        with self._as_root() as connection:
            attributes = {"uid": uid, "cn": uid, "sn": uid, **values}
            done = connection.add(f"uid={uid},{BASE}", "inetOrgPerson", attributes)  # type: ignore[no-untyped-call]
            assert done, connection.result

    def remove(self, uid: str) -> None:
        with self._as_root() as connection:
            done = connection.delete(f"uid={uid},{BASE}")  # type: ignore[no-untyped-call]
            assert done, connection.result

    def limit_answers(self, entries: int) -> None:
        """From now on it gives the service so many entries for one question, however many pages they come in."""
        self.stop()
        conf = self._folder / "slapd.conf"
        conf.write_text(conf.read_text().replace("size.prtotal=unlimited", f"size.prtotal={entries}"))
        self.start()

    def _as_root(self) -> ldap3.Connection:
        server = ldap3.Server("127.0.0.1", self._plain, get_info=ldap3.NONE, connect_timeout=2)
        return ldap3.Connection(server, ROOT, ROOT_PASSWORD, auto_bind=True, receive_timeout=5)


@contextmanager
def slapd(folder: Path, users: Mapping[str, tuple[str, str]]) -> Iterator[Slapd]:
    """`users`: address and password ("" for none) by uid. Skips the test where it is not installed."""
    _program()
    authority = certificates.authority("the directory's own")
    own = certificates.server("localhost", issuer=authority)
    for name, data in (("ca.pem", authority.pem), ("cert.pem", own.pem), ("key.pem", own.key_pem)):
        (folder / name).write_bytes(data)
    (folder / "service.password").write_text(SERVICE_PASSWORD + "\n")
    (folder / "db").mkdir()
    names = {"folder": folder, "base": BASE, "root": ROOT, "root_password": ROOT_PASSWORD, "service": SERVICE}
    (folder / "slapd.conf").write_text(_CONF.format_map(names))
    ldif = _LDIF.format(base=BASE, service=SERVICE, service_password=SERVICE_PASSWORD)
    for uid, (mail, password) in users.items():
        ldif += _USER.format(uid=uid, base=BASE, mail=mail) + (f"userPassword: {password}\n" if password else "")
    command = [_program(), "-T", "add", "-f", str(folder / "slapd.conf")]
    subprocess.run(command, input=ldif.encode(), check=True, capture_output=True, timeout=60)
    server = Slapd(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _program() -> str:
    found = shutil.which("slapd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    return found or pytest.skip("slapd is not installed: scripts/debian-packages")
