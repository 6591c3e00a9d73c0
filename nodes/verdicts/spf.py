"""SPF (RFC 7208): whether a client may send for a domain. pyspf decides; the node's resolver answers.

pyspf asks the DNS in the middle of its work and would wait for it. Here it is given what is known, and where it asks
for more it is stopped, the answer is fetched, and it begins again: no thread waits, and nothing is asked twice. What
is asked at once (the hosts of an MX or PTR answer) keeps the number of beginnings near the number of mechanisms.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any, Literal, NamedTuple, cast

import spf

from nodes.resolver import ResolverError, ResolverFailed
from nodes.verdicts.lookups import Lookup

Result = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]  # RFC 7208 2.6
MOST_BEGINNINGS = 60  # RFC 7208 4.6.4 lets a record cause fewer questions than that
MOST_HOSTS = 10  # of one MX or PTR answer, RFC 7208 4.6.4
MOST_EXPLANATION = 200

_Question = tuple[str, str]
_Answers = dict[_Question, "list[Any] | ResolverFailed"]


class Spf(NamedTuple):
    """`domain` is the one that was judged: of MAIL FROM, or of HELO where that was null (RFC 7208 2.4)."""

    result: Result
    domain: str
    explanation: str = ""  # of a failure, in the domain owner's words: never to be shown as ours


class _Unanswered(BaseException):
    """pyspf wants to know what is not known yet. No Exception: pyspf must not take it for a fault of the record."""


class _Query(spf.query):  # type: ignore[misc]
    """pyspf's evaluation, with its DNS replaced: CNAMEs are followed, and kept, by the resolver."""

    def __init__(self, answers: _Answers, client: str, sender: str, helo: str, receiver: str) -> None:
        super().__init__(i=client, s=sender, h=helo, receiver=receiver, strict=True)
        self._answers = answers
        self.unanswered: _Question | None = None  # pyspf swallows whatever is raised while it fetches exp=

    def dns(self, name: Any, qtype: str, cnames: Any = None, ignore_void: bool = False) -> list[Any]:
        question = str(name).removesuffix(".").lower(), qtype
        if not _is_name(question[0]):
            return []
        answer = self._answers.get(question)
        if answer is None:
            self.unanswered = self.unanswered or question
            raise _Unanswered
        if isinstance(answer, ResolverFailed):
            raise spf.TempError(f"DNS: {answer}")
        if not answer and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError("more lookups without an answer than RFC 7208 4.6.4 allows")
        return list(answer)

    def validated_ptrs(self) -> list[str]:
        """RFC 7208 5.5: a DNS error is no match, of the whole mechanism or of one name; pyspf gives temperror."""
        try:
            names = self.dns_ptr(self.i)[:MOST_HOSTS]
        except spf.TempError:
            return []
        return [name for name in names if self._leads_back(name)]

    def _leads_back(self, name: str) -> bool:
        try:
            return bool(self.cidrmatch(self.dns_a(name, self.A), self.cidrmax))
        except spf.TempError:
            return False


def _is_name(domain: str) -> bool:
    return all(0 < len(label) < 64 for label in domain.split("."))


async def judge(
    dns: Lookup, client: str, sender: str, helo: str, *, receiver: str = "unknown", timeout_s: float = 20.0
) -> Spf:
    """Whether `client` (an IP address) may send as `sender` (RFC 7208 4); with sender "", as postmaster of `helo`.

    Raises nothing: DNS that fails or is too slow gives temperror, a record that can not be understood permerror.
    """
    domain = sender.rpartition("@")[2] if "@" in sender else helo
    try:
        ipaddress.ip_address(client)
        async with asyncio.timeout(timeout_s):
            result, explanation = await _evaluate(dns, client, sender, helo, receiver)
    except TimeoutError:
        return Spf("temperror", domain)
    except ValueError:
        return Spf("none", domain)
    return Spf(result, domain, explanation[:MOST_EXPLANATION] if result == "fail" else "")


async def _evaluate(dns: Lookup, client: str, sender: str, helo: str, receiver: str) -> tuple[Result, str]:
    answers: _Answers = {}
    domain = sender.rpartition("@")[2] if "@" in sender else helo
    if _is_name(domain):
        await _ask(dns, answers, (domain.lower(), "TXT"), "A")  # what it asks first in any case: one beginning less
    for _ in range(MOST_BEGINNINGS):
        query = _Query(answers, client, sender, helo, receiver)
        result, explanation = _run(query)
        if query.unanswered is None:
            return result, explanation
        await _ask(dns, answers, query.unanswered, query.A)
    return "permerror", ""


def _run(query: _Query) -> tuple[Result, str]:
    """What means something only where everything that was asked is answered."""
    try:
        result, _, explanation = query.check()
    except _Unanswered:
        return "temperror", ""
    except Exception:  # whatever a record can make pyspf stumble over is the record's fault
        return "permerror", ""
    return cast(Result, result), str(explanation)


async def _ask(dns: Lookup, answers: _Answers, question: _Question, family: str) -> None:
    answers[question] = found = await _answer(dns, question)
    hosts = [(name, family) for name in _named(question[1], found) if (name, family) not in answers]
    answers.update(zip(hosts, await asyncio.gather(*(_answer(dns, host) for host in hosts))))


def _named(kind: str, found: list[Any] | ResolverFailed) -> list[str]:
    """The hosts whose addresses will be wanted next; of too many MX, none: that is a permerror."""
    if isinstance(found, ResolverFailed):
        return []
    if kind == "PTR":
        return [name for name in found[:MOST_HOSTS] if name]
    return [host for _, host in found if host] if kind == "MX" and len(found) <= MOST_HOSTS else []


async def _answer(dns: Lookup, question: _Question) -> list[Any] | ResolverFailed:
    """In the form that pyspf wants; no such name and no such record are both no answer (RFC 7208 4.6.4)."""
    name, kind = question
    try:
        records = await dns.lookup(name, kind)
    except ResolverFailed as failure:
        return failure
    except ResolverError:
        return []
    match kind:
        case "TXT":
            return [list(one.strings) for one in records]
        case "MX":
            return [(one.preference, _host(one.exchange)) for one in records]
        case "PTR":
            return [_host(one.target) for one in records]
        case _:
            return [one.address for one in records]


def _host(name: Any) -> str:
    text: str = name.to_text(omit_final_dot=True)
    return text.lower()
