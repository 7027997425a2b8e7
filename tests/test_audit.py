"""What an audit claims: rates, settings, samples kept apart, files whole or not there."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from rich.console import Console

from art_snn import LIF, PoissonEncoder, PyTorchSNNClassifier, SpikingNetwork, datasets, models
from art_snn.audit import AuditResult, AuditSettings, cells, report, run_audit
from art_snn.audit.cells import Cell, Keys
from art_snn.audit.columns import COLUMNS
from art_snn.audit.files import write_files
from art_snn.audit.metrics import Row, SuccessRate, outcomes, paired
from art_snn.audit.settings import GAMMA_LIMITS, GAMMAS, HELD_OUT
from art_snn.audit.solve import Solver, best, look_for_gamma
from art_snn.audit.store import Store
from art_snn.audit.subjects import TEST_SHARE, Samples, Subjects, given
from art_snn.chains.names import everywhere
from art_snn.files import replacing
from art_snn.identity import unlike
from art_snn.training import TrainSettings, train
from art_snn.training.data import load

TINY = AuditSettings(
    epochs=2,
    samples=40,
    time_steps=2,
    sweep=(),
    steps=2,
    chains=("cba", "stbp-best", "hart", "mixed"),
    plan="fast",
    checks=False,
)

#: Of audits whose worst case and flags are not the subject.
QUICK = {"plan": "none", "checks": False}


def stop_before_attack(number, monkeypatch):
    """Have an audit interrupted before its attack of that number; a list of those that were begun."""
    solve, begun = Solver.cell, []

    def noted(self, cell):
        begun.append(cell)
        if len(begun) == number:
            raise KeyboardInterrupt
        return solve(self, cell)

    monkeypatch.setattr(Solver, "cell", noted)
    return begun


def files(folder, suffix=".json"):
    """The files of the cells that a folder holds."""
    return sorted((folder / "cells").glob(f"*{suffix}"))


def key(settings, subjects, cell=Cell("pgd", "BBA", "hart", 0.15, 0)):  # noqa: B008
    """The key of a cell that follows the second network."""
    return Keys(settings, subjects).of(cell)


def row(letters="f", attack="pgd", scenario="WBA", chain="hart", eps=0.15, gamma=None):
    return Row(attack, scenario, chain, eps, gamma, letters)


def findings(*rows, **settings):
    """An audit's findings with these rows, of HART and RGA under PGD."""
    audit = AuditSettings(**({"chains": ("hart", "rga"), "attacks": ("pgd",), "sweep": ()} | settings))
    return AuditResult(audit, "a network", {"second": 1}, (50.0, 50.0), (True, True), 200, rows=list(rows))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Networks that `art-snn train` would write, two of them without spikes."""
    folder = tmp_path_factory.mktemp("networks")
    ann = {"spiking": False}
    for name, changes in {
        "a": {},
        "b": {"seed": 1},
        "c": {"decay": 0.5},
        "ann": ann,
        "ann-b": ann | {"seed": 1},
    }.items():
        settings = TrainSettings(**{"epochs": 4, "width": 0.5, "time_steps": 3, **changes})
        train(settings, folder / name)
    return {path.parent.name: str(path) for path in folder.glob("*/network.json")}


class TestGivenNetworks:
    def audit(self, pair, **changes):
        settings = {
            "samples": 30,
            "sweep": (),
            "steps": 2,
            "chains": ("hart", "rga"),
            "eps": 0.2,
            "plan": "none",
            "checks": False,
        }
        return AuditSettings(**(settings | {"target": pair["a"], "second": pair["b"]} | changes))

    def test_are_attacked_on_their_own_test_samples(self, pair, tmp_path):
        result = run_audit(self.audit(pair), tmp_path)
        assert result.description == "small_cnn (width 0.5) on digits, T = 3, λ = 0.9, hard reset, seed 0"
        assert result.seeds == {"data": 0, "order": 0, "target": 0, "second": 1}
        assert result.accuracy[0] > 50 and [path.name for path in tmp_path.iterdir()] == ["cells"]
        white, black = (result.rate("pgd", scenario, "hart", 0.2).rate for scenario in ("WBA", "BBA"))
        assert white.correct == black.correct <= 30 and white.fooled > 0
        write_files(result, tmp_path)
        assert json.loads((tmp_path / "results.json").read_text())["target"] == result.description

    def test_the_seed_decides_which_samples(self, pair, tmp_path):
        results = [run_audit(self.audit(pair, seed=seed, chains=("rga",)), tmp_path) for seed in (0, 0, 1)]
        images = [result.examples["clean"] for result in results]
        assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])
        assert results[0].attacked == results[1].attacked != results[2].attacked
        assert len(set(results[0].attacked)) == 30

    def test_may_be_converted(self, pair, tmp_path):
        (x, _), _, _, _ = datasets.digits()
        paths = {}
        for name, of, time_steps, encoder in (
            ("a", "ann", 4, None),
            ("b", "ann-b", 4, None),
            ("longer", "ann-b", 5, None),
            ("noisy", "ann-b", 4, PoissonEncoder(seed=0)),
        ):
            network = models.convert(models.load_network(pair[of]), x[:100], time_steps=time_steps, encoder=encoder)
            training = models.describe(pair[of])["training"]
            paths[name] = str(models.save_network(network, tmp_path / name, training=training))
        audit = self.audit(pair, target=paths["a"], second=paths["b"])
        result = run_audit(audit, tmp_path / "out")
        assert result.description == "converted small_cnn (width 0.5) on digits, T = 4, λ = 1, soft reset, seed 0"
        assert result.accuracy[0] > 50 and result.rate("pgd", "WBA", "hart", 0.2).rate.fooled > 0
        for name, path, differing in (
            ("longer", paths["longer"], "seed, time_steps"),
            ("noisy", paths["noisy"], "encoder, seed"),
            ("trained with spikes", pair["b"], "converted, decay, reset, seed, time_steps"),
        ):
            with pytest.raises(ValueError, match=f"they differ in {differing}"):
                run_audit(self.audit(pair, target=paths["a"], second=path), tmp_path / name)

    def test_what_a_shorter_conversion_left_under_the_same_path_is_not_taken_for_a_longer_ones(
        self, pair, tmp_path, monkeypatch
    ):
        (x, _), _, _, _ = datasets.digits()
        audit = self.audit(pair, target=str(tmp_path / "a.json"), second=str(tmp_path / "b.json"))

        def convert(time_steps):
            for name, of in (("a", "ann"), ("b", "ann-b")):
                network = models.convert(models.load_network(pair[of]), x[:100], time_steps=time_steps)
                models.save_network(network, tmp_path / name, training=models.describe(pair[of])["training"])

        convert(2)
        with monkeypatch.context() as patch:
            stop_before_attack(3, patch)
            with pytest.raises(KeyboardInterrupt):
                run_audit(audit, tmp_path / "kept")
        convert(4)
        result = run_audit(audit, tmp_path / "kept")
        assert "T = 4" in result.description
        assert result.rows == run_audit(audit, tmp_path / "fresh").rows
        # And what the shorter one found is still there, for the day it is wanted.
        convert(2)
        done = stop_before_attack(1000, monkeypatch)
        run_audit(audit, tmp_path / "kept")
        assert len(done) == 4 * 2 - 2

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"second": "c"}, "they differ in decay\\."),
            ({"second": "a"}, "they differ in nothing"),
            ({"target": "ann", "second": "ann"}, "differ in nothing"),
            ({"samples": 400}, "samples must be at most the number of test samples, 360"),
            ({"eps": 2.0}, "eps must be at most 1"),
        ],
    )
    def test_a_wrong_pair_or_setting_is_named(self, pair, changes, message, tmp_path):
        changes = {name: pair.get(value, value) for name, value in changes.items()}
        with pytest.raises(ValueError, match=message):
            run_audit(self.audit(pair, **changes), tmp_path)

    def test_a_missing_file_is_named(self, pair, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
            run_audit(self.audit(pair, second="nowhere"), tmp_path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"second": "a"}, "second belongs to network or target"),
            ({"root": "x"}, "root belongs"),
            ({"target": "a", "second": "b", "time_steps": 4}, "time_steps belongs"),
            ({"target": "a", "second": "b", "encoder": "poisson"}, "encoder belongs"),
        ],
    )
    def test_settings_of_the_other_kind_are_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            AuditSettings(**changes)

    def test_that_do_not_say_what_they_learned_are_refused(self, pair, tmp_path):
        path = models.save_network(models.load_network(pair["b"]), tmp_path / "b", training=training(pair["b"], "data"))
        with pytest.raises(ValueError, match=r"b\.json does not say which samples it learned"):
            run_audit(self.audit(pair, second=str(path)), tmp_path / "out")

    def test_of_settings_that_are_not_known_are_refused(self, pair, tmp_path):
        paths = {}
        for name in ("a", "b"):
            about = training(pair[name])
            about["settings"]["unheard_of"] = 1
            paths[name] = str(models.save_network(models.load_network(pair[name]), tmp_path / name, training=about))
        with pytest.raises(ValueError, match=r"settings that this version of art-snn does not know: .*unheard_of"):
            run_audit(self.audit(paths), tmp_path / "out")


def training(path, *without):
    """What a network's file says of its training, but for some parts."""
    return {name: value for name, value in models.describe(path)["training"].items() if name not in without}


