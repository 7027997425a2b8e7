"""What an audit claims: rates, settings, samples kept apart, files whole or not there."""

from __future__ import annotations

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from art_snn import PoissonEncoder, datasets, models
from art_snn.audit import AuditSettings, kept, protocol, report, run_audit
from art_snn.audit.metrics import SuccessRate, success_rate
from art_snn.audit.settings import CHAINS, GAMMAS, HELD_OUT
from art_snn.audit.subjects import TEST_SHARE, given
from art_snn.files import replacing
from art_snn.identity import unlike
from art_snn.training import TrainSettings, train
from art_snn.training.data import load

TINY = AuditSettings(
    epochs=2, samples=40, time_steps=2, sweep=(), steps=2, chains=("cba", "stbp-best", "hart", "mixed")
)


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
        settings = {"samples": 30, "sweep": (), "steps": 2, "chains": ("hart", "rga"), "eps": 0.2}
        return AuditSettings(**(settings | {"target": pair["a"], "second": pair["b"]} | changes))

    def test_are_attacked_on_their_own_test_samples(self, pair, tmp_path):
        result = run_audit(self.audit(pair), tmp_path)
        assert result.description == "small_cnn (width 0.5) on digits, T = 3, λ = 0.9, hard reset, seed 0"
        assert result.seeds == {"data": 0, "order": 0, "target": 0, "second": 1}
        assert result.accuracy[0] > 50 and not list(tmp_path.iterdir())
        white, black = (result.rate("pgd", scenario, "hart", 0.2).rate for scenario in ("WBA", "BBA"))
        assert white.correct == black.correct <= 30 and white.fooled > 0
        report.write_files(result, tmp_path)
        assert json.loads((tmp_path / "results.json").read_text())["target"] == result.description

    def test_the_seed_decides_which_samples(self, pair, tmp_path):
        results = [run_audit(self.audit(pair, seed=seed, chains=("rga",)), tmp_path) for seed in (0, 0, 1)]
        images = [result.examples["clean"] for result in results]
        assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])

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
            ({"target": "a"}, "belong together"),
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
        settings = {"samples": 10, "sweep": (), "attacks": ("fgsm",), "chains": ("hart",)}
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
        rate = success_rate(labels, clean, attacked)
        assert (rate.fooled, rate.correct) == (2, 3)
        assert rate.percent == pytest.approx(200 / 3)

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
            success_rate(np.zeros(3), np.zeros(3), np.zeros(2))


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
            ({"reset": "none"}, "reset"),
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

    def test_gammas_are_equally_spaced(self):
        assert len(set(np.diff(GAMMAS).round(9))) == 1


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

    def test_gamma_is_the_best_on_held_out_samples_and_the_smallest_of_equals(self, result):
        chosen = [row for row in result.rows if row.chain == "hart"]
        assert chosen
        for row in chosen:
            tried = [
                s
                for s in result.search
                if (s.attack, s.scenario, s.chain, s.eps) == (row.attack, row.scenario, "hart", row.eps)
            ]
            assert [s.gamma for s in tried] == list(GAMMAS)
            best = max(s.rate.fooled for s in tried)
            assert row.gamma == next(s.gamma for s in tried if s.rate.fooled == best)
            mixed = result.rate(row.attack, row.scenario, "mixed", row.eps)
            assert mixed.gamma == row.gamma

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
        assert [row.as_dict() for row in again.rows] == [row.as_dict() for row in result.rows]

    def test_a_cut_run_goes_on_with_the_attack_that_was_not_finished(self, result, networks, monkeypatch):
        run, done = protocol._Attacks.run, []

        def noted(self, *args):
            done.append(args[:4])
            if len(done) == 6:
                raise KeyboardInterrupt
            return run(self, *args)

        monkeypatch.setattr(protocol._Attacks, "run", noted)
        with pytest.raises(KeyboardInterrupt):
            run_audit(TINY, networks)
        assert (networks / "attacks.json").exists()
        again = run_audit(TINY, networks)
        assert len(done) == len(result.rows) + 1 and done[5] == done[6]
        assert again.rows == result.rows and again.search == result.search
        assert all(np.array_equal(again.examples[name], images) for name, images in result.examples.items())
        assert not (networks / "attacks.json").exists()

    def test_what_another_audit_or_no_audit_left_is_not_used(self, result, networks, tmp_path):
        (row, *others), path = result.rows, tmp_path / "attacks.json"
        wrong = dataclasses.replace(row, rate=SuccessRate(0, 1))
        kept.Kept(path, "another key").add((wrong, []))
        assert kept.Kept(path, "another key").get(row.attack, row.scenario, row.chain, row.eps) == (wrong, [])
        for path_content in (path.read_text(), "{", "[]", ""):
            (networks / "attacks.json").write_text(path_content)
            assert run_audit(TINY, networks).rows == [row, *others]

    def test_the_key_knows_settings_weights_and_samples(self, pair):
        settings = AuditSettings(target=pair["a"], second=pair["b"], samples=30)
        subjects = given(settings)
        keys = [kept.key(settings, subjects), kept.key(dataclasses.replace(settings, eps=0.1), subjects)]
        keys += [kept.key(settings, given(dataclasses.replace(settings, seed=1)))]
        with torch.no_grad():
            next(subjects.second.model.parameters())[0] += 1e-6
        keys += [kept.key(settings, subjects)]
        assert len(set(keys)) == 4
        assert kept.key(settings, given(settings)) == keys[0]

    def test_damaged_and_foreign_networks_are_named(self, result, networks, tmp_path):
        first, second = (path.stem for path in sorted(networks.glob("*.json")))

        def kept(change):
            for path in networks.iterdir():
                (tmp_path / path.name).write_bytes(path.read_bytes())
            change()
            with pytest.raises(models.DamagedNetwork, match="and the network is trained again") as error:
                run_audit(TINY, tmp_path)
            return str(error.value)

        weights, description = tmp_path / f"{first}.safetensors", tmp_path / f"{first}.json"
        assert f"{first}.safetensors is damaged" in kept(lambda: weights.write_bytes(weights.read_bytes()[:100]))
        assert f"{first}.json is no JSON" in kept(lambda: description.write_text("{"))
        other = (networks / f"{second}.json").read_text()
        assert f"{first}.json is of other settings" in kept(lambda: description.write_text(other))
        assert f"{first}.safetensors" in kept(weights.unlink)


