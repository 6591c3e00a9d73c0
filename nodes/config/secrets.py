"""Secrets by reference: where one is read, in the place of the secret itself. [secrets] names those of a node.

file:PATH is a file, env:NAME an environment variable. Other ways (a vault, a keyring of the kernel) would be one more
entry of SCHEMES.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from nodes.config.values import Section

_REFERENCE = re.compile(r"(file|env):(\S.*)")


class SecretError(Exception):
    """What is referred to is not there; the text never holds a secret."""


def _check(value: str) -> str:
    if value and not _REFERENCE.fullmatch(value):
        raise ValueError("must be file:PATH or env:NAME: a secret itself never stands here")
    return value


def _plain_path(value: object) -> object:
    """A path may be written as a reference, too."""
    if isinstance(value, str) and value.startswith("env:"):
        raise ValueError("is a file: file:PATH, or PATH")
    return value.removeprefix("file:") if isinstance(value, str) else value


SecretReference = Annotated[str, AfterValidator(_check)]
SecretFile = Annotated[Path, BeforeValidator(_plain_path)]


def _of_file(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise SecretError(f"{name}: can not be read: {error.strerror}") from None


def _of_variable(name: str) -> bytes:
    value = os.environ.get(name)
    if not value:
        raise SecretError(f"the environment variable {name} is not set")
    return value.encode("utf-8", "surrogateescape")


SCHEMES: Mapping[str, Callable[[str], bytes]] = {"file": _of_file, "env": _of_variable}


def read_secret(reference: str) -> bytes:
    """What a reference refers to. Raises SecretError."""
    scheme, _, name = reference.partition(":")
    return SCHEMES[scheme](name)


class SecretsSection(Section):
    """Where secrets are read; they themselves never stand in this file."""

    cluster_key_file: SecretFile = Field(
        default=Path("cluster.key"),
        description="The keys that seal secrets on the log, each 32 bytes in hexadecimal on a line of its own, the "
        "oldest first; the same on every node.",
    )
    cluster_key: SecretReference = Field(
        default="",
        description='The same from elsewhere, in the place of the file: file:PATH or env:NAME; "" for '
        "cluster_key_file. Relative paths start where the node does.",
    )

    @property
    def key_reference(self) -> str:
        """Where the keys are."""
        return self.cluster_key or f"file:{self.cluster_key_file}"
