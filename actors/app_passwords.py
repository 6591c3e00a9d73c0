"""App passwords: made by us, shown once, too long to be guessed; what is kept of one is its SCRAM keys.

A password of 100 random bits needs no slow hash: whoever steals the keys can not try that many. So all of an account's
are checked with one derivation, and because they share the account's salt, SCRAM takes any of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgpack

from actors.passwords import ScramVerifier

GROUPS, GROUP = 5, 4
RECOVERY_GROUP = 5
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # no l, o, 0, 1: it is read from a screen; 32 of them, 5 bits each
_WRITTEN = re.compile(rf"[{_ALPHABET}]{{{GROUPS * GROUP}}}")
_FORMAT = 1


def generate(entropy: Callable[[int], bytes]) -> str:
    """A new app password, as it is shown: abcd-efgh-ijkm-npqr-stuv."""
    letters = "".join(_ALPHABET[byte % 32] for byte in entropy(GROUPS * GROUP))
    return _grouped(letters)


def canonical(password: str) -> str | None:
    """An app password as `generate` writes it, however it was typed; None for what can not be one."""
    letters = password.replace("-", "").replace(" ", "").lower()
    return _grouped(letters) if _WRITTEN.fullmatch(letters) else None


def recovery_code(entropy: Callable[[int], bytes]) -> str:
    """A code for who has lost the device that makes one-time codes: abcde-fghij, 50 bits."""
    letters = "".join(_ALPHABET[byte % 32] for byte in entropy(2 * RECOVERY_GROUP))
    return f"{letters[:RECOVERY_GROUP]}-{letters[RECOVERY_GROUP:]}"


def canonical_recovery(code: str) -> str:
    """A recovery code as it was shown, however it was typed."""
    letters = code.replace("-", "").replace(" ", "").lower()
    return f"{letters[:RECOVERY_GROUP]}-{letters[RECOVERY_GROUP:]}"


def pack_keys(keys: ScramVerifier) -> bytes:
    """What is kept of one, for sealing."""
    packed: bytes = msgpack.packb((_FORMAT, keys))
    return packed


def read_keys(packed: bytes) -> ScramVerifier:
    """What `pack_keys` packed. Raises ValueError for anything else."""
    format_, scram = msgpack.unpackb(packed, use_list=False)
    if format_ != _FORMAT:
        raise ValueError(f"keys of an app password of format {format_}")
    return ScramVerifier._make(scram)


def _grouped(letters: str) -> str:
    return "-".join(letters[at : at + GROUP] for at in range(0, len(letters), GROUP))
