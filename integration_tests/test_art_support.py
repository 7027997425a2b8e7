"""docs/art_support.md is true: every row is run again."""

import inspect

import pytest
from art import metrics

from integration_tests.art_support.sweep import FAILS, TABLE, read, tasks, versions
from integration_tests.long import LONG

TASKS = list(tasks())
TEXT = TABLE.read_text(encoding="utf-8")
ROWS = read(TEXT)

#: ART compiles them when they are first run.
COMPILED = ("BrendelBethgeAttack",)


@pytest.mark.parametrize(
    "task", [pytest.param(task, id=task.name, marks=LONG if task.name in COMPILED else ()) for task in TASKS]
)
def test_the_row_is_as_the_table_says(task):
    for module in task.needs:
        pytest.importorskip(module)
    row = task.row()
    assert row.status != FAILS, row.note
    if f"{versions()}." in TEXT:
        assert ROWS[row.section, row.name] == (row.status, row.note)


def test_the_table_has_no_rows_of_its_own():
    if f"{versions()}." not in TEXT:
        pytest.skip(f"the table is of other versions than {versions()}")
    assert set(ROWS) == {(task.section, task.name) for task in TASKS}


def test_arts_metrics_are_there():
    named = {task.name for task in TASKS}
    assert {name for name, _ in inspect.getmembers(metrics, inspect.isfunction)} - {"clever"} <= named


def test_arts_attacks_are_there():
    named = {task.name for task in TASKS}
    assert {
        "AutoAttack",
        "AutoConjugateGradient",
        "AutoProjectedGradientDescent",
        "BasicIterativeMethod",
        "BrendelBethgeAttack",
        "CarliniL0Method",
        "CarliniL2Method",
        "CarliniLInfMethod",
        "DeepFool",
        "ElasticNet",
        "FastGradientMethod",
        "HopSkipJump",
        "ProjectedGradientDescentPyTorch",
        "SaliencyMapMethod",
        "SquareAttack",
        "Wasserstein",
        "AdversarialTrainer",
        "AdversarialTrainerAWPPyTorch",
        "AdversarialTrainerFBFPyTorch",
        "AdversarialTrainerMadryPGD",
        "AdversarialTrainerOAATPyTorch",
        "AdversarialTrainerTRADESPyTorch",
    } <= named
