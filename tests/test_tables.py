"""What a newcomer touches: a chain, an attack, a data set is its own code and one line of a table."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from art.attacks.evasion import BasicIterativeMethod
from click.testing import CliRunner

from art_snn import models
from art_snn.attacks import ATTACKS, AttackEntry
from art_snn.attacks.table import IN_STEPS
from art_snn.audit import AuditSettings
from art_snn.audit.cells import Cell, Keys
from art_snn.audit.columns import COLUMNS
from art_snn.audit.subjects import given
from art_snn.chains import CHAINS, HART, BackwardChain, Mixed, get_chain
from art_snn.chains.table import TABLE, ChainEntry
from art_snn.cli import main
from art_snn.cli.audit import audit
from art_snn.cli.train import train
from art_snn.datasets.table import DATASETS, DataEntry
from art_snn.training import TrainSettings
from art_snn.training import train as run_training
from art_snn.training.data import load
from art_snn.training.networks import NETWORKS

HERE = ["--jobs", "1", "--plan", "none", "--no-checks"]
SMALL = [*HERE, "--epochs", "1", "--samples", "20", "--time-steps", "2", "--sweep", "", "--attacks", "fgsm"]


@contextmanager
def listed(table, entry):
    """A table with one entry more."""
    table.add(entry)
    try:
        yield entry
    finally:
        del table[entry.name]


def command(*arguments) -> str:
    """What a command prints, on lines of any length."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@dataclass(frozen=True)
class Window(BackwardChain):
    """A chain of one's own: a gradient crosses where the mean current is within γ of the threshold."""

    gamma: float = 1.0

    def backward(self, grad_spikes, trace):
        return grad_spikes * self.gain(trace)

    def gain(self, trace):
        return ((trace.mean_current - trace.threshold).abs() < self.gamma).to(trace.mean_current.dtype)


def stripes(*, seed: int = 0, limit: int | None = None):
    """A data set of one's own: stripes of two directions."""
    generator, parts = np.random.default_rng(seed), []
    for number in (limit or 120, 40):
        labels = np.arange(number) % 2
        x = generator.uniform(0.0, 0.3, (number, 1, 8, 8)).astype(np.float32)
        x[labels == 0, :, ::2] += 0.6
        x[labels == 1, :, :, ::2] += 0.6
        parts.append((x, np.eye(2, dtype=np.float32)[labels]))
    return parts[0], parts[1], 0.0, 1.0


def key(settings, cell):
    """A cell's key."""
    return Keys(settings, given(settings)).of(cell)


class TestAChain:
    def test_of_ones_own_is_audited_with_a_gamma_of_its_own(self, tmp_path):
        with listed(TABLE, ChainEntry("window", "Window", Window, at_gamma=Window)):
            assert get_chain("Window") == Window() and list(CHAINS)[-1] == "window"
            assert Mixed(["window", "hart"]).chains == (Window(), HART())
            assert "window" in AuditSettings().chains and "mixed or window" in command("audit", "--help")
            said = command("audit", *SMALL, "--chains", "window,rga", "--out", tmp_path)
            assert "Window" in said and "γ of Window is chosen" in said
            found = json.loads((tmp_path / "results.json").read_text())
            rows = [row for row in found["results"] if row["chain"] == "window"]
            assert len(rows) == 2 and all(row["gamma"] > 0 for row in rows)
            assert {row["chain"] for row in found["gamma_search"]} == {"window"}
        assert "window" not in CHAINS and "window" not in AuditSettings().chains

    def test_without_a_gamma_has_none_chosen(self):
        with listed(TABLE, ChainEntry("plain", "Plain", Window)):
            assert not COLUMNS["plain"].tuned
            with pytest.raises(ValueError, match="gamma belongs to stbp, hart, mixed, chain is 'plain'"):
                TABLE["plain"].chain(2.0)
            with pytest.raises(ValueError, match="gamma belongs to stbp-best, hart, mixed, none of which"):
                AuditSettings(chains=("plain",), gamma=1.0)

    def test_whose_default_gamma_is_a_figure_of_its_own_has_two_columns(self):
        with listed(TABLE, ChainEntry("window", "Window", Window, at_gamma=Window, default_too=True)):
            both = [COLUMNS[name] for name in ("window", "window-best")]
            assert [column.title for column in both] == ["Window", "Window, best γ"]
            assert [column.tuned for column in both] == [False, True]
        assert [name for name, column in COLUMNS.items() if column.tuned] == ["stbp-best", "hart", "mixed"]

    def test_trains_adversarially_and_learns_where_its_line_says_so(self):
        with listed(TABLE, ChainEntry("window", "Window", Window, at_gamma=Window, learns=True)):
            settings = TrainSettings(attack="fgsm", chain="window", gamma=0.5, training_chain="window")
            assert settings.chain == "window" and "stbp, hart or window" in command("train", "--help")
        with pytest.raises(ValueError, match="chain must be one of"):
            TrainSettings(chain="window")

    def test_of_the_same_name_but_other_parameters_is_not_taken_for_this_one(self, pair):
        settings = {"target": pair[0], "second": pair[1], "samples": 30, "chains": ("window",)}
        keys = []
        for make in (Window, partial(Window, 2.0), HART):
            with listed(TABLE, ChainEntry("window", "Window", make)):
                keys.append(key(AuditSettings(**settings), Cell("pgd", "WBA", "window", 0.15, 0)))
        assert len(set(keys)) == 3

    def test_cannot_take_anothers_name(self):
        with pytest.raises(ValueError, match=r"name must be another .*'hart'"):
            TABLE.add(ChainEntry("hart", "Mine", Window))
        assert TABLE["hart"].make is HART


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    settings = {"epochs": 1, "width": 0.25, "time_steps": 2}
    return [str(run_training(TrainSettings(seed=seed, **settings), folder / f"{seed}").path) for seed in (0, 1)]


