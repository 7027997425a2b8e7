"""The examples run as files, print what their first lines say, and what they print has the form that is recorded."""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from art_snn.chains.names import everywhere

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
LIBRARIES = sorted(EXAMPLES.glob("attack_*.py"))
NEEDS = {
    "attack_spikingjelly": "spikingjelly",
    "attack_snntorch": "snntorch",
    "attack_norse": "norse",
    "attack_nir": "nirtorch",
    "dask_sweep": "distributed",
}


@pytest.fixture
def output(run, capsys, monkeypatch, tables) -> Callable[[Path], str]:
    """What an example prints: the one with processes of its own run as a program, the others as files in this one."""

    def printed(path: Path) -> str:
        pytest.importorskip(NEEDS.get(path.stem, "torch"))
        if path.stem == "dask_sweep":
            done = run(sys.executable, "-W", "ignore", path, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
            assert done.returncode == 0, done.stderr
            return done.stdout
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [str(path)])
        capsys.readouterr()
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return printed


def test_there_is_one_for_each_library():
    assert {path.stem for path in LIBRARIES} == {*NEEDS, "attack_own_neuron"} - {"dask_sweep"}


def test_each_is_recorded_and_on_its_page():
    names = {path.stem for path in EXAMPLES.glob("*.py")} - {path.stem for path in LIBRARIES} - {"record"}
    assert names == set(CLAIMS) == {path.stem for path in (EXAMPLES / "output").glob("*.txt")}
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    for path in (*LIBRARIES, *(EXAMPLES / f"{name}.py" for name in names), EXAMPLES / "tour.ipynb"):
        assert f"examples/{path.name}" in page


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: path.stem)
def test_it_prints_a_rate_for_every_chain(path, output):
    text = output(path)
    accuracy = float(re.search(r"clean accuracy ([\d.]+)%", text)[1])
    assert accuracy > 90
    rates = rows(text, 2)
    assert list(rates) == [*everywhere(), "native"]
    assert all(0 < fgsm <= pgd <= 100 for fgsm, pgd in rates.values())


def rows(text: str, head: int, name: str = r"\S+") -> dict[str, list[float]]:
    """A table's lines below its head: numbers by their name."""
    found = (re.match(rf"({name})((?: +[\d.]+)+)$", line) for line in text.splitlines()[head:])
    return {match[1]: [float(number) for number in match[2].split()] for match in found}


def quickstart(text: str) -> None:
    clean, attacked = (float(number) for number in re.findall(r"accuracy ([\d.]+)%", text))
    robust = float(re.search(r": ([\d.]+) % of 100 samples are robust", text)[1])
    assert clean > 95 and attacked < 50 and robust < attacked


def adversarial_training(text: str) -> None:
    table = rows(text, 2)
    (clean, weak), (also_clean, robust) = table["clean"], table["adversarial"]
    assert min(clean, also_clean) > 85
    assert robust > weak + 10


def transfer(text: str) -> None:
    table = rows(text, 2)
    for target, own in enumerate(("SNN", "ANN")):
        other = table[("ANN", "SNN")[target]][target]
        assert table["clean"][target] + 20 < other < table[own][target]


def event_data(text: str) -> None:
    table = rows(text, 2, r"\w+(?: \w+)?")
    accuracy, added, taken = zip(*(table[name] for name in ("clean", "one frame", "all frames")), strict=True)
    assert accuracy[0] > 85 and accuracy[0] > accuracy[1] > accuracy[2]
    assert added[0] == taken[0] == 0 < added[1] < added[2] and taken[1] < taken[2]


def own_chain(text: str) -> None:
    table = rows(text, 2)
    assert list(table) == ["near", "stbp", "rga", "hart"]
    assert all(30 < fgsm <= pgd <= 100 for fgsm, pgd in table.values())


def dask_sweep(text: str) -> None:
    assert text.startswith("2 workers, 15 cells\n")
    table = rows(text, 3)
    assert [float(eps) for eps in table] == [0.05, 0.1, 0.15, 0.2, 0.25]
    for first, *_, last in zip(*table.values(), strict=True):
        assert 0 < first < last <= 100


#: What must hold of the numbers that an example prints.
CLAIMS = {
    each.__name__: each for each in (quickstart, adversarial_training, transfer, event_data, own_chain, dask_sweep)
}


@pytest.mark.parametrize("name", CLAIMS)
def test_it_shows_what_it_says(name, output):
    text = output(EXAMPLES / f"{name}.py")
    CLAIMS[name](text)
    recorded = (EXAMPLES / "output" / f"{name}.txt").read_text(encoding="utf-8")
    CLAIMS[name](recorded)
    assert form(text) == form(recorded)


def form(text: str) -> list[str]:
    """It without its numbers and how wide they make a column, and without what an evaluation flags of them."""
    lines = (re.sub(r"\d[\d.]*", " # ", line) for line in text.splitlines() if not line.startswith("FLAG"))
    return [" ".join(line.split()) for line in lines]


def test_the_notebook_runs_to_its_end_and_draws_what_it_holds():
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: the notebook is not run")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: the notebook is not run")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: the notebook is not run")
    path = EXAMPLES / "tour.ipynb"
    assert path.stat().st_size < 100_000
    stored = nbformat.read(path, as_version=4)
    fresh = nbformat.from_dict(stored)
    nbclient.NotebookClient(fresh, timeout=600, kernel_name="python3", resources={"metadata": {"path": ROOT}}).execute()
    for notebook in (stored, fresh):
        outputs = [each for cell in notebook.cells for each in cell.get("outputs", ())]
        assert sum("image/png" in each.get("data", {}) for each in outputs) == 4
        text = "".join(each["text"] for each in outputs if each.get("name") == "stdout")
        clean, attacked = (float(number) for number in re.findall(r"accuracy[\w ]* ([\d.]+)%", text))
        assert clean > 90 and attacked < 50
        rates = rows(text, 2)
        assert list(rates) == ["hart", "rga", "bptr", "stbp"]
        assert all(found[0] < found[-1] for found in rates.values())
        assert all(each.get("name") != "stderr" for each in outputs)
