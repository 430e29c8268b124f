"""Running of a study: in this process, or on a Dask cluster."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from attsvm._validation import as_bool, as_instance, as_path, as_positive_int
from attsvm.extras import require_extra
from attsvm.progress import bar, inside
from attsvm.studies.compute import measure_cell
from attsvm.studies.only_writer import only_writer
from attsvm.studies.solved_svms import SolvedSVMs
from attsvm.studies.store import Store, open_results
from attsvm.studies.study import Study
from attsvm.threads import thread_count

if TYPE_CHECKING:
    import xarray as xr


def run(
    study: Study,
    directory: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    scheduler: Any = None,
    workers: int | None = None,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Measure all cells of a study that its directory does not hold yet.

    It may be stopped at any moment, killed too, and called again to go on: the results then have
    the same bytes as without the stop, for any number of threads, processes and computers.

    Parameters
    ----------
    study : Study
    directory : str or path-like
        Created if it does not exist; otherwise it must hold this study, or nothing but hidden
        files.
    overwrite : bool
        Remove the study that the directory holds and start afresh.
    scheduler : str or distributed.Client, optional
        The Dask cluster that computes: the address of its scheduler, or a client of it. Its
        workers need attsvm of the same version and instruction set, and no common file system.
    workers : int, optional
        Start a Dask cluster of so many processes on this computer. A script that does so needs
        ``if __name__ == "__main__":``.
    num_threads : int, optional
        As in `attsvm.train`; on a cluster the threads of each task, by default 1.
    progress : bool, optional
        Show a progress bar; by default on a terminal and in a notebook.

    Returns
    -------
    xarray.Dataset
        Its dimensions are the axes of the study, ``problem``, and ``input``, ``step`` and ``norm``
        where they are needed. Values are read from ``results.zarr`` in the directory when they are
        used.

    Raises
    ------
    ValueError
        The directory holds something else, or workers would not give the same results.
    RuntimeError
        Workers cannot be started from this script.
    BlockingIOError
        Another process, or another call in this one, is writing the directory.
    OSError
        The directory cannot be written, the scheduler is not reached, or workers end again and
        again.

    Examples
    --------
    >>> import tempfile
    >>> from attsvm.studies import Study, run
    >>> study = Study(n=3, T=4, d=(2, 5), problems=10, steps=100, measure=("cosine",))
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     results = run(study, directory).load()
    >>> dict(results.cosine.sizes)
    {'d': 2, 'problem': 10}
    """
    require_extra("attsvm.studies", "study", "xarray")
    measure_cells(study, directory, overwrite, scheduler, workers, num_threads, progress)
    return open_results(directory, verify=False)


def measure_cells(
    study: Study,
    directory: str | os.PathLike[str],
    overwrite: bool,
    scheduler: Any,
    workers: int | None,
    num_threads: int | None,
    progress: bool | None,
) -> None:
    """Do what `run` does, but for opening the results, which takes the import of xarray."""
    as_instance("study", study, Study)
    as_path("directory", directory)
    as_bool("overwrite", overwrite)
    if progress is not None:
        as_bool("progress", progress)
    if scheduler is not None and workers is not None:
        raise ValueError("workers: expected none where a scheduler is given")
    if num_threads is not None:
        thread_count(num_threads)
    if workers is not None:
        as_positive_int("workers", workers)
    on_cluster = scheduler is not None or workers is not None
    if on_cluster:
        require_extra("a study on a cluster", "dask", "distributed")
        from attsvm.studies.cluster import require_guard, run_on_cluster

        if workers is not None:
            require_guard()
    require_extra("attsvm.studies", "study", "numcodecs", "filelock")
    if study.data == "digits":
        require_extra("a study of the digits", "digits", "sklearn")
    with only_writer(directory):
        store = Store(directory, study, overwrite=overwrite)
        missing = store.missing()
        if on_cluster:
            run_on_cluster(study, store, missing, scheduler, workers, num_threads, progress)
        else:
            with bar(sum(len(part.problems) for part in missing), "problems", progress) as advance:
                solved = SolvedSVMs()
                for part in missing:
                    done = partial(advance, note=part.cell.name)
                    done(0)
                    where = (study, part.cell, part.problems)
                    with inside(advance, part.cell.name):
                        record = measure_cell(
                            *where, num_threads=num_threads, done=done, solved=solved
                        )
                    store.write(part, record)
