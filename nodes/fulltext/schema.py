"""The index's fields and queries, in tantivy's terms. One document a message of a folder; nothing of it is stored.

Whoever changes a field or what goes into it raises SCHEMA: indexes of another are made anew.
"""

from collections.abc import Iterable, Sequence

import tantivy
from tantivy import Occur, Query

from nodes.fulltext.terms import GRAM, NAME_BYTES, Indexed, grams
from nodes.imap.search import HeaderHas, TextHas
from nodes.mime import searched

SCHEMA = 1
VERSION = f"{SCHEMA}.{searched.VERSION}"
SHARDS = 16

_builder = tantivy.SchemaBuilder()
for _name in ("account", "folder", "place", "digest", "name", "partly"):
    _builder.add_text_field(_name, tokenizer_name="raw", index_option="basic")
_builder.add_unsigned_field("uid", fast=True)
for _name in ("header", "text"):
    _builder.add_text_field(_name, tokenizer_name="grams", index_option="basic")
_SCHEMA = _builder.build()


def made_index(path: str) -> tantivy.Index:
    """The index in a folder, to be written; made where the folder is empty. Raises ValueError."""
    index = tantivy.Index(_SCHEMA, path=path)
    tokenizer = tantivy.Tokenizer.ngram(GRAM, GRAM, False)
    index.register_tokenizer("grams", tantivy.TextAnalyzerBuilder(tokenizer).build())
    return index


def shard_of(account: bytes) -> int:
    """Which of the indexes has an account's messages: so that a redaction makes only some of them anew."""
    return account[-1] % SHARDS


def place(folder: bytes, uid: int) -> str:
    """Names one message."""
    return f"{folder.hex()}{uid:08x}"


def document(account: bytes, folder: bytes, uid: int, digest: bytes, found: Indexed) -> tantivy.Document:
    """What the index keeps of a message."""
    made = tantivy.Document()
    made.add_text("account", account.hex())
    made.add_text("folder", folder.hex())
    made.add_text("place", place(folder, uid))
    made.add_text("digest", digest.hex())
    made.add_unsigned("uid", uid)
    for field, texts in (("name", found.names), ("header", found.headers), ("text", found.texts)):
        for text in texts:
            made.add_text(field, text)
    if not found.whole:
        made.add_text("partly", "1")
    return made


def term(field: str, value: str) -> Query:
    return Query.term_query(_SCHEMA, field, value, "basic")


def all_of(queries: Sequence[Query]) -> Query:
    return Query.boolean_query([(Occur.Must, query) for query in queries])


def any_of(queries: Sequence[Query]) -> Query:
    return Query.boolean_query([(Occur.Should, query) for query in queries])


def outside(account: bytes, folders: Iterable[bytes]) -> Query:
    """The messages of an account that are in none of these folders."""
    excluded = [(Occur.MustNot, term("folder", folder.hex())) for folder in folders]
    return Query.boolean_query([(Occur.Must, term("account", account.hex())), *excluded])


def query_of(key: HeaderHas | TextHas) -> Query | None:
    """What a message must have in the index to match; None where every message may."""
    found = grams(key.text)
    if isinstance(key, HeaderHas):
        if len(key.field) > NAME_BYTES:
            return None
        named = term("name", key.field.decode("latin-1"))
        wanted = all_of([named, *(term("header", gram) for gram in found)])
    elif not found:
        return None
    else:
        wanted = all_of([term("text", gram) for gram in found])
        if key.headers:
            wanted = any_of([wanted, all_of([term("header", gram) for gram in found])])
    return any_of([wanted, term("partly", "1")])
