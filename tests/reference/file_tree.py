"""What a directory holds."""

from __future__ import annotations

import hashlib
from pathlib import Path


def content(tree: Path) -> dict[str, str]:
    """Every file of a tree, hidden ones too, by the hash of its bytes."""
    return {
        str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    }
