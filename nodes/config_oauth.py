"""The table `oauth`: whose tokens let clients in (OAUTHBEARER, XOAUTH2)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from nodes.config_values import Section, parse_list


class OAuthSection(Section):
    """Whose tokens let clients in (OAUTHBEARER, XOAUTH2): JSON Web Tokens of one issuer. The same on every node."""

    issuer: str = Field(default="", max_length=1024, description='The `iss` of its tokens; "" takes no tokens.')
    audience: str = Field(default="", max_length=1024, description="The `aud` that its tokens for mail carry.")
    keys_file: Path | None = Field(
        default=None, description="Its public keys: a JSON Web Key Set, read when it changes."
    )
    keys_url: str = Field(
        default="",
        pattern=r"^(https://.+|http://(127\.0\.0\.1|\[::1\]|localhost)[:/].+)?$",
        description="Where its public keys are fetched instead (https).",
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
    def _is_whole(self) -> OAuthSection:
        if not self.issuer:
            return self
        if not self.audience:
            raise ValueError("audience: is needed with issuer, or tokens for other services would let clients in")
        if (self.keys_file is None) == (not self.keys_url):
            raise ValueError("keys_file, keys_url: one of them is needed with issuer")
        if not self.domains:
            raise ValueError("domains: is needed with issuer")
        return self