BIM = AttackEntry("bim", "BIM", partial(BasicIterativeMethod, verbose=False), IN_STEPS)


class TestAnAttack:
    def test_is_run_by_audit_and_training(self, pair, tmp_path):
        with listed(ATTACKS, BIM):
            assert "fgsm, pgd, sapgd or bim" in command("audit", "--help")
            assert "none, fgsm, pgd, sapgd or bim" in command("train", "--help")
            networks = ["--target", pair[0], "--second", pair[1], "--samples", 20, "--sweep", "", "--chains", "hart"]
            said = command(
                "audit",
                *networks,
                "--attacks",
                "bim",
                "--steps",
                3,
                "--plan",
                "none",
                "--jobs",
                1,
                "--out",
                tmp_path / "audit",
            )
            assert "BIM takes 3 steps of 0.0375." in said and "white-box BIM: strongest HART" in said
            options = ["--epochs", 1, "--width", 0.25, "--time-steps", 2, "--limit", 100, "--held-out", 20]
            said = command("train", "--attack", "bim", "--steps", 2, *options, "--out", tmp_path / "train")
            assert "under BIM, ε = " in said
        with pytest.raises(ValueError, match="attacks: there is no attack 'bim': there are fgsm, pgd, sapgd, and"):
            AuditSettings(attacks=("bim",))

    def test_gets_the_settings_that_it_takes(self):
        given = ATTACKS["pgd"].on(classifier(), eps=0.2, batch_size=7, steps=3, step_size=0.05)
        assert (given.eps, given.eps_step, given.max_iter, given.batch_size) == (0.2, 0.05, 3, 7)
        given = ATTACKS["fgsm"].on(classifier(), eps=0.2, batch_size=7, steps=3, step_size=0.05)
        assert (given.eps, given.batch_size) == (0.2, 7)

    def test_of_the_same_name_but_another_make_is_not_taken_for_this_one(self, pair):
        settings = AuditSettings(target=pair[0], second=pair[1], samples=30)
        keys = []
        for make, takes in ((BIM.make, IN_STEPS), (partial(BIM.make, verbose=True), IN_STEPS), (BIM.make, {})):
            with listed(ATTACKS, AttackEntry("bim", "BIM", make, takes)):
                wanted = AuditSettings(target=pair[0], second=pair[1], samples=30, attacks=("bim",))
                keys.append(key(wanted, Cell("bim", "WBA", "hart", 0.15, 0)))
        assert len({key(settings, Cell("pgd", "WBA", "hart", 0.15, 0)), *keys}) == 4


def classifier():
    settings = TrainSettings(width=0.25, time_steps=2)
    from art_snn.training.loop import classifier_for, fresh_network

    data = load(settings)
    return classifier_for(fresh_network(settings, data), data, "cpu")


