"""Cells at once: whoever finds a cell finds the same; what is killed loses only what was running."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time

import numpy as np
import pytest

from art_snn import audit
from art_snn.audit import AuditSettings, report, run_audit
from art_snn.audit.parallel import processes
from art_snn.audit.solve import Solver
from art_snn.audit.subjects import subjects_of
from art_snn.chains import HART
from art_snn.chains.names import ChainEntry
from art_snn.chains.table import TABLE

SMALL = AuditSettings(
    epochs=1,
    samples=30,
    time_steps=2,
    sweep=(),
    steps=2,
    chains=("hart", "rga"),
    plan="fast",
    batch_size=16,
    checks=False,
)
#: As many cells as an audit of some size has, each of little work.
MANY = AuditSettings(
    epochs=1, samples=10, time_steps=2, sweep=(0.05, 0.1), attacks=("fgsm",), chains=("hart(gamma=1.0)", "rga"),
    plan="none", repeats=25, checks=False,
)  # fmt: skip

NETWORKS = """
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

import art_snn
from art_snn import LIF, PyTorchSNNClassifier, SpikingNetwork


class Halved(nn.Module):
    def forward(self, x):
        return x / 2


def make(seed=0):
    torch.manual_seed(seed)
    return SpikingNetwork(nn.Sequential(nn.Flatten(), nn.Linear(64, 30), LIF(), Halved(), nn.Linear(30, 10)), 3)


