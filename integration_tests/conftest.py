"""ART's own progress bars and warnings are not what these tests are about; weights are the same in every run.

A test that starts processes does so by `start` or `run`, so that none is left when it ends, however it ends.
"""

import logging
import signal
import subprocess
from contextlib import suppress

import psutil
import pytest

from art_snn.attacks import ATTACKS
from art_snn.chains.table import TABLE
from art_snn.datasets.table import DATASETS
from integration_tests.art_support import settings


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def seeded():
    settings.seeded()


@pytest.fixture
def tables():
    """What pages and examples add to the package's tables is taken out again."""
    kept = [(table, dict(table)) for table in (TABLE, ATTACKS, DATASETS)]
    yield
    for table, entries in kept:
        table.clear()
        table.update(entries)


@pytest.fixture
def start():
    """How to start a process; when the test ends, it and the processes that it started are killed."""
    processes = []

    def interruptible():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # also where the tests themselves run in the background

    def started(*command, **options):
        options = {"preexec_fn": interruptible} | options
        processes.append(subprocess.Popen([str(part) for part in command], **options))
        return processes[-1]

    yield started
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(process.pid)
            for one in (*own.children(recursive=True), own):
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        process.communicate()


@pytest.fixture
def run(start):
    """How to run a command to its end; what it wrote is text."""

    def ended(*command, **options):
        options = {"encoding": "utf-8"} | options
        process = start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    return ended