class TestLearnedSamples:
    """What was learned is neither attacked nor tuned on."""

    def folder(self, path, seed):
        generator = np.random.default_rng(seed)
        for part in ("train", "test"):
            for label in ("a", "b"):
                (path / part / label).mkdir(parents=True)
                for index in range(12):
                    pixels = generator.integers(0, 255, (8, 8, 3), np.uint8)
                    Image.fromarray(pixels).save(path / part / label / f"{index}.png")
        return path

    @pytest.fixture
    def roots(self, tmp_path, monkeypatch):
        monkeypatch.setattr("art.config.ART_DATA_PATH", str(tmp_path / "cache"))
        return [self.folder(tmp_path / name, seed) for seed, name in enumerate(("one", "other"))]

    def train(self, root, out, seed):
        settings = TrainSettings(
            data="image-folder",
            root=str(root),
            epochs=1,
            held_out=10,
            batch_size=2,
            width=0.25,
            time_steps=2,
            seed=seed,
        )
        return str(train(settings, out).path)

    def audit(self, target, second, **changes):
        settings = {
            "samples": 10,
            "sweep": (),
            "attacks": ("fgsm",),
            "chains": ("hart",),
            "plan": "none",
            "checks": False,
        }
        return AuditSettings(target=target, second=second, **(settings | changes))

    def test_a_pair_of_different_data_is_refused(self, roots, tmp_path):
        target, second = (self.train(root, tmp_path / f"{seed}", seed) for seed, root in enumerate(roots))
        with pytest.raises(
            ValueError, match=r"second must have learned target's data; .*training_arrays: '24 of sha256"
        ):
            run_audit(self.audit(target, second), tmp_path / "out")

    def test_other_data_than_was_learned_are_refused(self, roots, tmp_path):
        target, second = (self.train(roots[0], tmp_path / f"{seed}", seed) for seed in (0, 1))
        moved = roots[0].rename(tmp_path / "moved")
        run_audit(self.audit(target, second, root=str(moved)), tmp_path / "out")
        with pytest.raises(ValueError, match=r"root must hold the data that target learned; .*test_arrays: "):
            run_audit(self.audit(target, second, root=str(roots[1])), tmp_path / "out")
        Image.new("RGB", (8, 8)).save(moved / "train" / "a" / "added.png")
        with pytest.raises(ValueError, match=r"training_arrays: '24 of sha256 .*', now '25 of sha256 "):
            run_audit(self.audit(target, second, root=str(moved)), tmp_path / "out")

    def test_copies_of_training_images_are_left_out_and_counted(self, roots, tmp_path):
        for index in range(6):
            test = (roots[0] / "train" / "a" / f"{index}.png").read_bytes()
            (roots[0] / "test" / "b" / f"{index}.png").write_bytes(test)
            twice = (roots[0] / "train" / "b" / f"{index}.png").read_bytes()
            (roots[0] / "train" / "b" / f"{index + 6}.png").write_bytes(twice)
        target, second = (self.train(roots[0], tmp_path / f"{seed}", seed) for seed in (0, 1))
        subjects = given(self.audit(target, second, samples=18))
        data = load(TrainSettings(**training(target)["settings"]))
        learned, held_out = ({sample.tobytes() for sample in part[0]} for part in (data.learned, data.held_out))
        attacked, tuned_on = (
            {sample.tobytes() for sample in part.x} for part in (subjects.attacked, subjects.held_out)
        )
        assert held_out & learned  # there are such copies
        assert len(attacked) == 18 and not attacked & (learned | held_out)
        assert tuned_on and not tuned_on & learned
        assert subjects.description.endswith("without 6 test samples that equal a training sample")
        with pytest.raises(ValueError, match=r"test samples, 18, got 19; 6 equal a training sample"):
            given(self.audit(target, second, samples=19))

    def test_the_digits_hold_no_image_twice(self):
        (x_train, _), (x_test, _), _, _ = datasets.digits(seed=0, test_size=TEST_SHARE)
        assert len(unlike(x_test, x_train)) == len(x_test) and len(unlike(x_train, x_train[:5])) == len(x_train) - 5

    def test_a_conversion_over_event_frames_may_have_other_time_steps(self, tmp_path):
        paths = []
        for seed in (0, 1):
            settings = TrainSettings(
                data="event-digits",
                network="vgg_dvs",
                width=0.05,
                size=(16, 16),
                limit=60,
                epochs=1,
                held_out=20,
                batch_size=16,
                time_steps=3,
                spiking=False,
                seed=seed,
            )
            ann = train(settings, tmp_path / f"{seed}").path
            x = load(dataclasses.replace(settings, time_steps=5)).learned[0]
            network = models.convert(models.load_network(ann), x, time_steps=5)
            paths.append(str(models.save_network(network, tmp_path / f"converted{seed}", training=training(ann))))
        subjects = given(self.audit(*paths, eps=0.1))
        assert subjects.attacked.x.shape[1] == 5 and "T = 5" in subjects.description


