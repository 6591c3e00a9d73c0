"""Configuration: which source wins, and that every error names the place, the key, the value and what is allowed."""

from pathlib import Path

import pytest

from cli import layout
from nodes.config import files as config_files
from nodes.config import report as config_report
from nodes.config import sources as config_sources
from nodes.config.node import MIB, NodeConfig
from nodes.config.sources import ConfigError

SOUND = """
[node]
name = "n1"
cluster_id = "cell-1"
[raft]
listen = "127.0.0.1:20000"
peers = { n1 = "127.0.0.1:20000" }
[tls]
ca = "ca.pem"
certificate = "node.pem"
key = "/etc/keys/node.key"
"""


def load(folder: Path, text: str = SOUND, env: dict[str, str] | None = None, *overrides: str) -> NodeConfig:
    file = folder / "mailraft.toml"
    file.write_text(text)
    return config_sources.load(file, env or {}, overrides)


def refusal(folder: Path, text: str = SOUND, env: dict[str, str] | None = None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, env, *overrides)
    return str(caught.value).replace(str(folder), "DIR")


def test_defaults_hold_where_nothing_is_said(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.limits.message_bytes == 50 * MIB
    assert config.auth.plaintext_without_tls == "never"
    assert config.listen.smtp == ""


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(tmp_path: Path) -> None:
    text = SOUND + "[limits]\nrecipients = 200\nconnections = 20\nerrors = 2\n"
    env = {"MAILRAFT_LIMITS_RECIPIENTS": "300", "MAILRAFT_LIMITS_CONNECTIONS": "30"}
    limits = load(tmp_path, text, env, "limits.recipients=400").limits
    assert (limits.recipients, limits.connections, limits.errors, limits.auth_failures) == (400, 30, 2, 5)


def test_a_size_may_have_a_unit(tmp_path: Path) -> None:
    assert load(tmp_path, SOUND, {}, "limits.message_bytes=2 MiB").limits.message_bytes == 2 * MIB


def test_peers_and_ranges_can_come_as_text(tmp_path: Path) -> None:
    env = {
        "MAILRAFT_RAFT_PEERS": "n1=127.0.0.1:1,n2=127.0.0.1:2,n3=[::1]:3",
        "MAILRAFT_RAFT_ELECTION_TIMEOUT_MS": "300,600",
    }
    raft = load(tmp_path, SOUND, env).raft
    assert raft.peers == {"n1": "127.0.0.1:1", "n2": "127.0.0.1:2", "n3": "[::1]:3"}
    assert raft.election_timeout_ms == (300, 600)


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.tls.ca == tmp_path / "ca.pem"
    assert config.tls.key == Path("/etc/keys/node.key")
    assert config.node.data_dir == tmp_path / "data"


def test_variables_that_name_no_section_are_left_alone(tmp_path: Path) -> None:
    load(tmp_path, SOUND, {"MAILRAFT_CLUSTER": "/x", "MAILRAFT_CONFIG": "/y", "HOME": "/root"})


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("limits.recipients=abc", '= "abc": must be a whole number, at least 100, at most 1000000'),
        ("limits.recipients=99", '= "99": must be a whole number, at least 100, at most 1000000'),
        ("limits.message_bytes=50 MB", '= "50 MB": must be a number of bytes, or a number with a unit, as in "50 MiB"'),
        ("limits.auth_delay_s=-1", '= "-1": must be a number, at least 0, at most 604800'),
        ("limits.auth_delay_s=nan", '= "nan": must be a number, at least 0, at most 604800'),
        ("limits.login_s=0", '= "0": must be a number, above 0, at most 604800'),
        (
            "limits.message_bytes=1 KiB",
            '= "1 KiB": must be a number of bytes, or one with a unit as in "50 MiB", at least 65536',
        ),
        ("log.level=loud", '= "loud": must be "debug" or "info" or "warning" or "error"'),
        ("listen.smtp=25", '= "25": must be host:port, as in 127.0.0.1:20000'),
        ("listen.smtp=::1:25", '= "::1:25": an IPv6 address stands in brackets, as in [::1]:20000'),
        ("listen.smtp=localhost:99999", '= "localhost:99999": the port must be a number from 0 to 65535'),
        ("node.name=N 1", '= "N 1": must be 1 to 32 lower-case letters, digits and dashes, beginning with a letter'),
        ("raft.peers=n1", '= "n1": must be name=host:port, several of them separated by commas'),
        ("raft.election_timeout_ms=900,300", "the first above 0 and below the second"),
        ("limits.recipient=5", '= "5": no such key; did you mean recipients?'),
        ("auth.plaintext_without_tls=yes", '= "yes": must be "never" or "loopback"'),
    ],
)
def test_a_wrong_value_is_named_with_its_key_its_source_and_what_is_allowed(
    tmp_path: Path, override: str, said: str
) -> None:
    key, _, value = override.partition("=")
    section, _, name = key.partition(".")
    flag = refusal(tmp_path, SOUND, {}, override)
    assert flag.startswith(f"--set {key}: {key} ")
    assert said.replace("0.0", "0").replace("604800.0", "604800") in flag.replace("0.0", "0").replace(
        "604800.0", "604800"
    )
    variable = f"MAILRAFT_{section}_{name}".upper()
    assert refusal(tmp_path, SOUND, {variable: value}).startswith(f"environment variable {variable}: {key} ")


