"""Which SASL mechanisms a connection offers, and the exchange that each of them is. Names as registered with IANA.

What is listed works on that connection: nothing at all in clear (except where the policy lets a password come so),
-PLUS only where TLS gives something to bind to, tokens only where somebody is trusted to issue
them, EXTERNAL only to who has shown a certificate that logs in, SCRAM only where the log has the passwords.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from nodes.logins.sasl import Exchange, Login, Plain
from nodes.logins.sasl_bearer import OAuthBearer, XOAuth2
from nodes.logins.sasl_external import External
from nodes.logins.sasl_scram import Find, Scram

ALL = ("EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN")
_TOKENS = ("OAUTHBEARER", "XOAUTH2")


class Offer(NamedTuple):
    """What a connection can do: `may_log_in` at all, be bound to its TLS, take `tokens`, has shown a certificate."""

    may_log_in: bool
    bindings: Mapping[str, bytes]
    tokens: bool
    addresses: tuple[str, ...] = ()  # that the client's certificate is for
    scram: bool = True

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The strongest first."""
        return tuple(name for name in ALL if self._has(name))

    def _has(self, name: str) -> bool:
        if name == "EXTERNAL":
            return self.may_log_in and bool(self.addresses)
        if name == "SCRAM-SHA-256-PLUS":
            return self.may_log_in and self.scram and bool(self.bindings)
        if name == "SCRAM-SHA-256":
            return self.may_log_in and self.scram
        return self.may_log_in and (self.tokens or name not in _TOKENS)


def begin(name: str, offer: Offer, find: Find) -> Exchange:
    """The exchange of a mechanism that is offered; `find` gives the keys that a SCRAM proof is checked against."""
    made: dict[str, Callable[[], Exchange]] = {
        "EXTERNAL": lambda: External(offer.addresses),
        "SCRAM-SHA-256-PLUS": lambda: Scram(find, offer.bindings, plus=True),
        "SCRAM-SHA-256": lambda: Scram(find, offer.bindings, plus=False),
        "OAUTHBEARER": OAuthBearer,
        "XOAUTH2": XOAuth2,
        "PLAIN": Plain,
        "LOGIN": Login,
    }
    return made[name]()