class TestSuccessRate:
    def test_counts_only_what_was_correct_before(self):
        labels = np.array([0, 1, 2, 3, 4])
        clean = np.array([0, 1, 2, 0, 0])  # three correct
        attacked = np.array([0, 0, 0, 0, 0])  # two of them fooled; the others do not count
        assert outcomes(labels, clean, attacked) == "rffww"
        rate = row(outcomes(labels, clean, attacked)).rate
        assert (rate.fooled, rate.correct) == (2, 3)
        assert rate.percent == pytest.approx(200 / 3)

    def test_two_attacks_are_compared_sample_by_sample(self):
        pair = paired(row("ffffffrrw"), row("rrrrrffrw"))
        assert (pair.first, pair.second) == (5, 1)
        assert pair.p_value == pytest.approx(2 * (1 + 6) / 2**6)  # 5 or 6 of 6 tosses, on either side
        assert paired(row("fr"), row("fr")).p_value == 1.0
        with pytest.raises(ValueError, match="same samples"):
            paired(row("frw"), row("frr"))

    def test_without_a_correct_sample_there_is_no_rate(self):
        assert math.isnan(SuccessRate(0, 0).percent)
        assert SuccessRate(0, 0).interval() == (0.0, 100.0)

    def test_interval_is_wilsons(self):
        low, high = SuccessRate(10, 20).interval()
        assert (low, high) == pytest.approx((29.9298, 70.0702), abs=1e-3)
        assert SuccessRate(0, 20).interval()[0] == 0.0
        assert SuccessRate(20, 20).interval()[1] == 100.0

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match="one shape"):
            outcomes(np.zeros(3), np.zeros(3), np.zeros(2))


