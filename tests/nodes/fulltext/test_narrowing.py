"""What the index leaves out can not match: its answer is compared with that of a scan, for texts of all kinds."""

import base64
import itertools
import quopri
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.mailbox import Message
from nodes.fulltext import schema, stamp
from nodes.fulltext.reader import Reader
from nodes.fulltext.shard import Shard
from nodes.fulltext.stamp import Stamp
from nodes.fulltext.terms import NAMES_LIMIT, TEXT_LIMIT_CHARACTERS, grams, indexed
from nodes.imap.search import HeaderHas, Key, TextHas
from nodes.imap.search_match import Candidate, Scope, bound, compile_key
from nodes.mime.searched import folded

ACCOUNT, FOLDER, OTHER_FOLDER = bytes(15) + b"\x03", b"f" * 16, b"g" * 16


def made(folder: Path, messages: list[bytes], upto: int | None = None) -> Reader:
    """An index of these messages, UIDs from 1 on, the last ones perhaps left out."""
    number = schema.shard_of(ACCOUNT)
    found = Stamp(schema.VERSION, generations={number: 1})
    path = found.folder(folder, number)
    assert path is not None
    path.mkdir()
    with Shard(path, make=True).writing(15_000_000) as writer:
        for uid, data in enumerate(messages[:upto], 1):
            writer.add_document(schema.document(ACCOUNT, FOLDER, uid, b"d" * 32, indexed(data)))
            writer.add_document(schema.document(ACCOUNT, OTHER_FOLDER, uid + 7, b"d" * 32, indexed(data)))
        writer.commit()
    stamp.write(folder, found)
    return Reader(folder)


def scanned(messages: list[bytes], key: Key, scope: Scope) -> list[int]:
    matches = compile_key(key, scope)
    rows = [Message(uid, b"i", b"d", 1, 0, (), 1, b"") for uid in scope.uids]
    return [r.uid for r in rows if matches(Candidate(r.uid, r, False, lambda row: messages[row.uid - 1]))]


_WORDS = ["hello", "Hello", "World", "Grüße", "STRASSE", "straße", "İstanbul", "ﬁne", "漢字", "\U0001f600", "Σς"]
_MARKS = ["é", "e\u0301", "ab", "aaa", " ", "\r\n", "=?", "<b>", "</b>", "&uuml;", "<p>", "\u212a"]
PIECES = st.sampled_from(_WORDS + _MARKS)
TEXTS = st.lists(PIECES, max_size=12).map("".join)
NAMES = st.sampled_from(["Subject", "X-Tag", "To"])


@st.composite
def mails(draw: st.DrawFn) -> bytes:
    """A message: its text in some charset and encoding, as a part or not, perhaps as HTML, perhaps broken."""
    text = draw(TEXTS)
    charset = draw(st.sampled_from(["utf-8", "iso-8859-1", "utf-16", "koi8-r", "no-such", "utf-7"]))
    body = text.encode("utf-8" if charset == "no-such" else charset, "replace")
    encoding = draw(st.sampled_from(["8bit", "base64", "quoted-printable"]))
    coded = {"8bit": body, "base64": base64.encodebytes(body), "quoted-printable": quopri.encodestring(body)}[encoding]
    subtype = draw(st.sampled_from(["plain", "html"]))
    head = f"Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    value = draw(TEXTS).replace("\r\n", draw(st.sampled_from(["", "\r\n ", "\n\t"])))
    raw = value.encode()
    if draw(st.booleans()):
        raw = b"=?utf-8?b?" + base64.b64encode(raw) + b"?= " + draw(st.sampled_from([b"", b"\x00", b"\xff", b"\rx"]))
    field = draw(NAMES).encode() + b": " + raw + b"\r\n"
    part = head + coded
    if draw(st.booleans()):
        part = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + part + b"\r\n--b--\r\n"
    return field + part


