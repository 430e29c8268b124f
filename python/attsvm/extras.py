"""Which distributions attsvm can use, and the extras that bring them."""

from __future__ import annotations

import re
import sys
from importlib import import_module, metadata

__all__ = ["dependencies", "require_extra"]

_NAME = re.compile(r"[\w.-]+")
_BEFORE = re.compile(r"""\bpython_version\s*<\s*["'](\d+)\.(\d+)["']""")
_EXTRA = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")


def dependencies() -> dict[str, tuple[str, ...]]:
    """Distributions that attsvm can use, each with the extras that bring it.

    It is what the metadata of the installed attsvm say: no extra is named for what is always
    needed; extras that only bundle others are left out, and so is what only an older Python needs.

    Examples
    --------
    >>> from attsvm.extras import dependencies
    >>> dependencies()["numpy"]
    ()
    >>> dependencies()["matplotlib"]
    ('plot',)
    """
    found: dict[str, tuple[str, ...]] = {}
    for requirement in metadata.requires("attsvm") or ():
        named = _NAME.match(requirement)
        before = _BEFORE.search(requirement)
        if before is not None and sys.version_info >= tuple(map(int, before.groups())):
            continue
        if named is not None and named[0] != "attsvm":
            found[named[0]] = (*found.get(named[0], ()), *_EXTRA.findall(requirement))
    return found


def require_extra(user: str, extra: str, *modules: str) -> None:
    """Raise ImportError, naming the extra that brings it, if a module cannot be imported.

    Parameters
    ----------
    user : str
        What needs the modules, as the message calls it.
    extra : str
    *modules : str
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise ImportError(f'{user} needs {module}: pip install "attsvm[{extra}]"') from error
