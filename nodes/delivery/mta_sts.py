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
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from nodes.delivery.policy_host import PolicyError, PolicyHost
from nodes.delivery.tls_results import RecordTlsResult, TlsResult
from nodes.files import write_atomically
from nodes.resolver import Resolver, ResolverError

MAX_AGE_S = 31_557_600  # a year: the largest that counts (3.2)
REFRESH_S = 86_400.0  # a policy in use is fetched again daily, so that it does not run out under an attack (10.2)
RETRY_S = 300.0
POLICIES = 10_000
MX_PATTERNS = 100
MX_CHARACTERS = 255
KEPT_CHARACTERS = 4096  # of a policy's lines, which are for reports: thousands of policies are in memory

Mode = Literal["enforce", "testing", "none"]

_RECORD = re.compile(r"v=STSv1\s*;(?:.*;)?\s*id=([A-Za-z0-9]{1,32})\s*(?:;.*)?", re.DOTALL)


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
        self._resolver, self._file = resolver, file
        self._host = PolicyHost(resolver, trust, port)
        self._record, self._clock = record, clock
        self._known: OrderedDict[str, StsPolicy] = _load(file)
        self._failed: OrderedDict[tuple[str, str], float] = OrderedDict()  # domain and id, until when
        self._fetching: dict[str, asyncio.Task[None]] = {}

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
        await self._host.close()

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
            policy = parse_policy((await self._host.fetch(domain)).text, policy_id, self._clock())
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
