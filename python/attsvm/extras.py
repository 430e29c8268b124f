"""Distributions that attsvm can use, and the extras that bring them."""

from __future__ import annotations

from importlib import import_module


def dependencies() -> dict[str, tuple[str, ...]]:
    """Return the distributions that attsvm can use, each with the extras that bring it.

    They are read from the metadata of the installed attsvm: no extra is named for what is always
    needed; extras that only bundle others are left out, and so is what another Python needs.

    Examples
    --------
    >>> from attsvm.extras import dependencies
    >>> dependencies()["numpy"]
    ()
    >>> dependencies()["matplotlib"]
    ('plot',)
    """
    from importlib import metadata

    from packaging.requirements import Requirement

    attsvm = metadata.distribution("attsvm")
    extras = attsvm.metadata.get_all("Provides-Extra") or []
    distributions: dict[str, tuple[str, ...]] = {}
    for requirement in map(Requirement, attsvm.requires or ()):
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        brought_by = [] if marker is None else [x for x in extras if marker.evaluate({"extra": x})]
        if requirement.name != "attsvm" and (always or brought_by):
            more = () if always else tuple(brought_by)
            distributions[requirement.name] = distributions.get(requirement.name, ()) + more
    return distributions


def require_extra(user: str, extra: str, *modules: str) -> None:
    """Raise ImportError, naming the extra that brings it, if a module is not installed.

    `user` is what needs the modules, as the message calls it. What is installed and cannot be
    imported says itself why.
    """
    for module in modules:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            raise ImportError(f'{user} needs {module}: pip install "attsvm[{extra}]"') from error
