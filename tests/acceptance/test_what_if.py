"""History decided again under a changed rule, on a running cluster; nothing changes."""

import json
import smtplib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chaos.cluster import ClusterError
from tests.acceptance.site import Site

FRED, GINA, TEAM = "fred@example.test", "gina@example.test", "team@example.test"
TEXT = b"Subject: x\r\n\r\n" + b"y" * 1000 + b"\r\n"


class Month(NamedTuple):
    site: Site
    since: int


@pytest.fixture(scope="module")
def month(site: Site) -> Month:
    """Five messages to FRED, two to TEAM, which led to FRED and GINA."""
    cluster = site.cluster
    since = json.loads(cluster.command("log", "tail", "-n", "1", "--json"))["position"] + 1
    for address in (FRED, GINA):
        cluster.command("account", "add", address, "--password-stdin", stdin="correct horse battery\n")
    cluster.command("alias", "add", TEAM, FRED, GINA)
    host, _, port = site.endpoints("smtp")[0].rpartition(":")
    with smtplib.SMTP(host, int(port)) as client:
        for number in range(5):
            client.sendmail(f"s{number}@elsewhere.test", [FRED], TEXT)
        for number in range(2):
            client.sendmail(f"t{number}@elsewhere.test", [TEAM], TEXT)
    cluster.wait_settled()
    return Month(site, since)


def again(month: Month, tmp_path: Path, rule: str) -> list[dict[str, Any]]:
    file = tmp_path / "rule.toml"
    file.write_text(rule)
    arguments = ("log", "what-if", "--rule", str(file), "--since", f"#{month.since}", "--json")
    found: list[dict[str, Any]] = json.loads(month.site.cluster.command(*arguments))["differences"]
    return found


def test_a_smaller_quota_shows_which_messages_would_have_been_refused(month: Month, tmp_path: Path) -> None:
    found = again(month, tmp_path, f'[[quota]]\naccount = "{FRED}"\nlimit = "5 KiB"\n')
    assert {one["what"] for one in found} == {"refused"}
    assert {one["account"] for one in found} == {FRED}
    size = found[0]["size"]
    assert 7 - len(found) == 5 * 1024 // size, "as many as fit were taken"
    assert found[-1]["sender"] == "t1@elsewhere.test"


def test_a_quota_that_is_not_reached_changes_nothing(month: Month, tmp_path: Path) -> None:
    assert again(month, tmp_path, f'[[quota]]\naccount = "{FRED}"\nlimit = "none"\n') == []


def test_another_alias_shows_who_would_have_had_the_mail_and_who_not(month: Month, tmp_path: Path) -> None:
    found = again(month, tmp_path, f'[[alias]]\naddress = "{TEAM}"\ntargets = ["{GINA}", "alice@example.test"]\n')
    assert sorted((one["what"], one["account"], one["sender"]) for one in found) == [
        ("delivered", "alice@example.test", "t0@elsewhere.test"),
        ("delivered", "alice@example.test", "t1@elsewhere.test"),
        ("not delivered", FRED, "t0@elsewhere.test"),
        ("not delivered", FRED, "t1@elsewhere.test"),
    ]


def test_mail_that_a_stricter_recipient_policy_would_not_have_taken_is_shown(month: Month, tmp_path: Path) -> None:
    found = again(month, tmp_path, '[[refuse]]\nrecipient = "fred@*"\nsender = "s[0-2]@elsewhere.test"\n')
    assert [(one["what"], one["sender"]) for one in found] == [("refused", f"s{n}@elsewhere.test") for n in range(3)]


def test_nothing_is_changed_by_asking(month: Month, tmp_path: Path) -> None:
    before = month.site.cluster.command("mailbox", "show", FRED, "--json")
    again(month, tmp_path, f'[[quota]]\naccount = "{FRED}"\nlimit = "1 KiB"\n')
    assert month.site.cluster.command("mailbox", "show", FRED, "--json") == before


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("", "changes nothing"),
        ('[[quota]]\naccount = "x"\nlimit = "1 KiB"', r"quota\.account"),
        ('[[quota]]\naccount = "a@b.test"\nlimit = "big"', r"quota\.limit"),
        ('[[alias]]\naddress = "a@b.test"\nto = []', r"alias\.to"),
        ("[[rule]]\n", "rule: a rule has"),
        ("quota = ", "Invalid"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_its_key(month: Month, tmp_path: Path, rule: str, says: str) -> None:
    with pytest.raises(ClusterError, match=says):
        again(month, tmp_path, rule)
