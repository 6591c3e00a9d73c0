"""The follower's side of one subscription: asks a node of the source, and has applied what comes.

Only the node that leads its cell pulls, and two that believe they do can not double anything: each record is guarded by
the checkpoint's row. What can pass is tried again, with the next node of the source; what can not is committed as the
end of the subscription, with its reason.
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import aiohttp

from actors import following
from actors.errors import CommandRefused
from actors.following import Checkpoint
from actors.region import REGION, Follow, HaltFollow
from actors.sealing import SealBroken
from eventlog.errors import LogError, OutcomeUnknown
from nodes.follower import wire
from nodes.follower.applying import FINAL, MOST_CAUSE, Applying
from nodes.follower.grants import follow_place, read_secret
from nodes.follower.progress import Halt, Progress, Retry, context_of
from nodes.http.errors import read_problem
from nodes.services import Services
from nodes.tls.contexts import expired, follower_client_context, peer_node_name

CONNECT_S = 5.0
SILENCE_S = 6.0  # the source says something every second
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0


class Access(NamedTuple):
    """What a subscription is pulled with."""

    tls: ssl.SSLContext
    transfer_key: bytes


class Pull:
    """One subscription. `run` until it is cancelled, or halted for good."""

    def __init__(self, node: Services, follow: Follow) -> None:
        self._node = node
        self.follow = follow
        self._stream = following.following_stream(follow.cell, follow.tenant, follow.account)
        self._logger = node.logger.bind(following=follow.name, cell=follow.cell)
        self.progress = Progress()

    async def run(self) -> None:
        try:
            access = self._access()
            await self._keep_trying(access)
        except Halt as halt:
            self._logger.error("following has ended", code="following_failed", reason=str(halt))
            await self._halt(str(halt))

    async def _keep_trying(self, access: Access) -> None:
        pause_s = FIRST_PAUSE_S
        for name, address in self._turns():
            started_at = self._checkpoint().position
            try:
                await self._pull(access, name, address)
            except Retry as retry:
                self.progress.state, self.progress.reason = retry.state, str(retry)
                self._logger.warning("following again soon", node=name, reason=str(retry))
                moved = self._checkpoint().position > started_at
                pause_s = FIRST_PAUSE_S if moved else min(LONGEST_PAUSE_S, pause_s * 2)
                await asyncio.sleep(max(pause_s, retry.pause_s))
            except (Halt, asyncio.CancelledError):
                raise
            except Exception as error:  # a fault of ours, or of the disk: shown, and not tried in a hurry
                self._logger.exception("following failed", code="following_failed", node=name)
                self.progress.state, self.progress.reason = "retrying", f"{type(error).__name__}: {error}"
                await asyncio.sleep(LONGEST_PAUSE_S)

    def _turns(self) -> Iterator[tuple[str, str]]:
        """The source's nodes, one after the other, for ever."""
        while True:
            yield from self.follow.endpoints

    def _access(self) -> Access:
        follow = self.follow
        if (ended := expired(follow.certificate, datetime.datetime.now(datetime.UTC))) is not None:
            raise Halt(f"the grant has expired on {ended}")
        try:
            place = follow_place(follow.cell, follow.tenant, follow.account)
            key, transfer_key = read_secret(self._node.directory.unseal(follow.sealed, place))
            return Access(follower_client_context(follow.authority, follow.certificate, key), transfer_key)
        except SealBroken:
            raise Halt("its keys were sealed under another cluster key: follow again with the grant") from None
        except (ssl.SSLError, OSError, ValueError) as error:
            raise Halt(f"the grant's certificate can not be used: {error}") from None

    def _checkpoint(self) -> Checkpoint:
        with self._node.log.snapshot() as snapshot:
            return following.checkpoint(snapshot.view(self._stream))

    # -- one connection -------------------------------------------------------------------------------------------

    async def _pull(self, access: Access, name: str, address: str) -> None:
        """Follows one node of the source until something fails. Raises Retry, Halt."""
        try:
            await self._node.log.barrier()
        except OutcomeUnknown as error:
            raise Retry(f"this cell can not commit: {error}") from None
        at = self._checkpoint()
        self.progress.position, self.progress.at_ms = at.position, at.at_ms
        applying = Applying(self._node, self.follow, self._stream, self.progress, access.transfer_key, at)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        url = f"https://{address}/v1/follow?after={at.position}&chain={at.chain.hex()}"
        connector = aiohttp.TCPConnector(ssl=access.tls)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(url) as answer,
            ):
                await self._check_answer(answer, name)
                self.progress.state, self.progress.reason, self.progress.node = "connected", "", name
                self._logger.info("following", node=name, after=at.position)
                await applying.run(answer.content)
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            raise Retry(_network_reason(error)) from None
        except wire.WireError as error:
            raise Halt(str(error)) from None
        raise Retry("the source has closed the connection")

    async def _check_answer(self, answer: aiohttp.ClientResponse, name: str) -> None:
        if answer.status != 200:
            category, message = _error_of(await answer.content.read(64 * 1024))
            raise Halt(message) if category in FINAL else Retry(message or f"{name} answered {answer.status}")
        transport = answer.connection.transport if answer.connection is not None else None
        peer = transport.get_extra_info("ssl_object") if transport is not None else None
        if peer_node_name(peer, self.follow.cell) != name:
            raise Retry(f"what answered there is not {name} of the cell {self.follow.cell}")

    async def _halt(self, reason: str) -> None:
        """Commits that it has ended; a node that leads later finds it so."""
        while True:
            try:
                await self._node.runtime.ask(
                    REGION, HaltFollow(self.follow.name, reason[:MOST_CAUSE]), context_of(self.follow, self._node)
                )
            except (LogError, CommandRefused) as error:
                self.progress.state, self.progress.reason = "retrying", f"{reason} (not committed yet: {error})"
                await asyncio.sleep(1.0)
            else:
                return


def _error_of(body: bytes) -> tuple[str, str]:
    try:
        return read_problem(body)
    except ValueError:
        return "", ""


def _network_reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"TLS failed: {error}"
        case TimeoutError():
            return "the source does not answer"
        case asyncio.IncompleteReadError():
            return "the connection was lost"
        case _:
            return str(error) or type(error).__name__