def ann():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), Halved(), nn.Linear(30, 10)).eval()
    return PyTorchClassifier(network, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu")
"""


def found(result):
    """All that an audit found, but for how long it took."""
    return result.rows, result.search, result.worst and result.worst.fooled_by.tolist()


class TestProcesses:
    def test_find_the_same_as_one(self, tmp_path):
        one = run_audit(SMALL, tmp_path / "one")
        two = run_audit(SMALL, tmp_path / "two", jobs=2)
        assert found(one) == found(two)
        assert np.array_equal(one.worst.x_adv, two.worst.x_adv)

    def test_know_networks_of_a_file_and_entries_of_tables(self, tmp_path, monkeypatch):
        (tmp_path / "nets_here.py").write_text(NETWORKS)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", sys.path[:])
        TABLE.add(ChainEntry("window", "Window", HART))
        try:
            settings = AuditSettings(
                network="nets_here.py:make", second="nets_here.py:ann", sources=("nets_here.py:ann", "nets_here:make"),
                samples=20, sweep=(), attacks=("fgsm", "Square(max_iter=5)"), chains=("hart", "window"), plan="none",
                checks=False,
            )  # fmt: skip
            one, two = (run_audit(settings, tmp_path / f"{jobs}", jobs=jobs) for jobs in (1, 2))
        finally:
            del TABLE["window"]
            sys.modules.pop("nets_here", None)
        assert found(one) == found(two)
        chains = {(row.scenario, row.attack): set() for row in one.rows}
        for row in one.rows:
            chains[row.scenario, row.attack].add(row.chain)
        assert chains["WBA", "fgsm"] == chains["BBA nets_here:make", "fgsm"] == {"hart", "window"}
        assert chains["BBA", "fgsm"] == chains["BBA nets_here.py:ann", "fgsm"] == {"none"}
        assert {key: value for key, value in chains.items() if key[1] != "fgsm"} == {
            (scenario, "Square(max_iter=5)"): {"none"} for scenario in settings.scenarios
        }
        # The same network twice is one and the same: what it finds for itself, it finds as a further source.
        for chain in ("hart", "window"):
            own, from_itself = (one.rate("fgsm", scenario, chain, 0.15) for scenario in ("WBA", "BBA nets_here:make"))
            assert own.outcomes == from_itself.outcomes

    def test_are_as_many_as_there_are_cores_and_cells(self):
        assert processes(None, 100, "cpu") >= 1 and processes(None, 1, "cpu") == 1 and processes(3, 100, "cpu") == 3
        assert processes(None, 100, "gpu") == 1

    def test_a_network_that_cannot_be_sent_is_said(self, tmp_path):
        subjects = subjects_of(SMALL, None)
        subjects.target.model.lock = threading.Lock()
        with pytest.raises(ValueError, match=r"jobs must be 1: the network cannot be sent .* \(TypeError"):
            run_audit(SMALL, tmp_path, jobs=2, subjects=subjects)


def test_what_is_classified_wrongly_is_not_attacked(tmp_path):
    """What it would have given does not matter, and costs nothing."""
    subjects, seen = subjects_of(SMALL, None), []
    gradient = type(subjects.target).loss_gradient

    def noted(self, x, y, *args, **kwargs):
        seen.append((np.array(x), np.array(y)))
        return gradient(self, x, y, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(subjects.target), "loss_gradient", noted)
        settings = dataclasses.replace(SMALL, attacks=("fgsm",), steps=5, chains=("rga",), plan="none")
        result = run_audit(settings, tmp_path, subjects=subjects)
    wrong = result.rows[0].outcomes.count("w")
    assert 0 < wrong < 30  # it is untrained
    assert sum(len(x) for x, _ in seen) == 2 * (30 - wrong) + 8  # white-box, black-box, and the figure's


def finished(folder):
    """How many cells a folder holds, but for what is being written."""
    return len(list((folder / "cells").glob("[!.]*.json")))


def audited(folder):
    run_audit(MANY, folder)


def test_two_hundred_cells_killed_ten_times_end_as_undisturbed(tmp_path):
    undisturbed = run_audit(MANY, tmp_path / "undisturbed")
    number = len(undisturbed.rows)
    assert number == 200
    draw, folder, before = random.Random(0), tmp_path / "killed", 0
    for _ in range(10):
        process = multiprocessing.get_context("fork").Process(target=audited, args=(folder,), daemon=True)
        process.start()
        wanted = before + draw.randint(1, 18)
        while finished(folder) < wanted and process.is_alive():
            time.sleep(0.002)
        assert process.is_alive()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        now = finished(folder)
        assert wanted <= now < number
        before = now
    computed = []
    with pytest.MonkeyPatch.context() as patch:
        solve = Solver.cell
        patch.setattr(Solver, "cell", lambda self, cell: computed.append(cell) or solve(self, cell))
        result = run_audit(MANY, folder)
    assert len(computed) == number - before  # nothing that was finished is computed again, or counted twice
    assert found(result) == found(undisturbed)
    assert not list(folder.rglob("*.part*"))
    for name, each in (("killed", result), ("undisturbed", undisturbed)):
        report.write_files(each, tmp_path / name)
    one, other = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("killed", "undisturbed"))
    for written in (one, other):
        for row in written["results"] + written["gamma_search"]:
            del row["seconds"]
    assert one == other


class TestFromPython:
    """`art_snn.audit.run`: a classifier and arrays."""

    def given(self):
        subjects = subjects_of(SMALL, None)
        samples = subjects.attacked
        return subjects, samples.x, samples.y.argmax(1)

    def test_gives_a_row_for_each_cell(self, tmp_path):
        subjects, x, y = self.given()
        chains = ("rga", "hart(gamma=0.5)", "hart")
        given = {"eps": 0.1, "chains": chains, "attacks": ("fgsm",), "sweep": (), "verbose": False}
        sources = {"the other": subjects.second}
        frame = audit.run(subjects.target, x, y, second=subjects.second, sources=sources, folder=tmp_path, **given)
        assert list(frame["scenario"].unique()) == ["WBA", "BBA", "BBA the other"] and len(frame) == 9
        assert (frame["correct"] <= 20).all()  # a third is held out
        assert (frame[frame["chain"] == "hart"]["tried"] >= 3).all()
        by = frame.drop(columns="seconds").groupby("scenario")
        one, other = (by.get_group(name).drop(columns="scenario", errors="ignore") for name in ("BBA", "BBA the other"))
        assert one.reset_index(drop=True).equals(other.reset_index(drop=True))
        again = audit.run(subjects.target, x, y, second=subjects.second, sources=sources, folder=tmp_path, **given)
        assert again.equals(frame)  # seconds too: nothing was computed again

    def test_attacks_all_samples_where_others_are_held_out(self):
        subjects, x, y = self.given()
        held_out = subjects.held_out.x, subjects.held_out.y
        given = {"chains": ("rga",), "attacks": ("fgsm",), "sweep": (), "plan": "fast", "verbose": False}
        frame = audit.run(subjects.target, x, y, held_out=held_out, repeats=2, **given)
        right = int((subjects.target.predict(x).argmax(1) == y).sum())
        assert list(frame["correct"]) == [right, right] and list(frame["seed"]) == [0, 1]
        assert len(frame.attrs["worst_case"]["fooled_by"]) == len(x) and frame.attrs["raised"] == []

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"x": None}, "x and y must be given with classifier"),
            ({"classifier": None}, "classifier must be given with x"),
            ({"y": np.zeros(3)}, "y must hold a label for each of 30 samples"),
            ({"x": np.zeros((30, 1, 9, 9), np.float32)}, r"classifier takes inputs \(1, 8, 8\)"),
            ({"epsilon": 0.1}, "epsilon"),
        ],
    )
    def test_what_does_not_fit_is_named(self, changes, message):
        subjects, x, y = self.given()
        arguments = {"classifier": subjects.target, "x": x, "y": y} | changes
        with pytest.raises((ValueError, TypeError), match=message):
            audit.run(**arguments, verbose=False)
