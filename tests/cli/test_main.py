"""The command as a whole: help, laziness, completion, errors that say what to do."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from chaos.cluster import free_base_port
from cli.main import COMMANDS, main
from cli.output import CommandError, agree
from cli.send import _composed
from cli.supervisor import environment, program

HEAVY = ("aiohttp", "rich", "pydantic", "cryptography", "lmdb", "pykka", "eventlog", "nodes", "actors", "asyncio")


def invoke(*arguments: str, env: dict[str, str] | None = None, stdin: str = "") -> Result:
    return CliRunner(env={"MAILRAFT_CLUSTER": None, **(env or {})}).invoke(main, arguments, input=stdin)


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, click.testing, cli.main\n"
        "said = click.testing.CliRunner().invoke(cli.main.main, ['--help']).output\n"
        "print(said, [name for name in sys.modules if name.partition('.')[0] in sys.argv[1].split()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, " ".join(HEAVY)], env=environment(), capture_output=True, text=True, check=True
    )
    assert all(f"  {name} " in done.stdout for name, lazy in COMMANDS.items() if not lazy.hidden)
    assert done.stdout.rstrip().endswith("[]")


def test_a_command_that_asks_a_node_imports_no_part_of_a_node_that_takes_long() -> None:
    code = "import sys, cli.account, cli.client\nassert not {*sys.argv[1].split()} & {*sys.modules}, sys.modules.keys()"
    slow = [*(set(HEAVY) - {"nodes", "eventlog"}), "structlog", "nodes.config.node", "eventlog.store"]
    subprocess.run([sys.executable, "-c", code, " ".join(slow)], env=environment(), check=True)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_the_help_that_the_list_promises(name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    first = COMMANDS[name].summary.rstrip(".").split()[0]
    assert first in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    result = invoke("mailbx")
    assert result.exit_code == 2
    assert "No such command 'mailbx'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("status",), "Perhaps: mailraft cluster status, mailraft region status, "),
        (("what-if",), "mailraft log what-if."),
        (("queu",), "Perhaps: mailraft queue."),
        (("cluster", "verify"), "Perhaps: mailraft backup verify, mailraft log verify."),
        (("cluster", "tenant"), "Perhaps: mailraft tenant, mailraft verdicts tenant."),
    ],
)
def test_a_name_that_is_no_command_leads_to_those_that_were_perhaps_meant(
    arguments: tuple[str, ...], meant: str
) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, meant in result.stderr) == (2, True)


def test_the_list_of_a_groups_commands_has_whole_sentences() -> None:
    said = invoke("cluster", "--help").output.partition("Commands:")[2]
    assert "..." not in said
    assert "how far it is." in " ".join(said.split())


@pytest.mark.parametrize(
    ("shell", "said"), [("bash", "complete -o"), ("zsh", "#compdef mailraft"), ("fish", "complete ")]
)
def test_completion_prints_a_script_for_the_shell(shell: str, said: str) -> None:
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert said in result.output
    assert "_MAILRAFT_COMPLETE" in result.output


def complete(line: str, **env: str) -> list[str]:
    """What bash would offer."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_MAILRAFT_COMPLETE": "bash_complete"}
    done = subprocess.run(program(), env=environment() | words | env, capture_output=True, text=True, check=True)
    return [found.partition(",")[2] for found in done.stdout.splitlines() if found]


def test_completion_knows_nodes_and_scenarios(tmp_path: Path) -> None:
    folder = str(tmp_path / "cluster")
    assert invoke("cluster", "init", folder, "--nodes", "3").exit_code == 0
    assert complete(f"mailraft log verify --cluster {folder} --node n") == ["n1", "n2", "n3"]
    assert complete(f"mailraft cluster transfer-leadership {folder} n") == ["n1", "n2", "n3"]
    assert complete("mailraft log verify --node n", MAILRAFT_CLUSTER=str(tmp_path)) == []
    assert complete("mailraft chaos run partition-") == ["partition-leader", "partition-minority"]


