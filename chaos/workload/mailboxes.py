"""What IMAP clients do to the witnesses' mailboxes: append, store, copy, move, expunge, and read all the time.

A success is recorded as one only where the answer shows its effect (APPENDUID, COPYUID, a FETCH with the flags, the
message gone): IMAP answers OK to a command about a message that the session does not know, which says nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from chaos.history import History, Outcome
from chaos.imap_client import Answer, Fetched, ImapBroken, ImapSession
from chaos.messages import IDENTITY_HEADER, identity_in, make_message
from chaos.observation import copy_of
from chaos.workload.book import COPIES, FOLDERS, INBOX, MOVED, Book, Held
from chaos.workload.pool import Named, Pool
from chaos.workload.target import Target

ANSWER_TIMEOUT_S = 30.0
LOGIN_TIMEOUT_S = 30.0
FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "$Blue", "$Red")
DELETED = "\\Deleted"
MESSAGE_BYTES = 600
READ_MESSAGES = 40
ACTIONS = {"append": 3, "store": 6, "copy": 1, "move": 1, "expunge": 2, "read": 4, "fetch": 1}
HEADER_ITEM = f"BODY.PEEK[HEADER.FIELDS ({IDENTITY_HEADER})]"

Session = Named[ImapSession]
Ask = Callable[[ImapSession], Awaitable[tuple[Answer, dict[str, Any]]]]


class Told(Exception):
    """The command in front of the one that counts did not succeed, so that one was never asked."""


@dataclass
class Mailboxes:
    """One `perform` is one thing that one client does; most are one operation of the history."""

    seed: int
    target: Target
    history: History
    _pool: Pool[ImapSession] = field(default_factory=lambda: Pool("imap"))
    _books: dict[str, Book] = field(default_factory=lambda: defaultdict(Book))

    async def perform(self, node: str, account: str, number: int, rng: Random) -> None:
        """Draws an action and does it over a session that is its own meanwhile. Raises nothing of a network."""
        book = self._books[account]
        action = rng.choices(list(ACTIONS), weights=list(ACTIONS.values()))[0]
        if book.is_full:
            action = "expunge"
        session = await self._session(node, account)
        if session is None:
            return
        try:
            await self._act(action, Asker(self.history, session, node, account, book), number, rng)
        finally:
            self._pool.give((node, account), session)

    async def _act(self, action: str, asker: "Asker", number: int, rng: Random) -> None:
        book = asker.book
        match action:
            case "store" if held := book.choose(rng):
                await asker.store(held, *_flag_change(number, rng))
            case "copy" if held := book.choose_for(COPIES, rng):
                await asker.transfer("copy", held, COPIES)
            case "move" if held := book.choose_for(MOVED, rng):
                await asker.transfer("move", held, MOVED)
            case "expunge" if held := book.oldest() if book.is_full else book.choose(rng):
                await asker.store(held, "add", (DELETED,))
                await asker.expunge(held)
            case "fetch" if held := book.choose(rng):
                await asker.fetch(held)
            case "read":
                await asker.read(rng.choice(FOLDERS))
            case _:
                message = make_message(self.seed, number, (asker.account,), MESSAGE_BYTES)
                flags = tuple(rng.sample(FLAGS, rng.randrange(3)))
                await asker.append(message.identity, message.sha256, message.data, flags)

    async def _session(self, node: str, account: str) -> Session | None:
        found = self._pool.take((node, account))
        if found is not None:
            return found
        connection = None
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT_S):
                connection = await ImapSession.open(self.target.endpoints[node]["imap"])
                if (await connection.login(account, self.target.password)).status == "OK":
                    return self._pool.name(node, connection)
                reply = "LOGIN was refused"
        except (OSError, ImapBroken, TimeoutError) as error:
            reply = f"no session: {type(error).__name__}: {error}"
        if connection is not None:
            connection.close()
        self.history.end(self.history.begin(f"imap-{node}", node, "imap", "log-in", account), Outcome.REFUSED, reply)
        return None

    def close(self) -> None:
        self._pool.close()


def _flag_change(number: int, rng: Random) -> tuple[str, tuple[str, ...]]:
    """Half of them write a value that nobody else writes: then a read tells which write it saw."""
    mode = rng.choice(("add", "remove", "replace", "replace"))
    return mode, (f"w{number}",) if mode == "replace" else tuple(rng.sample(FLAGS, rng.randint(1, 2)))


def _shows(told: tuple[str, ...], mode: str, flags: tuple[str, ...]) -> bool:
    """Whether these flags can be those after the change; somebody else's change right after it may hide it."""
    match mode:
        case "add":
            return set(flags) <= set(told)
        case "remove":
            return not set(flags) & set(told)
        case _:
            return set(flags) == set(told)