class TestSettings:
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"eps": -0.1}, "eps"),
            ({"eps": 0.0}, "eps"),
            ({"eps": 1.5}, "eps"),
            ({"eps": math.nan}, "eps"),
            ({"sweep": (0.1, -1.0)}, "sweep"),
            ({"attacks": ("fgsm", "bim")}, "attacks"),
            ({"attacks": ()}, "attacks"),
            ({"chains": ("hart", "hart")}, "chains"),
            ({"chains": ("bptt",)}, "chains"),
            ({"steps": 0}, "steps"),
            ({"step_size": 0.0}, "step_size"),
            ({"gamma": 0.0}, "gamma"),
            ({"gamma": 1.0, "chains": ("rga",)}, "gamma"),
            ({"time_steps": 0}, "time_steps"),
            ({"decay": 0.0}, "decay"),
            ({"decay": 1.1}, "decay"),
            ({"reset": "never"}, "reset"),
            ({"encoder": "rate"}, "encoder"),
            ({"epochs": 0}, "epochs"),
            ({"samples": 610}, "samples"),
            ({"samples": True}, "samples"),
            ({"seed": -1}, "seed"),
            ({"device": "tpu"}, "device"),
            ({"attacks": ("fgsm",), "steps": 7}, "steps"),
            ({"attacks": ("fgsm",), "step_size": 0.1}, "steps and step_size"),
        ],
    )
    def test_out_of_range_is_named(self, change, named):
        with pytest.raises(ValueError, match=f"^{named}"):
            AuditSettings(**change)

    def test_step_is_a_quarter_of_eps_unless_given(self):
        assert AuditSettings().alpha(0.2) == 0.05
        assert AuditSettings(step_size=0.01).alpha(0.2) == 0.01

    def test_the_tables_eps_is_part_of_the_sweep(self):
        assert AuditSettings(eps=0.15, sweep=(0.3, 0.1, 0.15)).all_eps() == [0.1, 0.15, 0.3]

    def test_samples_are_there(self):
        from art_snn import datasets

        _, (x_test, _), _, _ = datasets.digits(seed=0, test_size=TEST_SHARE)
        assert len(x_test) - HELD_OUT == 609

    def test_gammas_are_equally_spaced_as_a_scale_is(self):
        assert 1.0 in GAMMAS
        assert set(np.diff(np.log2([*GAMMA_LIMITS[:1], *GAMMAS, *GAMMA_LIMITS[1:]]))) == {5.0, 1.0, 3.0}


