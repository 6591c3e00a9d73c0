"""Commands as clients write them: RFC 3501's examples, round trips, and what is refused."""

import contextlib
import unicodedata
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.imap import commands, utf7
from nodes.imap.append_commands import Append, AppendMessage, Replace, Url
from nodes.imap.commands import Command, Section
from nodes.imap.content_commands import Binary, Preview
from nodes.imap.cursor import Cursor
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.framing import NEED_MORE, Continuation, Frame, Framer, Limits
from nodes.imap.grammar import read_command, read_tag
from nodes.imap.search import All, And, Dated, HasFlag, HeaderHas, Not, Numbers, Or, Recent, Size, TextHas
from nodes.imap.search_commands import Search
from nodes.imap.sequence import SequenceSet


def parse(text: bytes) -> Command:
    """One whole command, literals and all."""
    framer = Framer(Limits())
    framer.appends = True
    framer.feed(text + b"\r\n")
    step = framer.next_frame()
    while isinstance(step, Continuation):
        step = framer.next_frame()
    assert isinstance(step, Frame)
    tag = read_tag(step.text)
    assert tag is not None
    return read_command(Cursor(step), tag)


def numbers(*ranges: tuple[int, int]) -> SequenceSet:
    return SequenceSet(ranges)


def section(
    label: bytes,
    kind: commands.SectionKind = "",
    part: tuple[int, ...] = (),
    fields: frozenset[bytes] = frozenset(),
    *,
    partial: tuple[int, int] | None = None,
    peek: bool = False,
) -> Section:
    return Section(label, part, kind, fields, partial, peek)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"abcd CAPABILITY", commands.Capability()),
        (b"a002 NOOP", commands.Noop()),
        (b"A023 LOGOUT", commands.Logout()),
        (b"a001 LOGIN SMITH SESAME", commands.Login("SMITH", "SESAME")),
        (b'a LOGIN "a b" "c\\"\\\\d"', commands.Login("a b", 'c"\\d')),
        (b"a LOGIN {5}\r\nsmith {3+}\r\n\xc3\xbc!", commands.Login("smith", "ü!")),
        (b"A AUTHENTICATE plain", commands.Authenticate("PLAIN", None)),
        (b"A AUTHENTICATE PLAIN AGEAYg==", commands.Authenticate("PLAIN", b"AGEAYg==")),
        (b"A AUTHENTICATE PLAIN =", commands.Authenticate("PLAIN", b"")),
        (b"A142 SELECT inbox", commands.Select("INBOX", False)),
        (b"A932 EXAMINE blurdybloop", commands.Select("blurdybloop", True)),
        (b"A003 CREATE owatagusiam/", commands.Create("owatagusiam", None)),
        (b"t CREATE MySent (USE (\\Sent))", commands.Create("MySent", "\\Sent")),
        (b'A DELETE "a b"', commands.Delete("a b")),
        (b"A684 RENAME foo Inbox/zap", commands.Rename("foo", "INBOX/zap")),
        (b"A SUBSCRIBE #news.comp", commands.Subscribe("#news.comp", True)),
        (b"A UNSUBSCRIBE x", commands.Subscribe("x", False)),
        (b'A101 LIST "" ""', commands.List("", ("",))),
        (b"A202 LIST ~/Mail/ %", commands.List("~/Mail/", ("%",))),
        (b'A002 LSUB "#news." "comp.mail.*"', commands.List("#news.", ("comp.mail.*",), lsub=True)),
        (
            b'A LIST (SUBSCRIBED RECURSIVEMATCH) "" (INBOX "a*") RETURN (CHILDREN STATUS (MESSAGES UNSEEN))',
            commands.List(
                "",
                ("INBOX", "a*"),
                False,
                frozenset({"SUBSCRIBED", "RECURSIVEMATCH"}),
                frozenset({"CHILDREN", "STATUS"}),
                ("MESSAGES", "UNSEEN"),
            ),
        ),
        (b"A042 STATUS blurdybloop (UIDNEXT MESSAGES)", commands.Status("blurdybloop", ("UIDNEXT", "MESSAGES"))),
        (
            b'A003 APPEND saved-messages (\\Seen) "17-Jul-1996 02:44:25 -0700" {3}\r\nabc',
            Append("saved-messages", (AppendMessage(("\\Seen",), 837596665000, (b"abc",)),)),
        ),
        (b"A APPEND x {2+}\r\n\r\n", Append("x", (AppendMessage((), None, (b"\r\n",)),))),
        (
            b"A APPEND x ~{3+}\r\na\x00b (Foo) {1+}\r\nc UTF8 (~{1+}\r\nd)",
            Append(
                "x",
                (
                    AppendMessage((), None, (b"a\x00b",)),
                    AppendMessage(("Foo",), None, (b"c",)),
                    AppendMessage((), None, (b"d",)),
                ),
            ),
        ),
        (
            b'A APPEND x CATENATE (URL "/y/;UID=1" TEXT {1+}\r\na)',
            Append("x", (AppendMessage((), None, (Url("/y/;UID=1"), b"a")),)),
        ),
        (
            b"A UID REPLACE 7 x {1+}\r\na",
            Replace(numbers((7, 7)), "x", AppendMessage((), None, (b"a",)), True),
        ),
        (
            b"A FETCH 1 (BINARY[1.2]<0.9> BINARY.PEEK[] BINARY.SIZE[1] PREVIEW (LAZY) PREVIEW)",
            commands.Fetch(
                numbers((1, 1)),
                (
                    Binary((1, 2), (0, 9), False, False),
                    Binary((), None, True, False),
                    Binary((1,), None, True, True),
                    Preview(True),
                    Preview(False),
                ),
                False,
            ),
        ),
        (b"A CLOSE", commands.Close()),
        (b"A202 EXPUNGE", commands.Expunge(None)),
        (b"A003 UID EXPUNGE 3000:3002", commands.Expunge(numbers((3000, 3002)))),
        (
            b"A003 STORE 2:4 +FLAGS (\\DELETED Foo)",
            commands.Store(numbers((2, 4)), "add", ("\\Deleted", "Foo"), False, False),
        ),
        (b"A UID STORE * -FLAGS.SILENT $X $Y", commands.Store(numbers((0, 0)), "remove", ("$X", "$Y"), True, True)),
        (b"A STORE 1 FLAGS ()", commands.Store(numbers((1, 1)), "replace", (), False, False)),
        (b"A003 COPY 2:4 MEETING", commands.Copy(numbers((2, 4)), "MEETING", False, False)),
        (b"a UID MOVE 42:69,7 foo", commands.Copy(numbers((42, 69), (7, 7)), "foo", True, True)),
        (b"A IDLE", commands.Idle()),
        (b"A NAMESPACE", commands.Namespace()),
        (b'a023 ID ("name" "sodr" "version" NIL)', commands.Id((("name", "sodr"), ("version", "")))),
        (b"a ID NIL", commands.Id(())),
        (b"A NOOP   ", commands.Noop()),
    ],
)
def test_a_command_is_read(text: bytes, expected: Command) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (b"a FETCH 1 ALL", ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE")),
        (b"a FETCH 1 FAST", ("FLAGS", "INTERNALDATE", "RFC822.SIZE")),
        (b"a FETCH 1 full", ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY")),
        (b"a FETCH 1 BODYSTRUCTURE", ("BODYSTRUCTURE",)),
        (b"a UID FETCH 1 (FLAGS)", ("UID", "FLAGS")),
        (b"a UID FETCH 1 (UID FLAGS)", ("UID", "FLAGS")),
        (b"a FETCH 1 BODY[]", (section(b"BODY[]"),)),
        (b"a FETCH 1 RFC822", (section(b"RFC822"),)),
        (b"a FETCH 1 RFC822.HEADER", (section(b"RFC822.HEADER", "HEADER", peek=True),)),
        (b"a FETCH 1 RFC822.TEXT", (section(b"RFC822.TEXT", "TEXT"),)),
        (b"a FETCH 1 body.peek[1.2.mime]", (section(b"BODY[1.2.MIME]", "MIME", (1, 2), peek=True),)),
        (b"a FETCH 1 BODY[3.HEADER]<0.20>", (section(b"BODY[3.HEADER]", "HEADER", (3,), partial=(0, 20)),)),
        (
            b"a FETCH 1 BODY.PEEK[2.HEADER.FIELDS.NOT (From {2+}\r\nTo)]",
            (
                section(
                    b"BODY[2.HEADER.FIELDS.NOT (From To)]",
                    "HEADER.FIELDS.NOT",
                    (2,),
                    frozenset({b"from", b"to"}),
                    peek=True,
                ),
            ),
        ),
        (
            b'a FETCH 1 (FLAGS BODY[HEADER.FIELDS ("Date" FROM)])',
            ("FLAGS", section(b"BODY[HEADER.FIELDS (Date FROM)]", "HEADER.FIELDS", (), frozenset({b"date", b"from"}))),
        ),
    ],
)
def test_the_items_of_a_fetch_are_read(text: bytes, items: tuple[object, ...]) -> None:
    command = parse(text)
    assert isinstance(command, commands.Fetch)
    assert command.items == items


