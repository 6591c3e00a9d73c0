"""The table `oauth`: whose tokens let clients in (OAUTHBEARER, XOAUTH2), from one issuer or several."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from nodes.config.values import Section, parse_list

SAFE_URL = r"(https://.+|http://(127\.0\.0\.1|\[::1\]|localhost)[:/].+)"


class Issuer(Section):
    """One issuer of JSON Web Tokens."""

    issuer: str = Field(default="", max_length=1024, description='The `iss` of its tokens; "" takes no tokens.')
    audience: str = Field(default="", max_length=1024, description="The `aud` that its tokens for mail carry.")
    keys_file: Path | None = Field(
        default=None, description="Its public keys: a JSON Web Key Set, read when it changes."
    )
    keys_url: str = Field(
        default="",
        pattern=f"^({SAFE_URL})?$",
        description="Where its public keys are fetched instead (https). With neither, the issuer itself is asked where "
        "they are (OpenID Connect Discovery).",
    )
    keys_s: float = Field(default=3600.0, ge=1, le=7 * 86400, description="How long keys that were fetched are kept.")
    scope: str = Field(default="", max_length=256, description='A scope that its tokens must have; "" for any.')
    claim: str = Field(
        default="email", min_length=1, max_length=64, description="The claim that names the account, by its address."
    )
    domains: Annotated[tuple[str, ...], BeforeValidator(parse_list)] = Field(
        default=(), description="The domains whose accounts it may speak for; none: no tokens are taken."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.issuer:
            return self
        if not self.audience:
            raise ValueError("audience: is needed with issuer, or tokens for other services would let clients in")
        if self.keys_file is not None and self.keys_url:
            raise ValueError("keys_file, keys_url: only one of them")
        if self.keys_file is None and not self.keys_url and not re.fullmatch(SAFE_URL, self.issuer):
            raise ValueError("keys_file, keys_url: one of them is needed with an issuer that is no address (https)")
        if not self.domains:
            raise ValueError("domains: is needed with issuer")
        return self


class OAuthSection(Issuer):
    """Whose tokens let clients in (OAUTHBEARER, XOAUTH2): JSON Web Tokens of an issuer, or of several. The same on
    every node."""

    RELOADS: ClassVar[bool | frozenset[str]] = True

    issuers: tuple[Issuer, ...] = Field(
        default=(),
        max_length=50,
        description="Further issuers, each a table `[[oauth.issuers]]` with keys as above: its own audience, keys, "
        "scope, claim and domains. A token is checked by what stands for the `iss` that it names.",
    )

    @property
    def all(self) -> tuple[Issuer, ...]:
        """Every issuer that is trusted."""
        return tuple(one for one in (self, *self.issuers) if one.issuer)

    @model_validator(mode="after")
    def _are_different(self) -> Self:
        names = [one.issuer for one in self.all]
        if any(not one.issuer for one in self.issuers):
            raise ValueError("issuers: each needs an `issuer`")
        if len(set(names)) < len(names):
            raise ValueError("issuers: two have the same `issuer`")
        return self
