"""Tokens of an issuer let clients in, by OAUTHBEARER and XOAUTH2; any other token does not. The issuer is our own."""

import asyncio
import base64
import imaplib
import json
import ssl
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
import structlog
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import ValidationError

from nodes import imap, pop3, smtp
from nodes.config.node import ListenerKind
from nodes.config.oauth import OAuthSection
from nodes.logins.tokens import Tokens
from tests.nodes.logins.test_sasl_peers import program, ran
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, ISSUER, AUDIENCE = "alice@example.test", "https://login.example.test", "mail.example.test"
KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


def public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        found = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        found = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": kid, "use": "sig"}


def token(key: Any = KEY, algorithm: str = "RS256", kid: str | None = "one", **changed: Any) -> str:
    claims = {
        **{"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "email": ALICE, "scope": "openid mail"},
        **changed,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, {"kid": kid} if kid is not None else {})


def section(folder: Path, **changed: Any) -> OAuthSection:
    keys = folder / "keys.json"
    if not keys.exists():
        keys.write_text(json.dumps({"keys": [public(KEY, "one")]}))
    given = {
        **{"issuer": ISSUER, "audience": AUDIENCE, "keys_file": keys, "scope": "mail", "domains": ["example.test"]},
        **changed,
    }
    return OAuthSection.model_validate(given)


def checked(folder: Path, run: Run, one: str, **changed: Any) -> str | None:
    async def scenario() -> str | None:
        return await Tokens(section(folder, **changed), structlog.get_logger()).account(one)

    found: str | None = run(scenario())
    return found


def test_a_good_token_names_its_account(tmp_path: Path, run: Run) -> None:
    assert checked(tmp_path, run, token()) == ALICE
    assert checked(tmp_path, run, token(email=None, sub="Alice@EXAMPLE.test"), claim="sub") == ALICE
    assert checked(tmp_path, run, token(scope=None, scp=["mail"], aud=["other", AUDIENCE])) == ALICE
    assert checked(tmp_path, run, token(kid=None)) == ALICE


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://other.example.test"},
        {"aud": "web.example.test"},
        {"aud": None},
        {"iss": None},
        {"exp": None},
        {"exp": 1_700_000_000},
        {"nbf": 4_000_000_000},
        {"scope": "openid"},
        {"scope": None},
        {"email": None},
        {"email": ["alice@example.test"]},
        {"email": "no address"},
        {"email": "alice@elsewhere.test"},
        {"email_verified": False},
        {"email_verified": "false"},
    ],
)
def test_a_token_that_lacks_anything_names_nobody(tmp_path: Path, run: Run, changed: dict[str, Any]) -> None:
    assert checked(tmp_path, run, token(**changed)) is None


def test_a_signature_of_anybody_else_or_of_another_kind_counts_for_nothing(tmp_path: Path, run: Run) -> None:
    head, claims, signature = token().split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","kid":"one"}').rstrip(b"=").decode()
    for forged in (
        token(rsa.generate_private_key(65537, 2048)),
        token(OTHER_KEY, "ES256"),
        token(kid="two"),
        token("a secret that the issuer does not share", "HS256"),
        f"{unsigned}.{claims}.",
        f"{head}.{claims[:-2]}AA.{signature}",
        "no.token.atall",
        "",
    ):
        assert checked(tmp_path, run, forged) is None


@pytest.mark.parametrize(
    "text", ["[]", "null", '"keys"', '{"keys": 5}', '{"keys": [5]}', '{"keys": null}', '{"keys": [{}]}', "[" * 100_000]
)
def test_an_issuer_that_shows_no_set_of_keys_lets_nobody_in(tmp_path: Path, run: Run, text: str) -> None:
    keys = tmp_path / "broken.json"
    keys.write_text(text)
    assert checked(tmp_path, run, token(), keys_file=keys) is None


def test_each_issuer_speaks_by_its_own_keys_audience_and_claim_for_its_own_domains(tmp_path: Path, run: Run) -> None:
    others = tmp_path / "others.json"
    others.write_text(json.dumps({"keys": [public(OTHER_KEY, "one")]}))
    other = {"issuer": "https://other.test", "audience": "post", "keys_file": others, "claim": "sub"}
    issuers = [{**other, "domains": ["other.test"]}]
    theirs: dict[str, Any] = {
        "iss": "https://other.test",
        "aud": "post",
        "scope": None,
        "email": None,
        "sub": "carol@other.test",
    }

    def check(one: str) -> str | None:
        return checked(tmp_path, run, one, issuers=issuers)

    assert check(token(OTHER_KEY, "ES256", **theirs)) == "carol@other.test"
    assert check(token()) == ALICE
    assert check(token(**theirs)) is None  # signed by the first one's key
    assert check(token(OTHER_KEY, "ES256", **{**theirs, "sub": ALICE})) is None
    assert check(token(OTHER_KEY, "ES256", **{**theirs, "aud": AUDIENCE})) is None
    assert check(token(OTHER_KEY, "ES256", **{**theirs, "iss": ISSUER})) is None
    assert check(token(email="carol@other.test")) is None


