"""FETCH items beyond RFC 3501 that are made out of a message's content."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Binary:
    """BINARY[...], BINARY.PEEK[...] and BINARY.SIZE[...] (RFC 3516 4.2): a part behind its transfer encoding."""

    numbers: tuple[int, ...]
    partial: tuple[int, int] | None
    peek: bool
    size_only: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """PREVIEW (RFC 8970); `lazy`: only if it is at hand."""

    lazy: bool
