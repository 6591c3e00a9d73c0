"""Broken and odd messages to us and to Dovecot: the same ENVELOPE, BODY, BODYSTRUCTURE and sections, or an explanation.

Messages go in with CRLF, for Dovecot's Maildir gives no others back; that we give back what came in, whatever its line
ends, is tested without it.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.nodes.imap import torture
from tests.nodes.imap.beside import Difference, Value, differences, fetched, hold_against_the_table
from tests.nodes.imap.client import RawClient

ITEMS = (
    "ENVELOPE BODY BODYSTRUCTURE RFC822.SIZE RFC822.HEADER BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] "
    "BODY.PEEK[1.MIME] BODY.PEEK[HEADER.FIELDS (SUBJECT TO)] BODY.PEEK[HEADER.FIELDS.NOT (RECEIVED)]"
)


def _filled(client: RawClient, messages: dict[str, bytes]) -> RawClient:
    for message in messages.values():
        assert client.append("INBOX", message).startswith(b"OK")
    client.ok("SELECT INBOX")
    return client


def _asked(client: RawClient, number: int, items: str) -> dict[str, Value]:
    (line,) = [line for line in client.ok(f"FETCH {number} ({items})") if b" FETCH " in line]
    return fetched(line)


def _leaves(structure: Value, above: str = "") -> Iterator[str]:
    """The numbers of the parts that BODY tells of, those of a message inside among them (RFC 3501 6.4.5)."""
    assert isinstance(structure, list)
    if not isinstance(structure[0], list):
        yield above + "1" if not above else above.removesuffix(".")
        if structure[:2] == [b"message", b"rfc822"] and isinstance(structure[8], list):
            inner = structure[8]
            yield from _leaves(inner, above or "1.") if isinstance(inner[0], list) else (f"{above or '1.'}1",)
        return
    for number, part in enumerate([one for one in structure if isinstance(one, list)], 1):
        yield from _leaves(part, f"{above}{number}.")


def _compared(name: str, number: int, ours: RawClient, theirs: RawClient) -> Iterator[Difference]:
    mine, other = (_asked(client, number, ITEMS) for client in (ours, theirs))
    assert mine.keys() == other.keys()
    for item in mine:
        yield from differences(f"{name}: {item.partition(' ')[0]}", _alike(item, mine[item]), _alike(item, other[item]))
    leaves = list(_leaves(mine["BODY"]))
    if leaves != list(_leaves(other["BODY"])):
        return  # the structures differ and are told of
    asked = " ".join(f"BODY.PEEK[{leaf}] BODY.PEEK[{leaf}.MIME]" for leaf in leaves)
    mine, other = (_asked(client, number, asked) for client in (ours, theirs))
    for item in mine:
        yield from differences(f"{name}: {item}", mine[item], other[item])


def _alike(item: str, value: Value) -> Value:
    """Types and names of parameters in lower case, for case means nothing there (RFC 2045 5.1)."""
    if item not in ("BODY", "BODYSTRUCTURE") or not isinstance(value, list):
        return value
    if isinstance(value[0], list):
        parts = [_alike(item, one) if isinstance(one, list) and _is_body(one) else one for one in value]
        return [_names(one) if isinstance(one, list) and not _is_body(one) else one for one in parts]
    lowered: list[Value] = [one.lower() if isinstance(one, bytes) else one for one in value[:2]]
    rest: list[Value] = [_names(one) if isinstance(one, list) and at == 0 else one for at, one in enumerate(value[2:])]
    return lowered + rest


def _is_body(value: list[Value]) -> bool:
    return isinstance(value[0], list) or len(value) >= 7


def _names(value: list[Value]) -> list[Value]:
    return [one.lower() if at % 2 == 0 and isinstance(one, bytes) else one for at, one in enumerate(value)]


@pytest.mark.parametrize("corpus", ["small", "shared"])
def test_dovecot_reads_torture_messages_alike(
    login: Callable[[], RawClient], dovecot: Callable[[], RawClient], corpus: str
) -> None:
    source = torture.MESSAGES if corpus == "small" else torture.shared()
    if not source:
        pytest.skip(f"the corpus is not at {torture.SHARED}")
    messages = {name: torture.crlf(message) for name, message in source.items()}
    ours, theirs = (_filled(make(), messages) for make in (login, dovecot))
    found: set[Difference] = set()
    for number, name in enumerate(messages, 1):
        told: set[tuple[str, str]] = set()  # the same difference in the next item is the same difference
        for difference in _compared(name, number, ours, theirs):
            if difference[1:] not in told:
                found.add(difference)
                told.add(difference[1:])
    hold_against_the_table(f"Messages: the {corpus} corpus", found)


@pytest.mark.parametrize("corpus", ["small", "shared"])
def test_torture_messages_come_back_byte_for_byte(login: Callable[[], RawClient], corpus: str) -> None:
    messages = torture.MESSAGES if corpus == "small" else torture.shared()
    if not messages:
        pytest.skip(f"the corpus is not at {torture.SHARED}")
    client = _filled(login(), messages)
    for number, message in enumerate(messages.values(), 1):
        found = _asked(client, number, "RFC822.SIZE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT]")
        assert found["BODY[]"] == message
        assert found["RFC822.SIZE"] == b"%d" % len(message)
        header, text = found["BODY[HEADER]"], found["BODY[TEXT]"]
        assert isinstance(header, bytes)
        assert isinstance(text, bytes)
        assert header + text == message
