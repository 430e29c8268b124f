"""SVMs that are solved once, for all cells of a study with the same problems."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from attsvm._arrays import IndexArray
from attsvm._geometries import Norm
from attsvm.data import AttentionData
from attsvm.svm.solution import ARRAYS, SVMSolution, joined, rows_of
from attsvm.theory.svm_of_training import SVMS

_MOST_NUMBERS = 2**22
_Batch: TypeAlias = "tuple[str, Norm, int]"  # key of `SVMS`, norm, number of the first problem
_Problem: TypeAlias = "tuple[int, bytes]"  # its number, and the selected tokens


@dataclass
class SolvedSVMs:
    """SVMs that are solved, by norm, batch of problems, problem and selected tokens.

    A solution does not depend on the batch in which it was computed, so that results do not depend
    on what is found here. Those of one set of problems are kept, 32 MB of them.
    """

    _problems: Hashable = None
    _rows: dict[_Batch, dict[_Problem, int]] = field(default_factory=dict)
    _solved: dict[_Batch, SVMSolution] = field(default_factory=dict)

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
        size = sum(getattr(each, name).size for each in self._solved.values() for name in ARRAYS)
        if problems != self._problems or size > _MOST_NUMBERS:
            self._problems, self._rows, self._solved = problems, {}, {}
        svms = kind, norm, numbers[0]
        rows = self._rows.setdefault(svms, {})
        wanted = [(k, tokens.tobytes()) for k, tokens in zip(numbers, selected, strict=True)]
        new = np.array([problem not in rows for problem in wanted])
        if new.any():
            batch = SVMS[kind](data.subset(new), selected[new], norm=norm)
            self._solved[svms] = joined([self._solved[svms], batch]) if rows else batch
            rows |= {wanted[k]: row for row, k in enumerate(np.flatnonzero(new), len(rows))}
        return rows_of(self._solved[svms], [rows[problem] for problem in wanted])
