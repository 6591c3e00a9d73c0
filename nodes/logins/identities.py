"""Finds out who asks: behind an administrator's certificate, or behind a token of the admin API.

What the log says at the moment counts: a token is good until its revocation is folded here, an account's role is what
it is now. A token that is wrong costs the same reads and the same unsealing whether it, its tenant or nothing of it
exists. When a token was used last is kept in memory, and put into the log once a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from actors import account_state, api_tokens, region, roles, standing, tenant
from actors.api_tokens import ApiToken, NoteApiTokenUse, Presented
from actors.errors import CommandRefused
from actors.region import REGION
from actors.runtime import Context
from actors.sealing import SealBroken
from actors.standing import STANDING
from eventlog.errors import LogError
from eventlog.record import By
from nodes.logins.callers import Caller, administrator, covers
from nodes.trail import cause_of, current_id

if TYPE_CHECKING:
    from actors.directory import Directory
    from eventlog.log import Applied
    from eventlog.store import Snapshot
    from nodes.http.places import Subject
    from nodes.services import Logger

MOST_NOTED = 10_000
_NOWHERE = b"no such token"


class TokenCaller(NamedTuple):
    """Who a token speaks for, and what ends that: the stream it stands on, its id, when it expires."""

    caller: Caller
    stream: bytes
    id: bytes
    expires_ms: int | None


class Identities:
    """Use from one event loop; `stop` when done."""

    def __init__(self, directory: Directory, logger: Logger, timeout_s: float) -> None:
        self._directory = directory
        self._logger = logger
        self._timeout_s = timeout_s
        self._nothing = directory.seal(bytes(32), _NOWHERE)
        self._used: dict[bytes, int] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        await asyncio.gather(*self._noting, return_exceptions=True)

    def of_administrator(self, name: str, remote: str) -> Caller:
        """Who shows an administrator's certificate: everything, unless the log gives that name a lesser role."""
        found = administrator(name, remote)
        with self._directory.event_log.snapshot() as snapshot:
            held = roles.role_of(snapshot.view(REGION), roles.administrator(name))
        return replace(found, role=held.role) if held is not None else found

    def of_token(self, text: str, remote: str) -> TokenCaller | None:
        """Who shows this token; None for one that is not good, or no more."""
        shown = api_tokens.parse(text)
        if shown is None:
            return None
        with self._directory.event_log.snapshot() as snapshot:
            found = self._found(snapshot, shown)
        if found is not None:
            self._note_use(found, remote)
        return found._replace(caller=_from(found.caller, remote)) if found is not None else None

    def still_good(self, token: TokenCaller) -> bool:
        """Whether what was good when a request began still is."""
        with self._directory.event_log.snapshot() as snapshot:
            kept = api_tokens.api_token(snapshot.view(token.stream), token.id)
            if kept is None or _expired(kept):
                return False
            present = self._speaks(snapshot, Presented(token.stream, token.id, b""), kept)
        return present is not None and present.caller.role == token.caller.role

    def ended(self, token: TokenCaller) -> asyncio.Future[None]:
        """Done once the token is good no more because of something in the log; cancel it to hear nothing more."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look(_: list[Applied]) -> None:
            if not future.done() and not self.still_good(token):
                future.set_result(None)

        log = self._directory.event_log
        leave = [log.subscribe(stream, look) for stream in {token.stream, REGION, STANDING}]
        future.add_done_callback(lambda _: [one() for one in leave])
        look([])  # it may have ended between
        return future

    def used_ms(self, stream: bytes, token: ApiToken) -> int | None:
        """When it was used last, as far as this node knows: exact for itself, to the day for the others."""
        known = (token.used_ms, self._used.get(stream + token.id))
        return max((one for one in known if one is not None), default=None)

    # -- parts

    def _found(self, snapshot: Snapshot, shown: Presented) -> TokenCaller | None:
        known = shown.stream == REGION or region.has_tenant(snapshot.view(REGION), shown.stream)
        kept = api_tokens.api_token(snapshot.view(shown.stream), shown.id) if known else None
        sealed, place = (kept.sealed, api_tokens.place(shown.stream, shown.id)) if kept else (self._nothing, _NOWHERE)
        try:
            right = api_tokens.is_right(shown.secret, self._directory.unseal(sealed, place))
        except SealBroken:
            right = False  # of another cell, of which this one has a replica
        if kept is None or not right or _expired(kept):
            return None
        return self._speaks(snapshot, shown, kept)

    def _speaks(self, snapshot: Snapshot, shown: Presented, kept: ApiToken) -> TokenCaller | None:
        """For whom, with what is granted now."""
        scopes = frozenset(kept.scopes)
        where = None if shown.stream == REGION else shown.stream
        if where is not None and standing.standing(snapshot.view(STANDING), where) is not None:
            return None  # nobody of it is served now
        name = kept.name or shown.id.hex()
        if not kept.account:
            caller = Caller(name, kept.role, where, scopes, By("token", shown.id, f"token {name}"))
            return TokenCaller(caller, shown.stream, shown.id, kept.expires_ms)
        held = roles.role_of(snapshot.view(shown.stream), kept.account)
        home = shown.stream if where is not None else held.tenant if held is not None else b""
        account = tenant.account(snapshot.view(home), kept.account) if home else None
        if account is None or account_state.state_of(snapshot.view(home), kept.account).closed(_now_ms()) is not None:
            return None
        role = held.role if held is not None else roles.USER
        by = By("account", kept.account, f"token {name}")
        return TokenCaller(
            Caller(account.address, role, where, scopes, by, kept.account), shown.stream, shown.id, kept.expires_ms
        )

    def _note_use(self, found: TokenCaller, remote: str) -> None:
        """Nobody waits for that to be written down, and it is at most once a day."""
        place, now_ms = found.stream + found.id, _now_ms()
        before_ms = self._used.get(place, 0)
        if len(self._used) >= MOST_NOTED:
            self._used.clear()
        self._used[place] = now_ms
        if now_ms // api_tokens.DAY_MS == before_ms // api_tokens.DAY_MS:
            return
        task = asyncio.get_running_loop().create_task(self._write_use(found, now_ms, remote))
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    async def _write_use(self, found: TokenCaller, now_ms: int, remote: str) -> None:
        by = _from(found.caller, remote).by
        whose = b"" if found.stream == REGION else found.stream
        with contextlib.suppress(CommandRefused, LogError):
            command = NoteApiTokenUse(found.id, now_ms)
            context = Context(by, cause_of("token", (current_id(),)), whose, self._timeout_s)
            await self._directory.runtime.ask(found.stream, command, context)


def outranks(snapshot: Snapshot, caller: Caller, subject: Subject) -> bool:
    """Whether the caller may all that the account may, so that it gains nothing by its credentials; or is it itself."""
    if subject.account is None or subject.tenant is None or subject.account == caller.account:
        return True
    of_tenant = roles.role_of(snapshot.view(subject.tenant), subject.account)
    of_cluster = roles.role_of(snapshot.view(REGION), subject.account)
    return all(
        covers(caller, held.role, frozenset(), where)
        for held, where in ((of_tenant, subject.tenant), (of_cluster, None))
        if held is not None
    )


def _from(caller: Caller, remote: str) -> Caller:
    return replace(caller, by=caller.by._replace(origin=f"{caller.by.origin} {remote}"))


def _expired(token: ApiToken) -> bool:
    """By this node's clock, which decides nothing that is folded."""
    return token.expires_ms is not None and token.expires_ms <= _now_ms()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
