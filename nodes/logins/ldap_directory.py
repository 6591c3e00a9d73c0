"""Asks one LDAP directory whether a password is a user's: find the one entry, bind as it (RFC 4513 5.1.3). Blocking.

Used from threads (nodes/logins/ldap_logins.py). Only TLS with a verified certificate; referrals are not followed. What
is neither a plain yes nor a plain no is DirectoryAway: it lets nobody in, and tells nobody that a password is wrong.
"""

from __future__ import annotations

import math
import os
import queue
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import ldap3
from ldap3.core.exceptions import LDAPException, LDAPInvalidFilterError
from ldap3.operation.search import parse_filter
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.log import set_library_log_hide_sensitive_data

from nodes.config.ldap import PLACES, LdapDirectory
from nodes.config.secrets import SecretError, read_secret

SUCCESS, SIZE_LIMIT_EXCEEDED = 0, 4
# constraintViolation (locked), noSuchObject, invalidDNSyntax, inappropriateAuthentication (it has no password),
# invalidCredentials, insufficientAccessRights, unwillingToPerform: RFC 4511 A.2
REFUSALS = frozenset({19, 32, 34, 48, 49, 50, 53})
NO_ATTRIBUTES = "1.1"  # RFC 4511 4.5.1.8

set_library_log_hide_sensitive_data(True)


class DirectoryAway(Exception):
    """The directory said neither yes nor no: it is down, hangs, shows a wrong certificate, or does not let us look."""


