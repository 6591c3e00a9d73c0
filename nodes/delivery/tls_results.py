"""How TLS went with each server that mail was sent to, as a domain wants to be told daily (TLS-RPT, RFC 8460)."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Literal, NamedTuple

PolicyType = Literal["tlsa", "sts", "no-policy-found"]
FailureType = Literal[
    "",  # a success
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]

EXPIRED = 10  # X509_V_ERR of OpenSSL
HOST_MISMATCH = (62, 64)
UNTRUSTED = (2, 18, 19, 20, 21)


class TlsResult(NamedTuple):
    """One session, or one attempt at one. `policy`: the policy's lines (RFC 8460 4.4). `failure` "" is a success."""

    domain: str
    policy_type: PolicyType
    policy: tuple[str, ...]
    mx_patterns: tuple[str, ...]
    failure: FailureType
    host: str
    address: str
    reason: str


RecordTlsResult = Callable[[TlsResult], None]


def failure_of(error: BaseException | None) -> FailureType:
    """RFC 8460 4.3: what an error of a handshake is called."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return "validation-failure"
    if error.verify_code == EXPIRED:
        return "certificate-expired"
    if error.verify_code in HOST_MISMATCH:
        return "certificate-host-mismatch"
    return "certificate-not-trusted" if error.verify_code in UNTRUSTED else "validation-failure"