SEEN = HasFlag("\\seen")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b"ALL", All()),
        (b"UNSEEN", Not(SEEN)),
        (b"NEW", And((Recent(), Not(SEEN)))),
        (b"OLD", Not(Recent())),
        (
            b'FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"',
            And((HasFlag("\\flagged"), Dated("since", date(1994, 2, 1), False), Not(HeaderHas(b"from", "smith")))),
        ),
        (b"OR SEEN (LARGER 10 SMALLER 20)", Or(SEEN, And((Size("larger", 10), Size("smaller", 20))))),
        (b"2,4:7,*", Numbers(numbers((2, 2), (4, 7), (0, 0)), False)),
        (b"UID 1:*", Numbers(numbers((1, 0)), True)),
        (b"HEADER X-Foo {3}\r\nBAR", HeaderHas(b"x-foo", "bar")),
        (b'HEADER X-Foo ""', HeaderHas(b"x-foo", "")),
        (b"TEXT a BODY b SEEN", And((SEEN, TextHas("a", True), TextHas("b", False)))),
        (b"CHARSET utf-8 SUBJECT {4}\r\n\xc3\x84\xc3\x96", HeaderHas(b"subject", "äö")),
        (
            b'SENTON "3-Mar-2020" KEYWORD $Work UNKEYWORD x',
            And((HasFlag("$work"), Not(HasFlag("x")), Dated("on", date(2020, 3, 3), True))),
        ),
    ],
)
def test_a_search_program_is_read_with_its_cheap_keys_first(text: bytes, key: object) -> None:
    command = parse(b"a SEARCH " + text)
    assert isinstance(command, Search)
    assert command.program == key