def test_a_wrong_value_in_the_file_names_the_file(tmp_path: Path) -> None:
    said = refusal(tmp_path, SOUND + "[log]\nformat = 5\n")
    assert said == 'DIR/mailraft.toml, line 13: log.format = 5: must be "text" or "json"'


def test_every_error_is_told_at_once(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, SOUND, {}, "log.level=x", "log.format=y").splitlines()) == 2


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    said = refusal(tmp_path, SOUND.replace('name = "n1"', ""))
    assert said == "DIR/mailraft.toml: node.name: is missing: a name of lower-case letters, digits and dashes"


def test_an_empty_file_names_each_key_that_is_needed(tmp_path: Path) -> None:
    assert "node.name: is missing" in refusal(tmp_path, "")
    assert "tls.certificate: is missing" in refusal(tmp_path, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[node]\nname = \n", "DIR/mailraft.toml, line 2, column 8: not valid TOML: Invalid value"),
        (
            "[node",
            "DIR/mailraft.toml, line 1, column 6: not valid TOML: Expected ']' at the end of a table declaration",
        ),
    ],
)
def test_damaged_toml_names_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(tmp_path, text) == said


def test_a_file_that_is_no_text_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "mailraft.toml"
    file.write_bytes(b"[node]\nname = '\xff'\n")
    with pytest.raises(ConfigError, match=r"mailraft.toml, line 2: not UTF-8 text"):
        config_sources.load(file, {})


def test_an_unknown_section_is_named_with_a_guess(tmp_path: Path) -> None:
    said = refusal(tmp_path, SOUND + "[limit]\n")
    assert said == "DIR/mailraft.toml, line 12: [limit]: no such section; did you mean limits?"


def test_a_section_that_is_no_table_is_named(tmp_path: Path) -> None:
    said = refusal(tmp_path, "limits = 5\n" + SOUND)
    assert said == "DIR/mailraft.toml, line 1: limits: must be a table, as in [limits]"


def test_an_override_without_a_section_says_how_it_is_written(tmp_path: Path) -> None:
    assert refusal(tmp_path, SOUND, {}, "recipients=5") == (
        "--set recipients: must be section.key=value, as in limits.recipients=200"
    )


def test_a_secret_is_never_repeated(tmp_path: Path) -> None:
    said = refusal(tmp_path, SOUND + '[secrets]\ncluster_key = "s3cr3t"\n')
    assert "secrets.cluster_key = (not shown): must be file:PATH or env:NAME" in said
    assert "s3cr3t" not in said


def test_a_node_must_be_a_member_of_its_cell(tmp_path: Path) -> None:
    assert "must name this node too (n9)" in refusal(tmp_path, SOUND, {}, "node.name=n9")


def test_a_cell_has_an_odd_number_of_members(tmp_path: Path) -> None:
    said = refusal(tmp_path, SOUND, {}, "raft.peers=n1=127.0.0.1:1,n2=127.0.0.1:2")
    assert "--set raft.peers: raft.peers = " in said
    assert "has 2 members; a cell has 1, 3 or 5" in said


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: can not be read: No such file or directory"):
        config_sources.load(tmp_path / "nowhere.toml", {})


def test_files_that_are_named_must_be_there(tmp_path: Path) -> None:
    config = load(tmp_path, SOUND + '[delivery]\ntrust = "roots.pem"\n')
    with pytest.raises(ConfigError) as caught:
        config_files.check_files(config)
    said = str(caught.value)
    assert f'tls.ca = "{tmp_path}/ca.pem": can not be read: No such file or directory' in said
    assert f'secrets.cluster_key_file = "{tmp_path}/cluster.key": can not be read' in said
    assert f'delivery.trust = "{tmp_path}/roots.pem": can not be read' in said


