"""An error of the command line has the code that the API gave it, and tells a program all that is known of it."""

import json

import click
import pytest
from click.testing import CliRunner

from cli.client import NothingDone, Refused, _error
from cli.main import main
from cli.options import json_option
from cli.output import UNKNOWN, CommandError


def run(error: CommandError | None, *arguments: str, refused: Refused | None = None) -> tuple[int, str, str]:
    """Exit code and both outputs of a command that ends with this error."""

    @click.command()
    @json_option
    def command(as_json: bool) -> None:
        raise _error(refused) if refused is not None else made()

    def made() -> CommandError:
        assert error is not None
        return type(error)(error.message, error.hint, error.exit_code, error.code)

    done = CliRunner().invoke(command, arguments)
    return done.exit_code, done.stdout, done.stderr


def test_the_code_stands_in_brackets_behind_the_text() -> None:
    told = run(CommandError("there is no account bob@example.test", "mailraft account list", code="no_such_account"))
    assert told == (
        1,
        "",
        "error: there is no account bob@example.test [no_such_account]\n  try: mailraft account list\n",
    )


def test_json_errors_carry_all_fields_on_standard_error() -> None:
    problem = {
        "code": "disk_full",
        "category": "rejected",
        "severity": "critical",
        "retry": "elsewhere",
        "retry_after_s": 1,
        "detail": "no room",
        "hint": "make room",
        "status": 503,
    }
    code, out, err = run(None, "--json", refused=Refused("rejected", "no room", "make room", "disk_full", problem))
    assert (code, out) == (4, "")
    told = json.loads(err)["error"]
    assert told == {name: value for name, value in problem.items() if name != "status"} | {"exit_code": 4}


def test_a_code_that_a_later_node_gives_is_told_as_the_node_tells_it() -> None:
    problem = {"code": "from_tomorrow", "category": "not_ready", "severity": "warning", "retry": "later"}
    code, _, err = run(None, "--json", refused=Refused("not_ready", "later", "", "from_tomorrow", problem))
    assert code == 4
    assert json.loads(err)["error"].items() >= problem.items()


@pytest.mark.parametrize(
    ("error", "code", "category", "exit_code"),
    [
        (CommandError("it has no such file"), "command_failed", "refused", 1),
        (CommandError("lost", "", UNKNOWN), "outcome_unknown", "unknown", 3),
        (NothingDone("no node could do it", "", 4, "unreachable"), "unreachable", "not_ready", 4),
    ],
)
def test_an_error_that_no_node_told_has_a_code_too(
    error: CommandError, code: str, category: str, exit_code: int
) -> None:
    status, _, err = run(error, "--json")
    told = json.loads(err)["error"]
    assert (status, told["exit_code"], told["code"], told["category"]) == (exit_code, exit_code, code, category)
    assert {"severity", "retry", "retry_after_s", "detail", "hint"} <= set(told)


@pytest.mark.parametrize(
    ("line", "detail", "hint"),
    [
        ("tenant frob --json", "No such command 'frob'", "mailraft tenant --help"),
        ("tenant add --json", "Missing argument 'NAME'", "mailraft tenant add --help"),
        ("account list --cluster x --wrong --json", "No such option", "mailraft account list --help"),
        ("token create --cluster x --role king --json", "Invalid value for '--role'", "mailraft token create --help"),
        ("--json", "No such option", "mailraft --help"),
        ("log show 1 --json", "Whose log?", "mailraft log show --help"),
    ],
)
def test_a_line_that_can_not_be_taken_is_told_as_json_where_json_is_asked_for(
    line: str, detail: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAILRAFT_CLUSTER", raising=False)
    done = CliRunner().invoke(main, line.split())
    told = json.loads(done.stderr)["error"]
    assert (done.exit_code, told["exit_code"], told["code"], told["category"]) == (2, 2, "bad_usage", "bad_request")
    assert detail in told["detail"]
    assert told["hint"] == hint
    without = CliRunner().invoke(main, [word for word in line.split() if word != "--json"] or ["--wrong"])
    assert (without.exit_code, without.stderr.startswith("Usage: ")) == (2, True)