@pytest.mark.parametrize(
    "issuers",
    [
        [{"audience": "post"}],
        [{"issuer": "x"}],
        [{"issuer": ISSUER, "audience": "post", "keys_url": "https://x", "domains": ["x.test"]}],
    ],
)
def test_issuers_that_are_not_whole_or_named_twice_are_refused(tmp_path: Path, issuers: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError, match="issuer"):
        section(tmp_path, issuers=issuers)


def test_keys_change_with_their_file(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        tokens = Tokens(section(tmp_path), structlog.get_logger())
        assert await tokens.account(token(OTHER_KEY, "ES256", "two")) is None
        (tmp_path / "keys.json").write_text(json.dumps({"keys": [public(OTHER_KEY, "two")]}))
        assert await tokens.account(token(OTHER_KEY, "ES256", "two")) == ALICE
        assert await tokens.account(token()) is None

    run(scenario())


def test_keys_are_fetched_once_and_kept_when_the_issuer_is_away(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        asked = 0

        async def keys(_: web.Request) -> web.Response:
            nonlocal asked
            asked += 1
            return (
                web.json_response({"keys": [public(KEY, "one"), {"kty": "odd"}]})
                if asked == 1
                else web.Response(status=500)
            )

        app = web.Application()
        app.router.add_get("/keys", keys)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        url = f"http://127.0.0.1:{port}/keys"
        tokens = Tokens(section(tmp_path, keys_file=None, keys_url=url, keys_s=1), structlog.get_logger())
        try:
            found = await asyncio.gather(*(tokens.account(token()) for _ in range(5)))
            assert (found, asked) == ([ALICE] * 5, 1)
            tokens._issuers[ISSUER]._read_s -= 2
            assert (await tokens.account(token()), asked) == (ALICE, 2)
        finally:
            await runner.cleanup()

    run(scenario())


class Provider:
    """An OpenID provider on loopback: its metadata, and keys that it changes."""

    def __init__(self) -> None:
        self.keys = [public(KEY, "one")]
        self.metadata: dict[str, Any] = {}
        self.url = ""

    async def __aenter__(self) -> "Provider":
        async def metadata(_: web.Request) -> web.Response:
            return web.json_response(self.metadata)

        async def keys(_: web.Request) -> web.Response:
            return web.json_response({"keys": self.keys})

        app = web.Application()
        app.router.add_get("/realm/.well-known/openid-configuration", metadata)
        app.router.add_get("/certificates", keys)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.url = f"{base}/realm"
        self.metadata = {"issuer": self.url, "jwks_uri": f"{base}/certificates"}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def tokens(self, folder: Path) -> Tokens:
        return Tokens(section(folder, issuer=self.url, keys_file=None), structlog.get_logger())


def test_an_issuer_that_says_itself_where_its_keys_are_may_change_them(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with Provider() as provider:
            tokens = provider.tokens(tmp_path)
            old, new = token(iss=provider.url), token(OTHER_KEY, "ES256", "two", iss=provider.url)
            assert await tokens.account(old) == ALICE
            provider.keys = [public(OTHER_KEY, "two")]
            assert await tokens.account(new) is None  # asked a moment ago
            tokens._issuers[provider.url]._read_s -= 31
            assert await tokens.account(new) == ALICE
            assert await tokens.account(old) is None

    run(scenario())


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": ISSUER},
        {"issuer": None},
        {"jwks_uri": "http://keys.example.test/"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
    ],
)
def test_metadata_of_another_issuer_or_with_keys_in_clear_are_not_taken(
    tmp_path: Path, run: Run, changed: dict[str, Any]
) -> None:
    async def scenario() -> None:
        async with Provider() as provider:
            provider.metadata |= changed
            assert await provider.tokens(tmp_path).account(token(iss=provider.url)) is None

    run(scenario())


def test_no_keys_is_no_way_in(tmp_path: Path, run: Run) -> None:
    assert checked(tmp_path, run, token(), keys_file=tmp_path / "none.json") is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"audience": ""}, "audience"),
        ({"keys_url": "https://login.example.test/keys"}, "keys_file"),
        ({"keys_file": None, "issuer": "accounts.example.test"}, "keys_file"),
        ({"keys_file": None, "issuer": "http://login.example.test"}, "keys_file"),
        ({"domains": []}, "domains"),
        ({"keys_file": None, "keys_url": "http://login.example.test/keys"}, "keys_url"),
    ],
)
def test_a_configuration_that_would_let_too_many_in_is_refused(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        section(tmp_path, **changed)


# At the doors


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with Cell(tmp_path_factory.mktemp("cell"), {"auth_delay_s": 0, "auth_failures": 100}, plaintext="never") as cell:
        tokens = Tokens(section(tmp_path_factory.mktemp("issuer")), structlog.get_logger())
        services = replace(cell.services, tokens=tokens)
        kinds: dict[ListenerKind, Any] = {"imaps": imap, "submissions": smtp, "pop3s": pop3}
        started = {kind: cell.call(part.start(services, kind, "127.0.0.1:0")) for kind, part in kinds.items()}
        yield {
            "ca": cell.ca,
            "guard": cell.services.login_guard,
            **{kind: int(one.address.rpartition(":")[2]) for kind, one in started.items()},
        }
        for listener in started.values():
            cell.call(listener.stop(0.2))


@pytest.mark.parametrize("protocol", ["imap", "pop3", "smtp"])
@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_curl_logs_in_with_a_token(ports: dict[str, Any], protocol: str, mechanism: str) -> None:
    kind = {"imap": "imaps", "pop3": "pop3s", "smtp": "submissions"}[protocol]

    def curl(bearer: str) -> subprocess.CompletedProcess[str]:
        return ran(
            *(program("curl"), "-sS", "-v", "--cacert", str(ports["ca"]), f"{protocol}s://localhost:{ports[kind]}/"),
            *("-u", ALICE, "--oauth2-bearer", bearer, "--login-options", f"AUTH={mechanism}"),
            *(("-X", "NOOP") if protocol == "smtp" else ()),
        )

    right, wrong = curl(token()), curl(token(aud="web.example.test"))
    assert right.returncode == 0, right.stderr
    assert mechanism in right.stderr
    assert wrong.returncode == 67, wrong.stderr


def test_a_client_is_told_what_was_wrong_and_then_refused(ports: dict[str, Any]) -> None:
    client = Dialogue(ports["submissions"], tls=ssl.create_default_context(cafile=ports["ca"]))
    client.read()
    assert "OAUTHBEARER XOAUTH2" in client.ask("EHLO x")

    def asked(mechanism: str, message: str) -> str:
        return client.ask(f"AUTH {mechanism} {base64.b64encode(message.encode()).decode()}")

    expired = token(exp=1)
    challenge = asked("OAUTHBEARER", f"n,a={ALICE},\1host=x\1port=1\1auth=Bearer {expired}\1\1")
    told = {"status": "invalid_token", "schemes": "bearer", "scope": "mail"}
    assert json.loads(base64.b64decode(challenge.removeprefix("334 "))) == told
    assert client.ask("AQ==") == "535 5.7.8 Authentication credentials invalid"
    challenge = asked("XOAUTH2", f"user={ALICE}\1auth=Bearer {expired}\1\1")
    assert json.loads(base64.b64decode(challenge.removeprefix("334 "))) == {**told, "status": "401"}
    assert client.ask("") == "535 5.7.8 Authentication credentials invalid"
    assert asked("OAUTHBEARER", f"n,a=bob@example.test,\1auth=Bearer {token()}\1\1").startswith("334 ")  # alice's
    assert client.ask("AQ==").startswith("535")
    for malformed in ("", "n,,\1", "n,,\1auth=Basic eA==\1\1", "x,,\1auth=Bearer abc\1\1", "n,,\1auth=Bearer \1\1"):
        assert asked("OAUTHBEARER", malformed or "x").startswith("501 5.5.2")
    client.close()


def test_a_token_without_a_name_is_enough(ports: dict[str, Any]) -> None:
    client = imaplib.IMAP4_SSL("localhost", ports["imaps"], ssl_context=ssl.create_default_context(cafile=ports["ca"]))
    assert {"AUTH=OAUTHBEARER", "AUTH=XOAUTH2"} <= set(client.capabilities)
    client.authenticate("OAUTHBEARER", lambda _: f"n,,\1auth=Bearer {token()}\1\1".encode())
    assert client.select()[0] == "OK"
    client.logout()


def test_a_good_token_waits_for_nobodys_wrong_ones(ports: dict[str, Any]) -> None:
    for number in range(1000):
        ports["guard"].failed("127.0.0.1", f"{number}@example.test")
        ports["guard"].failed("127.0.0.1", "")
    client = imaplib.IMAP4_SSL("localhost", ports["imaps"], ssl_context=ssl.create_default_context(cafile=ports["ca"]))
    with pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
        client.authenticate("OAUTHBEARER", lambda _: f"n,,\1auth=Bearer {token(exp=1)}\1\1".encode())
    client.authenticate("OAUTHBEARER", lambda _: f"n,,\1auth=Bearer {token()}\1\1".encode())
    client.logout()