@pytest.mark.parametrize("name", ["remove-node", "replace-node", "transfer-leadership"])
def test_what_stands_alone_is_the_node_where_the_environment_names_the_cluster(tmp_path: Path, name: str) -> None:
    folder = str(tmp_path / "cluster")
    invoke("cluster", "init", folder)
    there = {"MAILRAFT_CLUSTER": folder}
    for words, env in (([], there), ([folder], {}), ([folder], {"MAILRAFT_CLUSTER": "elsewhere"})):
        result = invoke("cluster", name, *words, "n9", env=env)
        assert (result.exit_code, f"{folder} has no node n9" in result.stderr) == (1, True), result.stderr
    assert complete(f"mailraft cluster {name} n", **there) == ["n1", "n2", "n3"]


def test_a_cluster_named_alone_is_no_node_that_is_to_lead(tmp_path: Path) -> None:
    folder = str(tmp_path / "cluster")
    invoke("cluster", "init", folder, "--base-port", str(free_base_port(3)))
    result = invoke("cluster", "transfer-leadership", folder, env={"MAILRAFT_CLUSTER": str(tmp_path)})
    assert "n3: nothing listens there" in result.stderr
    assert invoke("cluster", "remove-node", folder).exit_code == 2


def test_what_is_no_text_is_told_and_never_shown_where_it_may_be_secret(tmp_path: Path) -> None:
    folder = str(tmp_path / "cluster")
    invoke("cluster", "init", folder, "--base-port", str(free_base_port(3)))
    name = invoke("account", "show", "a\udcff@example.test", "--cluster", folder)
    assert (name.exit_code, "a\ufffd@example.test is not text in UTF-8" in name.stderr) == (1, True)
    token = invoke("account", "list", "--cluster", folder, env={"MAILRAFT_TOKEN": "secret\udcff"})
    assert (token.exit_code, "error: MAILRAFT_TOKEN: holds no token" in token.stderr) == (1, True)
    assert "secret" not in token.stderr


def test_completion_knows_commands_and_options() -> None:
    assert complete("mailraft clu") == ["cluster"]
    assert complete("mailraft cluster st") == ["status"]
    assert "--as-of" in complete("mailraft mailbox show --")


