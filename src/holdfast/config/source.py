"""Which code a module stands on: what a hash of a corpus or an environment is taken over."""

from __future__ import annotations

import ast
import hashlib
import sys
from importlib.util import resolve_name
from pathlib import Path


def code_of(module: str, package: str | None = None) -> set[str]:
    """`module` and all that it imports, directly or not, of what is loaded and below `package`.

    That is the top of the module's own package if it is not given.
    """
    found, waiting, top = set(), [module], package or module.partition(".")[0]
    while waiting:
        name = waiting.pop()
        found.add(name)
        for node in ast.walk(ast.parse(file_of(name).read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = resolve_name("." * node.level + (node.module or ""), sys.modules[name].__package__)
                names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
            own = (n for n in names if n.startswith(f"{top}.") and n in sys.modules)
            # A folder without an __init__.py is a module without a file.
            waiting += [n for n in own if n not in found and sys.modules[n].__file__]
    return found


def file_of(module: str) -> Path:
    """Where a loaded module comes from."""
    return Path(str(sys.modules[module].__file__))


def file_sum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
