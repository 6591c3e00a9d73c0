"""What the judges ask the DNS through: the node's resolver, or anything that answers like it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from nodes.resolver import ResolverError, ResolverFailed

TXT_BYTES = 8192  # of one record; a longer one is no key and no policy


class Lookup(Protocol):
    """Part of nodes.resolver.Resolver."""

    async def lookup(self, name: str, kind: str) -> Any:
        """dnspython's records. Raises NoSuchDomain, NoAnswer or ResolverFailed."""
        ...


async def txt(dns: Lookup, name: str) -> list[bytes]:
    """The TXT records at `name`, each as one string; none where there is no such name. Raises ResolverFailed."""
    try:
        found = await dns.lookup(name, "TXT")
    except ResolverFailed:
        raise
    except ResolverError:
        return []
    joined = (b"".join(record.strings) for record in found)
    return [text for text in joined if len(text) <= TXT_BYTES]


async def txt_of_each(dns: Lookup, names: Iterable[str]) -> dict[str, list[bytes] | ResolverFailed]:
    """The TXT records at each name, asked for together; a failure stands in the place of an answer."""

    async def one(name: str) -> list[bytes] | ResolverFailed:
        try:
            return await txt(dns, name)
        except ResolverFailed as failure:
            return failure

    distinct = list(dict.fromkeys(names))
    return dict(zip(distinct, await asyncio.gather(*map(one, distinct))))
