"""Handshakes between the parts of a cell that fail: an operator is told why, and so is the other side."""

from __future__ import annotations

import ssl
import time

import structlog

from nodes.tls.admission import Admission, Refusal

REPORT_EVERY_S = 10.0  # of one reason: a peer tries again and again

_log = structlog.get_logger("mailraft.tls")


def reporting(purpose: str, admission: Admission | None) -> type[ssl.SSLObject]:
    """The class of TLS objects that log why a handshake failed, on the link or listener called `purpose`.

    The event loop drops such a connection without a word; an operator wants to know why, and so does the other side: a
    server's failure waits until the alert is written and the client has gone. A certificate that is not admitted fails
    here at the latest, on both sides.
    """
    reported_s: dict[str, float] = {}

    class Reporting(ssl.SSLObject):
        failed: ssl.SSLError | None = None

        def do_handshake(self) -> None:
            if self.failed is not None:
                raise self.failed
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                self._report(_handshake_failure(error))
                if not self.server_side:
                    raise
                self.failed = error
                raise ssl.SSLWantReadError from None  # then the loop writes what libssl has to say
            refused = admission.judge(self.getpeercert(binary_form=True)) if admission is not None else None
            if refused is not None:
                self._report(refused.reason)
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, refused.reason)

        def _report(self, reason: str) -> None:
            now_s = time.monotonic()
            if now_s - reported_s.get(reason, -REPORT_EVERY_S) >= REPORT_EVERY_S:
                reported_s[reason] = now_s
                _log.warning("TLS peer refused", code="peer_refused", on=purpose, reason=reason)

    return Reporting


def _handshake_failure(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == Refusal.REMOVED.code:
            return Refusal.REMOVED.reason
        return f"its certificate is not of this cell's CA ({error.verify_message})"
    return (error.reason or str(error)).replace("_", " ").lower()
