"""The study that results are of, from what they say of themselves."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attsvm.studies.declarations import read_toml
from attsvm.studies.problems import KINDS, FileOfProblems
from attsvm.studies.study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["recorded_study"]


def recorded_study(results: xr.Dataset) -> Study:
    """The study of results that another machine may have made.

    Neither its file of problems nor what draws them need be there, and nothing is checked again:
    the study can be described and tabulated, not run.

    Parameters
    ----------
    results : xarray.Dataset
        From `attsvm.studies.open_results`.

    Raises
    ------
    ValueError
        Its attributes do not declare a study that this version of attsvm knows.
    """
    said = results.attrs
    try:
        values: dict[str, Any] = {f.name: f.default for f in fields(Study)}
        for name, value in read_toml(said["declaration"]).items():
            if name not in values:
                raise ValueError(f"{name} is no field of a study of this version of attsvm")
            values[name] = tuple(value) if isinstance(value, list) else value
        if values["data"] not in KINDS:
            values |= {size: said[size] for size in ("n", "T", "d")}
            values["file"] = FileOfProblems(Path(values["data"]), said["data_sha256"])
        study = object.__new__(Study)
        # A frozen dataclass keeps its fields, and `file` once it is known, where any object does.
        study.__dict__.update(values)
        sizes = {axis: len(several) for axis, several in study.axes.items()}
        sizes["problem"] = values["problems"]
        if dict(results["finished"].sizes) != sizes:
            raise ValueError(f"its results have the sizes {dict(results.sizes)}, not {sizes}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected the results of a study: {error}") from error
    return study
