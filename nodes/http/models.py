"""What bodies, queries and answers are made of: the base of every model, and the fields that many share.

A body is taken strictly: a field that is unknown, or of another type, is an error that names it.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field

MOST_NUMBER = 2**63 - 1
MOST_LIMIT = 1000


class Model(BaseModel):
    """A JSON object of the API. Subclasses give each field an example where its name alone does not say enough."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class OfLines(Model):
    """A body with one list, which may come as lines of JSON, too: one item each."""


def line_of(model: type[BaseModel]) -> type[BaseModel] | None:
    """What each line of a body is like; None for one that is not taken in lines."""
    if not issubclass(model, OfLines):
        return None
    (field,) = model.model_fields.values()
    (line,) = get_args(field.annotation)
    assert isinstance(line, type)
    return line


class Query(BaseModel):
    """The parameters behind the question mark; numbers and truth values stand there as text."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Model):
    """An empty object: it is done."""


Address = Annotated[str, Field(min_length=1, max_length=320, examples=["alice@example.test"])]
Domain = Annotated[str, Field(min_length=1, max_length=255, examples=["example.test"])]
TenantName = Annotated[str, Field(min_length=1, max_length=63, examples=["example"])]
Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$", examples=["0193a1b2c3d4e5f60718293a4b5c6d7e"])]
Bytes = Annotated[int, Field(gt=0, le=MOST_NUMBER, examples=[1073741824])]
Count = Annotated[int, Field(gt=0, le=MOST_NUMBER, examples=[1000])]
LAST_MS = 253_402_300_799_999  # the end of the year 9999, behind which ISO 8601 and Python know no date
Milliseconds = Annotated[int, Field(ge=0, le=LAST_MS, examples=[1790000000000])]
Reason = Annotated[str, Field(min_length=1, max_length=1024, examples=["asked for by the account's owner"])]


class PageQuery(Query):
    """Lists come in pages: the `next` of one is the `after` of the following."""

    limit: int = Field(MOST_LIMIT, ge=1, le=MOST_LIMIT, description="How many at most.")
    after: str = Field("", max_length=1024, description="The `next` of the page before; nothing for the first.")


class Page(Model):
    """What every list has besides its items."""

    next: str | None = Field(description="Goes on as `after`; null on the last page.", examples=[None])


def described(error_type: str, context: dict[str, Any], message: str) -> str:
    """What is wrong with a field, in the words of this program; pydantic's own where it has no others."""
    text = _WORDS.get(error_type)
    if text is None:
        return message.removeprefix("Value error, ")
    return text.format_map(_Quietly(context))


class _Quietly(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


_WORDS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "extra_forbidden": "there is no such field",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be {ge} or more",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number below 2^63",
    "int_type": "must be a whole number",
    "json_invalid": "must be JSON",
    "less_than_equal": "must be {le} or less",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "string_pattern_mismatch": "must be like {pattern}",
    "string_too_long": "must be text of at most {max_length} characters",
    "string_too_short": "must be text of at least {min_length} characters",
    "string_type": "must be text",
    "string_unicode": "must be text",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
}


class WrongField(Model):
    """One field of a request that is wrong."""

    where: str = Field(description="body, query, header or path.", examples=["body"])
    field: str = Field(examples=["quota_bytes"])
    message: str = Field(examples=["must be above 0"])


class Problem(Model):
    """What was not done, and why (RFC 9457)."""

    type: str = Field(examples=["urn:mailraft:problem:no_such_account"])
    title: str = Field(examples=["There is no such thing"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no account bob@example.test"])
    instance: str = Field("", description="Names the connection, as the lines of the node's log do.", examples=[""])
    hint: str = Field(description="What to do about it; may be empty.", examples=["mailraft account list"])
    code: str = Field(description="The kind of error; never changes.", examples=["no_such_account"])
    category: str = Field(description="What it means for who asked.", examples=["not_found"])
    severity: str = Field(description="Whose concern it is: info, warning, error or critical.", examples=["info"])
    retry: str = Field(description="The same again: never, later, or at once elsewhere.", examples=["never"])
    retry_after_s: int | None = Field(description="When this node may be asked again.", examples=[None])
    errors: list[WrongField] = Field(description="Every field that is wrong.", examples=[[]])
