"""The tables [filters], [rspamd], [clamav] and [milter]: the content filters of this machine, and what is done when one
of them can not be asked. See docs/filters.md."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nodes.addresses import split_address
from nodes.config.smtp import Networks, SmtpListenerKind, parse_listeners
from nodes.config.values import MIB, Count, Patience, Section, Size, parse_list

Kind = Literal["clamav", "milters", "rspamd"]
WhenDown = Literal["accept", "tempfail"]

_NAMED = re.compile(r"([a-z][a-z0-9_-]{0,31})=(.+)")
UNIX = "unix:"


def check_socket(value: str) -> str:
    """host:port or unix:/path; raises ValueError that says what is wrong."""
    if not value.startswith(UNIX):
        split_address(value)
    elif not value.removeprefix(UNIX).startswith("/"):
        raise ValueError("a Unix socket is named by its whole path, as in unix:/run/clamav/clamd.ctl")
    return value


def check_filter_socket(value: str) -> str:
    """The same, or nothing."""
    return check_socket(value) if value else value


def split_milter(value: str) -> tuple[str, str]:
    """A milter's name and its socket, from `name=socket`; raises ValueError that says what is wrong."""
    match = _NAMED.fullmatch(value)
    if match is None:
        raise ValueError("must be name=socket, as in opendkim=unix:/run/opendkim/opendkim.sock")
    return match[1], check_socket(match[2])


def _check_milter(value: str) -> str:
    split_milter(value)
    return value


def _parse(value: object) -> object:
    return [part for part in parse_list(value) if part]


FilterSocket = Annotated[str, AfterValidator(check_filter_socket)]
Milters = Annotated[
    tuple[Annotated[str, AfterValidator(_check_milter)], ...], BeforeValidator(_parse), Field(max_length=20)
]
Listeners = Annotated[tuple[SmtpListenerKind, ...], BeforeValidator(parse_listeners)]


class FiltersSection(Section):
    """The content filters that are asked about a message before it is taken; none unless they are named here."""

    RELOADS: ClassVar[bool | frozenset[str]] = True

    rspamd: FilterSocket = Field(default="", description='The normal worker of an Rspamd, HTTP in clear; "" for none.')
    clamav: FilterSocket = Field(default="", description='The socket of a clamd; "" for none.')
    milters: Milters = Field(
        default=(),
        description="Filters that speak the milter protocol, in their order, each name=socket: "
        "opendkim=unix:/run/opendkim/opendkim.sock. The name stands in metrics and in the log.",
    )
    order: Annotated[tuple[Kind, ...], BeforeValidator(_parse)] = Field(
        default=("clamav", "milters", "rspamd"), description="In which order they are asked: clamav, milters, rspamd."
    )
    held_bytes: Size = Field(
        default=512 * MIB,
        ge=1,
        description="Messages that may be with filters, or wait for them, at one time, in bytes.",
    )
    down_after: Count = Field(
        default=3, description="Failures in a row after which a filter is not asked any more, but for an attempt."
    )
    retry_s: Patience = Field(
        default=10.0, description="How often a filter is looked at, and how soon it is asked again after failures."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> FiltersSection:
        names = [split_milter(one)[0] for one in self.milters]
        if len({*names, "rspamd", "clamav"}) < len(names) + 2:
            raise ValueError("milters: each needs a name of its own, and neither rspamd nor clamav")
        if sorted(self.order) != ["clamav", "milters", "rspamd"]:
            raise ValueError("order: must name clamav, milters and rspamd, each once")
        return self


class FilterSection(Section):
    """What all kinds of filters have in common."""

    listeners: Listeners = Field(default=("smtp",), description="Listeners whose mail it is asked about.")
    exempt: Networks = Field(default=(), description="Networks whose clients' mail it is not asked about.")
    when_down: WhenDown = Field(
        default="tempfail",
        description="What becomes of mail when it can not be asked, or does not answer in time: taken as it is, or "
        "put off with 451.",
    )
    message_bytes: Size = Field(default=20 * MIB, ge=1, description="The largest message that it is asked about.")
    when_large: Literal["accept", "refuse"] = Field(
        default="accept", description="What becomes of a larger one: taken without its word, or refused with 552."
    )


class RspamdSection(FilterSection):
    """How the Rspamd of [filters] is asked. Its own settings decide which score leads to which action."""

    RELOADS: ClassVar[bool | frozenset[str]] = True

    timeout_s: Patience = Field(default=20.0, description="How long it may take for one message.")
    at_once: Count = Field(default=50, description="Messages that it is asked about at one time; others wait.")
    add_header: Literal["junk", "mark"] = Field(
        default="junk",
        description="What its actions `add header` and `rewrite subject` lead to: the folder Junk, or INBOX; with "
        "X-Spam: Yes in front of the message both times.",
    )


class ClamavSection(FilterSection):
    """How the clamd of [filters] is asked. Its StreamMaxLength must not be below message_bytes here."""

    RELOADS: ClassVar[bool | frozenset[str]] = True

    listeners: Listeners = Field(
        default=("smtp", "submission", "submissions"), description="Listeners whose mail it is asked about."
    )
    timeout_s: Patience = Field(default=60.0, description="How long it may take for one message.")
    at_once: Count = Field(default=20, description="Messages that it is asked about at one time; others wait.")
    found: Literal["reject", "junk"] = Field(
        default="reject", description="What becomes of mail in which it finds something: 550, or the folder Junk."
    )


class MilterSection(FilterSection):
    """How the milters of [filters] are asked; what stands here is the same for all of them."""

    RELOADS: ClassVar[bool | frozenset[str]] = True

    connect_s: Patience = Field(default=10.0, description="How long opening its socket and negotiating may take.")
    command_s: Patience = Field(default=20.0, description="How long it may take to answer one command.")
    message_s: Patience = Field(
        default=120.0, description="How long it may take from the message's first byte to its decision."
    )
    connections: Count = Field(
        default=100, description="Connections to one milter; what idles is closed for what is needed, others wait."
    )
