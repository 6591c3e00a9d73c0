"""Rendering messages: ENVELOPE, BODY and BODYSTRUCTURE, sections by offset, partials, the cache of structures."""

import asyncio
import email
import email.policy
import email.utils
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mailbox import Message
from nodes.imap import structure_text
from nodes.imap.commands import Section
from nodes.imap.fetch import MessageText, Plan
from nodes.imap.structures import StructureCache

CORPUS = Path(__file__).resolve().parents[4] / "shared" / "data" / "mime-torture"
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file()) if CORPUS.is_dir() else []

# The message whose ENVELOPE and BODYSTRUCTURE RFC 3501 8 shows.
RFC_3501_8 = (
    b"""Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)
From: Terry Gray <gray@cac.washington.edu>
Subject: IMAP4rev1 WG mtg summary and minutes
To: imap@cac.washington.edu
cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>
Message-Id: <B27397-0100000@cac.washington.edu>
MIME-Version: 1.0
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII

""".replace(b"\n", b"\r\n")
    + b"x" * 30
    + b"\r\n"
)

MULTIPART = b"""Subject: two parts
Content-Type: multipart/mixed; boundary="b"; x=1

--b
Content-Type: text/plain; charset=utf-8
Content-ID: <1@x>
Content-Language: en, de

hello
--b
Content-Type: message/rfc822
Content-Disposition: attachment; filename="in.eml"
Content-MD5: abc=

Subject: inner
From: a@x.org

inner text
--b--
""".replace(b"\n", b"\r\n")


def section(label: str, partial: tuple[int, int] | None = None) -> Section:
    found = re.fullmatch(r"((?:\d+\.?)*)([A-Z.]*)(?: \((.*)\))?", label)
    assert found is not None
    numbers = tuple(int(number) for number in found[1].split(".") if number)
    fields = frozenset(name.lower().encode() for name in (found[3] or "").split())
    return Section(b"BODY[" + label.encode() + b"]", numbers, found[2], fields, partial, True)  # type: ignore[arg-type]


def cut(data: bytes, label: str, partial: tuple[int, int] | None = None) -> bytes | None:
    return MessageText(data).section(section(label, partial))


def test_the_envelope_of_rfc_3501_section_8() -> None:
    assert MessageText(RFC_3501_8).derived("ENVELOPE") == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev1 WG mtg summary and minutes" '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) ((NIL NIL "imap" "cac.washington.edu")) '
        b'((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL '
        b'"<B27397-0100000@cac.washington.edu>")'
    )


def test_the_body_of_rfc_3501_section_8() -> None:
    text = MessageText(RFC_3501_8)
    assert text.derived("BODY") == b'("text" "plain" ("charset" "US-ASCII") NIL NIL "7bit" 32 1)'
    assert text.derived("BODYSTRUCTURE") == (
        b'("text" "plain" ("charset" "US-ASCII") NIL NIL "7bit" 32 1 NIL NIL NIL NIL)'
    )


def test_a_multipart_lists_its_parts_and_an_attached_message_its_envelope() -> None:
    inner = b'(NIL "inner" ((NIL NIL "a" "x.org")) ((NIL NIL "a" "x.org")) ((NIL NIL "a" "x.org")) NIL NIL NIL NIL NIL)'
    assert MessageText(MULTIPART).derived("BODYSTRUCTURE") == (
        b'(("text" "plain" ("charset" "utf-8") "<1@x>" NIL "7bit" 5 0 NIL NIL ("en" "de") NIL)'
        b'("message" "rfc822" NIL NIL NIL "7bit" 43 '
        + inner
        + b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 0 '
        b'NIL NIL NIL NIL) 3 "abc=" ("attachment" ("filename" "in.eml")) NIL NIL)'
        b' "mixed" ("boundary" "b" "x" "1") NIL NIL NIL)'
    )


