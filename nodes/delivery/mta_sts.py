"""MTA-STS (RFC 8461): a domain says over HTTPS which hosts take its mail, and that they do so over TLS that can be
checked.

A policy is fetched when the domain's TXT record names another id, kept for its max_age and, in a file, across restarts.
What can not be fetched leaves what is known in force. A failure is not repeated for five minutes (3.3).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import aiohttp
import aiohttp.abc

from nodes.delivery.tls_results import FailureType, RecordTlsResult, TlsResult
from nodes.files import write_atomically
from nodes.resolver import Resolver, ResolverError

POLICY_BYTES = 64 * 1024  # RFC 8461 3.3
FETCH_TIMEOUT_S = 30.0
MAX_AGE_S = 31_557_600  # a year: the largest that counts (3.2)
REFRESH_S = 86_400.0  # a policy in use is fetched again daily, so that it does not run out under an attack (10.2)
RETRY_S = 300.0
POLICIES = 10_000
MX_PATTERNS = 100
MX_CHARACTERS = 255
KEPT_CHARACTERS = 4096  # of a policy's lines, which are for reports: thousands of policies are in memory

Mode = Literal["enforce", "testing", "none"]

_RECORD = re.compile(r"v=STSv1\s*;(?:.*;)?\s*id=([A-Za-z0-9]{1,32})\s*(?:;.*)?", re.DOTALL)


class PolicyError(Exception):
    """A policy that can not be used; `failure` as RFC 8460 4.3 calls it."""

    def __init__(self, failure: FailureType, text: str) -> None:
        super().__init__(text)
        self.failure: FailureType = failure


class StsPolicy(NamedTuple):
    """Times are seconds since 1970."""

    id: str
    mode: Mode
    mx: tuple[str, ...]
    max_age_s: int
    fetched_s: float
    lines: tuple[str, ...]

    def allows(self, host: str) -> bool:
        """Whether one of the patterns names the host (RFC 8461 4.1): a star stands for one whole label."""
        parent = host.partition(".")[2]
        return any(host == one or (one.startswith("*.") and parent == one[2:]) for one in self.mx)


def parse_record(texts: list[bytes]) -> str | None:
    """The id out of a domain's TXT records; None unless exactly one is of MTA-STS (RFC 8461 3.1)."""
    found = [one.decode("ascii", "replace") for one in texts if one.startswith(b"v=STSv1")]
    match = _RECORD.fullmatch(found[0]) if len(found) == 1 else None
    return match[1] if match else None


def parse_policy(text: str, policy_id: str, now_s: float) -> StsPolicy:
    """RFC 8461 3.2. Raises PolicyError."""
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    pairs = [(key.strip(), value.strip()) for key, colon, value in (line.partition(":") for line in lines) if colon]
    first = dict(reversed(pairs))  # of a key that stands there twice the first counts
    mode, age = first.get("mode", ""), first.get("max_age", "")
    named = (value.lower().rstrip(".") for key, value in pairs if key == "mx")
    mx = tuple(one for one in named if len(one) <= MX_CHARACTERS)[:MX_PATTERNS]
    if first.get("version") != "STSv1":
        raise PolicyError("sts-policy-invalid", "the policy is not of version STSv1")
    if mode not in ("enforce", "testing", "none") or not age.isascii() or not age.isdigit() or len(age) > 10:
        raise PolicyError("sts-policy-invalid", "the policy has no mode or no max_age")
    if not mx and mode != "none":
        raise PolicyError("sts-policy-invalid", "the policy names no host")
    return StsPolicy(policy_id, mode, mx, min(int(age), MAX_AGE_S), now_s, _kept(lines))  # type: ignore[arg-type]


def _kept(lines: Iterable[str]) -> tuple[str, ...]:
    sizes = itertools.accumulate(map(len, lines := tuple(lines)))
    return tuple(line for line, size in zip(lines, sizes, strict=True) if size <= KEPT_CHARACTERS)


class StsPolicies:
    """The policies that one node knows. `file` keeps them across restarts; None: nothing does."""

    def __init__(
        self,
        resolver: Resolver,
        trust: ssl.SSLContext,
        port: int,
        file: Path | None,
        record: RecordTlsResult,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._resolver, self._trust, self._port, self._file = resolver, trust, port, file
        self._record, self._clock = record, clock
        self._known: OrderedDict[str, StsPolicy] = _load(file)
        self._failed: OrderedDict[tuple[str, str], float] = OrderedDict()  # domain and id, until when
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def of(self, domain: str) -> StsPolicy | None:
        """The policy in force for a domain, fetched if need be; None if it has none."""
        try:
            policy_id = parse_record(await self._resolver.txt(f"_mta-sts.{domain}"))
        except ResolverError:
            policy_id = None
        known, now_s = self._valid(domain), self._clock()
        if policy_id is None:
            return known
        due = known is None or known.id != policy_id or now_s > known.fetched_s + REFRESH_S
        if due and self._failed.get((domain, policy_id), 0.0) <= now_s:
            await asyncio.shield(self._task(domain, policy_id))
        return self._valid(domain)

    async def stop(self) -> None:
        """Ends what is being fetched."""
        for task in self._fetching.values():
            task.cancel()
        if self._session is not None:
            await self._session.close()

    def _valid(self, domain: str) -> StsPolicy | None:
        known = self._known.get(domain)
        return known if known is not None and self._clock() < known.fetched_s + known.max_age_s else None

    def _task(self, domain: str, policy_id: str) -> asyncio.Task[None]:
        task = self._fetching.get(domain)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(domain, policy_id))
            self._fetching[domain] = task
            task.add_done_callback(lambda _: self._fetching.pop(domain, None))
        return task

    async def _fetch(self, domain: str, policy_id: str) -> None:
        try:
            policy = parse_policy(await self._body(f"mta-sts.{domain}"), policy_id, self._clock())
        except PolicyError as error:
            self._failed[domain, policy_id] = self._clock() + RETRY_S
            if len(self._failed) > POLICIES:
                self._failed.popitem(last=False)
            self._record(TlsResult(domain, "sts", (), (), error.failure, "", "", str(error)))
            return
        self._known[domain] = policy
        self._known.move_to_end(domain)
        if len(self._known) > POLICIES:
            self._known.popitem(last=False)
        if self._file is not None:
            known = self._known.copy()
            await asyncio.to_thread(lambda file: write_atomically(file, _dump(known)), self._file)

    async def _body(self, host: str) -> str:
        """RFC 8461 3.3: no redirects, a certificate for the policy host. Raises PolicyError."""
        url = f"https://{host}:{self._port}/.well-known/mta-sts.txt"
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
                return body.decode()
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise PolicyError("sts-webpki-invalid", f"{url}: {error}") from None
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError) as error:
            raise PolicyError("sts-policy-fetch-error", f"{url}: {error or type(error).__name__}") from None

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._trust, resolver=_Names(self._resolver), limit=20)
            timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._session


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


def _load(file: Path | None) -> OrderedDict[str, StsPolicy]:
    """What the file holds; nothing where it can not be read: all of it can be fetched again."""
    try:
        stored = json.loads(file.read_bytes()) if file is not None else {}
        return OrderedDict(
            (domain, StsPolicy(one[0], one[1], tuple(one[2]), one[3], one[4], tuple(one[5])))
            for domain, one in stored.items()
        )
    except (OSError, ValueError, TypeError, IndexError, AttributeError):
        return OrderedDict()


def _dump(policies: OrderedDict[str, StsPolicy]) -> bytes:
    return json.dumps(policies).encode()
