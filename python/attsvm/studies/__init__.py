"""Studies of many problems: declarations, runs, results stored cell by cell, and tables."""

from attsvm.studies.engine import run
from attsvm.studies.expectations import expectations
from attsvm.studies.html_report import report
from attsvm.studies.measurements import MEASUREMENTS, OUTCOMES
from attsvm.studies.store import open_results
from attsvm.studies.study import Cell, Study
from attsvm.studies.summary import describe, tabulate

__all__ = [
    "MEASUREMENTS",
    "OUTCOMES",
    "Cell",
    "Study",
    "describe",
    "expectations",
    "open_results",
    "report",
    "run",
    "tabulate",
]
