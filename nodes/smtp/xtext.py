"""xtext (RFC 3461 4) and its relative for addresses outside ASCII (RFC 6533 3): pure text in, pure text out."""

from __future__ import annotations

import re

_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})+")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_POINT = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_UTF8_TEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e\xa1-\U0010ffff]|\\x\{[0-9A-F]{2,6}\})+")


def decoded(text: str) -> str | None:
    """What `text` stands for, or None: it is not xtext, or stands for something that can not be printed on one line."""
    if not _XTEXT.fullmatch(text):
        return None
    plain = _HEX.sub(lambda match: chr(int(match[1], 16)), text)
    return plain if all(" " <= char <= "~" for char in plain) else None


def decoded_utf8_address(text: str) -> str | None:
    """What a utf-8-addr-xtext, -addr-unitext or plain xtext stands for; None as above (RFC 6533 3)."""
    if not _UTF8_TEXT.fullmatch(text):
        return decoded(text)
    try:
        plain = _POINT.sub(lambda match: chr(int(match[1], 16)), text)
        plain.encode("utf-8")
    except (ValueError, OverflowError):
        return None
    return plain if plain.isprintable() else None
