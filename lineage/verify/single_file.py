"""Makes one file of the verifier, for people who have nothing of ours."""

from __future__ import annotations

import ast
from pathlib import Path

_FOLDER = Path(__file__).parent
_MODULES = ("mldsa", "notes", "hashing", "policy", "proofs", "history", "folder", "command")


def single_file() -> str:
    """Return the verifier as the text of one Python file: its modules one after the other, what they import in front."""
    outside: set[str] = set()
    parts = []
    for name in _MODULES:
        text = (_FOLDER / f"{name}.py").read_text(encoding="utf-8")
        lines = text.splitlines()
        tree = ast.parse(text)
        end = 0
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                if not (
                    isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("lineage", "__future__")
                ):
                    outside.add(ast.unparse(node))
                end = node.end_lineno or 0
        parts.append("\n".join(lines[end:]).strip())
    doc = ast.get_docstring(ast.parse((_FOLDER / "__init__.py").read_text(encoding="utf-8")))
    *bodies, command = parts
    head = f'"""{(doc or "").replace("python -m lineage verify", "python verify.py")}\n"""\n\nfrom __future__ import annotations\n'
    return "\n\n\n".join([head + "\n" + "\n".join(sorted(outside)), *bodies, command]) + "\n"
