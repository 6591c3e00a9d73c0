"""What a reader sees of HTML, and that hostile HTML takes no longer than its length."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.mime.html_text import html_text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("<p>one</p><p>two</p>", "one two"),
        ("a<b>b</b>c", "abc"),
        ("one<br>two<br/>three", "one two three"),
        ("&lt;b&gt; &amp; &uuml; &#8364;", "<b> & ü €"),
        ("a<!-- not > seen -->b", "ab"),
        ("<STYLE>p { color: red }</style>seen", "seen"),
        ("<script>if (a < b) alert('>')</script>seen", "seen"),
        ("<head><title>t</title></head><body>seen", "seen"),
        ("a < b and c > d", "a < b and c > d"),
        ("<!DOCTYPE html><p>seen", "seen"),
        ("  many \r\n\t blanks  ", "many blanks"),
        ("never closed <a href=", "never closed"),
        ("<script>never closed", "never closed"),
        ("<!-- never closed", ""),
    ],
)
def test_tags_go_and_text_stays(source: str, text: str) -> None:
    assert html_text(source) == text


PIECES = st.sampled_from(["<", ">", "<b>", "</p>", "<!--", "-->", "<script>", "</script", "&amp;", "&", "text", " "])


@given(st.lists(PIECES, max_size=40).map("".join))
def test_anything_has_a_text(source: str) -> None:
    assert "  " not in html_text(source)


@pytest.mark.parametrize("piece", ["<", "<script>", "<!--", "<a ", "&", "</", "<style><script>", "<p>"])
def test_hostile_html_is_read_in_time(piece: str) -> None:
    started_s = time.process_time()
    html_text(piece * 100_000)
    assert time.process_time() - started_s < 2
