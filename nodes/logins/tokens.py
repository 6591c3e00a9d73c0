"""Bearer tokens: JSON Web Tokens (RFC 7519, RFC 9068) of issuers that the configuration trusts, for OAUTHBEARER.

Signature, issuer, audience, time, scope and the claim that names the account are checked; only signatures with public
keys count. Keys come from a file or over HTTPS, and are kept; an unknown key is asked for again, but not often. A token
is never logged.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import aiohttp
import jwt

from actors.errors import InvalidName
from actors.names import normalise_address, normalise_domain
from nodes.config.oauth import SAFE_URL, Issuer, OAuthSection
from nodes.services import Logger

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_S = 30  # clocks differ
FETCH_S = 5.0
METADATA = "/.well-known/openid-configuration"
MOST_KEYS_BYTES = 256 * 1024
AGAIN_S = 30.0  # before keys are fetched again for a token that names an unknown one


class NoKeys(Exception):
    """The issuer's keys can not be had now."""


class Tokens:
    """Checks tokens of every issuer that is trusted, each by what the configuration says of it. Use from one loop.

    `scope`: one that would do, to tell clients.
    """

    def __init__(self, config: OAuthSection, logger: Logger) -> None:
        self.config = config
        self._logger = logger
        self._issuers = {one.issuer: IssuedTokens(one, logger) for one in config.all}
        self.scope = next((one.scope for one in config.all if one.scope), "")

    async def account(self, token: str) -> str | None:
        """The address that a good token names; None for one that is not good, and while there are no keys."""
        issuer = self._issuers.get(_issuer(token))
        if issuer is None:
            self._logger.info("token refused", code="wrong_credentials", reason="of no issuer that is trusted")
            return None
        return await issuer.account(token)


class IssuedTokens:
    """Checks tokens of one issuer."""

    def __init__(self, config: Issuer, logger: Logger) -> None:
        self._config = config
        self._logger = logger
        self._domains = frozenset(map(normalise_domain, config.domains))
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._read_s = -AGAIN_S
        self._changed_ns = 0
        self._turn = asyncio.Lock()

    async def account(self, token: str) -> str | None:
        """The address that a good token names; None for one that is not good, and while there are no keys."""
        try:
            key = await self._key(jwt.get_unverified_header(token).get("kid"))
            claims = self._verified(token, key)
        except NoKeys as error:
            self._logger.error(
                "the keys of an issuer can not be read",
                code="directory_away",
                issuer=self._config.issuer,
                error=str(error),
            )
            return None
        except jwt.PyJWTError as error:
            self._logger.info("token refused", code="wrong_credentials", reason=type(error).__name__)
            return None
        return self._address(claims)

    def _verified(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        """Raises jwt.PyJWTError."""
        config = self._config
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name] if key.algorithm_name in ALGORITHMS else [],
            issuer=config.issuer,
            audience=config.audience,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud"]},
        )
        if config.scope and config.scope not in _scopes(claims):
            raise jwt.InvalidTokenError("it lacks the scope")
        return claims

    def _address(self, claims: dict[str, Any]) -> str | None:
        """The account's address, in a domain that the issuer may speak for."""
        named = claims.get(self._config.claim)
        unverified = claims.get("email_verified") in (False, "false", "False")  # some issuers write it as a text
        if not isinstance(named, str) or (self._config.claim == "email" and unverified):
            return None
        try:
            address = normalise_address(named)
        except InvalidName:
            return None
        return address if address.rpartition("@")[2] in self._domains else None

    async def _key(self, kid: str | None) -> jwt.PyJWK:
        """Raises NoKeys, jwt.PyJWTError."""
        async with self._turn:
            age_s = time.monotonic() - self._read_s
            if age_s > self._config.keys_s or (kid not in self._keys and age_s > AGAIN_S) or self._file_changed():
                await self._renew()
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        try:
            return self._keys[kid]
        except KeyError:
            raise jwt.InvalidTokenError("no such key") from None

    def _file_changed(self) -> bool:
        if self._config.keys_file is None:
            return False
        try:
            return self._config.keys_file.stat().st_mtime_ns != self._changed_ns
        except OSError as error:
            raise NoKeys(f"{self._config.keys_file}: {error.strerror}") from None

    async def _renew(self) -> None:
        """Reads the keys anew; those that there are stay where that fails. Raises NoKeys where there are none."""
        self._read_s = time.monotonic()
        try:
            found = _key_set(await self._fetch())
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError, RecursionError, jwt.PyJWTError) as error:
            if not self._keys:
                raise NoKeys(str(error) or type(error).__name__) from None
            reason = str(error) or type(error).__name__
            self._logger.warning(
                "an issuer's keys were not renewed", code="directory_away", issuer=self._config.issuer, error=reason
            )
            return
        self._keys = found

    async def _fetch(self) -> bytes:
        if self._config.keys_file is not None:
            self._changed_ns = self._config.keys_file.stat().st_mtime_ns
            return self._config.keys_file.read_bytes()
        timeout = aiohttp.ClientTimeout(total=FETCH_S)
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
            return await _got(session, self._config.keys_url or await self._discovered(session))

    async def _discovered(self, session: aiohttp.ClientSession) -> str:
        """Where the issuer says that its keys are (OpenID Connect Discovery 1.0, 4). Raises as _got, and ValueError."""
        issuer = self._config.issuer
        metadata = json.loads(await _got(session, issuer.removesuffix("/") + METADATA))
        if not isinstance(metadata, dict) or metadata.get("issuer") != issuer:  # 4.3
            raise ValueError("its metadata are of another issuer")
        found = metadata.get("jwks_uri")
        if not isinstance(found, str) or not re.fullmatch(SAFE_URL, found):
            raise ValueError("its metadata name no address of keys (https)")
        return found


async def _got(session: aiohttp.ClientSession, url: str) -> bytes:
    """Raises OSError, TimeoutError, aiohttp.ClientError, ValueError."""
    async with session.get(url, allow_redirects=False) as answer:
        try:
            await answer.content.readexactly(MOST_KEYS_BYTES)
        except asyncio.IncompleteReadError as whole:
            return whole.partial
    raise ValueError("the answer is too large")


def _issuer(token: str) -> str:
    """Whom a token says that it comes from, which nothing proves yet; "" if it does not say."""
    try:
        named = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except jwt.PyJWTError:
        return ""
    return named if isinstance(named, str) else ""


def _key_set(text: bytes) -> dict[str | None, jwt.PyJWK]:
    """By their ids; keys that this program can not use are left out. Raises ValueError, jwt.PyJWTError."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is no set of keys") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ValueError("it is no set of keys")
    keys = jwt.PyJWKSet.from_dict(found).keys
    return {key.key_id: key for key in keys if key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig")}


def _scopes(claims: dict[str, Any]) -> list[str]:
    """`scope` is a text with spaces (RFC 8693 4.2); some issuers write `scp`, or a list."""
    found = claims.get("scope", claims.get("scp", ""))
    return found.split() if isinstance(found, str) else [one for one in found if isinstance(one, str)]
