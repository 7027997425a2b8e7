"""Writes what the examples print into examples/output, and the outputs of the notebook into it.

    pip install '.[events,dask]' nbclient ipykernel && python examples/record.py [name ...]

Those that are named, or all but the ones of single libraries. What changes between two machines are digits only, which
the tests rely on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat

HERE = Path(__file__).parent
NAMES = ("quickstart", "adversarial_training", "transfer", "event_data", "own_chain", "dask_sweep", "tour")


def record(name: str) -> None:
    """Run one of them, and keep its output."""
    if name == "tour":
        path = HERE / "tour.ipynb"
        notebook = nbformat.read(path, as_version=4)
        nbclient.NotebookClient(notebook, timeout=600, record_timing=False).execute()
        notebook.metadata.pop("language_info", None)  # of the Python that ran it
        nbformat.write(notebook, path)
    else:
        command = [sys.executable, "-W", "ignore", str(HERE / f"{name}.py")]
        done = subprocess.run(command, env=os.environ, stdout=subprocess.PIPE, encoding="utf-8", check=True)
        (HERE / "output").mkdir(exist_ok=True)
        (HERE / "output" / f"{name}.txt").write_text(done.stdout, encoding="utf-8")


if __name__ == "__main__":
    for each in sys.argv[1:] or NAMES:
        record(each)