_SIGNS = {"add": "+", "remove": "-", "replace": ""}


@dataclass(frozen=True)
class Asker:
    """One session that asks for one thing after another and writes down what came of it."""

    history: History
    session: Session
    node: str
    account: str
    book: Book

    async def append(self, identity: str, sha256: str, data: bytes, flags: tuple[str, ...]) -> None:
        async def ask(imap: ImapSession) -> tuple[Answer, dict[str, Any]]:
            answer = await imap.append(INBOX, data, flags)
            uid = _numbers(answer.code("APPENDUID"), 2)
            if not uid:
                return answer, {}
            self.book.learn(identity, INBOX, uid[1])
            return answer, {"uidvalidity": uid[0], "uid": uid[1]}

        asked = {"identity": identity, "sha256": sha256, "size": len(data), "folder": INBOX, "flags": list(flags)}
        await self._ask("append", asked, ask, shown_by="uid")

    async def store(self, held: Held, mode: str, flags: tuple[str, ...]) -> None:
        """UID STORE, shown by the flags that it tells of a message that this session saw before.

        A node that is behind may learn of the message, and tell its flags, while it answers: then it has done nothing.
        """

        async def ask(imap: ImapSession) -> tuple[Answer, dict[str, Any]]:
            await self._select(imap, held.folder)
            before = await imap.command(f"UID FETCH {held.uid} (UID)")
            answer = await imap.command(f"UID STORE {held.uid} {_SIGNS[mode]}FLAGS ({' '.join(flags)})")
            told = [found.flags for found in answer.fetched() if found.uid == held.uid and found.flags is not None]
            if not _has(before, held.uid) or not told or not _shows(told[-1], mode, flags):
                return answer, {}
            return answer, {"flags": list(told[-1])}

        asked = {**held._asdict(), "mode": mode, "flags": list(flags)}
        await self._ask("store", asked, ask, shown_by="flags")

    async def transfer(self, action: str, held: Held, target: str) -> None:
        """COPY or MOVE."""

        async def ask(imap: ImapSession) -> tuple[Answer, dict[str, Any]]:
            await self._select(imap, held.folder)
            answer = await imap.command(f"UID {action.upper()} {held.uid} {target}")
            uid = _numbers(answer.code("COPYUID"), 3)
            if not uid:
                return answer, {}
            self.book.learn(held.identity, target, uid[2])
            if action == "move":
                self.book.forget(held)
            return answer, {"uidvalidity": uid[0], "uid": uid[2]}

        await self._ask(action, {**held._asdict(), "target": target}, ask, shown_by="uid")

    async def expunge(self, held: Held) -> None:
        """UID EXPUNGE, shown by the message being there before it and not after it, for this session."""
        missing = False

        async def ask(imap: ImapSession) -> tuple[Answer, dict[str, Any]]:
            nonlocal missing
            await self._select(imap, held.folder)
            before = await imap.command(f"UID FETCH {held.uid} (UID FLAGS)")
            missing = not _has(before, held.uid)
            answer = await imap.command(f"UID EXPUNGE {held.uid}")
            if answer.status != "OK" or missing:
                return answer, {}
            after = await imap.command(f"UID FETCH {held.uid} (UID)")
            gone = after.status == "OK" and not _has(after, held.uid)
            return answer, {"gone": True} if gone else {}

        self.book.forget(held)
        gone = await self._ask("expunge", {**held._asdict()}, ask, shown_by="gone")
        if not gone and not missing:
            self.book.regain(held)

    async def read(self, folder: str) -> None:
        """SELECT and FETCH of the latest messages: UIDs, flags, and whose attempt each is."""

        async def ask(imap: ImapSession) -> tuple[Answer, dict[str, Any]]:
            chosen = await self._select(imap, folder)
            uidvalidity, uidnext = _numbers(chosen.code("UIDVALIDITY"), 1), _numbers(chosen.code("UIDNEXT"), 1)
            if not uidvalidity or not uidnext:
                raise ImapBroken("SELECT told no UIDVALIDITY or no UIDNEXT", asked=True)
            first = max(1, uidnext[0] - READ_MESSAGES)
            answer = await imap.command(f"UID FETCH {first}:{uidnext[0] + READ_MESSAGES} (UID FLAGS {HEADER_ITEM})")
            messages = [_message(found) for found in answer.fetched() if found.literals]
            for uid, identity, _ in messages:
                self.book.learn(identity, folder, uid)
            head = {"uidvalidity": uidvalidity[0], "uidnext": uidnext[0], "exists": chosen.exists(), "first": first}
            return answer, {**head, "messages": messages}

        await self._ask("read", {"folder": folder}, ask, shown_by="messages")

    async def fetch(self, held: Held) -> None:
        """The whole message, for its bytes."""

        async def ask(imap: ImapSession) -> tuple[Answer, dict[str, Any]]:
            await self._select(imap, held.folder)
            answer = await imap.command(f"UID FETCH {held.uid} (UID BODY.PEEK[])")
            found = [copy_of(one.literals[0]) for one in answer.fetched() if one.uid == held.uid and one.literals]
            return answer, {"identity": found[0].identity, "sha256": found[0].sha256} if found else {}

        await self._ask("fetch", {**held._asdict()}, ask, shown_by="sha256")

    async def _select(self, imap: ImapSession, folder: str) -> Answer:
        """Always anew: a session that selected earlier does not know what came since its last command."""
        answer = await imap.select(folder)
        if answer.status != "OK":
            raise Told(f"SELECT: {answer.status} {answer.text}")
        return answer

    async def _ask(self, action: str, asked: dict[str, Any], ask: Ask, shown_by: str) -> bool:
        """Whether it was acknowledged, which takes `shown_by` in the result."""
        imap = self.session.connection
        if not imap.usable:
            return False
        started = self.history.begin(self.session.name, self.node, "imap", action, self.account, **asked)
        result: dict[str, Any] = {}
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer, result = await ask(imap)
            outcome, reply = answer.outcome, f"{answer.status} {answer.text}"
            if outcome is Outcome.ACKNOWLEDGED and shown_by not in result:
                outcome = Outcome.UNKNOWN  # OK, and no word of what was asked for
        except Told as told:
            outcome, reply = Outcome.REFUSED, str(told)
        except ImapBroken as broken:
            outcome, reply = Outcome.UNKNOWN if broken.asked else Outcome.REFUSED, str(broken)
        except TimeoutError:
            outcome, reply = Outcome.UNKNOWN, f"no answer within {ANSWER_TIMEOUT_S:.0f} s"
        return self.history.end(started, outcome, reply, **result).acknowledged


def _has(answer: Answer, uid: int) -> bool:
    """Whether it shows the message; what is told of others unasked, as their flags change, says nothing of it."""
    return any(found.uid == uid for found in answer.fetched())


def _numbers(words: list[str] | None, count: int) -> list[int]:
    """The arguments of a response code, if they are that many plain numbers; otherwise nothing."""
    if words is None or len(words) != count or not all(word.isdigit() for word in words):
        return []
    return [int(word) for word in words]


def _message(found: Fetched) -> tuple[int, str, list[str]]:
    return found.uid, identity_in(found.literals[0]), list(found.flags or ())
