"""The languages that answers can be in (RFC 6856 3): English, which is the default as well."""

from __future__ import annotations

SPOKEN = {"en": "English", "i-default": "The default, English,"}
DEFAULT = "i-default"
MOST_RANGE = 100  # octets


def lines() -> list[str]:
    """Each language as LANG lists it: its tag, and what it is called in itself."""
    return [f"{tag} {name.rstrip(',')}" for tag, name in SPOKEN.items()]


def lookup(wanted: bytes) -> str | None:
    """The tag of the language for a range (RFC 4647 3.4, without lists): en-GB finds en, `*` the default."""
    if wanted == b"*":
        return DEFAULT
    tag = wanted[:MOST_RANGE].decode("ascii", "replace").lower()
    while tag and tag not in SPOKEN:
        tag = tag.rpartition("-")[0]
    return tag or None