@pytest.mark.parametrize(
    "text",
    [
        b"a",
        b"a ",
        b"a FROB",
        b"a NOOP x",
        b"a UID NOOP",
        b"a LOGIN x",
        b"a LOGIN x y z",
        b'a LOGIN "x y',
        b"a SELECT",
        b"a FETCH 0 FLAGS",
        b"a FETCH 1",
        b"a FETCH 1: FLAGS",
        b"a FETCH ,1 FLAGS",
        b"a FETCH 1 ()",
        b"a FETCH 1 (FLAGS",
        b"a FETCH 99999999999 FLAGS",
        b"a FETCH 1 FROB",
        b"a FETCH 1 BODY[FROB]",
        b"a FETCH 1 BODY[MIME]",
        b"a FETCH 1 BODY[0]",
        b"a FETCH 1 BODY[]<1>",
        b"a FETCH 1 BODY[]<0.0>",
        b"a FETCH 1 BODY[HEADER.FIELDS ()]",
        b"a STORE 1 FLAGS (\\Frob)",
        b"a STORE 1 FROB (x)",
        b"a SEARCH",
        b"a SEARCH FROB",
        b"a SEARCH (SEEN",
        b"a SEARCH NOT",
        b"a SEARCH BEFORE 31-Feb-2020",
        b"a SEARCH BEFORE yesterday",
        b"a SEARCH LARGER x",
        b"a SEARCH OR SEEN",
        b'a APPEND x "17-Foo-1996 02:44:25 -0700" {1+}\r\nx',
        b"a APPEND x abc",
        b"a STATUS x (FROB)",
        b"a STATUS x ()",
        b'a LIST "" * RETURN (STATUS ())',
        b"a STORE 1 +FLAGS (\\Recent)",
        b"a STORE 1 -FLAGS \\recent",
        b"a APPEND x (\\Recent) {1+}\r\nx",
        b"a STATUS x",
        b'a LIST (RECURSIVEMATCH) "" *',
        b'a LIST "" * RETURN (FROB)',
        b"a COPY 1",
        b"a SEARCH CHARSET UTF-8",
        b"a AUTHENTICATE",
        b"a ID (x)",
        b"a MOVE x y",
        b"a \xff",
        b"a LOGIN \xff \xff",
        b"a SEARCH SUBJECT {1+}\r\n\xff",
    ],
)
def test_what_can_not_be_understood_is_bad(text: bytes) -> None:
    with pytest.raises(BadCommand):
        parse(text)


def test_an_unknown_charset_names_those_that_are_known() -> None:
    with pytest.raises(Refusal, match="charset") as caught:
        parse(b"a SEARCH CHARSET KOI8-R SUBJECT x")
    assert caught.value.reply().startswith(b"NO [BADCHARSET (US-ASCII UTF-8)]")


