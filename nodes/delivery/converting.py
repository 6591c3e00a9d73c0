"""What is sent to a server that does not take a message as it is: one of 7 bits, signed anew, or nothing.

A tenant may have such mail returned instead. Signatures of ours are made again, since they would not hold. Mail that is
forwarded is never signed, whoever stands in its From: anybody may have written that, and its signatures are left to
fail.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from actors.mail_options import MailOptions
from actors.tenant_policy import settings
from nodes.delivery.attempt import Attempt
from nodes.delivery.parameters import Features, Unsendable
from nodes.delivery.seven_bit import Unconvertible, to_seven_bits
from nodes.mime import header
from nodes.signing import author_domain

if TYPE_CHECKING:
    from nodes.services import Services

RETURN = "return"
Convert = Callable[[Attempt], Awaitable[bytes]]

_SIGNED = b"DKIM-Signature:"
_DOMAIN = re.compile(rb"(?:^|;)\s*d\s*=\s*([^;\s]+)")


def is_wanted(options: MailOptions, offered: Features) -> bool:
    """Whether the server lacks what such a message needs."""
    if options.body == "BINARYMIME":
        return "BINARYMIME" not in offered or "CHUNKING" not in offered
    return options.body == "8BITMIME" and "8BITMIME" not in offered


def converter_of(services: Services) -> Convert:
    """Converts as a node's parts and the sender's tenant have it. The function raises Unsendable."""
    usual, hostname = services.config.delivery.eight_bit, services.config.node.hostname

    async def convert(attempt: Attempt) -> bytes:
        with services.log.snapshot() as snapshot:
            choice = settings(snapshot.view(attempt.tenant)).get("eight_bit", usual)
        if choice == RETURN:
            raise Unsendable(554, "5.6.3", "the message has 8-bit content, which the server does not take")
        data = b"".join([part async for part in attempt.read()])
        try:
            converted = await asyncio.to_thread(to_seven_bits, data, hostname)
        except Unconvertible as error:
            text = f"the server takes 7 bits only, and the message can not be converted: {error}"
            raise Unsendable(554, "5.6.3", text) from None
        # what we signed when it was submitted has our signature on top; what is forwarded, lines of ours that are none
        is_ours = data.startswith(_SIGNED)
        signatures = await services.signing.sign(attempt.tenant, converted) if is_ours else []
        if not signatures:
            return converted
        return b"".join(signatures) + without_signatures(converted, author_domain(converted) or "")

    return convert


def without_signatures(data: bytes, domain: str) -> bytes:
    """The message without DKIM signatures of this domain."""
    end = header.header_end(data, 0, len(data))
    at, kept = 0, []
    for one in header.fields(data, 0, end):
        if one.name == b"dkim-signature":
            signer = _DOMAIN.search(header.value_of(data, one))
            if signer is not None and signer[1].decode("ascii", "replace").lower() == domain:
                kept.append(data[at : one.start])
                at = one.end
    return b"".join([*kept, data[at:]])