class TestSearchForGamma:
    def search(self, fooled, samples=1000):
        """What is tried, and chosen, where `fooled(γ)` of the samples are fooled."""

        def attack(gammas):
            return [row("f" * fooled(gamma) + "r" * (samples - fooled(gamma)), gamma=gamma) for gamma in gammas]

        search = look_for_gamma(attack)
        return [row.gamma for row in search], best(search).gamma

    @pytest.mark.parametrize("peak", [0.05, 0.1, 0.25, 0.4, 0.75, 1.0, 1.3, 2.0, 3.3, 4.0, 6.5, 11.0, 16.0, 24.0])
    def test_finds_a_peak_wherever_it_is(self, peak):
        tried, chosen = self.search(lambda gamma: 900 - int(100 * abs(np.log2(gamma / peak))))
        assert abs(np.log2(chosen / peak)) <= 0.3
        assert tried[0] < chosen < tried[-1]  # a γ at the edge of what was tried is not reported as the best
        assert 1.0 in tried and len(tried) <= 10

    def test_is_never_worse_than_gamma_1_there(self):
        generator = np.random.default_rng(0)
        for _ in range(50):
            rates = {}
            _, chosen = self.search(lambda gamma, rates=rates: rates.setdefault(gamma, int(generator.integers(1, 999))))
            assert rates[chosen] == max(rates.values()) >= rates[1.0]

    @pytest.mark.parametrize(("direction", "limit"), [(-1, GAMMA_LIMITS[0]), (1, GAMMA_LIMITS[1])])
    def test_ends_at_a_limit_and_says_so(self, direction, limit):
        tried, chosen = self.search(lambda gamma: 500 + int(direction * 50 * np.log2(gamma)))
        assert chosen == limit and limit in (tried[0], tried[-1]) and tried[0] > 0
        result = findings(
            *(
                row("frf", chain=c, scenario=s, gamma=g)
                for s in ("WBA", "BBA")
                for c, g in (("hart", limit), ("rga", None))
            )
        )
        assert f"a better γ may lie beyond for HART in white-box PGD at ε = 0.15 (γ = {limit:g})" in report.verdict(
            result
        )
        inside = findings(
            *(row("frf", chain=c, scenario=s, gamma=1.0) for s in ("WBA", "BBA") for c in ("hart", "rga"))
        )
        assert "may lie beyond" not in report.verdict(inside)

    def test_takes_the_smaller_of_equals(self):
        assert self.search(lambda gamma: 500 if 0.3 < gamma < 5 else 400) == ([0.25, 0.375, 0.5, 0.75, 1, 2, 4], 0.375)

    @pytest.mark.parametrize("fooled", [0, 1000])
    def test_goes_nowhere_where_gamma_decides_nothing(self, fooled):
        assert self.search(lambda gamma: fooled) == (list(GAMMAS), 1.0)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def result(networks):
    return run_audit(TINY, networks)