def test_a_key_in_the_place_of_its_file_is_not_shown(tmp_path: Path) -> None:
    config = load(tmp_path, SOUND + f'[secrets]\ncluster_key_file = "{"ab" * 32}"\n')
    with pytest.raises(ConfigError, match=r"secrets.cluster_key_file = \(not shown\): can not be read") as caught:
        config_files.check_files(config)
    assert "abab" not in str(caught.value)


def test_a_key_that_others_may_use_is_named(tmp_path: Path) -> None:
    config = load(tmp_path, SOUND.replace("/etc/keys/", ""))
    for path in (config.tls.key, config.secrets.cluster_key_file):
        path.touch(0o600)
    assert config_files.open_secrets(config) == []
    config.tls.key.chmod(0o644)
    config.secrets.cluster_key_file.chmod(0o640)
    assert config_files.open_secrets(config) == [
        f"tls.key = {tmp_path}/node.key: has mode 0644, so others than its owner may use it: chmod 0600",
        f"secrets.cluster_key_file = {tmp_path}/cluster.key: has mode 0640, so others than its owner may use it: "
        "chmod 0600",
    ]


def test_the_file_is_found_by_flag_then_environment_then_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no configuration found"):
        config_sources.discover(None, {})
    (tmp_path / "mailraft.toml").touch()
    assert config_sources.discover(None, {}) == Path("mailraft.toml")
    assert config_sources.discover(None, {"MAILRAFT_CONFIG": "/a"}) == Path("/a")
    assert config_sources.discover(Path("/b"), {"MAILRAFT_CONFIG": "/a"}) == Path("/b")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sources", "default=192.0.2.1/"),
        ("sources", "default=not-an-address"),
        ("sources", "192.0.2.1"),
        ("own_addresses", "mx.example.test"),
        ("port", "0"),
        ("families", "ipv5"),
    ],
)
def test_a_way_out_that_can_not_be_is_refused_by_name(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"delivery.{key}"):
        load(tmp_path, SOUND, None, f"delivery.{key}={value}")


def test_pools_of_addresses_can_be_given_as_text(tmp_path: Path) -> None:
    given = "delivery.sources=default=192.0.2.1 2001:db8::1/six.example.test,bulk=192.0.2.2"
    assert load(tmp_path, SOUND, None, given).delivery.sources == {
        "default": ("192.0.2.1", "2001:db8::1/six.example.test"),
        "bulk": ("192.0.2.2",),
    }


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("node.pem", b"garbage", 'tls.certificate = "{folder}/n1/node.pem": holds no certificate in PEM form'),
        ("ca.pem", b"", 'tls.ca = "{folder}/n1/ca.pem": holds no certificate in PEM form'),
        ("node.key", b"", 'tls.key = "{folder}/n1/node.key": holds no private key in PEM form without a password'),
        (
            "node.key",
            None,
            'tls.key = "{folder}/n1/node.key": is not the key of tls.certificate = "{folder}/n1/node.pem"',
        ),
    ],
)
def test_a_damaged_certificate_or_key_is_named(tmp_path: Path, file: str, content: bytes | None, said: str) -> None:
    layout.create(tmp_path / "c", 3, 20000)
    folder = tmp_path / "c" / "n1"
    config_files.check_files(config_sources.load(folder / "mailraft.toml", {}))
    (folder / file).write_bytes((tmp_path / "c" / "n2" / file).read_bytes() if content is None else content)
    with pytest.raises(ConfigError) as caught:
        config_files.check_files(config_sources.load(folder / "mailraft.toml", {}))
    assert str(caught.value) == said.format(folder=tmp_path / "c")


def test_a_value_of_the_file_is_named_with_its_line(tmp_path: Path) -> None:
    text = SOUND + '[limits]\n# how many\nrecipients = [\n  5,\n]\n"line_bytes" = "x"\n[log]\nlevel="loud"\n'
    lines = refusal(tmp_path, text).splitlines()
    places = {line.partition(": ")[2].partition(" = ")[0]: line.partition(": ")[0] for line in lines}
    assert places == {
        "limits.recipients": "DIR/mailraft.toml, line 14",
        "limits.line_bytes": "DIR/mailraft.toml, line 17",
        "log.level": "DIR/mailraft.toml, line 19",
    }


