"""Stapling: each certificate is shown with its authority's fresh word that it is not revoked (RFC 6066 8, RFC 6961).

Responses are asked for in the background, judged (nodes/tls/ocsp.py), kept in memory by certificate, asked for again at
half their life, and shown while they are valid, never after. A handshake waits for nothing. Where nodes/tls/libssl.py
can not reach a context nothing is stapled, and the log says so once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import datetime
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from nodes.doctor.finding import Finding, Status
from nodes.services import Logger
from nodes.tls import libssl, ocsp
from nodes.tls.chain import must_staple, names_of, ocsp_url
from nodes.tls.ocsp import Answer, BadResponse

LOOK_S = 5.0
RETRY_FIRST_S, RETRY_MOST_S = 60.0, 3600.0
_SET_STATUS_CALLBACK = 63  # SSL_CTRL_SET_TLSEXT_STATUS_REQ_CB
_SET_STATUS_RESPONSE = 71  # SSL_CTRL_SET_TLSEXT_STATUS_REQ_OCSP_RESP
_STAPLED, _NOT_STAPLED = 0, 3  # SSL_TLSEXT_ERR_OK, SSL_TLSEXT_ERR_NOACK

Ask = Callable[[str, x509.Certificate, x509.Certificate], Awaitable[bytes]]


class _Wanted(NamedTuple):
    certificate: x509.Certificate
    issuer: x509.Certificate
    url: str


class Stapler:
    """`prepare` each context that shows a certificate; `run` asks for responses until it is cancelled."""

    def __init__(
        self,
        logger: Logger,
        *,
        ask: Ask = ocsp.ask,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._logger = logger
        self._ask = ask
        self._now = now
        self._callback = libssl.StatusCallback(self._called)
        self._of_context: dict[int, bytes] = {}  # address of an SSL_CTX -> fingerprint
        self._wanted: dict[bytes, _Wanted] = {}
        self._answers: dict[bytes, Answer] = {}
        self._due: dict[bytes, datetime.datetime] = {}
        self._failures: dict[bytes, int] = {}
        self._warned = False
        self._more = asyncio.Event()

    def prepare(self, context: ssl.SSLContext, chain: Sequence[x509.Certificate]) -> None:
        """Has a context staple what there is for the leaf of this chain."""
        leaf, url = chain[0], ocsp_url(chain[0])
        if url is None or len(chain) < 2:
            if must_staple(leaf):
                reason = "no address of a responder" if url is None else "no certificate of its issuer in the chain"
                self._logger.warning(
                    "a certificate must be stapled and can not be", names=names_of(leaf), reason=reason
                )
            return
        handle, openssl = libssl.context_handle(context), libssl.library()
        if handle is None:
            if not self._warned:
                self._warned = True
                self._logger.warning("nothing is stapled: this interpreter's contexts can not be reached")
            return
        fingerprint = leaf.fingerprint(hashes.SHA256())
        self._wanted[fingerprint] = _Wanted(leaf, chain[1], url)
        self._of_context[handle] = fingerprint
        self._more.set()
        context._mailraft_stapler = self._callback  # type: ignore[attr-defined] # libssl keeps the bare address
        openssl.SSL_CTX_callback_ctrl(handle, _SET_STATUS_CALLBACK, libssl.address(self._callback))

    def forget(self, context: ssl.SSLContext) -> None:
        """A context that is shown no more: its address may soon be another's."""
        fingerprint = self._of_context.pop(libssl.context_handle(context) or 0, None)
        if fingerprint is not None and fingerprint not in self._of_context.values():
            for kept in (self._wanted, self._answers, self._due, self._failures):
                kept.pop(fingerprint, None)

    async def run(self) -> None:
        """Looks for what is due every few seconds, and when a certificate is shown for the first time."""
        while True:
            self._more.clear()
            await self.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), LOOK_S)

    async def look(self) -> None:
        """One round: asks for what is missing or has reached half its life."""
        for fingerprint, wanted in list(self._wanted.items()):
            if self._due.get(fingerprint, self._now()) <= self._now():
                await self._refresh(fingerprint, wanted)

    def answer(self, fingerprint: bytes) -> Answer | None:
        """What is stapled to a certificate now."""
        found = self._answers.get(fingerprint)
        return found if found is not None and found.expires > self._now() else None

    def findings(self) -> list[Finding]:
        """How it is with each certificate that is to be stapled."""
        found = []
        for fingerprint, wanted in self._wanted.items():
            names, answer = ", ".join(names_of(wanted.certificate)), self.answer(fingerprint)
            if answer is not None:
                found.append(Finding("stapling", "ok", f"{names}: until {answer.expires.isoformat()}"))
            elif self._failures.get(fingerprint):
                status: Status = "error" if must_staple(wanted.certificate) else "warning"
                text = f"{names}: no response from {wanted.url}"
                found.append(Finding("stapling", status, text, "nodes must reach it; the node's log says why"))
        return found

    async def _refresh(self, fingerprint: bytes, wanted: _Wanted) -> None:
        names = names_of(wanted.certificate)
        try:
            der = await self._ask(wanted.url, wanted.certificate, wanted.issuer)
            found = ocsp.judge(der, wanted.certificate, wanted.issuer, self._now())
        except (BadResponse, OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
            failures = self._failures[fingerprint] = self._failures.get(fingerprint, 0) + 1
            wait_s = min(RETRY_FIRST_S * 2 ** (failures - 1), RETRY_MOST_S)
            self._due[fingerprint] = self._now() + datetime.timedelta(seconds=wait_s)
            report = self._logger.error if must_staple(wanted.certificate) else self._logger.warning
            report("no response to staple", names=names, url=wanted.url, reason=str(error) or type(error).__name__)
            return
        self._failures.pop(fingerprint, None)
        self._answers[fingerprint], self._due[fingerprint] = found, found.refresh_at()
        self._logger.info("stapling", names=names, until=found.expires.isoformat())

    def _called(self, connection: int, _: int) -> int:
        """In a handshake, which waits: what there is, or nothing."""
        openssl = libssl.library()
        found = self.answer(self._of_context.get(openssl.SSL_get_SSL_CTX(connection), b""))
        if found is None:
            return _NOT_STAPLED
        copy = openssl.CRYPTO_malloc(len(found.der), b"", 0)  # libssl frees it
        if not copy:
            return _NOT_STAPLED
        ctypes.memmove(copy, found.der, len(found.der))
        openssl.SSL_ctrl(connection, _SET_STATUS_RESPONSE, len(found.der), copy)
        return _STAPLED
