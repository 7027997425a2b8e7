"""A leaderboard entry, and whether what it claims holds: every claim that is false is found, and named."""

from __future__ import annotations

import copy
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from art_snn import LIF, PyTorchSNNClassifier, SpikingNetwork, adapt, datasets, evaluate, models
from art_snn.audit import AuditSettings, entry, report, run_audit, verify
from art_snn.audit.subjects import as_trained, load_as_trained, loader_options
from art_snn.chains import HART
from art_snn.cli import main
from art_snn.datasets.table import DATASETS, DataEntry
from art_snn.evaluation import Flag, Member
from art_snn.identity import of_arrays, versions
from art_snn.training import TrainSettings, train

TINY = {"epochs": 3, "samples": 40, "sweep": (), "chains": ("hart",), "attacks": ("fgsm",), "plan": "fast"}
TINY |= {"checks": False}

#: What an entry of RobustBench has.
ROBUSTBENCH = {
    *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture"),
    *("eps", "clean_acc", "reported", "footnote", "unreliable"),
}


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def audited(folder, **settings):
    """An audit's folder with its entry, and the entry."""
    result = run_audit(AuditSettings(**(TINY | settings)), folder)
    report.write_files(result, folder)
    return result, entry.read(entry.write(entry.of_audit(result, name="tiny", reported=50.0), folder / "entry.json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def made(folder):
    return audited(folder, time_steps=2)


@pytest.fixture(scope="module")
def network(made, folder):
    """The target's file, not the second network's."""
    result, _ = made
    kept = {path: models.load_network(path) for path in sorted((folder / "networks").glob("*.json"))}
    weights = next(result.subjects.target.model.parameters())
    return next(path for path, one in kept.items() if torch.equal(next(one.parameters()), weights))


@pytest.fixture
def case(made, folder):
    """What is verified: entry, arrays, classifier, inputs, labels."""
    result, plain = made
    adversarial = entry.read_adversarial(folder / "worst_case.npz")
    return SimpleNamespace(
        plain=copy.deepcopy(plain),
        adversarial=adversarial,
        classifier=result.subjects.target,
        clean=verify.Clean(result.subjects.attacked.x.copy(), result.subjects.attacked.labels.copy(), (0.0, 1.0)),
    )


def failed(case, sign=True):
    """Claims that do not hold; the digest of the adversarial inputs is of those that are there, if they are signed."""
    if sign:
        case.plain["adversarial"]["digest"] = of_arrays(case.adversarial["x_adv"].astype(np.float32))
    return [check.claim for check in verify.verify(**vars(case)) if not check.holds]


class TestEntry:
    def test_has_robustbenchs_names_and_what_was_found(self, made):
        result, plain = made
        assert set(plain) >= ROBUSTBENCH
        worst = result.worst
        assert plain["found"] == pytest.approx(100 * worst.robust_accuracy) and plain["reported"] == 50.0
        assert plain["clean_acc"] == pytest.approx(result.accuracy[0]) and plain["samples"] == 40
        assert (plain["norm"], plain["eps"], plain["dataset"], plain["architecture"]) == (
            *("Linf", 0.15, "digits"),
            "small_cnn",
        )
        assert plain["time_steps"] == 2 and plain["encoder"] == "DirectEncoder()" and plain["plan"] == worst.plan
        assert [layer["layer"] for layer in plain["neurons"]] == ["body.2", "body.6", "body.10"]
        assert plain["neurons"][0]["decay"] == 0.9 and plain["neurons"][0]["reset"] == "hard"
        assert plain["chains"] == worst.chains and plain["attacks"][0]["fooled"] == int((worst.fooled_by == 0).sum())
        assert plain["preprocessing_defences"] == [] and plain["clip_values"] == [0.0, 1.0]
        assert plain["unreliable"] is False and plain["flags"] == [] and plain["versions"] == versions()

    def test_says_which_flags_are_raised(self, made, case):
        result, _ = made
        flags = [Flag("unfinished", 7.0, 5.0, "it goes on", True)]
        plain = entry.entry(result.worst, case.classifier, case.clean.x, name="a", dataset="digits", flags=flags)
        assert plain["unreliable"] is True
        assert plain["flags"][0] == {"name": "unfinished", "value": 7.0, "limit": 5.0, "meaning": "it goes on"}
        assert "Flag unfinished: it goes on (7.0, limit 5.0)." in verify.notes(plain, case.classifier)

    def test_takes_flags_of_an_audit(self, made, monkeypatch):
        result, _ = made
        few = {"name": "few-samples", "value": 0.3, "limit": 0.2, "meaning": "few"}
        monkeypatch.setattr(result, "checks", [Flag(**few, raised=True), Flag("other", 0.0, 1.0, "", False)])
        assert entry.of_audit(result, name="a")["flags"] == [few]

    def test_of_adapted_networks_has_their_neurons_as_described(self):
        class Own(nn.Module):
            decay = 0.7

        network = adapt(
            nn.Sequential(nn.Linear(4, 8), Own(), nn.Linear(8, 3)).eval(),
            *(3,),
            call="sequence",
            neurons={Own: lambda module: LIF(module.decay, torch.linspace(0.5, 1.5, 8), "soft")},
        )
        (layer,) = entry._neurons(network)
        assert (layer["layer"], layer["type"], layer["decay"], layer["reset"]) == ("body.1", "Own", 0.7, "soft")
        assert layer["threshold"] == {"shape": [8], "smallest": 0.5, "largest": 1.5}

    def test_wants_the_inputs_of_the_result_and_one_ball(self, made, case):
        result, _ = made
        with pytest.raises(ValueError, match="x must be the inputs of result"):
            entry.entry(result.worst, case.classifier, case.clean.x + 0.1, name="a", dataset="digits")
        with pytest.raises(ValueError, match="reported must be in per cent"):
            entry.entry(result.worst, case.classifier, case.clean.x, name="a", dataset="digits", reported=101.0)
        with pytest.raises(ValueError, match=r"about must be some of authors, .*, got author"):
            entry.entry(result.worst, case.classifier, case.clean.x, name="a", dataset="digits", author="me")
        member = dataclasses.replace(_member(), norm=np.inf, eps=0.4)
        y = np.eye(10, dtype=np.float32)[case.clean.labels]
        wide = evaluate(case.classifier, case.clean.x, y, eps=0.01, plan=[member], verbose=False)
        with pytest.raises(ValueError, match=r"adversarial inputs outside ε = 0\.01, Linf"):
            entry.entry(wide, case.classifier, case.clean.x, name="a", dataset="digits")

    def test_needs_a_worst_case(self, made):
        result, _ = made
        with pytest.raises(ValueError, match="plan must not be none"):
            entry.of_audit(dataclasses.replace(result, worst=None), name="a")

    def test_digest_is_that_of_evaluation_mode_and_leaves_the_network_in_its_own(self, case):
        model = case.classifier.model
        before = entry.digest(model)
        model.train()
        model.body[0].eval()
        assert entry.digest(model) == before and model.training and not model.body[0].training
        model.eval()
        with torch.no_grad():
            next(model.parameters()).add_(1e-6)
        assert entry.digest(model) != before
        with torch.no_grad():
            next(model.parameters()).sub_(1e-6)


def _member():
    from art.attacks.evasion import FastGradientMethod

    return Member(FastGradientMethod, HART())


class TestClaims:
    def test_all_hold_of_what_an_audit_wrote(self, case):
        checks = verify.verify(**vars(case))
        assert [check.claim for check in checks if not check.holds] == []
        assert {"network", "data", "range", "ball", "labels", "clean_acc", "found", "success"} <= {
            check.claim for check in checks
        }

    def fooled(self, case, place=0):
        return int(np.flatnonzero(case.adversarial["fooled_by"] >= 0)[place])

    def test_the_ball(self, case):
        row = self.fooled(case)
        moved = case.clean.x[row] + np.where(case.clean.x[row] > 0.5, -0.16, 0.16)
        case.adversarial["x_adv"][row] = moved
        assert set(failed(case)) >= {"ball"} and "range" not in failed(case)
        assert "1 of 40 farther than Linf 0.15; the farthest is at 0.16" in next(
            check.words for check in verify.verify(**vars(case)) if check.claim == "ball"
        )
        assert {"found", "success"} <= set(failed(case))  # what lies outside fools nobody

    def test_the_euclidean_ball(self, case):
        case.plain["norm"], case.plain["eps"] = "L2", 0.2
        assert "ball" in failed(case)
        case.plain["eps"] = 2.0
        assert failed(case) == []

    def test_the_range(self, case):
        row = self.fooled(case)
        case.adversarial["x_adv"][row] = np.where(case.clean.x[row] < 0.1, -0.05, case.adversarial["x_adv"][row])
        assert set(failed(case)) >= {"range"} and "ball" not in failed(case)

    def test_the_range_that_is_claimed_is_that_of_the_data(self, case):
        for wider in ([-0.5, 1.0], [0.0, 1.5]):
            case.plain["clip_values"] = wider
            assert failed(case) == ["clip_values"]
        case.plain["clip_values"] = [None, None]
        assert failed(case) == ["clip_values"]
        case.clean = case.clean._replace(clip_values=None)
        assert failed(case) == []
        case.adversarial["x_adv"][0] = np.inf
        assert "range" in failed(case)

    def test_a_range_of_every_number_by_itself(self, case):
        case.plain["clip_values"] = [np.zeros((1, 8, 8)).tolist(), np.ones((1, 8, 8)).tolist()]
        assert failed(case) == []
        case.plain["clip_values"][1][0][3][3] = 1.1
        assert failed(case) == ["clip_values"]

    def test_numbers(self, case):
        case.adversarial["x_adv"][self.fooled(case), 0, 0, 0] = np.nan
        assert {"range", "ball", "found", "success"} <= set(failed(case))

    def test_the_labels(self, case):
        case.adversarial["labels"][0] = (case.adversarial["labels"][0] + 1) % 10
        assert failed(case) == ["labels"]

    def test_success_by_a_fresh_prediction(self, case):
        row = self.fooled(case)
        case.adversarial["x_adv"][row] = case.clean.x[row]
        assert failed(case) == ["found", "success"]
        case.plain["found"] += 100.0 / 40
        assert failed(case) == ["success"]
        del case.adversarial["fooled_by"]
        assert failed(case) == []

    def test_what_is_claimed_to_be_wrong_before(self, case):
        right = int(np.flatnonzero(case.adversarial["fooled_by"] == -1)[0])
        case.adversarial["fooled_by"][right] = -2
        assert failed(case) == ["success"]

    def test_accuracies(self, case):
        case.plain["clean_acc"] += 100.0 / 40
        case.plain["found"] -= 100.0 / 40
        assert failed(case) == ["clean_acc", "found"]

    def test_network_data_and_inputs(self, case):
        case.plain["network"]["digest"] = case.plain["data"]["digest"] = case.plain["adversarial"]["digest"] = "other"
        assert failed(case, sign=False) == ["network", "data", "adversarial inputs"]

    def test_as_many_samples_as_are_claimed(self, case):
        case.adversarial["x_adv"] = case.adversarial["x_adv"][:-1]
        assert failed(case) == ["shape"]
        case.plain["samples"] = 39
        case.clean = verify.Clean(case.clean.x[:-1], case.clean.labels[:-1])
        assert failed(case) == ["data", "shape"]  # there is a label more
        case.adversarial["labels"] = case.adversarial["labels"][:-1]
        assert failed(case) == ["data", "shape"]  # and a claim of success
        case.adversarial["fooled_by"] = case.adversarial["fooled_by"][:-1]
        assert "shape" not in failed(case)

    def test_predictions_that_change_from_one_to_the_next(self, case):
        class Noisy(nn.Module):
            def forward(self, x):
                return x + 0.5 * torch.rand_like(x)

        network = case.classifier.model
        noisy = SpikingNetwork(nn.Sequential(Noisy(), *network.body), network.time_steps).eval()
        case.classifier = PyTorchSNNClassifier(
            noisy, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu"
        )
        assert "predictions" in failed(case)

    def test_versions_and_what_was_reported_are_said(self, case):
        assert verify.notes(case.plain, case.classifier) == [
            f"Reported 50.0 %, found {case.plain['found']:.1f} % robust accuracy."
        ]
        case.plain["versions"]["torch"] = "0.1"
        case.plain["clip_values"] = [0.0, 2.0]
        first, *_, last = verify.notes(case.plain, case.classifier)
        assert first.startswith("Versions differ, by which predictions may: torch: '0.1', now")
        assert last == "The network takes inputs from 0.0 to 1.0."


class TestSamples:
    def test_are_those_of_the_data_set_as_the_entry_says_it_is_loaded(self, case):
        x, labels, clip = verify.samples(case.plain)
        assert np.array_equal(x, case.clean.x) and np.array_equal(labels, case.clean.labels) and clip == (0.0, 1.0)
        case.plain["data"]["options"]["seed"] = 1
        assert not np.array_equal(verify.samples(case.plain)[0], case.clean.x)

    def test_may_be_a_files(self, case, tmp_path):
        _, (x, y), _, _ = datasets.digits(seed=0, test_size=0.45)
        for labels in (y, y.argmax(1), y.argmax(1)[:, None]):
            np.savez(tmp_path / "samples.npz", x=x, y=labels, low=0, high=2)
            found = verify.samples(case.plain, str(tmp_path / "samples.npz"))
            assert np.array_equal(found[0], case.clean.x) and np.array_equal(found[1], case.clean.labels)
            assert found.clip_values == (0.0, 2.0)
        np.savez(tmp_path / "few.npz", x=case.clean.x, y=case.clean.labels)
        with pytest.raises(verify.NoData, match="is of samples 200 to 239, the data have 40"):
            verify.samples(case.plain, str(tmp_path / "few.npz"))
        case.plain["data"]["indices"] = None
        assert np.array_equal(verify.samples(case.plain, str(tmp_path / "few.npz"))[0], case.clean.x)

    @pytest.mark.parametrize(
        ("data", "root", "message"),
        [
            ("digitz", None, "data digitz is none of digits, "),
            ("digits", "there", "digits is embedded: it has no folder"),
            ("cifar10", None, "cifar10 is in a folder: say in which one"),
        ],
    )
    def test_that_cannot_be_had_are_said(self, case, data, root, message):
        with pytest.raises(verify.NoData, match=message):
            verify.samples(case.plain, data, root)

    def test_need_to_be_said_how(self, case):
        del case.plain["data"]["options"]
        with pytest.raises(verify.NoData, match="does not say how its data are loaded"):
            verify.samples(case.plain)

    def test_an_entry_decides_neither_folder_nor_download(self, case, monkeypatch):
        asked = {}

        def loader(root, *, limit=None, seed=0, size=None, download=False):
            asked.update(root=root, limit=limit, seed=seed, size=size, download=download)
            return (None, None), (np.zeros((240, 1, 8, 8)), np.eye(10)[np.zeros(240, int)]), 0.0, 1.0

        monkeypatch.setitem(DATASETS, "remote", DataEntry("remote", "remote", loader))
        case.plain["data"]["options"] = {"seed": 3, "size": [8, 8], "download": True, "root": "/", "verbose": True}
        verify.samples(case.plain, "remote", "mine")
        assert asked == {"root": "mine", "limit": None, "seed": 3, "size": (8, 8), "download": False}

    def test_options_of_event_data_have_the_networks_steps(self):
        assert loader_options(DATASETS["event-digits"], 4, 5) == {"seed": 4, "time_steps": 5, "size": (32, 32)}
        assert loader_options(DATASETS["digits"], 4, 5) == {"seed": 4}

    def test_of_a_converted_network_have_its_steps_and_the_scale_that_was_found(self, tmp_path):
        settings = {"data": "event-digits", "time_steps": 4, "scale": "max", "root": "/", "device": "cpu", "seed": 1}
        architecture = {"name": "vgg_dvs", "arguments": {}, "converted": {"time_steps": 7, "thresholds": []}}
        training = {"settings": settings, "scale": 3.0}
        (tmp_path / "a.json").write_text(json.dumps({"architecture": architecture, "training": training, "schema": 2}))
        expected = {"data": "event-digits", "time_steps": 7, "scale": 3.0, "seed": 1}
        assert as_trained(str(tmp_path / "a.json")) == expected


class TestOtherAudits:
    def test_of_a_trained_network(self, tmp_path):
        settings = TrainSettings(epochs=2, width=0.5, time_steps=2, data_seed=3)
        path = train(settings, tmp_path / "trained").path
        _, plain = audited(tmp_path, target=str(path), epochs=20, samples=30)
        training = plain["data"]["training"]
        assert training["data_seed"] == 3 and not {"root", "device"} & set(training)
        assert plain["network"]["source"] == str(path)
        assert load_as_trained(training).test[0].shape == (360, 1, 8, 8)
        done = invoke("verify", tmp_path / "entry.json", tmp_path / "worst_case.npz", "--network", path)
        assert done.exit_code == 0, done.output

    def test_of_poisson_encoding_with_its_frozen_noise(self, tmp_path):
        result, _ = audited(tmp_path, encoder="poisson", time_steps=2, samples=20)
        weights = next(result.subjects.target.model.parameters())
        paths = (tmp_path / "networks").glob("*.json")
        path = next(p for p in paths if torch.equal(next(models.load_network(p).parameters()), weights))
        done = invoke("verify", tmp_path / "entry.json", tmp_path / "worst_case.npz", "--network", path)
        assert done.exit_code == 0, done.output

    def test_of_a_function_and_a_file(self, tmp_path):
        _, (x, y), _, _ = datasets.digits(seed=0)
        np.savez(tmp_path / "samples.npz", x=x[:60], y=y[:60].argmax(1), low=0.0, high=1.0)
        (tmp_path / "net.py").write_text(
            "import torch\nfrom art_snn import models\n\n\ndef make():\n    torch.manual_seed(0)\n"
            "    return models.small_cnn(width=0.25, time_steps=2)\n\n\ndef other():\n    torch.manual_seed(1)\n"
            "    return models.small_cnn(width=0.25, time_steps=2)\n"
        )
        where, data = f"{tmp_path / 'net.py'}:make", str(tmp_path / "samples.npz")
        _, plain = audited(tmp_path, network=where, data=data, epochs=20, samples=30)
        assert plain["dataset"] == "samples.npz" and "options" not in plain["data"]
        files = (tmp_path / "entry.json", tmp_path / "worst_case.npz")
        done = invoke("verify", *files, "--network", where, "--data", data)
        assert done.exit_code == 0, done.output
        other = invoke("verify", *files, "--network", where.replace(":make", ":other"), "--data", data)
        assert other.exit_code == 1 and "FAILS  network" in other.output
        without = invoke("verify", *files, "--network", where)
        assert without.exit_code == 2 and "samples.npz is none of digits" in " ".join(without.output.split())


class TestCommand:
    def test_an_audit_writes_the_entry_when_asked(self, folder, made, network, tmp_path):
        for name in ("networks", "cells"):
            (tmp_path / name).symlink_to(folder / name)
        arguments = ["audit", "--epochs", 3, "--samples", 40, "--sweep", "", "--chains", "hart", "--attacks", "fgsm"]
        arguments += ["--plan", "fast", "--no-checks", "--time-steps", 2, "--jobs", 1, "--out", tmp_path]
        done = invoke(*arguments, "--entry", "tiny", "--reported", "50")
        assert done.exit_code == 0 and "entry.json" in done.output
        assert json.loads((tmp_path / "entry.json").read_text()) == made[1]
        done = invoke("verify", tmp_path / "entry.json", tmp_path / "worst_case.npz", "--network", network)
        assert done.exit_code == 0 and "All 12 claims hold." in done.output and "FAILS" not in done.output

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--entry", "a", "--plan", "none"], "plan must not be none"),
            (["--reported", "5"], "reported belongs to entry"),
            (["--entry", "a", "--reported", "500"], "reported must be from 0 to 100, got 500"),
        ],
    )
    def test_what_an_entry_needs_is_said_before_an_audit(self, arguments, message, tmp_path):
        done = invoke("audit", *arguments, "--out", tmp_path / "out")
        assert done.exit_code == 2 and message in " ".join(done.output.split()) and not (tmp_path / "out").exists()

    def test_claims_that_do_not_hold_are_named_and_the_exit_code_is_1(self, folder, made, network, tmp_path):
        plain = copy.deepcopy(made[1])
        plain["found"] += 2.5
        entry.write(plain, tmp_path / "entry.json")
        done = invoke("verify", tmp_path / "entry.json", folder / "worst_case.npz", "--network", network)
        assert done.exit_code == 1 and "1 of 12 claims do not hold: found." in done.output
        assert "FAILS  found" in done.output and "Traceback" not in done.output

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda p: p.pop("eps"), "is no entry: eps is None"),
            (lambda p: p.update(eps=True), "is no entry: eps is True"),
            (lambda p: p.update(schema=9), "is no entry of schema 1"),
            (lambda p: p.update(norm="L7"), "norm must be Linf or L2, got 'L7'"),
            (lambda p: p["network"].pop("digest"), "network has no digest"),
            (lambda p: p["data"].update(indices=["a"]), "indices must be whole numbers"),
            (lambda p: p["data"].update(indices=[3, 3]), "indices name a sample twice"),
            (lambda p: p.update(samples=0), "samples must be at least 1, got 0"),
            (
                lambda p: p.update(clip_values=[0.0]),
                "clip_values must be the smallest and the largest value, got [0.0]",
            ),
            (lambda p: p.update(clip_values=[0.0, None]), "clip_values must be the smallest and the largest value"),
            (lambda p: p.update(clip_values=["a", 1]), "clip_values must be the smallest and the largest value"),
            (lambda p: p["data"].update(indices=[0, 900]), "is of samples 0 to 900, the data have 809"),
            (lambda p: p.update(dataset="mine"), "data mine is none of digits"),
        ],
    )
    def test_entries_that_are_none_are_said_and_the_exit_code_is_2(
        self, change, message, folder, made, network, tmp_path
    ):
        plain = copy.deepcopy(made[1])
        change(plain)
        entry.write(plain, tmp_path / "entry.json")
        done = invoke("verify", tmp_path / "entry.json", folder / "worst_case.npz", "--network", network)
        assert done.exit_code == 2 and message in " ".join(done.output.split())

    def test_other_files_are_said_and_the_exit_code_is_2(self, folder, made, network, tmp_path):
        whole, (junk, empty) = folder / "worst_case.npz", (tmp_path / name for name in ("junk.npz", "empty.npz"))
        junk.write_text("{")
        np.savez(empty, x=np.ones(3))
        good = folder / "entry.json"
        for arguments, message in (
            ([junk, whole, "--network", network], "is no JSON file"),
            ([good, junk, "--network", network], "is no file .npz of arrays"),
            ([good, empty, "--network", network], "has no array x_adv, it has x"),
            ([good, whole, "--network", network, "--data", empty], "must hold arrays x and y, it has x"),
            ([good, whole, "--network", "nowhere.json"], "nowhere.json"),
            ([good, whole, "--network", "nowhere:make"], "gives no network"),
            ([good, whole, "--network", network, "--root", tmp_path], "digits is embedded"),
            ([good, tmp_path / "missing.npz", "--network", network], "does not exist"),
            ([good, whole], "Missing option '--network'"),
        ):
            done = invoke("verify", *arguments)
            assert done.exit_code == 2 and message in " ".join(done.output.split()), (done.output, message)
            assert "Traceback" not in done.output

    def test_arrays_of_objects_are_not_loaded(self, folder, made, network, tmp_path):
        np.savez(tmp_path / "a.npz", x_adv=np.array([{}], dtype=object), labels=np.zeros(1))
        done = invoke("verify", folder / "entry.json", tmp_path / "a.npz", "--network", network)
        assert done.exit_code == 2 and "is no file .npz of arrays" in " ".join(done.output.split())
