"""An order at an ACME authority, step by step. Blocking: every call runs in a thread.

The `acme` library speaks the protocol (directory, nonces, JWS, problems); this says in what order, so that each step
can be gone on with from what the log knows: the order's address and the certificate's key.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import josepy
from acme import challenges, client, errors, messages
from acme.client import ClientNetwork, ClientV2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from actors.acme import Answers
from actors.acme import Challenge as Kind

TIMEOUT_S = 30
VALIDATION_S = 120.0
ISSUANCE_S = 120.0
MOST_NONCES = 6
USER_AGENT = "mailraft"
Order = messages.OrderResource

FAILURES = (errors.Error, messages.Error, OSError, ValueError, KeyError, josepy.errors.Error)


class OrderProblem(Exception):
    """The authority did not do what it was asked; the text says what it said."""


class Placed(NamedTuple):
    """An order with what answers its challenges; `order` is the library's own."""

    url: str
    answers: Answers
    order: Order


class _Network(ClientNetwork):
    """A nonce that the authority does not know (any more) is no failure (RFC 8555 6.5): it gives another."""

    def post(self, *args: Any, **kwargs: Any) -> Any:
        for _ in range(MOST_NONCES):
            try:
                return super().post(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(*args, **kwargs)


class Acme:
    """One account. Raises OrderProblem from every call."""

    def __init__(self, directory: str, key_pem: bytes, account_url: str = "", ca: str | None = None) -> None:
        key = serialization.load_pem_private_key(key_pem, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = JWKEC(key=key)
        account = messages.RegistrationResource(body=messages.Registration(), uri=account_url) if account_url else None
        self._net = _Network(
            self._key,
            account,
            ES256,
            verify_ssl=cast(bool, ca or True),
            user_agent=USER_AGENT,
            timeout=TIMEOUT_S,
        )
        self._net.session.trust_env = False
        try:
            self._client = ClientV2(client.ClientV2.get_directory(directory, self._net), self._net)
        except FAILURES as error:
            raise OrderProblem(f"{directory}: {told(error)}") from error

    def register(self, contacts: Sequence[str], binding: tuple[str, str] | None) -> str:
        """The account's address: a new one's, or that of the key where there is one. `binding`: key id and HMAC key."""
        bound = None
        try:
            if binding is not None:
                bound = messages.ExternalAccountBinding.from_data(
                    self._key.public_key(), binding[0], binding[1], self._client.directory
                )
            wanted = messages.NewRegistration(
                contact=tuple(contacts), terms_of_service_agreed=True, external_account_binding=bound
            )
            return str(self._client.new_account(wanted).uri)
        except errors.ConflictError as error:
            return str(error.location)
        except FAILURES as error:
            raise OrderProblem(told(error)) from error

    def place(self, key_pem: bytes, names: Sequence[str], kind: Kind) -> Placed:
        """A new order, and what is to be shown for each name before `fulfil`."""
        try:
            order = self._client.new_order(csr(key_pem, names))
            return Placed(str(order.uri), self._answers(order, kind), order)
        except FAILURES as error:
            raise OrderProblem(told(error)) from error

    def found(self, url: str, key_pem: bytes, names: Sequence[str]) -> Order:
        """An order that was placed before, maybe by another node."""
        try:
            body = messages.Order.from_json(self._read(url).json())
            authorizations = [
                messages.AuthorizationResource(body=messages.Authorization.from_json(self._read(one).json()), uri=one)
                for one in body.authorizations
            ]
            return Order(body=body, uri=url, authorizations=authorizations, csr_pem=csr(key_pem, names))
        except FAILURES as error:
            raise OrderProblem(told(error)) from error

    def fulfil(self, order: Order, kind: Kind) -> str:
        """Goes on with an order from wherever it is; gives the chain (PEM). What answers it must be in place."""
        now = datetime.datetime.now()  # the library's deadlines are naive
        try:
            if order.body.status == messages.STATUS_PENDING:
                for challenge in self._pending(order, kind):
                    self._client.answer_challenge(challenge, challenge.response(self._key))
                order = self._client.poll_authorizations(order, now + datetime.timedelta(seconds=VALIDATION_S))
                order = order.update(body=messages.Order.from_json(self._read(order.uri).json()))
            if order.body.status == messages.STATUS_READY:
                order = self._client.begin_finalization(order)
            deadline = datetime.datetime.now() + datetime.timedelta(seconds=ISSUANCE_S)
            return str(self._client.poll_finalization(order, deadline).fullchain_pem)
        except FAILURES as error:
            raise OrderProblem(told(error)) from error

    def renew_at(self, leaf_pem: bytes) -> datetime.datetime | None:
        """When the authority would have a certificate renewed (RFC 9773); None where it does not say."""
        try:
            at, _ = self._client.renewal_time(leaf_pem)
        except FAILURES as error:
            raise OrderProblem(told(error)) from error
        return None if at is None else at.astimezone(datetime.UTC)

    def _answers(self, order: Order, kind: Kind) -> Answers:
        answers = []
        for one in order.authorizations:
            for challenge in self._of_kind(one, kind):
                name = one.body.identifier.value
                answers.append((name, challenge.chall.encode("token"), challenge.chall.key_authorization(self._key)))
        return tuple(answers)

    def _pending(self, order: Order, kind: Kind) -> list[Any]:
        found = [challenge for one in order.authorizations for challenge in self._of_kind(one, kind)]
        return [challenge for challenge in found if challenge.status == messages.STATUS_PENDING]

    def _of_kind(self, one: messages.AuthorizationResource, kind: Kind) -> list[Any]:
        """The one challenge to answer; none where the name is validated already. Raises OrderProblem."""
        if one.body.status == messages.STATUS_VALID:
            return []
        wanted = challenges.HTTP01 if kind == "http-01" else challenges.DNS01
        found = [challenge for challenge in one.body.challenges if isinstance(challenge.chall, wanted)]
        if not found:
            raise OrderProblem(f"the authority does not offer {kind} for {one.body.identifier.value}")
        return found[:1]

    def _read(self, url: str) -> Any:
        return self._net.post(url, cast(Any, None), new_nonce_url=self._client.directory["newNonce"])


def new_key() -> bytes:
    """A P-256 key (PEM), for an account or a certificate."""
    kind, clear = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, kind, clear)


def csr(key_pem: bytes, names: Sequence[str]) -> bytes:
    """A request (PEM) for a certificate of this key with these names."""
    key = serialization.load_pem_private_key(key_pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    built = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    return built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def dns_record(name: str, authorization: str) -> tuple[str, str]:
    """Name and value of the TXT record that answers a DNS-01 challenge (RFC 8555 8.4)."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(authorization.encode())
    return f"_acme-challenge.{name.removeprefix('*.')}", josepy.b64.b64encode(digest.finalize()).decode()


def told(error: Exception) -> str:
    """What went wrong, for people, in one line."""
    if isinstance(error, errors.ValidationError):
        problems = [
            f"{one.body.identifier.value}: {challenge.error.detail}"
            for one in error.failed_authzrs
            for challenge in one.body.challenges
            if challenge.error is not None
        ]
        return "; ".join(problems)[:500] or "the names could not be validated"
    if isinstance(error, messages.Error):
        return str(error.detail or error.title or error.typ)[:500]
    if isinstance(error, errors.TimeoutError):
        return "the authority took too long"
    return (str(error) or type(error).__name__).replace("\n", " ")[:500]
