"""SCRAM-SHA-256 on the server's side: the RFC's own exchange, an independent client, and every way to get it wrong."""

import base64
from collections.abc import Callable, Mapping

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from actors.passwords import ScramKey, ScramKeys, scram_verifier
from nodes.logins.sasl import Challenge, Done, Failed, Proof, Step
from nodes.logins.sasl_scram import Scram, saslname

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
VERIFIER = scram_verifier("pencil", SALT, 4096)
KEY = ScramKey(b"main", VERIFIER.stored_key, VERIFIER.server_key)
KEYS = ScramKeys(SALT, 4096, (KEY,))
BINDINGS = {"tls-exporter": b"x" * 32}
NONCE = b"rOprNGfwEbeRWgbNEkqO"


def exchange(plus: bool = False, bindings: Mapping[str, bytes] | None = None, keys: ScramKeys = KEYS) -> Scram:
    return Scram(lambda login: keys, bindings or {}, plus=plus)


def begun(first: bytes, plus: bool = False, bindings: Mapping[str, bytes] | None = None) -> tuple[Scram, Step]:
    one = exchange(plus, bindings)
    return one, one.step(first)


def talk(client: scramp.ScramClient, server: Scram) -> Step:
    """Runs an exchange of scramp's client to where the server ends it."""
    answer = server.step(client.get_client_first().encode())
    assert isinstance(answer, Challenge)
    client.set_server_first(answer.data.decode())
    return server.step(client.get_client_final().encode())


def test_the_exchange_of_rfc_7677_3_goes_as_it_is_written_there() -> None:
    # the RFC's server nonce is no base64 of anything, so what it drew is put in place of what was encoded
    server = exchange()
    first = server.step(b"n,,n=user,r=" + NONCE)
    assert isinstance(first, Challenge)
    assert server._begun is not None
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    answer = b"r=%b,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096" % nonce
    server._begun = server._begun._replace(nonce=nonce, messages=b"n=user,r=" + NONCE + b"," + answer)
    proof = b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    done = server.step(b"c=biws,r=" + nonce + b",p=" + proof)
    assert done == Done(Proof("user", KEY), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def test_an_independent_client_is_let_in_and_sees_that_we_know_the_password() -> None:
    client = scramp.ScramClient(["SCRAM-SHA-256"], "us,er=", "pencil")
    done = talk(client, exchange())
    assert isinstance(done, Done)
    assert done.claim == Proof("us,er=", KEY)
    client.set_server_final(done.last.decode())


def test_a_client_that_binds_to_our_certificate_is_let_in() -> None:
    client = scramp.ScramClient(
        ["SCRAM-SHA-256-PLUS"], "user", "pencil", channel_binding=("tls-server-end-point", b"the hash")
    )
    done = talk(client, exchange(plus=True, bindings={"tls-server-end-point": b"the hash"}))
    assert isinstance(done, Done)
    client.set_server_final(done.last.decode())


def test_who_binds_to_another_channel_is_refused_whatever_the_password() -> None:
    client = scramp.ScramClient(
        ["SCRAM-SHA-256-PLUS"], "user", "pencil", channel_binding=("tls-server-end-point", b"of somebody between")
    )
    assert isinstance(talk(client, exchange(plus=True, bindings={"tls-server-end-point": b"the hash"})), Failed)


def test_a_wrong_password_proves_nothing() -> None:
    done = talk(scramp.ScramClient(["SCRAM-SHA-256"], "user", "Pencil"), exchange())
    assert done == Done(Proof("user", None), b"")


def test_each_of_an_accounts_passwords_proves_itself() -> None:
    other = scram_verifier("of the phone", SALT, 4096)
    phone = ScramKey(b"phone", other.stored_key, other.server_key)
    keys = KEYS._replace(candidates=(KEY, phone))
    for password, key in (("pencil", KEY), ("of the phone", phone)):
        client = scramp.ScramClient(["SCRAM-SHA-256"], "user", password)
        done = talk(client, exchange(keys=keys))
        assert isinstance(done, Done)
        assert done.claim == Proof("user", key)
        client.set_server_final(done.last.decode())


def test_without_an_initial_response_the_client_is_asked_for_it() -> None:
    server = exchange()
    assert server.step(None) == Challenge(b"")
    assert isinstance(server.step(b"n,,n=user,r=abc"), Challenge)


def test_an_authorization_identity_is_handed_on() -> None:
    server, first = begun(b"n,a=some=2Cbody,n=user,r=abc")
    assert isinstance(first, Challenge)
    assert server._begun is not None
    assert server._begun.acting_as == "some,body"


def test_two_exchanges_never_have_one_nonce() -> None:
    answers = {first.data for _ in range(8) if isinstance(first := exchange().step(b"n,,n=user,r=abc"), Challenge)}
    assert len(answers) == 8


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n",
        b"n,,",
        b"n,,n=user",
        b"n,,n=,r=abc",
        b"n,,r=abc,n=user",
        b"n,,n=user,r=",
        b"n,,n=user,r=a\x01b",
        b"n,,n=user,r=" + b"x" * 1025,
        b"n,,n=us=er,r=abc",
        b"n,,n=\xff,r=abc",
        b"n,,n=us\0er,r=abc",
        b"n,,m=ext,n=user,r=abc",  # RFC 5802 5.1: a mandatory extension that we do not know
        b"n,user,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"p=tls-exporter,,n=user,r=abc",  # -PLUS was not chosen
    ],
)
def test_what_is_no_first_message_is_refused(first: bytes) -> None:
    assert isinstance(exchange().step(first), Failed)


