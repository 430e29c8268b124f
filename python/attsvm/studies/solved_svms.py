"""SVMs that are solved once, for all cells of a study with the same problems."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from attsvm._arrays import IndexArray
from attsvm._geometries import Norm
from attsvm.data import AttentionData
from attsvm.svm import SVMSolution
from attsvm.theory.svm_of_training import SVMS

_MOST_NUMBERS = 2**22
_SVM: TypeAlias = "tuple[str, Norm]"  # key of `SVMS`, and the norm
_Problem: TypeAlias = "tuple[int, bytes]"  # its number, and the selected tokens
_ARRAYS = tuple(each.name for each in fields(SVMSolution) if each.name != "variable")


@dataclass
class SolvedSVMs:
    """SVMs that are solved, by norm, problem and selected tokens.

    A solution does not depend on the batch in which it was computed, so that results do not depend
    on what is found here. Those of one set of problems are kept, 32 MB of them.
    """

    _problems: Hashable = None
    _batches: list[SVMSolution] = field(default_factory=list)
    # Batch and row of a solution.
    _places: dict[_SVM, dict[_Problem, tuple[int, int]]] = field(default_factory=dict)

    def solve(
        self,
        problems: Hashable,
        numbers: Sequence[int],
        data: AttentionData,
        kind: str,
        selected: IndexArray,
        norm: Norm,
    ) -> SVMSolution:
        """Return the solutions of a batch, of which only those that are not known are computed.

        `data` are the problems of these numbers of the set `problems`; `kind` is a key of `SVMS`.
        """
        size = sum(getattr(batch, name).size for batch in self._batches for name in _ARRAYS)
        if problems != self._problems or size > _MOST_NUMBERS:
            self._problems, self._batches, self._places = problems, [], {}
        places = self._places.setdefault((kind, norm), {})
        wanted = [(k, tokens.tobytes()) for k, tokens in zip(numbers, selected, strict=True)]
        new = np.array([problem not in places for problem in wanted])
        if new.any():
            batch = SVMS[kind](data.subset(new), selected[new], norm=norm)
            places |= {
                wanted[k]: (len(self._batches), row)
                for row, k in enumerate(np.flatnonzero(new).tolist())
            }
            self._batches.append(batch)
        return self._gathered([places[problem] for problem in wanted])

    def _gathered(self, places: list[tuple[int, int]]) -> SVMSolution:
        used = sorted({batch for batch, _ in places})
        batches = [self._batches[k] for k in used]
        first = dict(zip(used, np.cumsum([0, *(len(b.status) for b in batches[:-1])]), strict=True))
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(batch, name) for batch in batches]) for name in _ARRAYS
        }
        return rows_of(replace(batches[0], **arrays), [first[batch] + row for batch, row in places])


def rows_of(solution: SVMSolution, rows: ArrayLike) -> SVMSolution:
    """Return the solutions of these problems of a batch."""
    arrays: dict[str, Any] = {name: getattr(solution, name)[rows] for name in _ARRAYS}
    return replace(solution, **arrays)
