"""The paper's experiments by name, each run by its command."""

from __future__ import annotations

import json

import pandas
import pytest
from click.testing import CliRunner

from art_snn.audit import AuditSettings
from art_snn.cli import main
from art_snn.suites import SUITES, SuiteSettings
from art_snn.suites.cases import GRID, in_255ths
from art_snn.suites.paper import figures, key

DIGITS = ("--epochs", "2", "--learning-rate", "0.1", "--samples", "30", "--time-steps", "4", "--jobs", "1")
EVENTS = ("--data", "event-digits", "--limit", "300", "--width", "0.05", "--epochs", "1", "--samples", "10")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of all suites: what one has trained or attacked, the next does not again."""
    return tmp_path_factory.mktemp("suites")


def run(folder, name, *options):
    done = CliRunner().invoke(main, ["suite", name, "--out", str(folder), *options])
    assert done.exit_code == 0, done.output
    return pandas.read_parquet(folder / f"{name}.parquet"), done.output


@pytest.mark.parametrize(("name", "cells"), [("table2", 4 * 2 * 5), ("ann", 2 * (5 + 5 + 1) + 2 * (1 + 1 + 5))])
def test_a_suite_trains_attacks_and_writes(folder, name, cells):
    rows, said = run(folder, name, *DIGITS)
    assert len(rows) == cells and rows["asr"].between(0, 100).all() and rows["paper"].isna().all()
    assert set(rows["scenario"].str.split(" ").str[0]) == set(SUITES[name].scenarios)
    about = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert about["suite"] == name and about["settings"]["samples"] == 30 and len(about["rows"]) == cells
    assert (folder / f"{name}.md").read_text(encoding="utf-8").startswith(SUITES[name].title)
    assert SUITES[name].title.split(",")[0] in said.replace("\n", " ")
    before = sorted(path.name for path in (folder / "cells").iterdir())
    again, _ = run(folder, name, *DIGITS)
    assert again.equals(rows) and sorted(path.name for path in (folder / "cells").iterdir()) == before


@pytest.mark.parametrize("name", SUITES)
def test_every_case_is_one_that_can_be_run(name):
    """Its trainings and audits are of settings that go together, and no two cases are the same."""
    data = "event-digits" if SUITES[name].events else "digits"
    settings = SuiteSettings(data=data)
    cases = list(SUITES[name].cases(settings))
    for case in cases:
        for training in (case.target, case.target | (case.second or {}), *case.sources.values()):
            settings.training(**training)
        audit = {"target": "a.json", "second": None if case.second is None else "b.json", "eps": settings.strongest}
        AuditSettings(**audit | case.audit)
    assert len({tuple(case.labels.items()) for case in cases}) == len(cases)


def test_gammas_are_searched_and_gridded(folder, monkeypatch):
    assert len(GRID) == 48
    monkeypatch.setattr("art_snn.suites.cases.GRID", GRID[::24])
    rows, _ = run(folder, "fig3", *DIGITS)
    searched = rows[rows["chain"] == "hart"]
    assert len(rows) == 3 * 2 * (2 + 1) and searched["tried"].between(3, 47).all()
    lines = (folder / "fig3.md").read_text(encoding="utf-8").splitlines()[4:]
    assert len(lines) == 3 * 2
    for line, found in zip(lines, searched.itertuples(), strict=True):
        grid = rows[(rows["λ"] == found.λ) & (rows["attack"] == found.attack) & (rows["chain"] != "hart")]
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        assert cells[:2] == [found.λ, found.attack] and cells[3] == f"{grid['asr'].max():.1f}"
        assert cells[5:8] == [f"{found.asr:.1f}", f"{found.gamma:g}", f"{found.tried} of 2"]
        assert cells[8] == f"{grid['asr'].max() - found.asr:.1f}"
    assert (folder / "fig3.png").read_bytes().startswith(b"\x89PNG")


def test_event_data_have_their_own(folder, monkeypatch):
    monkeypatch.setattr("art_snn.suites.cases.FIVE", ("rga",))
    monkeypatch.setattr("art_snn.suites.cases.DECAYS", (1.0,))
    rows, _ = run(folder, "events", *EVENTS, "--time-steps", "2", "--jobs", "1")
    assert set(rows["gradient"]) == {"one for all frames", "of each frame"} and len(rows) == 2 * 4 * 2
    done = CliRunner().invoke(main, ["suite", "events", *DIGITS])
    assert done.exit_code == 2 and "data must be event data for events, got 'digits'" in done.output


def test_theory_measures_every_layer(folder):
    rows, said = run(folder, "theory", *DIGITS, "--epochs", "1")
    assert len(rows) == 6 * 3 and {"chi", "theorem_1", "theorem_2"} <= set(rows.columns)
    assert "What each layer keeps of time" in said.replace("\n", " ")


def test_what_is_not_there_is_named():
    done = CliRunner().invoke(main, ["suite", "table9"])
    assert done.exit_code == 2 and "must be one of table1, table2" in done.output
    assert "table2   Five chains, white-box" in CliRunner().invoke(main, ["suite", "list"]).output


class TestThePapersFigures:
    def test_stand_beside_those_of_its_setting(self):
        found = figures("table2")
        assert found[key("CIFAR-10", "VGG-11", {"λ": "0.9"}, "fgsm", "WBA")]["hart"] == 97.24
        assert found[key("CIFAR10-DVS", "VGG-DVS", {"λ": "1.0"}, "pgd", "WBA")]["cba"] == 54.74
        assert figures("table3")[key("CIFAR-100", "VGG-11", {"λ": "0.9*"}, "pgd", "BBA")]["stbp"] == 54.40
        assert figures("table1")[key("CIFAR-10", "VGG-11", {"T": "8", "λ": "1.0"}, "pgd", "WBA")]["rate"] == 99.90
        assert figures("table5")[key("CIFAR-10", "VGG-11", {"λ": "1.0", "ε": "2/255"}, "pgd", "WBA")]["hart"] == 65.26
        assert figures("tableA3")[key("CIFAR-10", "VGG-11", {"T": "4", "λ": "1.0"}, "pgd", "WBA")]["hart"] == 99.02
        assert figures("tableA4")[key("CIFAR-10", "VGG-11", {"λ": "0.5", "T": "32"}, "fgsm", "BBA")]["rga"] == 44.67
        assert figures("fig3") == {}

    def test_every_one_is_of_a_case_of_its_suite(self, tmp_path):
        """With the paper's ε, T and network, each figure on CIFAR-10 finds its cell."""
        settings = SuiteSettings(data="cifar10", root=str(tmp_path), network="vgg11", eps=8 / 255, time_steps=8)
        assert settings.of_paper() == ("CIFAR-10", "VGG-11") and in_255ths(2 / 255) == "2/255"
        for name in ("table1", "table2", "table3", "table4", "table5", "tableA1", "tableA2", "tableA3", "tableA4"):
            cases = [tuple(sorted(case.labels.items())) for case in SUITES[name].cases(settings)]
            wanted = {at[2] for at in figures(name) if at[:2] == ("CIFAR-10", "VGG-11")}
            assert wanted == set(cases), name