def test_a_client_that_was_made_to_believe_that_there_is_no_binding_is_warned_by_refusal() -> None:
    assert isinstance(begun(b"y,,n=user,r=abc", bindings=BINDINGS)[1], Failed)
    assert isinstance(begun(b"y,,n=user,r=abc")[1], Challenge)
    assert isinstance(begun(b"n,,n=user,r=abc", bindings=BINDINGS)[1], Challenge)


@pytest.mark.parametrize("first", [b"n,,n=user,r=abc", b"y,,n=user,r=abc", b"p=tls-unique,,n=user,r=abc"])
def test_plus_demands_a_binding_that_this_channel_has(first: bytes) -> None:
    assert isinstance(begun(first, plus=True, bindings=BINDINGS)[1], Failed)


def _final(nonce: bytes, binding: bytes = b"biws", proof: bytes = b"p=" + base64.b64encode(b"p" * 32)) -> bytes:
    return b"c=" + binding + b",r=" + nonce + b"," + proof


@pytest.mark.parametrize(
    "final",
    [
        lambda nonce: b"",
        lambda nonce: _final(nonce + b"x"),
        lambda nonce: _final(nonce[:-1]),
        lambda nonce: _final(nonce, binding=b"eSws"),  # y,, where n,, was said
        lambda nonce: _final(nonce, binding=b"!!!!"),
        lambda nonce: _final(nonce, proof=b"p=!!"),
        lambda nonce: _final(nonce, proof=b"q=YQ=="),
    ],
)
def test_what_is_no_final_message_is_refused(final: Callable[[bytes], bytes]) -> None:
    server, first = begun(b"n,,n=user,r=abc")
    assert isinstance(first, Challenge)
    nonce = first.data.split(b",")[0].removeprefix(b"r=")
    assert isinstance(server.step(final(nonce)), Failed)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_proof_of_another_length_fits_nothing(length: int) -> None:
    server, first = begun(b"n,,n=user,r=abc")
    assert isinstance(first, Challenge)
    nonce = first.data.split(b",")[0].removeprefix(b"r=")
    proof = b"p=" + (base64.b64encode(b"p" * length) or b"=")
    done = server.step(_final(nonce, proof=proof))
    assert isinstance(done, Done)
    assert done.claim == Proof("user", None)


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=3))
def test_no_bytes_at_all_make_it_raise_or_let_anybody_in(responses: list[bytes]) -> None:
    server = exchange()
    for response in responses:
        step = server.step(response)
        assert not isinstance(step, Done)
        if isinstance(step, Failed):
            break


def test_names_are_unescaped_as_rfc_5802_says() -> None:
    assert saslname(b"a=2Cb=3Dc") == "a,b=c"
