"""Where a domain's MTA-STS policy stands: https://mta-sts.DOMAIN/.well-known/mta-sts.txt (RFC 8461 3.3).

Fetched with the node's own resolver, under a certificate of a known authority for that name, without following
redirects. What the text says is for others to judge.
"""

from __future__ import annotations

import email.utils
import socket
import ssl
from typing import NamedTuple

import aiohttp
import aiohttp.abc

from nodes.delivery.tls_results import FailureType
from nodes.resolver import Resolver, ResolverError

POLICY_BYTES = 64 * 1024
FETCH_TIMEOUT_S = 30.0
PATH = "/.well-known/mta-sts.txt"


class PolicyError(Exception):
    """A policy that can not be used; `failure` as RFC 8460 4.3 calls it."""

    def __init__(self, failure: FailureType, text: str) -> None:
        super().__init__(text)
        self.failure: FailureType = failure


class PolicyFile(NamedTuple):
    """`changed_s`: since when it is as it is (seconds since 1970), where its host says so."""

    text: str
    changed_s: float | None


class PolicyHost:
    """Fetches policies; `close` ends its connections."""

    def __init__(self, resolver: Resolver, trust: ssl.SSLContext, port: int) -> None:
        self._resolver, self._trust, self._port = resolver, trust, port
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, domain: str) -> PolicyFile:
        """Raises PolicyError."""
        url = f"https://mta-sts.{domain}:{self._port}{PATH}"
        try:
            async with self._http().get(url, allow_redirects=False) as answer:
                if answer.status != 200 or answer.content_type != "text/plain":
                    text = f"{url}: {answer.status} {answer.content_type}"
                    raise PolicyError("sts-policy-fetch-error", text)
                body = b""
                while part := await answer.content.read(POLICY_BYTES):
                    body += part
                    if len(body) > POLICY_BYTES:
                        raise PolicyError("sts-policy-invalid", f"{url}: longer than {POLICY_BYTES} bytes")
                return PolicyFile(body.decode(), _seconds(answer.headers.get("Last-Modified")))
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise PolicyError("sts-webpki-invalid", f"{url}: {error}") from None
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError) as error:
            raise PolicyError("sts-policy-fetch-error", f"{url}: {error or type(error).__name__}") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._trust, resolver=_Names(self._resolver), limit=20)
            timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._session


def _seconds(date: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError):
        return None


class _Names(aiohttp.abc.AbstractResolver):
    """aiohttp asks the node's own resolver."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        """Raises OSError, as aiohttp expects."""
        try:
            found = await self._resolver.addresses(host)
        except ResolverError as error:
            raise OSError(str(error)) from None
        return [
            {
                "hostname": host,
                "host": one,
                "port": port,
                "family": socket.AF_INET6 if ":" in one else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for one in found
        ]

    async def close(self) -> None:
        """The resolver is the node's."""
