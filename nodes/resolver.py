"""What the DNS says, asked through dnspython and kept for as long as it is valid.

A resolver of one node: answers and failures are cached by TTL within a budget of bytes, a question that is under way is
not asked a second time, and an answer is `secure` only where the configuration trusts the name server's AD flag
(RFC 4035 3.2.3). It decides nothing about mail beyond what an MX answer means (RFC 5321 5.1, RFC 7505).
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.reversename

from nodes.config.node import DnsSection, split_address

UDP_PAYLOAD_BYTES = 1232  # what passes everywhere unfragmented (DNS flag day 2020); longer answers come over TCP
POSITIVE_AT_MOST_S = 86_400.0
NEGATIVE_AT_MOST_S = 3600.0  # RFC 2308 5: one to three hours
FAILURE_S = 10.0  # RFC 9520 3.2: at least one second, at most five minutes
FAILING_AFTER = 3  # questions in a row that nobody answered: one domain's own servers may be down
TRIES = 3  # within timeout_s; what is lost on the way is asked again
ENTRY_BYTES = 400  # of an answer in the cache beyond its own bytes
LOOPBACK = ("::1", "127.0.0.1")

T = TypeVar("T")


class ResolverError(Exception):
    """No answer that one could use. `secure`: the denial itself was validated; `temporary`: later it may be another."""

    temporary = False

    def __init__(self, text: str, secure: bool = False) -> None:
        super().__init__(text, secure)
        self.secure = secure

    def __str__(self) -> str:
        return str(self.args[0])


class NoSuchDomain(ResolverError):
    """The name does not exist (NXDOMAIN), or can not: it is no domain name."""


class NoAnswer(ResolverError):
    """The name exists and has no record of that type."""


class NullMx(NoAnswer):
    """The domain says that it takes no mail (RFC 7505)."""


class ResolverFailed(ResolverError):
    """Nobody answered in time, or none would: nothing is known. A bogus answer (RFC 4033 5) looks like this, too."""

    temporary = True


class Records(list[T], Generic[T]):
    """The records of one answer; `name` is where aliases led, `secure` that a trusted resolver validated all of it."""

    def __init__(self, records: Iterable[T] = (), *, name: str = "", secure: bool = False, ttl_s: float = 0.0) -> None:
        super().__init__(records)
        self.name = name
        self.secure = secure
        self.ttl_s = ttl_s

    def of(self, records: Iterable[Any]) -> Records[Any]:
        """Other records out of the same answer."""
        return Records(records, name=self.name, secure=self.secure, ttl_s=self.ttl_s)


class MxHost(NamedTuple):
    """Where mail for a domain goes; `implicit` where the domain has no MX and is its own host (RFC 5321 5.1)."""

    preference: int
    host: str
    implicit: bool = False


class Tlsa(NamedTuple):
    """RFC 6698 2.1."""

    usage: int
    selector: int
    matching: int
    data: bytes


TlsaAnswer = Records[Tlsa]


class _Kept(NamedTuple):
    until_s: float
    outcome: Records[Any] | ResolverError
    size_bytes: int


class Resolver:
    """Answers from the name servers of [dns]. Every method raises NoSuchDomain, NoAnswer or ResolverFailed."""

    def __init__(self, config: DnsSection, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._asking: dict[tuple[str, str], asyncio.Task[Records[Any] | ResolverError]] = {}
        self._slots = asyncio.Semaphore(config.questions)
        self._stub: dns.asyncresolver.Resolver | None = None
        self._unanswered = 0  # questions in a row
        self._last_failure = ""

    @property
    def failing(self) -> str:
        """Why no name server can be asked, as far as the last questions tell; "" where one of them was answered."""
        return self._last_failure if self._unanswered >= FAILING_AFTER else ""

    def reload(self, config: DnsSection) -> None:
        """From now on by this; what was learnt from others than the name servers there are now is forgotten."""
        if (config.nameservers, config.trust_ad) != (self._config.nameservers, self._config.trust_ad):
            self._kept.clear()
            self._kept_bytes = 0
            self._stub = None
        if config.questions != self._config.questions:
            self._slots = asyncio.Semaphore(config.questions)
        self._config = config

    async def mx(self, domain: str) -> Records[MxHost]:
        """Where mail for `domain` goes, best first, the domain itself where it has no MX. Raises NullMx besides."""
        try:
            found = await self.lookup(domain, "MX")
        except NoAnswer as none:
            return Records([MxHost(0, _text(_name(domain)), True)], name=_text(_name(domain)), secure=none.secure)
        hosts = sorted(MxHost(one.preference, _text(one.exchange)) for one in found)
        named = [one for one in hosts if one.host]
        if not named:
            raise NullMx(f"{domain} takes no mail (null MX)", found.secure)
        return found.of(named)

    async def addresses(self, host: str) -> Records[str]:
        """Its IPv6 and then its IPv4 addresses. Where only one of both questions is answered, that has to do."""
        if _text(_name(host)) == "localhost" or host.endswith(".localhost"):  # RFC 6761 6.3
            return Records(LOOPBACK, name=host)
        six, four = await asyncio.gather(self._of_family(host, "AAAA"), self._of_family(host, "A"))
        found = [one for one in (six, four) if isinstance(one, Records)]
        if found:
            both = Records([one.address for records in found for one in records], name=found[0].name)
            both.secure = all(one.secure for one in (six, four))
            both.ttl_s = min(one.ttl_s for one in found)
            return both
        assert isinstance(six, ResolverError)
        assert isinstance(four, ResolverError)
        raise six if six.temporary else four

    async def txt(self, name: str) -> Records[bytes]:
        """Each TXT record as one string (RFC 7208 3.3)."""
        found = await self.lookup(name, "TXT")
        return found.of(b"".join(one.strings) for one in found)

    async def tlsa(self, name: str) -> TlsaAnswer:
        """The TLSA records at `name`, which is `_25._tcp.` and a host."""
        found = await self.lookup(name, "TLSA")
        return found.of(Tlsa(one.usage, one.selector, one.mtype, one.cert) for one in found)

    async def ptr(self, address: str) -> Records[str]:
        """The names that an address claims; nothing confirms them here."""
        try:
            reverse = dns.reversename.from_address(address)
        except (dns.exception.DNSException, ValueError):
            raise NoSuchDomain(f"{address} is no address") from None
        found = await self.lookup(reverse.to_text(), "PTR")
        return found.of(_text(one.target) for one in found)

    async def lookup(self, name: str, kind: str) -> Records[Any]:
        """dnspython's records of any type, as "A" or "CAA"."""
        question = _canonical(name), kind
        outcome = self._kept_outcome(question)
        if outcome is None:
            outcome = await asyncio.shield(self._task(question))
        if isinstance(outcome, ResolverError):
            raise copy.copy(outcome)  # a traceback of its own for each who asks
        return outcome

    def known(self, name: str, kind: str) -> Records[Any] | ResolverError | None:
        """What `lookup` would give or raise without asking anybody, the same object for as long as it is valid.

        None where it would have to ask, or the name can be none.
        """
        try:
            return self._kept_outcome((_canonical(name), kind))
        except NoSuchDomain:
            return None

    def close(self) -> None:
        """Nobody waits for an answer any more."""
        for task in self._asking.values():
            task.cancel()

    def _kept_outcome(self, question: tuple[str, str]) -> Records[Any] | ResolverError | None:
        kept = self._kept.get(question)
        if kept is None or kept.until_s <= self._clock():
            return None
        self._kept.move_to_end(question)
        return kept.outcome

    def _task(self, question: tuple[str, str]) -> asyncio.Task[Records[Any] | ResolverError]:
        task = self._asking.get(question)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(question))
            self._asking[question] = task
            task.add_done_callback(lambda _: self._asking.pop(question, None))
        return task

    async def _of_family(self, host: str, kind: str) -> Records[Any] | ResolverError:
        try:
            return await self.lookup(host, kind)
        except ResolverError as error:
            return error

    async def _ask(self, question: tuple[str, str]) -> Records[Any] | ResolverError:
        outcome = await self._answer(question)
        is_failure = isinstance(outcome, ResolverFailed)
        self._unanswered = self._unanswered + 1 if is_failure else 0
        self._last_failure = str(outcome) if is_failure else ""
        return outcome

    async def _answer(self, question: tuple[str, str]) -> Records[Any] | ResolverError:
        name, kind = question
        try:
            async with asyncio.timeout(self._config.timeout_s), self._slots:
                answer = await self._resolver().resolve(
                    _name(name), kind, raise_on_no_answer=False, search=False, lifetime=self._config.timeout_s
                )
        except dns.resolver.NXDOMAIN as error:
            response = error.response(_name(name))  # type: ignore[no-untyped-call]
            outcome: Records[Any] | ResolverError = NoSuchDomain(f"{name} does not exist", self._is_secure(response))
            self._keep(question, outcome, min(_ttl_s(response), NEGATIVE_AT_MOST_S), response)
            return outcome
        except (dns.exception.DNSException, OSError, TimeoutError, ValueError) as error:
            outcome = ResolverFailed(f"no answer about {name} {kind}: {_reason(error)}")
            self._keep(question, outcome, FAILURE_S, None)
            return outcome
        secure, ttl_s = self._is_secure(answer.response), float(answer.chaining_result.minimum_ttl)
        if answer.rrset is None:
            outcome = NoAnswer(f"{name} has no {kind} record", secure)
            self._keep(question, outcome, min(ttl_s, NEGATIVE_AT_MOST_S), answer.response)
            return outcome
        outcome = Records(answer.rrset, name=_text(answer.canonical_name), secure=secure, ttl_s=ttl_s)
        self._keep(question, outcome, min(ttl_s, POSITIVE_AT_MOST_S), answer.response)
        return outcome

    def _is_secure(self, response: dns.message.Message) -> bool:
        return self._config.trust_ad and bool(response.flags & dns.flags.AD)

    def _keep(
        self,
        question: tuple[str, str],
        outcome: Records[Any] | ResolverError,
        ttl_s: float,
        response: dns.message.Message | None,
    ) -> None:
        old = self._kept.pop(question, None)
        self._kept_bytes -= old.size_bytes if old else 0
        wire = response.wire if response is not None else None
        size_bytes = ENTRY_BYTES + len(question[0]) + len(wire or b"")
        if ttl_s <= 0 or size_bytes > self._config.cache_bytes:
            return
        self._kept[question] = _Kept(self._clock() + ttl_s, outcome, size_bytes)
        self._kept_bytes += size_bytes
        while self._kept_bytes > self._config.cache_bytes:
            self._kept_bytes -= self._kept.popitem(last=False)[1].size_bytes

    def _resolver(self) -> dns.asyncresolver.Resolver:
        if self._stub is None:
            config = self._config
            stub = dns.asyncresolver.Resolver(configure=not config.nameservers)
            if config.nameservers:
                servers = [split_address(one) for one in config.nameservers]
                stub.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in servers]
            stub.timeout = config.timeout_s / TRIES
            stub.use_edns(0, 0, UDP_PAYLOAD_BYTES)
            stub.flags = dns.flags.RD | dns.flags.AD  # AD: tell whether it was validated (RFC 6840 5.7)
            self._stub = stub
        return self._stub


