"""Which of a tenant's events carry a sealed secret, and what each is bound to (actors/sealing.py)."""

from __future__ import annotations

from actors import apop, credentials
from actors.apop import ApopSecretSet
from actors.credentials import AppPasswordAdded, OneTimeCodesEnrolled
from actors.kind import Fact
from actors.tenant_terms import PasswordSet

SEALED = frozenset(fact.TYPE for fact in (PasswordSet, AppPasswordAdded, OneTimeCodesEnrolled, ApopSecretSet))


def password_place(tenant: bytes, account_id: bytes) -> bytes:
    """What a password's verifiers are bound to when they are sealed (actors/sealing.py)."""
    return tenant + account_id


def sealed_place(tenant: bytes, fact: Fact) -> bytes | None:
    """The same of a fact that carries a sealed secret, as its field `sealed`; None for one that does not."""
    match fact:
        case PasswordSet():
            return password_place(tenant, fact.account)
        case AppPasswordAdded():
            return credentials.app_password_place(tenant, fact.account, fact.id)
        case OneTimeCodesEnrolled():
            return credentials.one_time_place(tenant, fact.account)
        case ApopSecretSet():
            return apop.place(tenant, fact.account)
        case _:
            return None