class TestReport:
    def test_tables_show_every_chain_and_the_chosen_gamma(self, result):
        console = Console(width=150, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(report.table(result, "WBA"))
        text = console.export_text()
        for chain in TINY.chains:
            assert report.TITLES[chain] in text
        assert "γ = " in text and "FGSM" in text and "PGD" in text
        assert f"{result.rate('pgd', 'WBA', 'cba', TINY.eps).rate.percent:.1f}" in text

    def test_the_verdict_says_which_chain_is_strongest(self, result):
        text = report.verdict(result)
        for scenario in ("white-box", "black-box"):
            assert scenario in text
        assert report.TITLES[result.strongest("pgd", "WBA")[0]] in text
        assert report.headline(result).startswith("Target: small_cnn on digits, T = 2")

    def test_every_chain_has_a_title(self):
        assert set(report.TITLES) == set(CHAINS)

    def test_files(self, result, tmp_path):
        paths = report.write_files(result, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
        everything = json.loads((tmp_path / "results.json").read_text())
        assert everything["settings"]["eps"] == TINY.eps
        assert everything["seeds"] == {"data": 0, "target": 0, "second": 1}
        assert everything["versions"]["torch"]
        assert len(everything["results"]) == len(result.rows)
        assert len(everything["gamma_search"]) == len(result.search)
        with (tmp_path / "results.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert [float(line["asr"]) for line in lines] == [row.rate.percent for row in result.rows]
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
