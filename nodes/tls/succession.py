"""Another authority for the cell, as the admin API asks for it: named, put in force, the one before trusted no more.

What each step waits for, and how far the nodes are, is in the log (actors/cell_succession.py); nodes act on it by
themselves (nodes/tls/node_certificates.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from actors import cell_succession, region
from actors.cell_authority import AUTHORITY, authority_place
from actors.cell_succession import NameSuccessor, PromoteSuccessor, RetireFormer, fingerprint
from actors.errors import NotAllowed
from actors.region import REGION
from actors.runtime import Context
from nodes.tls import cell_authority as ca
from nodes.tls.node_certificates import CellAuthority

if TYPE_CHECKING:
    from nodes.services import Services


class Succession:
    """What can be asked for, and what is so."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def name(self, certificate_pem: str, key_pem: bytes, context: Context) -> None:
        """Trusted beside the one in force from now on. Raises NotAllowed where it is no authority of this cell."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
            key = serialization.load_pem_private_key(key_pem, password=None)
        except (ValueError, TypeError) as error:
            raise NotAllowed(f"the authority can not be read: {error}") from None
        if key.public_key() != certificate.public_key():
            raise NotAllowed("the key is not that of the authority")
        if not ca.is_authority(certificate, self._services.config.node.cluster_id):
            raise NotAllowed("that is not an authority as mailraft cluster rotate-ca makes one for this cell")
        pem = ca.pem_of(certificate).decode()
        sealed = self._services.directory.seal(key_pem, authority_place(pem))
        await self._services.runtime.ask(AUTHORITY, NameSuccessor(pem, sealed), context)

    async def make(self, context: Context) -> None:
        """A new one, named; its key is made here and is nowhere but sealed in the log. None where one is named.

        Raises NotAllowed where the one before the one in force is still trusted.
        """
        with self._services.log.snapshot() as snapshot:
            if cell_succession.successor(snapshot.view(AUTHORITY)) is not None:
                return
        made = ca.new_authority(self._services.config.node.cluster_id)
        await self.name(ca.pem_of(made.certificate).decode(), ca.secret_of(made.key), context)

    async def promote(self, context: Context) -> None:
        """It issues from now on. Raises NotAllowed, naming the members that do not trust it yet."""
        await self._services.runtime.ask(AUTHORITY, PromoteSuccessor(self._members()), context)

    async def retire(self, cut_followers: bool, context: Context) -> None:
        """The one before is trusted no more. Raises NotAllowed, naming who still shows a certificate of it."""
        followers = self.followers_of_before()
        if followers and not cut_followers:
            raise NotAllowed(
                f"followers have certificates of the authority before: {', '.join(followers)}; grant them anew "
                "(mailraft region revoke, region grant), or cut them off with --cut-followers"
            )
        await self._services.runtime.ask(AUTHORITY, RetireFormer(self._members()), context)

    def followers_of_before(self) -> list[str]:
        """Grants in force that were issued before the authority in force issued anything."""
        now_ms = time.time_ns() // 1_000_000
        with self._services.log.snapshot() as snapshot:
            former = cell_succession.former(snapshot.view(AUTHORITY))
            grants = region.grants(snapshot.view(REGION)) if former is not None else []
        if former is None:
            return []
        in_force = (one for one in grants if one.revoked_ms is None and one.expires_ms > now_ms)
        return [one.name for one in in_force if one.issued_ms <= former.followed_ms]

    def state(self) -> dict[str, Any]:
        """Which authorities there are, and how far each member is with them."""
        kept = CellAuthority(self._services).kept()
        with self._services.log.snapshot() as snapshot:
            view = snapshot.view(AUTHORITY)
            named = cell_succession.successor(view)
            former, standings = cell_succession.former(view), cell_succession.standings(view)
        in_force = fingerprint(kept.certificate) if kept is not None else b""
        following = fingerprint(named.certificate) if named is not None else b""
        nodes = []
        for name in self._members():
            told = standings.get(name)
            nodes.append(
                {
                    "name": name,
                    "trusts_next": told is not None and following in told.trusted,
                    "renewed": former is None or (told is not None and told.issuer == in_force),
                }
            )
        return {
            "in_force": in_force.hex() or None,
            "next": following.hex() or None,
            "former": fingerprint(former.certificate).hex() if former is not None else None,
            "nodes": nodes,
            "authorities": "".join(CellAuthority(self._services).trusted()),
            "followers": self.followers_of_before(),
        }

    def _members(self) -> tuple[str, ...]:
        return tuple(member.name for member in self._services.log.members())