def test_everything_that_is_wrong_is_told_at_once_wherever_it_stands(tmp_path: Path) -> None:
    env = {"MAILRAFT_LIMITS__RECIPIENT": "1", "MAILRAFT_LIMIT__X": "1"}
    said = refusal(tmp_path, SOUND + "[limit]\n[log]\nlevel = 5\n", env, "log=5", "lgo.level=info")
    assert [line.partition(": ")[0] for line in said.splitlines()] == [
        "DIR/mailraft.toml, line 12",
        "environment variable MAILRAFT_LIMIT__X",
        "--set log",
        "--set lgo.level",
        "environment variable MAILRAFT_LIMITS__RECIPIENT",
        "DIR/mailraft.toml, line 14",
    ]


def test_a_variable_has_two_underlines_between_section_and_key(tmp_path: Path) -> None:
    assert load(tmp_path, SOUND, {"MAILRAFT_NODE__STOP_GRACE_S": "7"}).node.stop_grace_s == 7


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("listen.smtp=127.0.0.1:25", "listen.lmtp=127.0.0.1:25"), "is the address of listen.smtp too"),
        (("listen.imap=127.0.0.1:20000",), "is the address of raft.listen too"),
        (("limits.auth_delay_s=20",), "must be at most limits.auth_delay_max_s (15)"),
        (("queue.retry_first_s=9000",), "must be at most queue.retry_max_s (7200)"),
        (("smtp.xclient_from=0.0.0.0/0",), "node.profile = production does not trust every address there is"),
        (("node.profile=development", "listen.smtp=192.0.2.1:25"), "loopback addresses only"),
        (("node.profile=strict", "auth.plaintext_without_tls=loopback"), "node.profile = strict allows never only"),
        (("node.profile=strict", "listen.http=0.0.0.0:80"), "node.profile = strict has it on a loopback address only"),
        (("node.profile=strict", "log.level=debug"), "node.profile = strict does not log what sessions say"),
        (("node.profile=strict", "dns.trust_ad=true"), "node.profile = strict trusts name servers on this machine"),
    ],
)
def test_what_can_not_be_together_is_refused(tmp_path: Path, overrides: tuple[str, ...], said: str) -> None:
    assert said in refusal(tmp_path, SOUND, {}, *overrides)


def test_a_profile_sets_defaults_that_the_file_overrides(tmp_path: Path) -> None:
    strict = load(tmp_path, SOUND.replace("[node]", '[node]\nprofile = "strict"') + '[log]\nformat = "text"\n')
    assert (strict.log.format, strict.smtp.long_lines) == ("text", "refuse")
    assert load(tmp_path, SOUND, {}, "node.profile=development").auth.plaintext_without_tls == "loopback"


def test_each_value_says_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "mailraft.toml"
    file.write_text(SOUND + "[limits]\nrecipients = 200\n")
    loaded = config_sources.read(
        file, {"MAILRAFT_LIMITS__ERRORS": "3"}, ["limits.connections=9", "node.profile=strict"]
    )
    found = {one.name: one for one in config_report.settings(loaded)}
    assert found["limits.recipients"] == ("limits.recipients", "200", "file", f"{file}, line 13")
    assert found["limits.errors"].source == "environment variable MAILRAFT_LIMITS__ERRORS"
    assert found["limits.connections"].source == "--set limits.connections"
    assert found["log.format"] == ("log.format", '"json"', "profile", "profile strict")
    assert found["limits.login_s"].kind == "default"


def test_a_comparison_names_what_differs(tmp_path: Path) -> None:
    before, after = load(tmp_path), load(tmp_path, SOUND, {}, "limits.recipients=200", "log.level=debug")
    assert config_report.changes(before, after) == [
        ("limits.recipients", "100", "200"),
        ("log.level", '"info"', '"debug"'),
    ]


def test_a_key_is_explained_with_all_that_is_known_of_it() -> None:
    found = config_report.explanation("limits.message_bytes")
    assert found["unit"] == "bytes"
    assert found["may be"] == 'a number of bytes, or one with a unit as in "50 MiB", at least 65536'
    assert found["default"] == str(50 * MIB)
    assert found["variable"] == "MAILRAFT_LIMITS__MESSAGE_BYTES"


def test_a_section_is_explained_by_its_keys() -> None:
    found = config_report.section_keys("[tracing]")
    assert found is not None
    assert list(found) == ["tracing.enabled", "tracing.endpoint", "tracing.ca", "tracing.sample", "tracing.timeout_s"]
    assert all(found.values())
    assert config_report.section_keys("limits.recipients") is None
    assert config_report.section_keys("limit") is None


@pytest.mark.parametrize(
    ("name", "meant"), [("limits.recipient", "limits.recipients"), ("hostname", "node.hostname"), ("limit", "limits")]
)
def test_a_key_that_is_not_there_is_answered_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(config_report.NoSuchKey, match=f"did you mean {meant}"):
        config_report.explanation(name)