class TestADataSet:
    def test_is_trained_on_and_audited(self, tmp_path):
        with listed(DATASETS, DataEntry("stripes", "stripes of two directions", stripes, padding=1)) as entry:
            assert entry.embedded and not entry.events and "stripes (embedded)" in command("train", "--help")
            options = ["--width", 0.25, "--time-steps", 2, "--batch-size", 20, "--held-out", 20, "--epochs", 2]
            for seed in (0, 1):
                said = command("train", "--data", "stripes", *options, "--seed", seed, "--out", tmp_path / f"{seed}")
                assert "test accuracy" in said
            networks = [str(tmp_path / f"{seed}" / "network.json") for seed in (0, 1)]
            assert models.load_network(networks[0]).body[-1].out_features == 2
            subjects = given(AuditSettings(target=networks[0], second=networks[1], samples=40))
            assert "small_cnn (width 0.25) on stripes of two directions, T = 2" in subjects.description

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"root": "x"}, "root belongs to data sets on disk; stripes is embedded"),
            ({"size": (8, 8)}, "size belongs to event-digits, image-folder, nmnist, .*; stripes has its own"),
            ({"scale": 2.0}, "scale belongs to event data"),
            ({"drop_outside": True}, "drop_outside belongs to nmnist, cifar10dvs, dvsgesture; data is 'stripes'"),
            ({"network": "vgg_dvs"}, "network vgg_dvs is for event data"),
        ],
    )
    def test_takes_the_settings_that_its_loader_takes(self, settings, message):
        with (
            listed(DATASETS, DataEntry("stripes", "stripes", stripes)),
            pytest.raises(ValueError, match=message),
        ):
            TrainSettings(data="stripes", **settings)

    def test_what_the_loaders_of_the_package_take(self):
        def which(of):
            return {name for name, entry in DATASETS.items() if of(entry)}

        events = {"event-digits", "nmnist", "cifar10dvs", "dvsgesture"}
        assert which(lambda entry: entry.events) == events
        assert which(lambda entry: entry.embedded) == {"digits", "event-digits"}
        assert which(lambda entry: "size" in entry.takes) == {*events, "image-folder"}
        assert which(lambda entry: "drop_outside" in entry.takes) == events - {"event-digits"}
        assert which(lambda entry: "verbose" in entry.takes) == {*events, "image-folder"} - {"event-digits"}
        assert which(lambda entry: "download" in entry.takes) == {
            *("cifar10", "cifar100", "nmnist", "cifar10dvs", "dvsgesture")
        }
        assert {name: entry.size for name, entry in DATASETS.items() if entry.size} == {
            "event-digits": (32, 32),
            "nmnist": (32, 32),
        }

    def test_without_an_archive_is_not_downloaded(self):
        with pytest.raises(ValueError, match="download belongs to data sets with an archive"):
            load(TrainSettings(data="image-folder", root="x"), download=True)


def test_networks_of_the_table_are_those_that_files_name():
    assert set(NETWORKS) == set(models.storage.BUILDERS)


@pytest.mark.parametrize(("of", "settings"), [(audit, AuditSettings), (train, TrainSettings)])
class TestACommand:
    needed = ("--out", "somewhere")

    def own(self, of, settings, *arguments):
        """Settings that a command makes of its arguments."""
        parameters = of.make_context("", [*arguments, *self.needed]).params
        return settings(**{field.name: parameters[field.name] for field in fields(settings)})

    def test_has_an_option_for_each_setting_with_its_default(self, of, settings):
        assert self.own(of, settings) == settings()

    def test_says_what_the_setting_says(self, of, settings):
        said = command(of.name, "--help")
        for field in fields(settings):
            assert f"--{field.name.replace('_', '-')} " in said
            assert f":param {field.name}: {field.metadata['about'].meaning}" in settings.__doc__

    def test_reads_an_option_as_its_type_wants(self, of, settings):
        changed = self.own(of, settings, "--eps", "0.1", "--steps", "7", "--gamma", "2", "--reset", "soft")
        assert (changed.eps, changed.steps, changed.gamma, changed.reset) == (0.1, 7, 2.0, "soft")


def test_lists_pairs_and_switches_are_read():
    of = TestACommand()
    assert of.own(audit, AuditSettings, "--sweep", "0.1, 0.2", "--chains", "HART,rga").chains == ("hart", "rga")
    assert of.own(audit, AuditSettings, "--sweep", "").sweep == ()
    events = ["--data", "event-digits", "--size", "16,12", "--scale", "8", "--ann", "--mixed-precision"]
    made = of.own(train, TrainSettings, *events)
    assert (made.size, made.scale, made.spiking, made.mixed_precision) == ((16, 12), 8.0, False, True)
    assert of.own(train, TrainSettings, "--data", "event-digits", "--scale", "max").scale == "max"


def test_no_name_of_a_table_is_repeated_elsewhere():
    """But for defaults of settings, for the networks and files that have a name of their own, and for the paper's."""
    package = Path(models.__file__).parents[1]
    allowed = {
        *package.glob("*/table.py"),
        *package.glob("models/*"),
        *package.glob("datasets/*"),
        *package.glob("suites/*"),
    }
    allowed |= {*package.glob("suites/*"), package / "training" / "networks.py"}
    found = []
    for path in {*package.rglob("*.py")} - allowed:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            default = "setting(" in line or 'chain: str | BackwardChain = "' in line
            for name in (*COLUMNS, *ATTACKS, *DATASETS, *NETWORKS):
                if f'"{name}"' in line and not default:
                    found.append(f"{path.name}:{number}: {line.strip()}")
    assert not found


def test_a_run_of_all_chains_is_as_the_table_orders_them():
    assert AuditSettings().chains == ("cba", "bptr", "stbp", "stbp-best", "rga", "hart", "rate", "mixed")
    assert AuditSettings().attacks == ("fgsm", "pgd")
