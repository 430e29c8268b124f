"""One file for each contender: `descent`, `svm` or `figure` takes a task and returns its run.

A run of descent is called with the number of steps, from the start each time; a run of a machine
with nothing. It returns when the work is done, and what it returns gives the result when called.
"""

from __future__ import annotations


class NotAvailable(Exception):  # noqa: N818 - a fact about a contender, not an error of the run
    """The contender does not have what a task asks for."""
