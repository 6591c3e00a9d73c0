"""What mail clients meet, on every front end: one TLS setting, and the certificate of the name that they ask for.

The listeners' context never changes; each handshake looks the server name up in the folded tables, so a certificate
that is added or removed counts from the next handshake on, on every node, and connections that are open stay. Without
a name, or with one that has no certificate, the file's is shown. Contexts are made when first asked for; those that
were asked for last are kept.
"""

from __future__ import annotations

import os
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from cryptography import x509

from nodes.tls import libssl
from nodes.tls.links import context_of

HYBRID = ("X25519MLKEM768", "SecP256r1MLKEM768")  # draft-ietf-tls-ecdhe-mlkem; OpenSSL 3.5 has them
GROUPS = (*HYBRID, "X25519", "P-256", "P-384", "P-521")  # as they are preferred, as far as they are there
MOST_CONTEXTS = 1000
_SET_GROUPS_LIST = 92  # SSL_CTRL_SET_GROUPS_LIST
_ASK_FOR_CERTIFICATE = 1  # SSL_VERIFY_PEER

_log = structlog.get_logger("mailraft.tls")


class ServedConnection(ssl.SSLObject):
    """A connection that a client made; `server_name` is the host that it asked for (RFC 6066 3), lower case."""

    server_name: str | None = None


class Shown(NamedTuple):
    """A certificate to show: its chain and key as PEM, and the authorities (PEM) that clients may have theirs from."""

    identity: bytes  # changes with anything of it
    chain: str
    key: Callable[[], bytes]  # asked for when the context is made: it has to be unsealed
    authorities: str = ""


# what a context needs besides, as tickets' keys or stapling
Prepare = Callable[[ssl.SSLContext, Sequence[x509.Certificate]], None]
Forget = Callable[[ssl.SSLContext], None]


class FrontDoor:
    """`context` is for the listeners. find: what is shown for a server name, or where a client gives none.

    Raises ssl.SSLError, OSError, BadCertificate where the default certificate can not be shown.
    """

    def __init__(
        self,
        find: Callable[[str | None], Shown],
        prepare: Sequence[Prepare] = (),
        dropped: Forget | None = None,
    ) -> None:
        self._find = find
        self._prepare = prepare
        self._dropped = dropped
        self._made: OrderedDict[bytes, ssl.SSLContext] = OrderedDict()
        self.context = self._context(find(None))
        self.context.sslobject_class = ServedConnection
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """In the handshake: nothing that is raised here may end it."""
        try:
            name = name.lower().removesuffix(".") if name else None
            connection.server_name = name  # type: ignore[attr-defined]
            chosen = self.shown_for(name)
        except Exception:
            _log.exception(
                "the certificate of a server name can not be shown", code="certificate_unusable", server_name=name
            )
            return
        connection.context = chosen
        self._ask_for_certificate(connection, chosen)

    def shown_for(self, name: str | None) -> ssl.SSLContext:
        """The context whose certificate is shown for a server name. Raises ssl.SSLError, OSError, SealBroken."""
        shown = self._find(name)
        made = self._made.get(shown.identity)
        if made is None:
            made = self._made[shown.identity] = self._context(shown)
            if len(self._made) > MOST_CONTEXTS:
                self._forget(self._made.popitem(last=False)[1])
        self._made.move_to_end(shown.identity)
        return made

    def _context(self, shown: Shown) -> ssl.SSLContext:
        context = server_side()
        load_pem(context, shown.chain, shown.key())
        if shown.authorities:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority below another is trusted by itself
            context.load_verify_locations(cadata=shown.authorities)
            name_authorities(context, shown.authorities)
        chain = x509.load_pem_x509_certificates(shown.chain.encode())
        for prepare in self._prepare:
            prepare(context, chain)
        return context

    def _forget(self, context: ssl.SSLContext) -> None:
        if self._dropped is not None:
            self._dropped(context)

    def _ask_for_certificate(self, connection: ssl.SSLObject, chosen: ssl.SSLContext) -> None:
        """A connection keeps what its listener's context said, whatever its certificate's says: it is told again."""
        handle = libssl.connection_handle(connection) if chosen.verify_mode != self.context.verify_mode else None
        if handle is not None:
            mode = _ASK_FOR_CERTIFICATE if chosen.verify_mode == ssl.CERT_OPTIONAL else 0
            libssl.library().SSL_set_verify(handle, mode, None)


def server_name(connection: ssl.SSLObject | None) -> str | None:
    """The host name that a client asked for when it began TLS (SNI), lower case; None in clear, or without one.

    Of a transport: `server_name(transport.get_extra_info("ssl_object"))`.
    """
    return getattr(connection, "server_name", None)


def server_side(minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    """A server's context without a certificate: the setting that every front end has (docs/tls.md)."""
    context = context_of(ssl.PROTOCOL_TLS_SERVER, minimum)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    set_groups(context)
    return context


def set_groups(context: ssl.SSLContext) -> str:
    """The groups for key exchange, hybrid ones first where this OpenSSL has them; "" where its own choice stays."""
    handle, openssl = libssl.context_handle(context), libssl.library()
    if handle is None:
        return ""

    def takes(groups: str) -> bool:
        return libssl.tried(lambda: openssl.SSL_CTX_ctrl(handle, _SET_GROUPS_LIST, 0, groups.encode()))

    groups = ":".join(filter(takes, GROUPS))  # one that it does not have refuses the whole list
    return groups if groups and takes(groups) else ""


def load_pem(context: ssl.SSLContext, chain: str, key: bytes) -> None:
    """Gives a context its certificate. Raises ssl.SSLError, OSError."""
    with open(os.memfd_create("certificate"), "wb") as file:  # the ssl module reads files only: one in memory alone
        file.write(key + b"\n" + chain.encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password="")


def name_authorities(context: ssl.SSLContext, pem: str) -> None:
    """Tells clients whose certificates are taken (RFC 8446 4.2.4), so that they offer no other."""
    handle, openssl = libssl.context_handle(context), libssl.library()
    for one in x509.load_pem_x509_certificates(pem.encode()) if handle is not None else ():
        libssl.with_certificate(one, lambda parsed: openssl.SSL_CTX_add_client_CA(handle, parsed))
