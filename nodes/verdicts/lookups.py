"""What the judges ask the DNS through: the node's resolver, or anything that answers like it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable
from typing import Any, Protocol

from nodes.resolver import ResolverError, ResolverFailed

TXT_BYTES = 8192  # of one record; a longer one is no key and no policy


class Lookup(Protocol):
    """Part of nodes.resolver.Resolver."""

    async def lookup(self, name: str, kind: str) -> Any:
        """dnspython's records. Raises NoSuchDomain, NoAnswer or ResolverFailed."""
        ...

    def known(self, name: str, kind: str) -> Any:
        """What `lookup` would give or raise without asking anybody; None where it would have to ask."""
        ...


async def answer(dns: Lookup, name: str, kind: str) -> Any:
    """Records, or the ResolverError in their place; what is kept of it is the very object that `known` gives next."""
    found = dns.known(name, kind)
    if found is not None:
        return found
    try:
        return await dns.lookup(name, kind)
    except ResolverError as error:
        found = dns.known(name, kind)
        return error if found is None else found


async def txt(dns: Lookup, name: str) -> list[bytes]:
    """The TXT records at `name`, each as one string; none where there is no such name. Raises ResolverFailed."""
    found = _texts(await answer(dns, name, "TXT"))
    if isinstance(found, ResolverFailed):
        raise copy.copy(found)  # a traceback of its own for each who asks
    return found


async def txt_of_each(dns: Lookup, names: Iterable[str]) -> dict[str, list[bytes] | ResolverFailed]:
    """The TXT records at each name, asked for together; a failure stands in the place of an answer."""
    distinct = list(dict.fromkeys(names))
    answers = await asyncio.gather(*(answer(dns, name, "TXT") for name in distinct))
    return dict(zip(distinct, map(_texts, answers)))


def known_txt_of_each(dns: Lookup, names: Iterable[str]) -> dict[str, list[bytes] | ResolverFailed] | None:
    """The same without asking anybody; None where somebody must be asked."""
    found: dict[str, list[bytes] | ResolverFailed] = {}
    for name in names:
        known = dns.known(name, "TXT")
        if known is None:
            return None
        found[name] = _texts(known)
    return found


def _texts(found: Any) -> list[bytes] | ResolverFailed:
    if isinstance(found, ResolverFailed):
        return found
    if isinstance(found, ResolverError):
        return []
    joined = (b"".join(record.strings) for record in found)
    return [text for text in joined if len(text) <= TXT_BYTES]
