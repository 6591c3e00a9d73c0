"""Every code that the program can say is in the registry, and what the registry says of it is what is told."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from actors.errors import CommandRefused
from cli.main import main
from eventlog.errors import LogError
from nodes.errors.kinds import CATEGORIES, SEVERITIES, STATUSES
from nodes.errors.registry import REGISTRY
from nodes.http.admin import endpoints
from nodes.imap import errors as imap_errors
from nodes.logins import door
from nodes.pop3 import events as pop3_events
from nodes.smtp import replies

TOP = Path(__file__).resolve().parents[3]
OURS = ("eventlog", "actors", "nodes")
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")


def calls() -> Iterator[tuple[str, ast.Call, dict[str, str]]]:
    """Every call in the program: where, the call, and the texts that names of its module stand for."""
    for folder in OURS:
        for path in sorted((TOP / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            names = dict(_constants(tree))
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    yield f"{path.relative_to(TOP)}:{node.lineno}", node, names


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for one in tree.body:
        if isinstance(one, ast.Assign):
            target = one.targets[0]
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            values = one.value.elts if isinstance(one.value, ast.Tuple) else [one.value]
            for name, value in zip(names, values):
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield name.id, value.value


def named(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((one.value for one in call.keywords if one.arg == name), None)


def text(node: ast.expr | None, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return names.get(node.id) if isinstance(node, ast.Name) else None


def below(kind: Any) -> Iterator[Any]:
    for one in kind.__subclasses__():
        yield one
        yield from below(one)


def test_every_class_of_refusals_and_of_failures_has_a_code_of_the_registry() -> None:
    endpoints()  # imports what there is
    kinds: list[type[CommandRefused] | type[LogError]] = [CommandRefused, LogError]
    found = {one: one.code for base in kinds for one in (base, *below(base))}
    ours = {one.__name__: code for one, code in found.items() if one.__module__.partition(".")[0] in OURS}
    assert len(ours) > 50
    assert {name: code for name, code in ours.items() if code not in REGISTRY} == {}


def test_every_reason_for_which_the_log_rejects_is_a_code_of_the_registry() -> None:
    wrong = []
    for where, call, names in calls():
        reason = text(call.args[0], names) if named(call) == "Rejected" and call.args else None
        if reason is not None and reason not in REGISTRY:
            wrong.append((where, reason))
    assert wrong == []
    told = re.search(r"is one of: (.*?)\.\n", LogError.__subclasses__()[0].__doc__ or "", re.DOTALL)
    assert told is not None
    reasons = re.findall(r"[a-z_]{4,}", told[1].replace("of a change of the members also", ""))
    assert [one for one in reasons if one not in REGISTRY] == []


def test_every_problem_of_the_api_says_what_the_registry_says_of_its_code() -> None:
    seen, wrong = 0, []
    for where, call, names in calls():
        if named(call) == "of_code" and call.args:
            code = text(call.args[0], names)
            category = REGISTRY[code].category if code in REGISTRY else None
        elif named(call) == "ApiError":
            category = text(call.args[1], names)
            code = text(keyword(call, "code"), names) or (category if keyword(call, "code") is None else None)
        else:
            continue
        if code is not None:
            seen += 1
            if code not in REGISTRY or category not in (None, REGISTRY[code].category):
                wrong.append((where, code, category))
    assert seen > 50
    assert wrong == []


def test_every_line_of_the_log_and_every_reply_that_names_a_code_names_one_of_the_registry() -> None:
    wrong, seen = [], 0
    for where, call, names in calls():
        if named(call) in LEVELS:
            found = [text(keyword(call, "code"), names)]
        elif (named(call) == "telling" or ast.unparse(call.func).endswith("refusals.note")) and call.args:
            found = [text(call.args[0], names)]
        elif named(call) in ("reply", "refusing", "Refused", "Refusal", "Farewell", "BadCommand", "not_logged_in"):
            found = [text(keyword(call, "error"), names)]
            if named(call) != "reply" and len(call.args) > 2:
                found.append(text(call.args[2], names))
        else:
            continue
        for code in found:
            seen += code is not None
            if code is not None and code not in REGISTRY:
                wrong.append((where, code))
    assert seen > 150
    assert wrong == []


def test_every_refusal_of_smtp_tells_its_kind_of_error() -> None:
    wrong = []
    for where, call, names in calls():
        if named(call) != "reply" or not call.args or not isinstance(call.args[0], ast.Constant):
            continue
        code = call.args[0].value
        if isinstance(code, int) and code >= 400 and text(keyword(call, "error"), names) is None:
            wrong.append(where)
    assert wrong == []
    assert replies.error_of(replies.MAILBOX_FULL * 3) == "over_quota"
    assert replies.error_of(replies.AUTH_FAILED + replies.TOO_MANY_ERRORS) == "wrong_credentials"
    assert replies.error_of(b"554 5.7.1 what a filter says\r\n") == "refused"
    assert replies.error_of(replies.OK) == ""


def test_what_response_codes_of_imap_and_pop3_and_log_ins_stand_for_is_in_the_registry() -> None:
    used = {*imap_errors._ERRORS.values(), *pop3_events._ERRORS.values(), *door.CODES.values()}
    assert used <= set(REGISTRY)
    assert imap_errors.Refusal("x", "OVERQUOTA").error == "over_quota"
    assert imap_errors.BadCommand("x").error == "bad_command"


@pytest.mark.parametrize("code", REGISTRY)
def test_an_entry_is_of_a_known_category_and_severity_and_its_hint_names_commands_that_exist(code: str) -> None:
    kind = REGISTRY[code]
    assert re.fullmatch(r"[a-z][a-z_]*", kind.code)
    assert kind.category in CATEGORIES
    assert kind.category in STATUSES
    assert kind.severity in SEVERITIES
    assert kind.title
    for words in re.findall(r"mailraft ((?:[a-z-]+ ?)+)", kind.hint):
        assert _is_command(words.split()), kind.hint


def _is_command(words: list[str]) -> bool:
    """Whether the words begin with a command and its subcommands; what follows may be prose."""
    context, command = click.Context(main, info_name="mailraft"), main
    found: click.Command | None = command
    for word in words:
        if not isinstance(found, click.Group):
            return True
        found = found.get_command(context, word)
    return found is not None
