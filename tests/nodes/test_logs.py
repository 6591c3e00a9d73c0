"""Log lines: both formats, sessions, and no secrets."""

import io
import json
import logging

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from nodes import logs
from nodes.config.node import LogSection
from nodes.trail import TRAIL, Trail


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_json_lines_hold_the_node_the_session_and_the_facts(stream: io.StringIO) -> None:
    logs.configure(LogSection(format="json"), stream)
    logs.logger("n1").bind(session="s-7").info("delivered", size=12, id=b"\x01\xff")
    line = json.loads(stream.getvalue())
    assert line["event"] == "delivered"
    assert (line["node"], line["session"], line["size"], line["level"]) == ("n1", "s-7", 12, "info")
    assert line["id"] == "01ff"
    assert line["timestamp"].endswith("Z")


def test_text_lines_are_one_line_each_whatever_a_client_sends(stream: io.StringIO) -> None:
    logs.configure(LogSection(format="text"), stream)
    logs.logger("n1").info("greeting", said="EHLO x\r\n2026 [info] forged line")
    assert len(stream.getvalue().splitlines()) == 1
    assert "greeting" in stream.getvalue()


@pytest.mark.parametrize("name", ["password", "new_password", "secret", "cluster_key_secret", "auth_token", "key"])
@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_secret_is_never_written(stream: io.StringIO, name: str, format_: str) -> None:
    logs.configure(LogSection.model_validate({"format": format_}), stream)
    logs.logger("n1").warning("login", **{name: "hunter2"})
    assert "hunter2" not in stream.getvalue()
    assert "(hidden)" in stream.getvalue()


def test_lines_below_the_level_are_left_out(stream: io.StringIO) -> None:
    logs.configure(LogSection(level="warning"), stream)
    logs.logger("n1").info("quiet")
    logs.logger("n1").warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_libraries_log_the_same_way(stream: io.StringIO) -> None:
    logs.configure(LogSection(format="json"), stream)
    logging.getLogger("some.library").warning("it is %s", "late")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"]) == ("it is late", "warning")


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_traceback_shows_no_local_variables(stream: io.StringIO, format_: str) -> None:
    logs.configure(LogSection.model_validate({"format": format_}), stream)
    try:
        typed = "hunter" + str(2)
        raise ValueError(len(typed))
    except ValueError:
        logs.logger("n1").exception("failed")
    assert "ValueError: 7" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_a_request_that_is_no_http_is_not_quoted(stream: io.StringIO) -> None:
    logs.configure(LogSection(format="text"), stream)
    for error in (BadHttpMessage("Authorization: Bearer hunter2\x7f"), ValueError("a bug")):
        try:
            raise error
        except (BadHttpMessage, ValueError):
            logging.getLogger("aiohttp.server").exception("Error handling request")
    assert "hunter2" not in stream.getvalue()
    assert "a bug" in stream.getvalue()


def test_a_line_with_a_code_says_how_severe_it_is_and_a_failure_has_one_and_is_counted(stream: io.StringIO) -> None:
    logs.configure(LogSection(format="json"), stream)
    counted: list[str] = []
    logs.count_errors(counted.append)
    try:
        logger = logs.logger("n1")
        logger.info("refused", code="greylisted")
        logger.error("the fold is stalled", code="fold_stalled")
        logger.error("what nobody foresaw")
        logging.getLogger("some.library").error("it broke")
    finally:
        logs.count_errors(logs._uncounted)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["code"], line["severity"]) for line in lines] == [
        ("greylisted", "info"),
        ("fold_stalled", "critical"),
        ("internal", "error"),
        ("internal", "error"),
    ]
    assert counted == ["fold_stalled", "internal", "internal"]  # a refusal is counted where it is made


def test_every_line_of_a_connection_s_task_names_it_whoever_writes_it(stream: io.StringIO) -> None:
    logs.configure(LogSection(format="json"), stream)
    trail = Trail("imaps", "192.0.2.1")
    token = TRAIL.set(trail)
    try:
        logs.logger("n1").info("first")
        trail.tenant, trail.account = "acme", "ann@acme.test"
        logging.getLogger("some.library").warning("second")
    finally:
        TRAIL.reset(token)
    logs.logger("n1").info("third")
    first, second, third = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (first["session"], first["listener"], first["client"]) == (trail.id, "imaps", "192.0.2.1")
    assert (second["session"], second["tenant"], second["account"]) == (trail.id, "acme", "ann@acme.test")
    assert "tenant" not in first
    assert "session" not in third