KEYS = st.one_of(
    st.builds(TextHas, TEXTS.map(folded), st.booleans()),
    st.builds(HeaderHas, st.sampled_from([b"subject", b"x-tag", b"absent"]), TEXTS.map(folded)),
    st.builds(TextHas, st.sampled_from(["ell", "grüss", "strasse", "content-type: text", "us-ascii"]), st.booleans()),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(mails(), min_size=1, max_size=6), st.lists(KEYS, min_size=1, max_size=6), st.integers(0, 6))
def test_the_index_answers_as_a_scan_does(messages: list[bytes], keys: list[HeaderHas | TextHas], upto: int) -> None:
    uids = list(range(1, len(messages) + 1))
    with tempfile.TemporaryDirectory() as folder:
        narrowed = made(Path(folder), messages, upto).narrow(ACCOUNT, FOLDER, keys)
        for key in keys:
            expected = scanned(messages, key, Scope(uids))
            scope = Scope(uids, narrowed=narrowed)
            assert scanned(messages, key, scope) == expected
            chosen = bound(key, scope)
            assert chosen is None or set(expected) <= chosen


def mail(text: str, subject: str = "s") -> bytes:
    return f"Subject: {subject}\r\n\r\n{text}\r\n".encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_the_index_rules_out_what_has_not_the_needle(folder: Path) -> None:
    reader = made(folder, [mail("needle in hay"), mail("hay"), mail("needl eedle", "needle")])
    text, body, subject = TextHas("needle", True), TextHas("needle", False), HeaderHas(b"subject", "needle")
    found = reader.narrow(ACCOUNT, FOLDER, [text, body, subject])
    assert found[body].uids >= {1}
    assert 2 not in found[text].uids | found[body].uids | found[subject].uids
    assert found[subject].uids == {3}
    assert {one.last_uid for one in found.values()} == {3}


def test_a_field_that_must_only_be_there_is_found_by_its_name(folder: Path) -> None:
    reader = made(folder, [mail("a"), b"X-Tag:\r\n\r\n", mail("b")])
    key = HeaderHas(b"x-tag", "")
    assert reader.narrow(ACCOUNT, FOLDER, [key])[key].uids == {2}


def test_needles_that_are_too_short_and_folders_that_are_not_there_are_scanned(folder: Path) -> None:
    reader = made(folder, [mail("ab")])
    assert reader.narrow(ACCOUNT, FOLDER, [TextHas("ab", True), TextHas("", False)]) == {}
    key = TextHas("abc", True)
    assert reader.narrow(ACCOUNT, b"h" * 16, [key])[key].last_uid == 0
    assert reader.narrow(bytes(16), FOLDER, [key]) == {}


def test_what_is_too_large_for_the_index_is_read_by_every_search(folder: Path) -> None:
    many = b"".join(b"X-%d: v\r\n" % n for n in range(NAMES_LIMIT + 1)) + b"\r\n"
    large = mail("x" * 1000 + " " * TEXT_LIMIT_CHARACTERS + "needle")
    reader = made(folder, [mail("hay"), large, many])
    for key in (TextHas("needle", False), HeaderHas(b"x-300", "v")):
        assert reader.narrow(ACCOUNT, FOLDER, [key])[key].uids == {2, 3}


def test_of_a_long_needle_a_bounded_number_of_runs_is_looked_up() -> None:
    long = "".join(map(str, range(100_000)))
    assert len(grams(long)) < 100
    assert grams("abcd") == ["abc", "bcd"]
    assert grams("ab") == []
    assert all(gram in long for gram in itertools.islice(grams(long), 20))


def test_an_index_of_another_version_or_a_damaged_stamp_is_none(folder: Path) -> None:
    made(folder, [mail("needle")])
    assert stamp.read(folder, "0.0") == Stamp("0.0")
    (folder / stamp.FILE).write_bytes(b'{"version": "' + schema.VERSION.encode() + b'"')
    assert stamp.read(folder, schema.VERSION) == Stamp(schema.VERSION)
    assert Reader(folder).narrow(ACCOUNT, FOLDER, [TextHas("needle", True)]) == {}
