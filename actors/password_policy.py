"""What a new password may be, in the spirit of NIST SP 800-63B 5.1.1.2: long enough, not one that everybody tries.

No rules about kinds of characters, no history, no expiry by the calendar. Known-bad passwords are the 30,000 most used
ones of the zxcvbn library; besides them, what is the account's own name or its domain's, and what repeats itself. A
tenant may let them be (password_known_bad=allow).
"""

from __future__ import annotations

import re
from functools import lru_cache

from actors.credentials import least_characters
from actors.errors import NotAllowed
from actors.passwords import prepare
from actors.tenant_policy import settings
from eventlog.views import View

PRODUCT = "mailraft"
_AROUND = re.compile(r"^[\W\d_]+|[\W\d_]+$")
KNOWN_BAD = "password_known_bad"


def check(view: View, address: str, password: str) -> None:
    """Raises NotAllowed, saying why this can not be the account's password; `view`: of its tenant."""
    prepared = prepare(password)
    least = least_characters(view)
    if len(prepared) < least:
        raise NotAllowed(f"a password has at least {least} characters")
    if settings(view).get(KNOWN_BAD) == "allow":
        return
    if _is_own(address, prepared):
        raise NotAllowed("the password is the account's own name: choose another")
    if prepared.casefold() in known_bad() or _repeats(prepared):
        raise NotAllowed("the password is one of those that are tried first: choose another")


def _is_own(address: str, password: str) -> bool:
    local, _, domain = address.casefold().partition("@")
    own = {address.casefold(), local, domain, domain.partition(".")[0], PRODUCT}
    folded = password.casefold()
    return folded in own or _AROUND.sub("", folded) in own or folded.replace(" ", "") in own


def _repeats(password: str) -> bool:
    """One to three characters over and over, as in aaaaaaaa or 12121212."""
    return re.fullmatch(r"(.{1,3}?)\1+(.{0,2})", password) is not None


@lru_cache(1)
def known_bad() -> frozenset[str]:
    """Read when the first password is set, as it takes a moment and some memory."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"])
