"""The full-text index of a node: which messages a search has to read.

A projection of the log, kept in files beside the database and never needed: where it is missing, behind or damaged, a
search reads the messages themselves. It only ever says which messages can not match; what can is read, so that an
answer is that of a scan. How and why: docs/ADR/0026-full-text-search.md.
"""

import importlib.util

FOLDER = "fulltext"  # in node.data_dir


def is_installed() -> bool:
    """Whether the library is there (`pip install 'mailraft[search]'`)."""
    return importlib.util.find_spec("tantivy") is not None
