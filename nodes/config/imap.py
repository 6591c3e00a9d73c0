"""[imap]: which extensions clients are not told of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from nodes.config.values import Section, parse_list

Withheld = Literal["COMPRESS=DEFLATE", "CONDSTORE", "NOTIFY", "QRESYNC", "UIDONLY", "UTF8=ACCEPT"]


class ImapSection(Section):
    """IMAP, beside what `limits` and the listeners say."""

    withheld: Annotated[tuple[Withheld, ...], BeforeValidator(parse_list)] = Field(
        default=(),
        description="Extensions that clients are not told of and can not enable, for those that ask for more than they "
        'can do: `["UIDONLY"]` where people fetch their mail into the new Outlook, whose service enables it and then '
        "names messages by number.",
    )
