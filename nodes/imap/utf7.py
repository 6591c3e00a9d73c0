"""Modified UTF-7 for mailbox names (RFC 3501 5.1.3)."""

import base64
import re

_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")
_VALID = re.compile(rb"(?:[\x20-\x25\x27-\x7e]|&[A-Za-z0-9+,]*-)*")
_NOT_DIRECT = re.compile(r"[^\x20-\x7e]+|&")


def decode(name: bytes) -> str:
    """The name as text; raises ValueError for what no encoder writes."""
    if not _VALID.fullmatch(name):
        raise ValueError("not modified UTF-7")
    at = 0
    pieces = []
    for shifted in _SHIFTED.finditer(name):
        pieces.append(name[at : shifted.start()].decode("ascii"))
        pieces.append(_decode_shifted(shifted[1]) if shifted[1] else "&")
        at = shifted.end()
    pieces.append(name[at:].decode("ascii"))
    text = "".join(pieces)
    if encode(text) != name:
        raise ValueError("not the canonical form of modified UTF-7")
    return text


def _decode_shifted(digits: bytes) -> str:
    padded = digits.replace(b",", b"/") + b"=" * (-len(digits) % 4)
    return base64.b64decode(padded).decode("utf-16-be")


def encode(name: str) -> bytes:
    """The name as it stands on the wire, printable ASCII."""
    return _NOT_DIRECT.sub(lambda found: _encode_shifted(found[0]), name).encode("ascii")


def _encode_shifted(text: str) -> str:
    if text == "&":
        return "&-"
    digits = base64.b64encode(text.encode("utf-16-be", "surrogatepass")).rstrip(b"=").replace(b"/", b",")
    return "&" + digits.decode("ascii") + "-"