class TestAudit:
    def test_runs_what_was_asked(self, result):
        assert {(row.attack, row.scenario, row.chain) for row in result.rows} == {
            (attack, scenario, chain) for attack in TINY.attacks for scenario in ("WBA", "BBA") for chain in TINY.chains
        }
        assert result.trained == (True, True)
        assert result.accuracy[0] > 30

    def test_gamma_is_the_best_on_held_out_samples_and_the_smallest_of_equals_of_each_chain(self, result):
        chosen = [row for row in result.rows if row.chain != "cba"]
        assert {row.chain for row in chosen} == {"hart", "stbp-best", "mixed"}
        for row in chosen:
            tried = [s for s in result.search if s.setting == row.setting]
            assert {1.0, *GAMMAS} <= {s.gamma for s in tried}
            best = max(s.rate.fooled for s in tried)
            assert row.gamma == next(s.gamma for s in tried if s.rate.fooled == best)

    def test_every_samples_outcome_is_kept(self, result):
        from art_snn import datasets

        _, (x_test, _), _, _ = datasets.digits(seed=0, test_size=TEST_SHARE)
        assert np.array_equal(result.examples["clean"], x_test[result.attacked[:8]])
        for row in result.rows:
            assert len(row.outcomes) == len(result.attacked) == 40
            assert row.rate.percent == pytest.approx(100 * row.outcomes.count("f") / (40 - row.outcomes.count("w")))
        clean = 100 - 100 * result.rows[0].outcomes.count("w") / 40
        assert clean == pytest.approx(result.accuracy[0])

    def test_held_out_samples_are_not_attacked(self, result):
        from art_snn import datasets

        _, (x_test, _), _, _ = datasets.digits(seed=0, test_size=TEST_SHARE)
        assert np.array_equal(result.examples["clean"], x_test[HELD_OUT : HELD_OUT + 8])
        assert {row.rate.correct <= 40 for row in result.rows} == {True}

    def test_attacks_stay_within_eps(self, result):
        for name, images in result.examples.items():
            assert np.abs(images - result.examples["clean"]).max() <= TINY.eps + 1e-6, name
            assert images.min() >= 0 and images.max() <= 1

    def test_a_second_run_loads_and_finds_the_same(self, result, networks):
        again = run_audit(TINY, networks)
        assert again.trained == (False, False)
        assert [row.as_dict() for row in again.rows] == [row.as_dict() for row in result.rows]

    def test_so_it_does_with_poisson_noise(self, tmp_path):
        settings = dataclasses.replace(TINY, encoder="poisson", chains=("rga",), attacks=("fgsm",), steps=5)
        first, again = (run_audit(settings, tmp_path) for _ in range(2))
        assert (first.trained, again.trained) == ((True, True), (False, False))
        assert [row.as_dict() for row in again.rows] == [row.as_dict() for row in first.rows]

    def test_training_again_finds_the_same(self, result, tmp_path):
        again = run_audit(TINY, tmp_path)
        assert again.trained == (True, True)
        assert again.rows == result.rows

    def test_a_cut_run_goes_on_with_the_attack_that_was_not_finished(self, result, tmp_path, monkeypatch):
        done = stop_before_attack(6, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            run_audit(TINY, tmp_path)
        assert len(files(tmp_path)) == 5
        again = run_audit(TINY, tmp_path)
        assert len(done) == len(result.rows) + 1 and done[5] == done[6]
        assert again.rows == result.rows and again.search == result.search
        assert all(np.array_equal(again.examples[name], images) for name, images in result.examples.items())
        assert again.worst.as_dict()["fooled_by"] == result.worst.as_dict()["fooled_by"]

    def test_what_asks_for_more_computes_only_what_is_missing(self, result, networks, monkeypatch):
        done = stop_before_attack(1000, monkeypatch)
        more = dataclasses.replace(TINY, attacks=("fgsm", "pgd", "sapgd(max_iter=3)"), chains=("cba", "hart", "rga"))
        again = run_audit(more, networks)
        new = [row for row in again.rows if row.chain == "rga" or row.attack == "sapgd(max_iter=3)"]
        assert len(done) == len(new) == 2 * 2 + 2 * 3
        assert [row for row in again.rows if row not in new] == [
            row for row in result.rows if row.chain in ("cba", "hart")
        ]
        assert again.worst.as_dict() == result.worst.as_dict()  # seconds too: it was not computed again

    def test_an_attack_in_which_an_interruption_was_swallowed_is_not_kept(self, tmp_path):
        steps = []

        def advance():
            steps.append(1)
            if len(steps) == 2 * TINY.epochs + 3:  # where the command raises it again
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_audit(TINY, tmp_path, advance=advance)
        assert len(files(tmp_path)) + len(files(tmp_path, ".npz")) == 2

    def test_a_damaged_cell_is_computed_again(self, result, networks, monkeypatch):
        run_audit(TINY, networks)
        done = stop_before_attack(1000, monkeypatch)
        one, other, *_ = files(networks)
        for content in ("{", "[]", "", other.read_text()):
            one.write_text(content)
            assert run_audit(TINY, networks).rows == result.rows
        (block,) = files(networks, ".npz")
        block.write_bytes(block.read_bytes()[:1000])
        assert run_audit(TINY, networks).worst.as_dict()["fooled_by"] == result.worst.as_dict()["fooled_by"]
        assert len(done) == 4

    def test_kept_cells_of_other_samples_are_refused(self, tmp_path):
        Store(tmp_path, (row("rw"), [row("rr")])).put("key", (row("fw"), [row("fr")]))
        for attacked, held_out in (("rr", "rr"), ("rwr", "rr"), ("rw", "rw")):
            with pytest.raises(ValueError, match=r"key\.json does not fit this run; delete it"):
                Store(tmp_path, (row(attacked), [row(held_out)])).cell("key")
        assert Store(tmp_path, (row("rw"), [row("rr")])).cell("key") == (row("fw"), [row("fr")])

    def test_the_key_knows_settings_weights_and_samples(self, pair):
        settings = AuditSettings(target=pair["a"], second=pair["b"], samples=30)
        subjects = given(settings)
        change = dataclasses.replace
        cell = Cell("pgd", "BBA", "hart", 0.15, 0)
        keys = [key(settings, subjects)]
        for name, value in (
            *(("eps", 0.1), ("seed", 1), ("scenario", "WBA"), ("chain", "rga"), ("chain", "hart(gamma=2.0)")),
            *(("attack", "fgsm"), ("attack", "pgd(num_random_init=1)"), ("attack", "pgd(num_random_init=2)")),
        ):
            keys.append(key(settings, subjects, change(cell, **{name: value})))
        for name, value in (("steps", 6), ("step_size", 0.01), ("gamma", 0.5), ("norm", "2"), ("batch_size", 64)):
            keys.append(key(change(settings, **{name: value}), subjects))
        keys += [key(settings, given(change(settings, seed=1)))]
        with torch.no_grad():
            next(subjects.second.model.parameters())[0] += 1e-6
        keys += [key(settings, subjects)]
        assert len(set(keys)) == 1 + 8 + 5 + 2
        assert key(settings, given(settings)) == keys[0]
        assert key(change(settings, target="moved", second="too"), given(settings)) == keys[0]
        # What does not decide this cell leaves its key: other attacks, chains, ε, more seeds, the worst case's plan.
        more = {"attacks": ("pgd", "square"), "chains": ("hart",), "sweep": (), "repeats": 3, "plan": "none"}
        assert key(change(settings, **more), given(settings)) == keys[0]

    def test_the_key_knows_all_that_decides_a_networks_function(self):
        x, y = np.full((2, 4), 0.5, np.float32), np.eye(2, dtype=np.float32)

        def key_of(neuron=LIF, time_steps=3, encoder=None, change=lambda network: None, **arguments):
            torch.manual_seed(0)
            body = torch.nn.Sequential(torch.nn.Linear(4, 3), neuron(**arguments), torch.nn.Linear(3, 2))
            network = SpikingNetwork(body, time_steps, encoder).eval()
            change(network)
            loss = torch.nn.CrossEntropyLoss()
            classifier = PyTorchSNNClassifier(network, loss, (4,), 2, clip_values=(0.0, 1.0), device_type="cpu")
            samples = Samples(x, y)
            subjects = Subjects(classifier, classifier, samples, samples, "", {}, (False, False), {})
            before = key(AuditSettings(), subjects)
            classifier.chain, training = "rga", network.training
            classifier.loss_gradient(x, y)
            network.train(training)  # an attack leaves evaluation mode, as ART does
            assert key(AuditSettings(), subjects) == before  # else use changes nothing
            return before

        class Slower(LIF):
            """Other dynamics with the same numbers."""

        class Shifted(LIF):
            """A setting that it does not show."""

            def __init__(self, shift):
                super().__init__()
                self.shift = shift

        def poisson(seed=0, draw=0, noise=None):
            encoder = PoissonEncoder(seed)
            encoder.draws = draw
            encoder.freeze(noise)
            return encoder

        def changed(name, value):
            return lambda network: setattr(network.body[1], name, value)

        noise = torch.full((3, 1, 4), 0.5)
        keys = {
            "": key_of(),
            "T": key_of(time_steps=4),
            "λ": key_of(decay=0.8),
            "θ": key_of(threshold=1.5),
            "reset": key_of(reset="soft"),
            "v_rest": key_of(v_rest=-0.5),
            "type": key_of(Slower),
            "shift": key_of(Shifted, shift=1.0),
            "another shift": key_of(Shifted, shift=2.0),
            "λ, changed later": key_of(change=changed("decay", 0.7)),
            "float64": key_of(change=lambda network: network.double()),
            "training mode": key_of(change=lambda network: network.train()),
            "buffer": key_of(change=lambda network: network.register_buffer("b", torch.ones(2), persistent=False)),
            "encoder": key_of(encoder=poisson()),
            "encoder's seed": key_of(encoder=poisson(seed=1)),
            "frozen draw": key_of(encoder=poisson(draw=1)),
            "frozen noise": key_of(encoder=poisson(noise=noise)),
            "other frozen noise": key_of(encoder=poisson(noise=noise / 2)),
        }
        assert len(set(keys.values())) == len(keys)
        assert key_of() == keys[""] and key_of(encoder=poisson(noise=noise)) == keys["frozen noise"]

    @pytest.mark.parametrize("package", ["torch", "adversarial-robustness-toolbox", "art-snn"])
    def test_the_key_knows_versions(self, pair, package, monkeypatch):
        settings = AuditSettings(target=pair["a"], second=pair["b"], samples=30)
        subjects, versions = given(settings), cells.versions()
        before = key(settings, subjects)
        assert package in versions
        monkeypatch.setattr(cells, "versions", lambda: versions | {package: "another"})
        assert key(settings, subjects) != before

    def test_damaged_and_foreign_networks_are_named(self, result, networks, tmp_path):
        first, second = (path.stem for path in sorted((networks / "networks").glob("*.json")))
        folder = tmp_path / "networks"
        folder.mkdir()

        def kept(change):
            for path in (networks / "networks").iterdir():
                (folder / path.name).write_bytes(path.read_bytes())
            change()
            with pytest.raises(models.DamagedNetwork, match="and the network is trained again") as error:
                run_audit(TINY, tmp_path)
            return str(error.value)

        weights, description = folder / f"{first}.safetensors", folder / f"{first}.json"
        assert f"{first}.safetensors is damaged" in kept(lambda: weights.write_bytes(weights.read_bytes()[:100]))
        assert f"{first}.json is no JSON" in kept(lambda: description.write_text("{"))
        other = (networks / "networks" / f"{second}.json").read_text()
        assert f"{first}.json is of other settings" in kept(lambda: description.write_text(other))
        assert f"{first}.safetensors" in kept(weights.unlink)


def strict_json(path):
    """A file's JSON, which has no NaN and no infinity."""

    def refuse(word):
        raise AssertionError(f"{path} holds {word}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


class TestReport:
    def test_tables_show_every_chain_and_the_chosen_gamma(self, result):
        console = Console(width=150, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(report.table(result, "WBA"))
        text = console.export_text()
        for chain in TINY.chains:
            assert COLUMNS[chain].title in text
        assert "γ = " in text and "FGSM" in text and "PGD" in text
        assert f"{result.rate('pgd', 'WBA', 'cba', TINY.eps).rate.percent:.1f}" in text

    def test_the_verdict_says_which_chain_is_strongest(self, result):
        text = report.verdict(result)
        for scenario in ("white-box", "black-box"):
            assert scenario in text
        assert COLUMNS[result.strongest("pgd", "WBA")[0]].title in text
        assert report.headline(result).startswith("Target: small_cnn on digits, T = 2")

    def test_the_verdict_compares_the_two_strongest_sample_by_sample(self):
        rows = [
            row(letters, chain=c, scenario=s)
            for s in ("WBA", "BBA")
            for c, letters in (("hart", "ffffffrr"), ("rga", "rrrrrfrf"))
        ]
        assert (
            "white-box PGD: strongest HART, 75.0 % (95 % interval 40.9 to 92.9); 5 samples fooled by HART and not by "
            "RGA, 1 the other way (McNemar's exact test, p = 0.22)."
        ) in report.verdict(findings(*rows))

    def test_rows_of_other_samples_stand_in_no_table(self, tmp_path):
        right, other = row("frrw"), [row("frw", chain="rga"), row("ffff", chain="rga")]
        for wrong in other:
            with pytest.raises(ValueError, match=r"same samples.*pgd WBA hart at ε = 0.15: 3 of 4; pgd WBA rga"):
                findings(right, wrong)
            result = findings(right)
            result.rows.append(wrong)
            for put in (lambda r=result: report.table(r, "WBA"), lambda r=result: write_files(r, tmp_path)):
                with pytest.raises(ValueError, match="same samples"):
                    put()
        assert not list(tmp_path.iterdir())

    def test_a_target_that_gets_nothing_right_is_said_and_written_as_json(self, tmp_path):
        rows = [row("www", chain=chain, scenario=s) for s in ("WBA", "BBA") for chain in ("hart", "rga")]
        result = findings(*rows)
        result.examples = {name: np.zeros((2, 1, 8, 8)) for name in ("clean", "hart", "rga")}
        assert "no sample is classified correctly before the attack" in report.verdict(result)
        assert "nan" not in report.verdict(result)
        console = Console(width=150, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(report.table(result, "WBA"))
        assert "nan" not in console.export_text()
        write_files(result, tmp_path)
        everything = strict_json(tmp_path / "results.json")
        assert [entry["asr"] for entry in everything["results"]] == [None] * 4
        with (tmp_path / "results.csv").open(newline="") as file:
            assert {line["asr"] for line in csv.DictReader(file)} == {""}
        store = Store(tmp_path, (rows[0], [rows[0]]))
        store.put("key", (rows[0], []))
        strict_json(tmp_path / "key.json")
        assert store.cell("key") == (rows[0], [])

    def test_every_chain_has_a_column_and_a_title(self):
        assert set(everywhere()) < set(COLUMNS) and set(AuditSettings().chains) < set(COLUMNS)
        assert len({column.title for column in COLUMNS.values()}) == len(COLUMNS)

    def test_files(self, result, tmp_path):
        paths = write_files(result, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
        everything = strict_json(tmp_path / "results.json")
        assert everything["schema"] == 4
        assert set(everything["data"]) == {"training_arrays", "test_arrays"}
        assert everything["settings"]["eps"] == TINY.eps
        assert everything["attacked_samples"] == list(range(HELD_OUT, HELD_OUT + 40))
        assert [entry["outcomes"] for entry in everything["results"]] == [row.outcomes for row in result.rows]
        assert everything["seeds"] == {"data": 0, "target": 0, "second": 1}
        assert everything["versions"]["torch"]
        assert len(everything["results"]) == len(result.rows)
        assert len(everything["gamma_search"]) == len(result.search)
        with (tmp_path / "results.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert [float(line["asr"]) for line in lines] == [row.rate.percent for row in result.rows]
        table = pandas.read_parquet(tmp_path / "results.parquet")
        assert list(table["asr"]) == [row.rate.percent for row in result.rows] and list(table.columns) == list(lines[0])
        tried = table[(table["chain"] == "hart") & (table["attack"] == "pgd")]["tried"]
        assert (tried >= len(GAMMAS)).all() and (table[table["chain"] == "cba"]["tried"] == 0).all()
        outcomes = pandas.read_parquet(tmp_path / "samples.parquet")
        assert len(outcomes) == 40 * len(result.rows)
        one = outcomes[(outcomes["chain"] == "hart") & (outcomes["scenario"] == "BBA") & (outcomes["attack"] == "pgd")]
        assert list(one["sample"]) == result.attacked
        letters = result.rate("pgd", "BBA", "hart", TINY.eps).outcomes
        assert [outcome[0] for outcome in one["outcome"].astype(str)] == list(letters)
        for picture in ("asr_against_eps.png", "examples.png"):
            assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_file_leaves_the_old_one(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_is_named_by_the_file_that_was_wanted(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(OSError) as error, replacing(path):
        Path("/dev/full").write_text("results")
    assert error.value.filename == str(path) and not list(tmp_path.iterdir())
