"""SPF (RFC 7208): whether a client may send for a domain. pyspf decides; the node's resolver answers.

pyspf asks the DNS in the middle of its work and would wait for it. Here it is given what is known, and where it asks
for more it is stopped, the answer is fetched, and it begins again: no thread waits, and nothing is asked twice. What
is asked at once (the hosts of an MX or PTR answer) keeps the number of beginnings near the number of mechanisms.

An evaluation takes pyspf longer than all else that is judged of a message, and depends on nothing but the client, the
domain, what the DNS says, and macros. So one without macros is remembered together with the answers that it rests on,
and holds for as long as the resolver still has these very answers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import weakref
from collections import OrderedDict
from typing import Any, Literal, NamedTuple, cast

import spf

from nodes.resolver import ResolverError, ResolverFailed
from nodes.verdicts.lookups import Lookup, answer

Result = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]  # RFC 7208 2.6
MOST_BEGINNINGS = 60  # RFC 7208 4.6.4 lets a record cause fewer questions than that
MOST_HOSTS = 10  # of one MX or PTR answer, RFC 7208 4.6.4
MOST_EXPLANATION = 200
MOST_REMEMBERED = 8192
MACRO = b"%"  # RFC 7208 7: what a record with one says depends on more than client and domain

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
        local, at, domain = sender.rpartition("@")
        if at:  # pyspf looks for the first, which may stand in a quoted local part
            self.l, self.o, self.d = local or "postmaster", domain, domain
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


class Remembered:
    """Evaluations by client and domain, each with the answers that it rests on, which it does not keep alive."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[Spf, list[tuple[_Question, weakref.ref[Any]]]]] = OrderedDict()

    def find(self, dns: Lookup, client: str, domain: str) -> Spf | None:
        """What was found, if every answer still is what it was."""
        kept = self._kept.get((client, domain))
        if kept is None:
            return None
        found, answers = kept
        for question, rested_on in answers:
            now = dns.known(*question)
            if now is None or now is not rested_on():
                return None
        return found

    def keep(self, client: str, found: Spf, asked: dict[_Question, Any]) -> None:
        """Remembers it, if nothing but client and domain decided it."""
        if any(kind == "TXT" and _has_macro(answer) for (_, kind), answer in asked.items()):
            return
        try:
            answers = [(question, weakref.ref(answer)) for question, answer in asked.items()]
        except TypeError:  # answers that are of no resolver with a cache
            return
        self._kept[client, found.domain] = found, answers
        self._kept.move_to_end((client, found.domain))
        if len(self._kept) > MOST_REMEMBERED:
            self._kept.popitem(last=False)


def _has_macro(answer: Any) -> bool:
    return not isinstance(answer, ResolverError) and any(MACRO in part for one in answer for part in one.strings)


async def judge(
    dns: Lookup,
    client: str,
    sender: str,
    helo: str,
    *,
    receiver: str = "unknown",
    timeout_s: float = 20.0,
    remembered: Remembered | None = None,
) -> Spf:
    """Whether `client` (an IP address) may send as `sender` (RFC 7208 4); with sender "", as postmaster of `helo`.

    Raises nothing: DNS that fails or is too slow gives temperror, a record that can not be understood permerror.
    """
    domain = domain_of(sender, helo)
    if remembered is not None:
        known = remembered.find(dns, client, domain)
        if known is not None:
            return known
    asked: dict[_Question, Any] = {}
    try:
        ipaddress.ip_address(client)
        async with asyncio.timeout(timeout_s):
            result, explanation = await _evaluate(dns, asked, client, sender, helo, receiver)
    except TimeoutError:
        return Spf("temperror", domain)
    except ValueError:
        return Spf("none", domain)
    found = Spf(result, domain, explanation[:MOST_EXPLANATION] if result == "fail" else "")
    if remembered is not None:
        remembered.keep(client, found, asked)
    return found


def domain_of(sender: str, helo: str) -> str:
    """The domain that is judged (RFC 7208 2.4)."""
    return sender.rpartition("@")[2] if "@" in sender else helo


async def _evaluate(
    dns: Lookup, asked: dict[_Question, Any], client: str, sender: str, helo: str, receiver: str
) -> tuple[Result, str]:
    answers: _Answers = {}
    domain = domain_of(sender, helo)
    if _is_name(domain):
        await _ask(dns, asked, answers, (domain.lower(), "TXT"), "A")  # what it asks first anyway: one beginning less
    for _ in range(MOST_BEGINNINGS):
        query = _Query(answers, client, sender, helo, receiver)
        result, explanation = _run(query)
        if query.unanswered is None:
            return result, explanation
        await _ask(dns, asked, answers, query.unanswered, query.A)
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


async def _ask(dns: Lookup, asked: dict[_Question, Any], answers: _Answers, question: _Question, family: str) -> None:
    """Puts the answer into both: as the resolver gives it, and as pyspf wants it."""
    asked[question] = await answer(dns, *question)
    answers[question] = found = _for_pyspf(question[1], asked[question])
    hosts = [(name, family) for name in _named(question[1], found) if (name, family) not in answers]
    if hosts:
        asked.update(zip(hosts, await asyncio.gather(*(answer(dns, *host) for host in hosts))))
        answers.update((host, _for_pyspf(family, asked[host])) for host in hosts)


def _named(kind: str, found: list[Any] | ResolverFailed) -> list[str]:
    """The hosts whose addresses will be wanted next; of too many MX, none: that is a permerror."""
    if isinstance(found, ResolverFailed):
        return []
    if kind == "PTR":
        return [name for name in found[:MOST_HOSTS] if name]
    return [host for _, host in found if host] if kind == "MX" and len(found) <= MOST_HOSTS else []


def _for_pyspf(kind: str, records: Any) -> list[Any] | ResolverFailed:
    """No such name and no such record are both no answer (RFC 7208 4.6.4)."""
    if isinstance(records, ResolverFailed):
        return records
    if isinstance(records, ResolverError):
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
