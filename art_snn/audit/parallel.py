"""Cells at once: on processes of this machine, or on the workers of a Dask cluster, through joblib.

Each worker has its own copy of networks and samples, which travels to it once. Processes of this machine share its
cores; how many threads a worker of a cluster has is the cluster's to say. Which of them finds a cell, and when, changes
nothing of what it finds.
"""

from __future__ import annotations

import hashlib
import io
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

import cloudpickle
import joblib
import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from joblib.externals.loky.process_executor import TerminatedWorkerError

from art_snn.audit.cells import Block, Cell
from art_snn.audit.solve import Solver
from art_snn.audit.store import Found
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.evaluation import WorstCase

#: How often all workers of a cluster that had the networks may die.
LOST = 3

#: What one process knows, by the digest of what it was sent: the last only.
_SOLVERS: dict[str, Solver] = {}


def processes(jobs: int | None, cells: int, device: str) -> int:
    """
    :param jobs: How many are wanted, if that is given.
    :param cells: How many cells there are.
    :param device: `"cpu"` or `"gpu"`; one process uses a GPU.
    :return: How many there will be: as many as the machine has cores, at most one for each cell.
    """
    wanted = (1 if device == "gpu" else joblib.cpu_count()) if jobs is None else jobs
    return max(1, min(wanted, cells))


def solved(
    work: Sequence[Cell | Block], solver: Solver, *, jobs: int, cluster: str | None = None
) -> Iterator[tuple[Cell | Block, Found | WorstCase]]:
    """
    :param work: What is to be found.
    :param solver: What finds it.
    :param jobs: How many processes; 1 is this one.
    :param cluster: The address of a Dask cluster's scheduler, whose workers take the place of processes.
    :return: What each found, as soon as it is there, in any order.
    :raises ValueError: If networks or samples cannot be sent to another process, or there is no such cluster.
    """
    if jobs == 1 and cluster is None:
        for each in work:
            yield each, solver.solve(each)
        return
    sent, left, lost = _packed(solver), list(work), 0
    while left:
        try:
            for each, found in _sent(sent, left, jobs, cluster):
                left.remove(each)
                yield each, found
        except TerminatedWorkerError as error:
            raise ValueError(
                "jobs must be fewer: a process was killed, as a system does that runs out of memory. What was finished "
                "is kept."
            ) from error
        except CancelledError as error:  # what a worker had died with it, networks and samples as well: send them again
            lost += 1
            if lost > LOST:
                raise ValueError(
                    f"cluster {cluster!r} has lost its workers {lost} times. What was finished is kept."
                ) from error


def _sent(
    sent: np.ndarray, work: Sequence[Cell | Block], jobs: int, cluster: str | None
) -> Iterator[tuple[Cell | Block, Found | WorstCase]]:
    """What the workers find, as it comes."""
    digest = hashlib.sha256(sent.data).hexdigest()
    threads = None if cluster is not None else max(1, joblib.cpu_count() // jobs)
    with _backend(jobs, cluster, sent):
        found = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(
            joblib.delayed(_solve)(digest, sent, each, threads) for each in tuple(work)
        )
        try:
            yield from found
        finally:
            with suppress(Exception):
                found.close()


def _packed(solver: Solver) -> np.ndarray:
    """It as bytes in an array: joblib maps a large one into memory, and sends it once."""
    with _by_value({type(part).__module__ for part in _parts(solver)}), io.BytesIO() as file:
        try:
            _Pickler(file).dump(solver)
        except Exception as error:
            raise ValueError(
                f"jobs must be 1: the network cannot be sent to another process ({type(error).__name__}: {error})."
            ) from error
        return np.frombuffer(file.getvalue(), dtype=np.uint8)


def _parts(solver: Solver) -> Iterator[Any]:
    """What may be of a class of the user's."""
    subjects = solver.subjects
    for each in (subjects.target, subjects.second, *subjects.sources.values()):
        if each is not None:
            yield from (each, *each.model.modules())
    for found in solver.columns.values():
        chain = found.chain(1.0 if found.tuned else None)
        yield from () if chain is None else (part for _, part in chain.parts())


class _Pickler(cloudpickle.Pickler):
    """ART writes the weights of a classifier without spikes to a file of this machine; here they travel."""

    def reducer_override(self, obj: Any) -> Any:
        """
        :param obj: What is to be packed.
        :return: How, if it is such a classifier.
        """
        if isinstance(obj, PyTorchClassifier) and not isinstance(obj, PyTorchSNNClassifier):
            state = {name: value for name, value in vars(obj).items() if name not in ("_model", "_model_wrapper")}
            return _unpacked, (type(obj), state, obj.model)
        return super().reducer_override(obj)


def _unpacked(kind: type[PyTorchClassifier], state: dict[str, Any], network: torch.nn.Module) -> PyTorchClassifier:
    classifier = object.__new__(kind)
    vars(classifier).update(state)
    classifier._model = classifier._make_model_wrapper(network)
    return classifier


@contextmanager
def _by_value(names: set[str]) -> Iterator[None]:
    """Classes of a user's file travel as they are: no worker could import the file by its name."""
    registered = [sys.modules[name] for name in names if name in sys.modules and not _is_installed(name)]
    for module in registered:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _is_installed(name: str) -> bool:
    """Whether a worker can import a module by its name; what is run as a program is packed as it is anyway."""
    if name == "__main__" or name.split(".")[0] == __name__.split(".")[0]:
        return True
    try:
        found = find_spec(name)
    except ValueError:  # a module that a file was read into
        return False
    return found is not None and "site-packages" in str(found.origin)


@contextmanager
def _backend(jobs: int, cluster: str | None, sent: np.ndarray) -> Iterator[None]:
    if cluster is None:
        with joblib.parallel_config(backend="loky", n_jobs=jobs):
            yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError("cluster needs Dask: pip install 'art-snn[dask]'.") from error
    try:
        client = Client(cluster, timeout="10s")
    except (OSError, ValueError) as error:
        raise ValueError(f"cluster {cluster!r} cannot be reached: {error}.") from error
    with client, joblib.parallel_config(backend="dask", client=client, scatter=[sent], wait_for_workers_timeout=60):
        yield


def _solve(digest: str, sent: np.ndarray, work: Cell | Block, threads: int | None) -> tuple[Cell | Block, Any]:
    """What a worker does."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that gave the work stops it
    if threads is not None:
        torch.set_num_threads(threads)
    if digest not in _SOLVERS:
        _SOLVERS.clear()
        _SOLVERS[digest] = cloudpickle.loads(sent.tobytes())
    return work, _SOLVERS[digest].solve(work)
