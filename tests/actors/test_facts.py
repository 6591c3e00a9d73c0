"""What is parsed of a message before it enters the log."""

from hypothesis import given
from hypothesis import strategies as st

from actors.facts import MAX_REFERENCES, message_facts


def test_message_id_references_and_date_are_found() -> None:
    facts = message_facts(
        b"Subject: x\r\nMessage-ID: <c@x>\r\nReferences: <a@x>\r\n <b@x>\r\n"
        b"Date: Fri, 20 Nov 2026 10:00:00 +0100\r\n\r\nMessage-ID: <not@this>\r\n"
    )
    assert facts == ("<c@x>", ("<a@x>", "<b@x>"), 1_795_165_200_000)


def test_in_reply_to_stands_in_for_missing_references() -> None:
    assert message_facts(b"In-Reply-To: <a@x>\n\n").references == ("<a@x>",)
    assert message_facts(b"In-Reply-To: <a@x>\nReferences: <b@x>\n\n").references == ("<b@x>",)


def test_of_a_field_that_occurs_twice_the_first_counts() -> None:
    assert message_facts(b"Message-ID: <a@x>\r\nMessage-ID: <b@x>\r\n\r\n").message_id == "<a@x>"


def test_names_of_fields_have_no_case() -> None:
    assert message_facts(b"MESSAGE-id : <a@x>\r\n\r\n").message_id == "<a@x>"


def test_the_body_is_not_looked_at() -> None:
    assert message_facts(b"\r\nMessage-ID: <a@x>\r\n").message_id is None
    assert message_facts(b"A: b\n\nMessage-ID: <a@x>\n").message_id is None


def test_long_threads_keep_their_latest_references() -> None:
    references = b" ".join(b"<%d@x>" % n for n in range(100))
    found = message_facts(b"References: " + references + b"\r\n\r\n").references
    assert len(found) == MAX_REFERENCES
    assert found[-1] == "<99@x>"


def test_over_long_ids_and_impossible_dates_are_left_out() -> None:
    facts = message_facts(b"Message-ID: <" + b"x" * 300 + b">\r\nDate: Fri, 99 Nov 99999 99:99:99 +9999\r\n\r\n")
    assert (facts.message_id, facts.sent_ms) == (None, None)


def test_a_head_without_end_is_looked_at_only_so_far() -> None:
    assert message_facts(b"X: y\r\n" * 20_000 + b"Message-ID: <a@x>\r\n").message_id is None


def test_text_that_is_not_utf8_still_gives_text_that_can_be_stored() -> None:
    facts = message_facts(b"Message-ID: <\xff@x>\r\nReferences: <\xed\xa0\x80@x>\r\n\r\n")
    assert facts.message_id is not None
    assert "".join((facts.message_id, *facts.references)).encode()


@given(st.binary(max_size=300) | st.tuples(st.sampled_from([b"Date:", b"References:"]), st.binary()).map(b"".join))
def test_nothing_makes_it_fail(data: bytes) -> None:
    message_facts(data)
