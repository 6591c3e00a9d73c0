"""App passwords, one-time codes and logging in with them: the admin API and the command line, on a running node."""

import base64
import json
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from cli import layout
from cli.client import AdminClient
from cli.main import main
from tests.nodes.http.one_node import cell as cell
from tests.nodes.http.one_node import refused, serving

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, PASSWORD = "alice@example.test", "secret of alice"
PATH = f"/v1/accounts/{ALICE}"


def code_of(secret: str, steps: int = 0) -> str:
    return TOTP(base64.b32decode(secret), 6, SHA1(), 30).generate(time.time() + 30 * steps).decode()


def with_alice(client: AdminClient) -> None:
    client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
    client.change("POST", "/v1/accounts", {"address": ALICE, "password": PASSWORD})


def test_an_app_password_is_shown_once_listed_and_revoked(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_alice(client)
        made = client.change("POST", f"{PATH}/app-passwords", {"name": "my phone", "scopes": ["smtp", "imap"]})
        assert made.keys() == {"name", "scopes", "expires_ms", "password"}
        shown = client.get(f"{PATH}/credentials")
        (one,) = shown["app_passwords"]
        assert (one["name"], one["scopes"], one["used_ms"]) == ("my phone", ["imap", "smtp"], None)
        assert made["password"] not in json.dumps(shown)
        assert shown["totp"] == {"state": "off", "since_ms": None, "recovery_codes_used": 0}
        assert shown["refused_logins"] == {"attempts": 0, "last_ms": None}
        bodies: tuple[dict[str, Any], ...] = ({"name": "x", "scopes": ["http"]}, {"name": "x"}, {"scopes": ["imap"]})
        for body in bodies:
            assert refused(partial(client.change, "POST", f"{PATH}/app-passwords", body)).code.endswith("request")
        client.change("DELETE", f"{PATH}/app-passwords/my%20phone")
        assert client.get(f"{PATH}/credentials")["app_passwords"] == []
        gone = refused(lambda: client.change("DELETE", f"{PATH}/app-passwords/my%20phone"))
        assert "no such app password" in str(gone)

    serving(run, cell, ask)


def test_one_logs_in_on_the_web_with_a_code_once_codes_are_on(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        def log_in(password: str, code: str | None = None, login: str = ALICE) -> Any:
            body = {"login": login, "password": password, "code": code, "client": "2001:db8::1"}
            return client.change("POST", "/v1/login", body)

        with_alice(client)
        assert log_in(PASSWORD)["address"] == ALICE
        made = client.change("POST", f"{PATH}/totp")
        client.change("PUT", f"{PATH}/totp", {"code": code_of(made["secret"], -1)})
        assert "a one-time code is needed" in str(refused(lambda: log_in(PASSWORD)))
        assert log_in(PASSWORD, code_of(made["secret"]))["address"] == ALICE
        wrong = "wrong address, password or code"
        assert wrong in str(refused(lambda: log_in(PASSWORD, code_of(made["secret"]))))  # a second time
        assert wrong in str(refused(lambda: log_in("another", code_of(made["secret"], 1))))
        assert wrong in str(refused(lambda: log_in(PASSWORD, login="nobody@example.test")))
        assert log_in(PASSWORD, made["recovery_codes"][0])["address"] == ALICE
        app = client.change("POST", f"{PATH}/app-passwords", {"name": "phone", "scopes": ["imap"]})
        assert wrong in str(refused(lambda: log_in(app["password"])))
        assert client.get(f"{PATH}/credentials")["totp"]["recovery_codes_used"] == 1
        client.change("DELETE", f"{PATH}/totp")
        assert log_in(PASSWORD)["address"] == ALICE

    serving(run, cell, ask)


def test_who_guesses_on_the_web_is_refused_in_the_end(run: Run, cell: layout.Cluster) -> None:
    config = cell.nodes[0].config
    tight = "[limits]\nauth_delay_s = 0\nauth_block_after = 3\n"
    config.write_text(config.read_text().replace("[limits]\n", tight))

    def ask(client: AdminClient) -> list[str]:
        with_alice(client)
        body = {"login": ALICE, "password": "a guess", "client": "192.0.2.1"}
        said = [str(refused(lambda: client.change("POST", "/v1/login", body))) for _ in range(4)]
        assert client.change("POST", "/v1/login", {**body, "password": PASSWORD, "client": "192.0.2.2"})
        return said

    said = serving(run, cell, ask)
    assert said == ["wrong address, password or code"] * 3 + ["too many attempts; try again later"]


def test_codes_can_not_be_guessed_by_who_has_the_password(run: Run, cell: layout.Cluster) -> None:
    config = cell.nodes[0].config
    tight = "[limits]\nauth_delay_s = 0\nauth_block_after = 3\n"
    config.write_text(config.read_text().replace("[limits]\n", tight))

    def ask(client: AdminClient) -> list[str]:
        with_alice(client)
        made = client.change("POST", f"{PATH}/totp")
        client.change("PUT", f"{PATH}/totp", {"code": code_of(made["secret"], -1)})
        body = {"login": ALICE, "password": PASSWORD}
        said = []
        for number in range(4):
            code = "wrong" if number < 3 else code_of(made["secret"])
            guess = {**body, "code": code, "client": f"192.0.2.{number}"}
            said.append(str(refused(partial(client.change, "POST", "/v1/login", guess))))
        return said

    said = serving(run, cell, ask)
    assert said == ["wrong address, password or code"] * 3 + ["too many attempts; try again later"]


def test_the_commands_do_all_of_it(run: Run, cell: layout.Cluster) -> None:
    def command(*words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--cluster", str(cell.folder)])

    def done(*words: str) -> str:
        result = command(*words)
        assert result.exit_code == 0, result.output
        return result.stdout

    def ask(client: AdminClient) -> None:
        with_alice(client)
        assert "no app passwords" in done("account", "app-password", "list", ALICE)
        words = ("account", "app-password", "create", ALICE, "--name", "phone", "--scope", "imap,smtp")
        password = done(*words, "--expires", "90d").splitlines()[0]
        assert len(password) == 24
        (one,) = json.loads(done("account", "app-password", "list", ALICE, "--json"))["app_passwords"]
        assert 89 * 86_400_000 < one["expires_ms"] - one["created_ms"] <= 90 * 86_400_000
        assert "phone  imap,smtp" in done("account", "app-password", "list", ALICE)
        again = command(*words)
        assert again.exit_code == 1
        assert "has an app password called phone" in again.output
        assert command(*words[:4], "--name", "x", "--expires", "soon").exit_code == 2
        made = json.loads(done("account", "totp", "enable", ALICE, "--json"))
        assert "not confirmed" in done("account", "totp", "status", ALICE)
        assert command("account", "totp", "confirm", ALICE, "none").exit_code == 1
        done("account", "totp", "confirm", ALICE, code_of(made["secret"]))
        shown = done("account", "show", ALICE)
        assert "one-time codes  on since" in shown
        assert "app passwords   phone" in shown
        assert "refused logins  0" in shown
        done("account", "totp", "disable", ALICE, "--yes")
        assert done("account", "totp", "status", ALICE).strip() == "off"
        done("account", "app-password", "revoke", ALICE, "phone")
        assert command("account", "app-password", "revoke", ALICE, "phone").exit_code == 1
        done("tenant", "set", "example", "--password-characters", "12")
        short = CliRunner().invoke(
            main, ["account", "passwd", ALICE, "--password-stdin", "--cluster", str(cell.folder)], input="shorter\n"
        )
        assert "at least 12 characters" in short.output
        assert command("tenant", "set", "example").exit_code == 2

    serving(run, cell, ask)


def test_expiry_is_a_while_or_a_date() -> None:
    from cli.account_credentials import expiry_ms

    assert expiry_ms("2030-01-01") == 1_893_456_000_000
    assert expiry_ms("2030-01-01T01:00+01:00") == 1_893_456_000_000
    assert abs(expiry_ms("2h") - time.time() * 1000 - 7_200_000) < 60_000
    with pytest.raises(Exception, match="neither a while"):
        expiry_ms("90 days")