def test_a_mailbox_name_that_is_not_modified_utf_7_is_refused() -> None:
    for name in (b"a&b", b'"\xc3\xbc"', b"&AMA", b"&AAAA-"):
        with pytest.raises(Refusal, match="UTF-7"):
            parse(b"a SELECT " + name)


def test_depth_and_number_of_search_keys_are_limited() -> None:
    for text in (b"(" * 2000 + b"SEEN" + b")" * 2000, b"NOT " * 5000 + b"SEEN", b"SEEN " * 5000 + b"SEEN"):
        with pytest.raises(Refusal, match="too many"):
            parse(b"a SEARCH " + text)


def test_a_password_is_in_no_representation() -> None:
    assert "secret" not in repr(commands.Login("a", "secret"))


@pytest.mark.parametrize("text", [b"+ NOOP", b"", b"\x00 NOOP", b"a\x01b NOOP", b"(a NOOP"])
def test_a_line_without_a_proper_tag_has_none(text: bytes) -> None:
    assert read_tag(text + b"\r\n") is None


@given(st.binary(max_size=200))
def test_random_bytes_are_a_command_or_a_refusal(data: bytes) -> None:
    with contextlib.suppress(Refusal):
        read_command(Cursor(Frame(b"a " + data + b"\r\n", (b"x", b"y"))), b"a")


COMMAND_WORDS = st.sampled_from(
    [
        b"FETCH",
        b"UID",
        b"SEARCH",
        b"STORE",
        b"1",
        b"1:*",
        b"(",
        b")",
        b"[",
        b"]",
        b"BODY",
        b"BODY[",
        b"HEADER.FIELDS",
        b'"',
        b"{1+}\r\nx",
        b"CHARSET",
        b"OR",
        b"NOT",
        b"FLAGS",
        b"+",
        b"\\Seen",
        b"<0.1>",
        b".",
    ]
)


@given(st.lists(COMMAND_WORDS, max_size=15).map(b" ".join))
def test_words_of_the_grammar_in_any_order_are_a_command_or_a_refusal(text: bytes) -> None:
    framer = Framer(Limits())
    framer.feed(b"a " + text + b"\r\n")
    while (step := framer.next_frame()) is not NEED_MORE:
        if isinstance(step, Frame):
            with contextlib.suppress(Refusal):
                read_command(Cursor(step), b"a")


# -- round trips

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda name: name.partition("/")[0].upper() != "INBOX"
)
SETS = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), min_size=1, max_size=5).map(
    lambda ranges: SequenceSet(tuple(ranges))
)
KEYWORDS = st.from_regex(r"[A-Za-z$][A-Za-z0-9]{0,8}", fullmatch=True)


def wire_string(value: bytes, style: int) -> bytes:
    """The same string in the three ways that the grammar knows."""
    if style == 0 and not set(value) & set(b"\r\n\x00"):
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return b"{%d%b}\r\n%b" % (len(value), b"+" if style == 1 else b"", value)


@given(TEXTS, TEXTS, st.integers(0, 2), st.integers(0, 2))
def test_a_login_comes_back_however_its_strings_are_written(login: str, password: str, one: int, other: int) -> None:
    text = b"a LOGIN " + wire_string(login.encode(), one) + b" " + wire_string(password.encode(), other)
    assert parse(text) == commands.Login(login, password)


@given(NAMES, st.integers(0, 2))
def test_a_mailbox_name_comes_back_from_modified_utf_7(name: str, style: int) -> None:
    command = parse(b"a DELETE " + wire_string(utf7.encode(name), style))
    assert isinstance(command, commands.Delete)
    assert utf7.encode(command.name) in (utf7.encode(name), utf7.encode(unicodedata.normalize("NFC", name)))


@given(SETS, st.sampled_from(["add", "remove", "replace"]), st.lists(KEYWORDS, max_size=4, unique=True), st.booleans())
def test_a_store_comes_back(messages: SequenceSet, mode: commands.Mode, flags: list[str], silent: bool) -> None:
    sign = {"add": "+", "remove": "-", "replace": ""}[mode]
    text = f"a STORE {messages} {sign}FLAGS{'.SILENT' if silent else ''} ({' '.join(flags)})"
    written = commands.Store(messages, mode, tuple(flags), silent, False)
    read = parse(text.encode())
    assert isinstance(read, commands.Store)
    assert str(read.messages) == str(written.messages)
    assert (read.mode, read.flags, read.silent) == (written.mode, written.flags, written.silent)
