"""Rspamd over HTTP: POST /checkv2 of its normal worker (rspamd.com/doc/developers/protocol.html).

What it finds decides by its own action; scores and symbols go into the event, bounded. Its answer is read within limits
and checked, as anything is that comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nodes.config.filters import UNIX, RspamdSection
from nodes.filters.check import Filter, Opinion, content_for
from nodes.filters.health import Garbage, Health
from nodes.filters.slots import Room, Slots
from nodes.filters.text import MOST_NAME, Lines, NotApplied, plain, refusal

if TYPE_CHECKING:
    from nodes.smtp.checks import Incoming
    from nodes.smtp.session import Envelope, Session

MOST_ANSWER_BYTES = 1024 * 1024
MOST_SYMBOLS = 60
MOST_RECIPIENTS = 200  # that it is told of
SPAM_LINE = b"X-Spam: Yes\r\n"

PASSES = frozenset({"no action", "greylist"})  # greylisting here is [policy]'s; its own says "soft reject"
MARKS = frozenset({"add header", "rewrite subject"})
HOLDS = frozenset({"quarantine", "discard"})

Headers = list[tuple[str, str]]
HostNameOf = Callable[[str], str | None]


class Symbol(BaseModel):
    """A rule that matched."""

    score: float = Field(default=0.0, allow_inf_nan=False)


class HeaderChanges(BaseModel):
    """What it wants of the header; the forms of a value are several."""

    add_headers: dict[str, Any] = {}
    remove_headers: dict[str, Any] = {}


class Answer(BaseModel):
    """The part of an answer that is read."""

    model_config = ConfigDict(extra="ignore")

    action: str
    score: float = Field(default=0.0, allow_inf_nan=False)
    required_score: float = Field(default=0.0, allow_inf_nan=False)
    symbols: dict[str, Symbol] = {}
    messages: Any = None
    milter: HeaderChanges = HeaderChanges()


class RspamdFilter(Filter):
    """An Rspamd."""

    def __init__(
        self, address: str, section: RspamdSection, health: Health, room: Room, mta_name: str, host_name_of: HostNameOf
    ) -> None:
        super().__init__(section, health, room)
        self._address = address
        self._timeout_s = section.timeout_s
        self._slots = Slots(section.at_once)
        self._marked_is_junk = section.add_header == "junk"
        self._mta_name = mta_name
        self._host_name_of = host_name_of
        self._http: aiohttp.ClientSession | None = None

    async def judge(self, session: Session, envelope: Envelope, incoming: Incoming) -> Opinion:
        """Raises Down."""
        headers = request_headers(session, envelope, incoming, self._mta_name, self._host_name_of(session.client))
        async with self._slots.one(self._timeout_s), self.health.asked(self._timeout_s):
            body = await self._ask("POST", "/checkv2", headers, b"".join(content_for(incoming)))
            answer = parse(body)
            return opinion_of(answer, marked_is_junk=self._marked_is_junk)

    async def look(self) -> None:
        await self._ask("GET", "/ping", [], None)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def _ask(self, method: str, path: str, headers: Headers, data: bytes | None) -> bytes:
        try:
            async with self._client().request(method, path, headers=headers, data=data) as response:
                body = bytearray()
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > MOST_ANSWER_BYTES:
                        raise Garbage("its answer is too long")
                if response.status != 200:
                    raise Garbage(f"HTTP status {response.status}")
                return bytes(body)
        except aiohttp.ClientOSError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as error:
            raise EOFError from error
        except aiohttp.ClientError as error:
            raise Garbage(type(error).__name__) from error

    def _client(self) -> aiohttp.ClientSession:
        if self._http is None:
            is_unix = self._address.startswith(UNIX)
            # a connection for each message: one that is kept may be closed at any time, and POST is not repeated
            connector = (
                aiohttp.UnixConnector(self._address.removeprefix(UNIX), limit=0, force_close=True)
                if is_unix
                else aiohttp.TCPConnector(limit=0, force_close=True)
            )
            base = "http://localhost" if is_unix else f"http://{self._address}"
            self._http = aiohttp.ClientSession(
                base,
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                headers={"User-Agent": "mailraft"},
            )
        return self._http


def request_headers(
    session: Session, envelope: Envelope, incoming: Incoming, mta_name: str, host_name: str | None
) -> Headers:
    """What it is told of the client and the envelope."""
    told: list[tuple[str, str]] = [
        ("IP", session.client.partition("%")[0]),
        ("Helo", session.host_name),
        ("Hostname", session.client_name or host_name or ""),
        ("From", envelope.mail_from or "<>"),
        *(("Rcpt", recipient) for recipient in envelope.rcpt_tos[:MOST_RECIPIENTS]),
        ("User", session.account.address if session.account is not None else ""),
        ("Queue-Id", incoming.message_id.hex()),
        ("MTA-Name", mta_name),
    ]
    if session.secure:
        name, version, _ = session.cipher or ("", "TLS", 0)
        told += [("TLS-Cipher", name), ("TLS-Version", version)]
    return [(name, value) for name, value in told if value and "\r" not in value and "\n" not in value]


def parse(body: bytes) -> Answer:
    """Raises Garbage."""
    try:
        return Answer.model_validate_json(body)
    except ValidationError as error:
        raise Garbage(plain(error.errors(include_url=False, include_input=False)[0]["msg"], MOST_NAME)) from None


def opinion_of(answer: Answer, *, marked_is_junk: bool) -> Opinion:
    """What its action leads to here. Raises Garbage for an action that there is not."""
    action = answer.action
    if action == "reject":
        return Opinion("refuse", {}, reply=refusal(_message(answer), permanent=True, default="Refused as spam"))
    if action == "soft reject":
        return Opinion("refuse", {}, reply=refusal(_message(answer), permanent=False, default="Try again later"))
    if action not in PASSES | MARKS | HOLDS:
        raise Garbage(f"the action {plain(action, MOST_NAME)}")
    lines, missed = Lines(), NotApplied()
    for name, value in _added(answer.milter.add_headers):
        if not lines.add(name.encode("ascii", "replace"), value.encode("ascii", "replace")):
            missed.note(f"add header {name}")
    for name in answer.milter.remove_headers:
        missed.note(f"remove header {name}")
    if action == "rewrite subject":
        missed.note("rewrite subject")
    if action == "discard":
        missed.note("discard")
    is_junk = action in HOLDS or (action in MARKS and marked_is_junk)
    mark = (SPAM_LINE,) if action in MARKS else ()
    return Opinion("junk" if is_junk else "accept", _found(answer, missed), (*mark, *lines.lines))


def _found(answer: Answer, missed: NotApplied) -> dict[str, Any]:
    heaviest = sorted(answer.symbols.items(), key=lambda one: -abs(one[1].score))[:MOST_SYMBOLS]
    found: dict[str, Any] = {
        "action": answer.action,
        "score": round(answer.score, 3),
        "required": round(answer.required_score, 3),
        "symbols": {plain(name, MOST_NAME): round(symbol.score, 3) for name, symbol in heaviest},
    }
    if missed.what:
        found["not_applied"] = missed.what
    return found


def _message(answer: Answer) -> str:
    told = answer.messages.get("smtp_message") if isinstance(answer.messages, dict) else None
    return told if isinstance(told, str) else ""


def _added(headers: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A value is text, or {"value": text, "order": n}, or a list of those."""
    for name, given in headers.items():
        for one in given if isinstance(given, list) else [given]:
            value = one.get("value") if isinstance(one, dict) else one
            if not isinstance(value, str):
                raise Garbage(f"the value of {plain(name, MOST_NAME)} to add")
            yield name, value