class _VerifiedTls(ldap3.Tls):
    """TLS by Python's own checks of chain and name; the library's own way compares names itself."""

    def __init__(self, config: LdapDirectory) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = ssl.create_default_context(cafile=config.ca_file)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Raises OSError (ssl.SSLError)."""
        # or the first bind waits until the handshake's end is acknowledged, 40 ms
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname=connection.server.host)


class Directory:
    """One directory. Connections are kept, as many as there are threads that ask. Raises OSError for a wrong CA file,
    ValueError for a filter that is none."""

    def __init__(self, config: LdapDirectory) -> None:
        self._config = config
        url = urlsplit(config.url)
        self._starttls = url.scheme == "ldap"
        self._timeout_s = max(1, math.ceil(config.timeout_s))  # the library takes whole seconds
        self._server = ldap3.Server(
            url.hostname or "",
            url.port or (389 if self._starttls else 636),
            use_ssl=not self._starttls,
            tls=_VerifiedTls(config),
            get_info=ldap3.NONE,
            connect_timeout=self._timeout_s,
        )
        self._idle: queue.SimpleQueue[ldap3.Connection] = queue.SimpleQueue()
        check_filter(filled(config.filter, "a@b.test"))
        if config.disabled_filter:
            check_filter(config.disabled_filter)

    def is_password_of(self, address: str, password: str) -> bool:
        """Whether the password is that of the one user whom the filter finds for an address. Raises DirectoryAway.

        The steps are the same for nobody as for somebody: a search, and a bind.
        """
        if not password:
            return False  # a bind without a password succeeds and proves nothing (RFC 4513 5.1.2)
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            return self._asked(self._opened(), address, password)
        try:
            return self._asked(connection, address, password)
        except DirectoryAway:  # it was closed while nobody used it
            return self._asked(self._opened(), address, password)

    @contextmanager
    def bound(self) -> Iterator[ldap3.Connection]:
        """A connection of its own, bound as bind_dn. Raises DirectoryAway, also for what goes wrong with it inside."""
        connection = self._opened()
        try:
            self._bind_as_ourselves(connection)
            yield connection
        except (LDAPException, OSError, SecretError) as error:
            raise DirectoryAway(str(error) or type(error).__name__) from None
        finally:
            _drop(connection)

    def close(self) -> None:
        """Ends the connections that nobody uses."""
        while not self._idle.empty():
            _drop(self._idle.get_nowait())

    def _opened(self) -> ldap3.Connection:
        """A connection in TLS on which nothing was said yet. Raises DirectoryAway."""
        connection = ldap3.Connection(
            self._server,
            client_strategy=ldap3.SYNC,
            auto_bind=ldap3.AUTO_BIND_NONE,
            auto_referrals=False,
            raise_exceptions=False,
            receive_timeout=self._timeout_s,
        )
        try:
            connection.open(read_server_info=False)
            if self._starttls:
                connection.start_tls(read_server_info=False)  # what is asked without TLS is refused below
        except (LDAPException, OSError) as error:
            _drop(connection)
            raise DirectoryAway(str(error) or type(error).__name__) from None
        return connection

    def _asked(self, connection: ldap3.Connection, address: str, password: str) -> bool:
        """Raises DirectoryAway; the connection is then closed, and otherwise kept."""
        try:
            self._bind_as_ourselves(connection)
            found = self._find(connection, address)
            code = self._bind(connection, found or self._nobody(), password.encode("utf-8", "surrogatepass"))
            if code != SUCCESS and code not in REFUSALS:
                raise DirectoryAway(f"a log-in is answered with {connection.result['description']}")
        except BaseException as error:
            _drop(connection)
            if isinstance(error, LDAPException | OSError | SecretError):
                raise DirectoryAway(str(error) or type(error).__name__) from None
            raise
        self._idle.put(connection)
        return code == SUCCESS and found is not None

    def _bind_as_ourselves(self, connection: ldap3.Connection) -> None:
        """Each time, because whoever logged in last is bound on it. Raises as `_bind`, and SecretError."""
        ours = b""
        if self._config.bind_dn:
            ours = read_secret(self._config.bind_password).split(b"\n", 1)[0].rstrip(b"\r")
            if not ours:
                raise DirectoryAway(f"{self._config.bind_password}: there is no password in it")
        if self._bind(connection, self._config.bind_dn, ours) != SUCCESS:
            raise DirectoryAway(f"ldap.bind_dn is refused: {connection.result['description']}")

    def _find(self, connection: ldap3.Connection, address: str) -> str | None:
        """The name of the one entry; None where none fits, or more than one. Raises as above."""
        _must_be_open(connection)
        connection.search(
            self._config.base,
            filled(self._config.filter, address),
            ldap3.SUBTREE,
            dereference_aliases=ldap3.DEREF_NEVER,
            attributes=[NO_ATTRIBUTES],
            size_limit=2,
            time_limit=self._timeout_s,
        )
        code, response = connection.result["result"], connection.response or []
        if code not in (SUCCESS, SIZE_LIMIT_EXCEEDED):
            raise DirectoryAway(f"users can not be looked for: {connection.result['description']}")
        names = [str(one["dn"]) for one in response if one["type"] == "searchResEntry"]
        return names[0] if len(names) == 1 and code == SUCCESS and names[0] else None

    def _nobody(self) -> str:
        """A name that no entry has."""
        return ",".join(part for part in (f"cn={os.urandom(12).hex()}", self._config.base) if part)

    def _bind(self, connection: ldap3.Connection, name: str, password: bytes) -> int:
        """The result's code (RFC 4511 A.1). Raises DirectoryAway, LDAPException, OSError."""
        _must_be_open(connection)
        connection.user, connection.password = name, password
        connection.authentication = ldap3.SIMPLE if name else ldap3.ANONYMOUS
        connection.bind(read_server_info=False)
        return int(connection.result["result"])


def _must_be_open(connection: ldap3.Connection) -> None:
    """The library would open a closed one again by itself, and without STARTTLS. Raises DirectoryAway."""
    if connection.closed or not isinstance(connection.socket, ssl.SSLSocket):
        raise DirectoryAway("the connection was closed")


def filled(template: str, address: str) -> str:
    """The filter of one user; what is put in is escaped (RFC 4515 3), and not looked at again."""
    local, _, domain = address.rpartition("@")
    values = {"address": address, "local": local, "domain": domain}
    return PLACES.sub(lambda place: escape_filter_chars(values[place[1]]), template)


def check_filter(text: str) -> None:
    """Raises ValueError where it is no filter."""
    try:
        parse_filter(text, None, True, None, None, False)  # type: ignore[no-untyped-call]
    except LDAPInvalidFilterError as error:
        raise ValueError(f"ldap.filter is no filter: {error}") from None


def _drop(connection: ldap3.Connection) -> None:
    """Closes without a word: a directory that hangs is not waited for."""
    if connection.socket is not None:
        connection.strategy.close()
