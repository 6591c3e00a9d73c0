"""Organisational domains (RFC 7489 3.2), by the public suffix list that comes with its library: nothing is fetched."""

from __future__ import annotations

import asyncio
import threading
from functools import cache, lru_cache

from publicsuffixlist import PublicSuffixList

_reading = threading.Lock()


@cache
def _list() -> PublicSuffixList:
    return PublicSuffixList()  # 17,000 rules


def _list_once() -> PublicSuffixList:
    with _reading:
        return _list()


async def read_list() -> None:
    """Reads the list if it has not been read: a third of a second, for which the event loop is not to stand still."""
    if not _list.cache_info().currsize:
        await asyncio.to_thread(_list_once)


@lru_cache(16_384)
def organisational_domain(domain: str) -> str:
    """Of a normalised domain; a public suffix, and a name under none, is its own."""
    found = _list_once().privatesuffix(domain)
    return found or domain


@cache
def _named() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)


async def is_public_suffix(domain: str) -> bool:
    """Whether the list names a normalised domain; a top-level domain that it does not know is not one."""
    found = _named() if _named.cache_info().currsize else await asyncio.to_thread(_named)
    return bool(found.is_public(domain))


def is_aligned(domain: str, with_domain: str, mode: str) -> bool:
    """RFC 7489 3.1: the same domain if "s"; of the same organisation if "r"."""
    if domain == with_domain:
        return bool(domain)
    return mode != "s" and bool(domain) and organisational_domain(domain) == organisational_domain(with_domain)