def test_sections_are_the_original_bytes() -> None:
    head = b'Subject: two parts\r\nContent-Type: multipart/mixed; boundary="b"; x=1\r\n\r\n'
    assert cut(MULTIPART, "") == MULTIPART
    assert cut(MULTIPART, "HEADER") == head
    assert cut(MULTIPART, "TEXT") == MULTIPART.removeprefix(head)
    assert cut(MULTIPART, "1") == b"hello"
    assert cut(MULTIPART, "1.MIME") == (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-ID: <1@x>\r\nContent-Language: en, de\r\n\r\n"
    )
    assert cut(MULTIPART, "2") == b"Subject: inner\r\nFrom: a@x.org\r\n\r\ninner text"
    assert cut(MULTIPART, "2.HEADER") == b"Subject: inner\r\nFrom: a@x.org\r\n\r\n"
    assert cut(MULTIPART, "2.TEXT") == b"inner text"
    assert cut(MULTIPART, "2.1") == b"inner text"


def test_fields_are_picked_in_their_order_and_end_with_an_empty_line() -> None:
    assert cut(MULTIPART, "HEADER.FIELDS (X subject)") == b"Subject: two parts\r\n\r\n"
    assert cut(MULTIPART, "HEADER.FIELDS.NOT (content-type)") == b"Subject: two parts\r\n\r\n"
    assert cut(MULTIPART, "2.HEADER.FIELDS (from)") == b"From: a@x.org\r\n\r\n"
    assert cut(MULTIPART, "HEADER.FIELDS (absent)") == b"\r\n"


@pytest.mark.parametrize("label", ["3", "1.1", "1.HEADER", "2.2", "1.TEXT", "2.1.1", "0"])
def test_a_part_that_is_not_there_is_nil(label: str) -> None:
    assert cut(MULTIPART, label) is None


@given(st.integers(0, 400), st.integers(1, 400))
def test_a_partial_is_a_slice(origin: int, count: int) -> None:
    assert cut(MULTIPART, "", (origin, count)) == MULTIPART[origin : origin + count]
    assert cut(MULTIPART, "2.TEXT", (origin, count)) == b"inner text"[origin : origin + count]
    assert cut(MULTIPART, "HEADER.FIELDS (SUBJECT)", (origin, count)) == b"Subject: two parts\r\n\r\n"[origin:][:count]


def row(uid: int = 7, digest: bytes = b"d") -> Message:
    return Message(uid, b"i", digest, len(MULTIPART), 0, ("\\Seen",), 1, b"")


def test_a_response_repeats_the_items_in_their_order() -> None:
    plan = Plan(("UID", "FLAGS", "RFC822.SIZE", section("1", (1, 3)), section("9")), b"t", StructureCache())
    assert plan.render(3, row(), MessageText(MULTIPART), True) == (
        b"* 3 FETCH (UID 7 FLAGS (\\Seen \\Recent) RFC822.SIZE %d BODY[1]<1> {3}\r\nell BODY[9] NIL)\r\n"
        % len(MULTIPART)
    )


def test_a_structure_is_read_from_the_message_once() -> None:
    cache = StructureCache()
    plan = Plan(("ENVELOPE",), b"t", cache)
    assert plan.needs_body(row())
    first = plan.render(1, row(), MessageText(MULTIPART), False)
    assert not plan.needs_body(row(8))
    assert plan.render(1, row(8), None, False) == first
    assert plan.needs_body(row(9, b"other"))
    assert Plan(("ENVELOPE",), b"another tenant", cache).needs_body(row())


def test_the_cache_of_structures_is_bounded() -> None:
    cache = StructureCache(limit_bytes=1000)
    for number in range(100):
        cache.put("BODY", b"t", b"%d" % number, b"x" * 100)
    assert cache.get("BODY", b"t", b"0") is None
    assert cache.get("BODY", b"t", b"99") == b"x" * 100


# -- against the standard library, on real messages


