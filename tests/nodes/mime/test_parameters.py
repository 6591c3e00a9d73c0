"""Content-Type and Content-Disposition as real mail writes them."""

import time

import pytest

from nodes.mime.parameters import disposition, joined, media_type, parameter, parameters


def test_type_subtype_and_names_come_in_lower_case_and_values_as_they_are() -> None:
    found = media_type(b'Text/HTML; Charset=UTF-8; Name="A \\"b\\" C"')
    assert found == (b"text", b"html", ((b"charset", b"UTF-8"), (b"name", b'A "b" C')))


@pytest.mark.parametrize("value", [None, b"", b"text", b"/plain", b";charset=x", b"=?"])
def test_what_is_no_media_type_is_none(value: bytes | None) -> None:
    assert media_type(value) is None


def test_an_unquoted_value_may_hold_blanks_and_an_unclosed_quote_takes_the_rest() -> None:
    assert parameters(b"a/b; name=my file.pdf ; x=1") == ((b"name", b"my file.pdf"), (b"x", b"1"))
    assert parameters(b'a/b; name="my file.pdf') == ((b"name", b"my file.pdf"),)


def test_comments_are_skipped() -> None:
    assert media_type(b"(one) text/plain (two); charset=us-ascii (three)") == (
        b"text",
        b"plain",
        ((b"charset", b"us-ascii"),),
    )


def test_a_semicolon_inside_quotes_separates_nothing() -> None:
    assert parameters(b'a/b; boundary="a;b=c"; z=1') == ((b"boundary", b"a;b=c"), (b"z", b"1"))


def test_rfc_2231_pieces_stand_as_they_are_and_can_be_joined() -> None:
    pairs = parameters(b"a/b; name*1*=two; name*0*=utf-8''one; name*x=3")
    assert (b"name*0*", b"utf-8''one") in pairs
    assert parameter(pairs, b"name") == b"utf-8''onetwo"


def test_a_disposition_has_a_kind_and_parameters() -> None:
    assert disposition(b'ATTACHMENT; filename="x.txt"; size=3') == (
        b"attachment",
        ((b"filename", b"x.txt"), (b"size", b"3")),
    )
    assert disposition(None) is None


@pytest.mark.parametrize("unit", [b";", b';a="', b"(", b';a=\\"', b"; a", b"a=;"])
def test_hostile_repetition_costs_no_more_than_its_length(unit: bytes) -> None:
    value = b"text/plain" + unit * (200_000 // len(unit))
    start = time.process_time()
    media_type(value)
    disposition(value)
    media_type(unit * (200_000 // len(unit)))
    assert time.process_time() - start < 2


def test_the_pieces_of_a_value_become_one_under_its_name() -> None:
    pieces = parameters(b'a/b; x=1; name*1="name.txt"; name*0="long "; y=2')
    assert joined(pieces) == ((b"x", b"1"), (b"name", b"long name.txt"), (b"y", b"2"))


def test_a_plain_piece_among_encoded_ones_keeps_its_percent_sign() -> None:
    pieces = parameters(b"a/b; name*0*=utf-8''%C3%A4; name*1=50%")
    assert joined(pieces) == ((b"name*", b"utf-8''%C3%A450%25"),)


def test_pieces_of_which_one_is_missing_stay_as_they_are() -> None:
    pieces = parameters(b"a/b; name*0=a; name*2=c")
    assert joined(pieces) == pieces
