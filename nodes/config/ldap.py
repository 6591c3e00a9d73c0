"""The table `ldap`: directories (RFC 4511) that check the passwords of accounts in the domains that they name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from nodes.config.secrets import SecretReference
from nodes.config.values import Patience, Seconds, Section, parse_list

PLACES = re.compile(r"\{(address|local|domain)\}")


class LdapDirectory(Section):
    """One directory. What is asked over TLS only: LDAPS, or STARTTLS before anything else."""

    url: str = Field(
        default="",
        pattern=r"^(ldaps?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?/?)?$",
        description='Where it is: ldaps://host, or ldap://host for STARTTLS; never in clear. "" asks none.',
    )
    domains: Annotated[tuple[str, ...], BeforeValidator(parse_list)] = Field(
        default=(), description="The domains whose accounts have their passwords there, and no longer in the log."
    )
    ca_file: Path | None = Field(
        default=None, description="The authorities that its certificate may be from (PEM); the system's if not given."
    )
    base: str = Field(default="", max_length=1024, description="Below which entry users are looked for.")
    filter: str = Field(
        default="(mail={address})",
        max_length=1024,
        description="Which entry is the user's (RFC 4515): {address}, {local} and {domain} stand for the account's, "
        "escaped. Exactly one entry must fit.",
    )
    bind_dn: str = Field(default="", max_length=1024, description='Who looks for users; "" is nobody (anonymous).')
    bind_password: SecretReference = Field(
        default="", description="Where the password of bind_dn is: file:PATH (its first line) or env:NAME."
    )
    address_attribute: str = Field(
        default="mail",
        pattern=r"^[A-Za-z][A-Za-z0-9;-]{0,63}$",
        description="Where an entry has its address, for `mailraft directory sync`: the first that is in the domains.",
    )
    disabled_filter: str = Field(
        default="",
        max_length=1024,
        description='Which entries are suspended there, as in (pwdAccountLockedTime=*); "" is none.',
    )
    quota_attribute: str = Field(
        default="",
        pattern=r"^([A-Za-z][A-Za-z0-9;-]{0,63})?$",
        description='Where an entry has the size of its mailbox, in octets; "" is nowhere.',
    )
    timeout_s: Patience = Field(default=5.0, description="How long a log-in waits for the directory, all in all.")
    connections: int = Field(default=4, ge=1, le=64, description="Connections to it at one time; log-ins take turns.")
    cache_s: Seconds = Field(
        default=60.0,
        description="How long a password that was right stays so without asking again, in memory, hashed; 0: not.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.url:
            return self
        if not self.domains:
            raise ValueError("domains: is needed with url")
        if not PLACES.search(self.filter) or self.filter.count("(") != self.filter.count(")"):
            raise ValueError("filter: must be a filter with {address}, or with {local}, as in (mail={address})")
        if not re.search(r"\{(address|local)\}", self.filter):
            raise ValueError("filter: {domain} alone fits every user: name {address} or {local} too")
        if bool(self.bind_dn) != bool(self.bind_password):
            raise ValueError("bind_dn, bind_password: one is nothing without the other")
        return self


class LdapSection(LdapDirectory):
    """Who checks the passwords of accounts in some domains instead of the log: an LDAP directory, or several. The same
    on every node."""

    directories: tuple[LdapDirectory, ...] = Field(
        default=(),
        max_length=50,
        description="Further directories, each a table `[[ldap.directories]]` with keys as above, of other domains.",
    )
    scram: bool = Field(
        default=True,
        description="Whether SCRAM is offered. It can not be checked against a directory, whose accounts get in by it "
        "with app passwords only; false is for cells whose people all have their password there, with clients that "
        "choose it and do not try PLAIN then.",
    )

    @property
    def all(self) -> tuple[LdapDirectory, ...]:
        """Every directory that is asked."""
        return tuple(one for one in (self, *self.directories) if one.url)

    @model_validator(mode="after")
    def _are_different(self) -> Self:
        if any(not one.url for one in self.directories):
            raise ValueError("directories: each needs a `url`")
        domains = [domain.casefold() for one in self.all for domain in one.domains]
        if len(set(domains)) < len(domains):
            raise ValueError("directories: a domain belongs to one of them only")
        return self