def read_list(text: bytes) -> list[object]:
    """A parenthesised list of the wire as Python lists: a reader for tests, strict about the grammar."""
    pattern = re.compile(rb'\(|\)|"((?:[^"\\\r\n\x80-\xff]|\\["\\])*)"|\{(\d+)\}\r\n|NIL|\d+| ')
    stack: list[list[object]] = [[]]
    at = 0
    while at < len(text):
        found = pattern.match(text, at)
        assert found is not None, text[at : at + 50]
        at = found.end()
        if found[0] == b"(":
            stack.append([])
        elif found[0] == b")":
            done = stack.pop()
            stack[-1].append(done)
        elif found[2] is not None:
            stack[-1].append(text[at : at + int(found[2])])
            at += int(found[2])
        elif found[0][:1] == b'"':
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", found[1]))
        elif found[0] != b" ":
            stack[-1].append(None if found[0] == b"NIL" else int(found[0]))
    assert len(stack) == 1
    return stack[0]


@pytest.mark.skipif(not FILES, reason=f"the corpus is not at {CORPUS}")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORPUS)))
def test_structures_of_the_torture_corpus_are_well_formed(path: Path) -> None:
    text = MessageText(path.read_bytes())
    (envelope,) = read_list(text.derived("ENVELOPE"))
    assert isinstance(envelope, list)
    assert len(envelope) == 10
    assert len(read_list(text.derived("BODY"))) == 1
    assert len(read_list(text.derived("BODYSTRUCTURE"))) == 1


@pytest.mark.skipif(not FILES, reason=f"the corpus is not at {CORPUS}")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORPUS)))
def test_envelopes_of_sane_messages_agree_with_the_standard_library(path: Path) -> None:
    data = path.read_bytes()
    theirs = email.message_from_bytes(data, policy=email.policy.compat32)
    if theirs.defects or not data.isascii():
        pytest.skip("not a sane message")
    (envelope,) = read_list(MessageText(data).derived("ENVELOPE"))
    assert isinstance(envelope, list)
    for name, value in (("date", envelope[0]), ("subject", envelope[1]), ("message-id", envelope[9])):
        expected = theirs[name]
        assert value == (None if expected is None else re.sub(r"\r?\n", "", expected).strip().encode())
    for name, value in (("from", envelope[2]), ("to", envelope[5]), ("cc", envelope[6])):
        expected_pairs = [
            address for _, address in email.utils.getaddresses(theirs.get_all(name, [])) if "@" in address
        ]
        found = [a[2] + b"@" + a[3] for a in value or [] if a[2] and a[3]]
        if all(re.fullmatch(r"[\w.+-]+@[\w.-]+", address) for address in expected_pairs) and len(found) == len(
            expected_pairs
        ):
            assert found == [address.encode() for address in expected_pairs]


@pytest.mark.parametrize("field", [b"To: " + b"a:b;" * 10_000, b"Subject: " + b"x" * 20_000])
def test_a_long_header_is_not_taken_apart_while_other_sessions_wait(field: bytes) -> None:
    text = MessageText(b"From: a@b.test\r\n" + field + b"\r\n\r\nx\r\n")
    before = text.takes_long(["ENVELOPE"])
    asyncio.run(text.take_apart(["ENVELOPE"]))
    assert (before, text.takes_long(["ENVELOPE"])) == (True, False)  # what is known of it is kept
    assert text.takes_long(["ENVELOPE", "BODYSTRUCTURE"])  # what is not known is not
    assert not MessageText(b"From: a@b.test\r\n\r\n" + b"x" * 100_000).takes_long(["ENVELOPE"])


def test_of_the_address_fields_of_all_messages_inside_so_much_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_text, "ADDRESS_FIELDS_BYTES", 100)
    inner = b"--q\r\n\r\nFrom: %b@b.test\r\n\r\nx\r\n"
    data = b"Content-Type: multipart/digest; boundary=q\r\n\r\n" + b"".join(inner % (b"%040d" % n) for n in range(5))
    told = MessageText(data).derived("BODYSTRUCTURE")
    assert len(read_list(told)) == 1
    assert [told.count(b"%040d" % n) for n in range(5)] == [3, 3, 0, 0, 0]  # from, sender, reply-to