def _name(text: str) -> dns.name.Name:
    try:
        return dns.name.from_text(text, idna_codec=dns.name.IDNA_2008_Practical)
    except (dns.exception.DNSException, UnicodeError):
        raise NoSuchDomain(f"{text[:80]!r} is no domain name") from None


@lru_cache(4096)
def _canonical(text: str) -> str:
    """As a name stands in the cache; dnspython takes longer for it than a look into the cache. Raises NoSuchDomain."""
    return _text(_name(text))


def _text(name: dns.name.Name) -> str:
    """Lower case, without the dot at the end; "" for the root."""
    return name.canonicalize().to_text(omit_final_dot=True) if name != dns.name.root else ""


def _ttl_s(response: dns.message.Message) -> float:
    assert isinstance(response, dns.message.QueryMessage)
    return float(response.resolve_chaining().minimum_ttl)


def _reason(error: BaseException) -> str:
    if isinstance(error, dns.resolver.NoNameservers):
        codes = [one[4] for one in error.kwargs.get("errors", ()) if one[4] is not None]
        said = [dns.rcode.to_text(one.rcode()) if isinstance(one, dns.message.Message) else str(one) for one in codes]
        return "; ".join(dict.fromkeys(said)) or "no name server answers"
    if isinstance(error, TimeoutError | dns.exception.Timeout):
        return "timed out"
    return str(error) or type(error).__name__
