"""DNS for judges: a zone in memory that answers as nodes.resolver.Resolver does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.rdtypes.ANY.TXT import TXT

from nodes.resolver import NoAnswer, NoSuchDomain, ResolverFailed

MOST_ALIASES = 8


class Zone:
    """`records`: name -> (type, value) pairs; the type "TIMEOUT" makes every question about its name fail."""

    def __init__(self, records: Mapping[str, Iterable[tuple[str, Any]]]) -> None:
        self._records = {name.lower().removesuffix("."): list(found) for name, found in records.items()}
        self.asked: list[tuple[str, str]] = []

    def known(self, name: str, kind: str) -> None:
        """Nothing is kept."""

    async def lookup(self, name: str, kind: str) -> list[Any]:
        self.asked.append((name, kind))
        at = name.lower().removesuffix(".")
        for _ in range(MOST_ALIASES):
            records = self._records.get(at)
            if records is None:
                raise NoSuchDomain(at)
            found = [_rdata(kind, value) for kind_of, value in records if kind_of == kind]
            if found:
                return found
            if any(kind_of == "TIMEOUT" for kind_of, _ in records):
                raise ResolverFailed(f"{at}: timed out")
            aliases = [value for kind_of, value in records if kind_of == "CNAME"]
            if not aliases:
                raise NoAnswer(at)
            at = aliases[0].lower().removesuffix(".")
        raise ResolverFailed(f"{name}: too many aliases")


def _rdata(kind: str, value: Any) -> Any:
    type_ = dns.rdatatype.from_text(kind)
    if kind == "TXT":
        strings = [value] if isinstance(value, str | bytes) else value
        pieces = [piece for one in strings for piece in _pieces(_bytes(one))]
        return TXT(dns.rdataclass.IN, type_, pieces or [b""])
    if kind == "MX":
        preference, host = value
        return dns.rdata.from_text("IN", "MX", f"{preference} {host.removesuffix('.')}.")
    return dns.rdata.from_text("IN", kind, str(value), origin=dns.name.root)


def _pieces(text: bytes) -> list[bytes]:
    return [text[at : at + 255] for at in range(0, len(text), 255)] or [b""]


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
