"""Checks the import direction between the folders, and that every foreign package imported is a declared dependency.

Reads source text only (ast), never imports it, so it can not be fooled by what happens to be installed.
eventlog imports nothing of ours; actors may import eventlog; nodes actors and eventlog; cli and chaos all of them.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAY_IMPORT = {
    "eventlog": set[str](),
    "actors": {"eventlog"},
    "nodes": {"actors", "eventlog"},
    "cli": {"actors", "chaos", "eventlog", "nodes"},
    "chaos": {"actors", "cli", "eventlog", "nodes"},
}
OURS = {*MAY_IMPORT, "tests", "scripts"}
DISTRIBUTION_OF = {
    "argon2": "argon2-cffi",
    "dkim": "dkimpy",
    "dns": "dnspython",
    "jwt": "pyjwt",
    "OpenSSL": "pyopenssl",
    "opentelemetry": "opentelemetry-sdk",
    "spf": "pyspf",
    "yaml": "pyyaml",
}


class Violation(NamedTuple):
    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def imported_roots(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every absolute import, also those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]


def declared_distributions(pyproject: Path, dev: bool) -> set[str]:
    """Normalised names of the dependencies and of the extras; with `dev` of that extra too, which tests may use."""
    project = tomllib.loads(pyproject.read_text())["project"]
    requirements: list[str] = list(project["dependencies"])
    for name, extra in project.get("optional-dependencies", {}).items():
        if dev or name != "dev":
            requirements += extra
    return {_normalised(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]) for requirement in requirements}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def check_file(path: Path, folder: str, declared: set[str]) -> Iterator[Violation]:
    """Violations of one module that belongs to `folder`."""
    for line, root in imported_roots(ast.parse(path.read_text(), str(path))):
        if root == folder or root in sys.stdlib_module_names:
            continue
        if root in OURS:
            if folder in MAY_IMPORT and root not in MAY_IMPORT[folder]:
                yield Violation(path, line, f"{folder} may not import {root}")
        elif _normalised(DISTRIBUTION_OF.get(root, root)) not in declared:
            yield Violation(path, line, f"{root} is not among the dependencies in pyproject.toml")


def check_tree(top: Path) -> list[Violation]:
    """All violations under a repository's top folder, in the order of their paths."""
    found: list[Violation] = []
    for folder in [*MAY_IMPORT, "tests", "scripts"]:
        declared = declared_distributions(top / "pyproject.toml", dev=folder not in MAY_IMPORT)
        for path in sorted((top / folder).rglob("*.py")):
            found += check_file(path, folder, declared)
    return found


def main() -> int:
    violations = check_tree(Path(__file__).resolve().parent.parent)
    for violation in violations:
        print(violation, file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