@pytest.mark.parametrize(
    "arguments",
    [
        ("tenant", "list"),
        ("account", "list"),
        ("alias", "list"),
        ("queue", "list"),
        ("log", "tail"),
        ("log", "verify"),
        ("mailbox", "show", "alice@example.test"),
    ],
)
def test_a_command_for_a_cluster_says_that_it_needs_one(arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "--cluster" in result.stderr
    assert "MAILRAFT_CLUSTER" in result.stderr


def test_a_folder_that_is_no_cluster_is_named_with_what_to_do(tmp_path: Path) -> None:
    result = invoke("tenant", "list", env={"MAILRAFT_CLUSTER": str(tmp_path)})
    assert result.exit_code == 1
    assert f"error: {tmp_path} is not a cluster: it has no cluster.toml" in result.stderr
    assert f"try: mailraft cluster init {tmp_path}" in result.stderr


@pytest.mark.parametrize("text", ["x = ", "format = 9\n", "format = 1\n", 'format = 1\nid = "c"\nnodes = 5\n'])
def test_a_damaged_cluster_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.toml").write_text(text)
    result = invoke("cluster", "status", str(tmp_path))
    assert result.exit_code == 1
    assert f"error: {tmp_path}/cluster.toml: not " in result.stderr


def test_init_writes_a_cluster_and_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    made = invoke("cluster", "init", str(tmp_path / "c"), "--nodes", "5", "--base-port", "21000")
    assert made.exit_code == 0
    assert sorted(entry.name for entry in (tmp_path / "c").iterdir()) == [
        *("admin", "ca", "cluster.toml", "n1", "n2", "n3", "n4", "n5"),
    ]
    again = invoke("cluster", "init", str(tmp_path / "c"))
    assert (again.exit_code, "is a cluster already" in again.stderr) == (1, True)
    full = invoke("cluster", "init", str(tmp_path))
    assert (full.exit_code, f"{tmp_path} is not empty" in full.stderr) == (1, True)
    (tmp_path / "file").touch()
    file = invoke("cluster", "init", str(tmp_path / "file"))
    assert (file.exit_code, "is a file" in file.stderr) == (1, True)


@pytest.mark.parametrize("arguments", [("--nodes", "2"), ("--nodes", "7"), ("--base-port", "80")])
def test_init_refuses_what_can_not_be(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert invoke("cluster", "init", str(tmp_path / "c"), *arguments).exit_code == 2
    assert not (tmp_path / "c").exists()


def test_init_says_why_a_folder_can_not_be_made() -> None:
    result = invoke("cluster", "init", "/proc/mailraft")
    assert (result.exit_code, "error: /proc/mailraft: can not be made: " in result.stderr) == (1, True)
    assert isinstance(result.exception, SystemExit)  # a sentence, no traceback


@pytest.mark.parametrize("name", ["up", "renew", "status", "down"])
def test_the_folder_may_come_from_the_environment_and_the_help_says_so(tmp_path: Path, name: str) -> None:
    help_text = invoke("cluster", name, "--help").output
    assert "[DIR" in help_text
    assert "MAILRAFT_CLUSTER" in help_text
    missing = invoke("cluster", name)
    assert (missing.exit_code, "or set MAILRAFT_CLUSTER" in missing.stderr) == (2, True)
    named = invoke("cluster", name, env={"MAILRAFT_CLUSTER": str(tmp_path)})
    assert f"{tmp_path} is not a cluster" in named.stderr


def test_a_folder_that_can_not_be_written_to_is_told_and_nothing_is_started(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    invoke("cluster", "init", str(folder), "--base-port", str(free_base_port(3)))
    (folder / "supervisor.lock").symlink_to("/proc/self/nothing")  # no file can be made there, also not by root
    result = invoke("cluster", "up", str(folder), "--detach")
    assert (result.exit_code, f"error: {folder}/supervisor.lock: can not be written: " in result.stderr) == (1, True)
    assert invoke("cluster", "down", str(folder)).stderr == "nothing was running\n"


def test_a_check_warns_of_a_key_that_others_may_read(tmp_path: Path) -> None:
    invoke("cluster", "init", str(tmp_path / "c"))
    config = str(tmp_path / "c" / "n1" / "mailraft.toml")
    assert invoke("node", "run", "--config", config, "--check").stderr == ""
    (tmp_path / "c" / "n1" / "node.key").chmod(0o644)
    warned = invoke("node", "run", "--config", config, "--check")
    assert (warned.exit_code, "node.key: has mode 0644" in warned.stderr) == (0, True)


@pytest.mark.parametrize("size", ["0", "-1", "5x", "", "none at all", "99999999999999999999"])
def test_a_size_that_is_none_is_a_usage_error(size: str) -> None:
    result = invoke("account", "quota", "a@b.test", "--cluster", ".", "--", size)
    assert (result.exit_code, 'as in "50 MiB"' in result.stderr) == (2, True)


def test_ports_are_laid_out_from_the_base_port(tmp_path: Path) -> None:
    invoke("cluster", "init", str(tmp_path / "c"), "--base-port", "21000")
    checked = invoke("node", "run", "--config", str(tmp_path / "c" / "n2" / "mailraft.toml"), "--check")
    assert checked.exit_code == 0
    text = (tmp_path / "c" / "n2" / "mailraft.toml").read_text()
    assert 'listen = "127.0.0.1:21020"' in text
    assert 'pop3s = "127.0.0.1:21028"' in text


def test_a_configuration_error_is_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    invoke("cluster", "init", str(tmp_path / "c"))
    config = str(tmp_path / "c" / "n1" / "mailraft.toml")
    result = invoke("node", "run", "--config", config, "--set", "limits.recipients=few")
    assert result.exit_code == 1
    assert '--set limits.recipients: limits.recipients = "few": must be a whole number' in result.stderr
    assert "Traceback" not in result.output
    missing = invoke("node", "run", "--config", str(tmp_path / "none.toml"))
    assert (missing.exit_code, "none.toml: can not be read" in missing.stderr) == (1, True)


def test_a_password_must_come_from_somewhere(tmp_path: Path) -> None:
    invoke("cluster", "init", str(tmp_path / "c"))
    env = {"MAILRAFT_CLUSTER": str(tmp_path / "c")}
    empty = invoke("account", "add", "a@b.test", "--password-stdin", env=env)
    assert (empty.exit_code, "standard input held no password" in empty.stderr) == (1, True)
    nowhere = invoke("account", "add", "a@b.test", env=env)
    assert (nowhere.exit_code, "no terminal to ask for a password" in nowhere.stderr) == (1, True)


def test_when_nothing_runs_the_commands_say_so(tmp_path: Path) -> None:
    cluster = str(tmp_path / "c")
    invoke("cluster", "init", cluster, "--base-port", str(free_base_port(3)))
    result = invoke("tenant", "list", env={"MAILRAFT_CLUSTER": cluster})
    assert result.exit_code == 4
    assert "n3: nothing listens there" in result.stderr
    assert f"try: mailraft cluster status {cluster}" in result.stderr
    assert invoke("cluster", "down", cluster).exit_code == 0
    status = invoke("cluster", "status", cluster)
    assert (status.exit_code, "no leader: nothing runs; mailraft cluster up" in status.stderr) == (0, True)


def test_a_wrong_moment_says_how_moments_are_written(tmp_path: Path) -> None:
    cluster = str(tmp_path / "c")
    invoke("cluster", "init", cluster)
    result = invoke("mailbox", "show", "a@b.test", "--as-of", "-2y", env={"MAILRAFT_CLUSTER": cluster})
    assert result.exit_code == 1
    assert "--as-of -2y: neither a time" in result.stderr


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for one in group.list_commands(context):
        command = group.get_command(context, one)
        assert command is not None
        if command.hidden:
            continue
        yield f"{name} {one}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {one}")


EVERY_COMMAND = dict(_commands(main, "mailraft"))


def test_every_option_and_argument_has_help() -> None:
    """An argument has it in the text of its command, which names it, or shows in its place what there is to choose."""
    assert {name: _without_help(command) for name, command in EVERY_COMMAND.items() if _without_help(command)} == {}


def _without_help(command: click.Command) -> list[str]:
    if not command.help:
        return ["the command"]
    words = set(re.findall(r"\w+", f"{command.help} {command.epilog or ''}".upper()))
    lacking: list[str] = []
    for one in command.params:
        if isinstance(one, click.Option) and not one.help and not one.hidden:
            lacking.append(one.opts[-1])
        if isinstance(one, click.Argument):
            shown = one.make_metavar(click.Context(command))
            if "{" not in shown and not words & set(re.findall(r"\w+", shown.upper())):
                lacking.append(shown)
    return lacking


@pytest.mark.parametrize("arguments", [["--help"], ["completion", "bash"], ["--version"]])
def test_what_can_not_be_printed_is_an_error_and_no_traceback(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            program(*arguments), env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "error: what is printed can not be written: No space left on device\n"


def test_where_nobody_can_be_asked_the_way_on_is_named() -> None:
    with pytest.raises(CommandError) as refused, CliRunner().isolation(input=""):
        agree("Really?", yes=False)
    assert refused.value.hint == "--yes, to go on without being asked"
    agree("Really?", yes=True)


def test_a_message_between_international_addresses_is_written_as_mail_is() -> None:
    """RFC 6532 3.2: UTF-8 in the header; RFC 5322 3.6.4: an id that every server takes."""
    found = _composed("jürg@exämple.test", ("a@b.test",), "Grüße", "hällo", ()).decode()
    assert "From: jürg@exämple.test\r\n" in found
    assert "@xn--exmple-cua.test>\r\n" in found.partition("Message-ID: ")[2]
    assert _composed("a@b.test", ("c@d.test",), "Grüße", "x", ()).isascii()
