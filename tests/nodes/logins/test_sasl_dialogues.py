"""Exchanges that go wrong, word for word, at each door: the client is told, nobody is let in, the session goes on."""

import base64
import ssl
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import scramp

from tests.nodes.logins.test_sasl_peers import ALICE, PASSWORD, Door
from tests.nodes.logins.test_sasl_peers import door as door
from tests.nodes.smtp.dialogue import Dialogue


def encoded(message: str | bytes) -> str:
    return base64.b64encode(message.encode() if isinstance(message, str) else message).decode()


class Talk(NamedTuple):
    """A connection over TLS, and how this protocol words what all of them do."""

    dialogue: Dialogue
    command: str
    challenge: str  # how one begins
    malformed: str
    cancelled: str
    refused: str
    welcome: str
    unknown: str

    def begin(self, mechanism: str, initial: str | None = None) -> str:
        return self.dialogue.ask(f"{self.command} {mechanism}" + ("" if initial is None else f" {initial}"))


WORDS = {
    "submissions": (
        *("AUTH", "334 ", "501 5.5.2 That is not a response", "501 5.7.0 Authentication cancelled", "535 5.7.8 "),
        *("235 2.7.0 ", "504 5.5.4 "),
    ),
    "imaps": (
        *("a AUTHENTICATE", "+ ", "a BAD not a response", "a BAD authentication cancelled"),
        *("a NO [AUTHENTICATIONFAILED]", "a OK ", "a NO [CANNOT]"),
    ),
    "pop3s": (
        *("AUTH", "+ ", "-ERR That is not a response", "-ERR Cancelled", "-ERR [AUTH] Wrong", "+OK ", "-ERR Mechanism"),
    ),
}


@pytest.fixture(params=sorted(WORDS))
def talk(request: pytest.FixtureRequest, door: Door) -> Iterator[Talk]:
    context = ssl.create_default_context(cafile=door.ca)
    dialogue = Dialogue(door.port(request.param), tls=context)
    dialogue.read()
    if request.param == "submissions":
        dialogue.ask("EHLO client.test")
    yield Talk(dialogue, *WORDS[request.param])
    dialogue.close()


def logs_in(talk: Talk) -> bool:
    return talk.begin("PLAIN", encoded(f"\0{ALICE}\0{PASSWORD}")).startswith(talk.welcome)


def test_a_mechanism_that_there_is_not_is_refused(talk: Talk) -> None:
    for mechanism in ("CRAM-MD5", "SCRAM-SHA-1", "OAUTHBEARER", "X" * 200):  # no issuer is trusted here
        assert talk.begin(mechanism, encoded("x")).startswith(talk.unknown)
    assert logs_in(talk)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
def test_what_is_no_base64_is_refused(talk: Talk, mechanism: str) -> None:
    assert talk.begin(mechanism, "YWxpY2").startswith(talk.malformed)
    assert talk.begin(mechanism).startswith(talk.challenge)
    assert talk.dialogue.ask("?!?").startswith(talk.malformed)
    assert logs_in(talk)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
def test_a_client_may_give_up_at_the_beginning(talk: Talk, mechanism: str) -> None:
    assert talk.begin(mechanism).startswith(talk.challenge)
    assert talk.dialogue.ask("*").startswith(talk.cancelled)
    assert logs_in(talk)


@pytest.mark.parametrize(("mechanism", "first"), [("LOGIN", ALICE), ("SCRAM-SHA-256", f"n,,n={ALICE},r=abc")])
def test_a_client_may_give_up_in_the_middle(talk: Talk, mechanism: str, first: str) -> None:
    assert talk.begin(mechanism, encoded(first)).startswith(talk.challenge)
    assert talk.dialogue.ask("*").startswith(talk.cancelled)
    assert logs_in(talk)


@pytest.mark.parametrize("login", [ALICE, "nobody@example.test", "no address at all"])
def test_a_wrong_proof_is_answered_alike_for_everybody(talk: Talk, login: str) -> None:
    first = talk.begin("SCRAM-SHA-256", encoded(f"n,,n={login},r=abc"))
    server_first = base64.b64decode(first.removeprefix(talk.challenge)).decode()
    nonce, salt, iterations = server_first.split(",")
    assert nonce.startswith("r=abc")
    assert len(base64.b64decode(salt.removeprefix("s="))) == 16
    assert iterations == "i=10000"
    wrong = f"c={encoded('n,,')},{nonce},p={encoded(bytes(32))}"
    assert talk.dialogue.ask(encoded(wrong)).startswith(talk.refused)
    assert logs_in(talk)


def test_nobody_acts_for_somebody_else(talk: Talk) -> None:
    other = "bob@example.test"
    assert talk.begin("PLAIN", encoded(f"{other}\0{ALICE}\0{PASSWORD}")).startswith(talk.refused)
    assert talk.begin("PLAIN", encoded(f"{ALICE.upper()}\0{ALICE}\0{PASSWORD}")).startswith(talk.welcome)


def test_a_server_that_proved_itself_is_answered_with_nothing_else(talk: Talk) -> None:
    client = scramp.ScramClient(["SCRAM-SHA-256"], ALICE, PASSWORD)
    say: Callable[[str], str] = talk.dialogue.ask
    first = talk.begin("SCRAM-SHA-256", encoded(client.get_client_first()))
    client.set_server_first(base64.b64decode(first.removeprefix(talk.challenge)).decode())
    final = say(encoded(client.get_client_final()))
    client.set_server_final(base64.b64decode(final.removeprefix(talk.challenge)).decode())
    assert say(encoded("more")).startswith(talk.malformed)
    assert logs_in(talk)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_an_answer_beyond_the_limit_lets_nobody_in(talk: Talk, mechanism: str) -> None:
    assert talk.begin(mechanism).startswith(talk.challenge)
    answer = talk.dialogue.ask(encoded(f"\0{ALICE}\0{PASSWORD}" + "x" * 200_000))
    assert answer.startswith((talk.cancelled, "-ERR Line too long", "* BYE [TOOBIG]"))
    assert answer.startswith("* BYE") or logs_in(talk)


@pytest.mark.parametrize("kind", ["imaps", "pop3s", "submissions"])
def test_another_client_is_bound_to_tls_1_2_at_every_door(door: Door, kind: str) -> None:
    context = ssl.create_default_context(cafile=door.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    dialogue = Dialogue(door.port(kind), tls=context)
    dialogue.read()
    if kind == "submissions":
        dialogue.ask("EHLO client.test")
    talk = Talk(dialogue, *WORDS[kind])
    assert isinstance(dialogue._socket, ssl.SSLSocket)
    client = scramp.ScramClient(
        ["SCRAM-SHA-256-PLUS"], ALICE, PASSWORD, channel_binding=("tls-unique", dialogue._socket)
    )
    first = talk.begin("SCRAM-SHA-256-PLUS", encoded(client.get_client_first()))
    client.set_server_first(base64.b64decode(first.removeprefix(talk.challenge)).decode())
    final = dialogue.ask(encoded(client.get_client_final()))
    client.set_server_final(base64.b64decode(final.removeprefix(talk.challenge)).decode())
    assert dialogue.ask("").startswith(talk.welcome)
    dialogue.close()
