"""What docs/extend.md shows is run, block by block, in one namespace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from art_snn.attacks import ATTACKS
from art_snn.chains.table import TABLE
from art_snn.datasets.table import DATASETS

TEXT = (Path(__file__).parents[1] / "docs" / "extend.md").read_text(encoding="utf-8")
BLOCKS = [(match.start(), match[1]) for match in re.finditer(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)]


@pytest.fixture(scope="module")
def namespace():
    tables = (TABLE, ATTACKS, DATASETS)
    before = [dict(table) for table in tables]
    names: dict[str, object] = {"__name__": "docs_extend"}
    for start, code in BLOCKS:
        line = TEXT[:start].count("\n") + 1  # so that an error names the line of the page
        exec(compile("\n" * line + code, "docs/extend.md", "exec", dont_inherit=True), names)
    yield names
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def test_every_block_runs(namespace):
    assert len(BLOCKS) == TEXT.count("```python") > 0


def test_the_attacks_are_audited(namespace):
    for name, result in (
        ("bim", namespace["result"]),
        ("straight", namespace["straight"]),
        ("halving", namespace["halving"]),
    ):
        assert {row.attack for row in result.rows} == {name}
        moved = result.examples["hart"] - result.examples["clean"]
        assert 0 < abs(moved).max() <= result.settings.eps + 1e-6


def test_the_data_set_is_learned(namespace):
    assert namespace["trained"].accuracy > 0.6


def test_the_worst_case_is_over_the_members_that_are_named(namespace):
    worst = namespace["worst"]
    assert worst.members["attack"].tolist() == ["Halving(max_iter=4)", "BasicIterativeMethod(max_iter=4)"]
    assert worst.members["chain"].tolist() == ["HART(gamma=1.0)", "RGA()"]
