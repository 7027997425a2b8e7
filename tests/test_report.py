"""What an audit leaves on disk says all that it found, and is drawn again from there."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import shlex
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from click.testing import CliRunner
from PIL import Image
from torch import nn

import art_snn
from art_snn import LIF, PyTorchSNNClassifier, SpikingNetwork
from art_snn.audit import AuditResult, AuditSettings, figures, files, html, pictures, run_audit, tables
from art_snn.audit.command import command
from art_snn.audit.drawing import COLOURS, plain
from art_snn.audit.examples import CLEAN, NEURONS, TRUE, LayerSpikes, Raster, spikes
from art_snn.audit.metrics import Row
from art_snn.audit.subjects import Samples, Subjects
from art_snn.cli import main
from art_snn.cli.audit import audit as audit_command
from art_snn.evaluation import Flag, WorstCase

TINY = AuditSettings(
    epochs=2, samples=30, time_steps=3, sweep=(0.1,), steps=2, chains=("cba", "hart", "stbp(detach_reset=True)"),
    plan="fast", repeats=2,
)  # fmt: skip
NAME = "<script>alert('$x_1$ & \"y\"')</script>"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An audit, and the folder where it was written."""
    path = tmp_path_factory.mktemp("audit")
    return run_audit(TINY, path, write=lambda result: files.write_files(result, path)), path


@pytest.fixture(scope="module")
def folder(written):
    return written[1]


@pytest.fixture(scope="module")
def result(folder):
    return files.load(folder)


def row(letters, chain="hart", scenario="WBA", attack="pgd", eps=0.15, gamma=None, **more):
    return Row(attack, scenario, chain, eps, gamma, letters, **more)


def findings(*rows, **settings):
    """Findings without a worst case, an example and a network."""
    audit = AuditSettings(**({"chains": ("hart", "rga"), "attacks": ("pgd",), "sweep": (), "plan": "none"} | settings))
    return AuditResult(audit, "a network", {}, (75.0, 75.0), (False, False), 8, rows=list(rows))


def four(**settings):
    """Findings of two chains, white-box and black-box."""
    letters = {("WBA", "hart"): "ffrw", ("WBA", "rga"): "fffw", ("BBA", "hart"): "rrrw", ("BBA", "rga"): "frrw"}
    return findings(*(row(found, chain, scenario) for (scenario, chain), found in letters.items()), **settings)


class TestRoundTrip:
    def test_all_that_was_found_is_read_again(self, written):
        written, folder = written
        read = files.load(folder)
        arrays = ("examples", "classes", "worst", "raster")
        for each in dataclasses.fields(AuditResult):
            if each.name not in (*arrays, "trained", "subjects"):  # by reading, nothing is trained, or there
                assert getattr(read, each.name) == getattr(written, each.name), each.name
        for one, other in zip(
            (*written.rows, *written.search), (*read.rows, *read.search), strict=True
        ):  # seconds are not compared above
            assert one.seconds == other.seconds > 0
        for name in ("examples", "classes"):
            one, other = getattr(written, name), getattr(read, name)
            assert list(one) == list(other) and all(np.array_equal(one[key], other[key]) for key in one)
        for each in dataclasses.fields(WorstCase):
            assert np.array_equal(getattr(written.worst, each.name), getattr(read.worst, each.name)), each.name
        assert read.raster.layers and (read.raster.sample, read.raster.chain) == (
            written.raster.sample,
            written.raster.chain,
        )
        for one, other in zip(written.raster.layers, read.raster.layers, strict=True):
            assert np.array_equal(one.spikes, other.spikes)
            assert dataclasses.replace(one, spikes=None) == dataclasses.replace(other, spikes=None)

    def test_what_is_read_is_written_byte_for_byte(self, folder, result, tmp_path):
        paths = files.write_files(result, tmp_path)
        assert {"results.json", "examples.npz", "worst_case.npz", "report.html", "gamma.pdf", "spikes.png"} <= {
            path.name for path in paths
        }
        for path in paths:
            assert path.read_bytes() == (folder / path.name).read_bytes(), path.name

    def test_without_arrays_too(self, tmp_path):
        files.write_files(four(), tmp_path)
        read = files.load(tmp_path)
        assert read.rows == four().rows and read.examples == {} and read.worst is None and read.raster is None
        assert not list(tmp_path.glob("*.npz"))

    def test_versions_are_those_of_the_audit_not_of_the_reader(self, tmp_path):
        result = four()
        result.versions = {"torch": "0.0.1"}
        files.write_files(result, tmp_path)
        assert files.load(tmp_path).versions == {"torch": "0.0.1"}
        assert "0.0.1" in (tmp_path / "report.html").read_text(encoding="utf-8")

    def test_flags_are_read_again(self, tmp_path):
        result = four()
        result.checks = [
            Flag("few-samples", 0.3, 0.2, "the interval is wide", True),
            Flag("planted-missed", None, 0.1, "nothing could be planted", False),
        ]
        files.write_files(result, tmp_path)
        assert files.load(tmp_path).checks == result.checks
        assert "few-samples" in (tmp_path / "report.html").read_text(encoding="utf-8")

    def test_figures_of_an_earlier_audit_do_not_stay(self, folder, tmp_path):
        for path in folder.iterdir():
            if path.is_file():
                (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "mine.png").write_bytes(b"")
        paths = files.write_files(four(), tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {*(path.name for path in paths), "mine.png"}
        assert not (tmp_path / "spikes.png").exists() and not (tmp_path / "worst_case.npz").exists()

    def damaged(self, folder, tmp_path, change):
        for name in ("results.json", "examples.npz", "worst_case.npz"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        plain = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
        change(plain)
        (tmp_path / "results.json").write_text(json.dumps(plain), encoding="utf-8")
        with pytest.raises(files.NoFindings) as error:
            files.load(tmp_path)
        return str(error.value)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda plain: plain.update(schema=3), r"results\.json is of schema 3, this art-snn reads 4"),
            (lambda plain: plain.update(schema=True), "is of schema True"),
            (lambda plain: plain.pop("data"), r"is not as an audit writes it \(KeyError: 'data'\)"),
            (lambda plain: plain["settings"].update(unheard_of=1), "unheard_of"),
            (lambda plain: plain["settings"].update(eps=-1), "eps must be a number above 0"),
            (lambda plain: plain["results"][0].update(outcomes="x" * 30), "outcomes must consist of"),
            (lambda plain: plain["results"][0].update(outcomes="w" * 30), "same samples"),
            (lambda plain: plain["worst_case"]["fooled_by"].reverse(), "are not of one audit"),
            (lambda plain: plain["examples"]["inputs"].append("more"), "inputs/more"),
        ],
    )
    def test_other_findings_are_refused(self, folder, tmp_path, change, message):
        assert re.search(message, self.damaged(folder, tmp_path, change))

    def test_missing_and_damaged_arrays_are_named(self, folder, tmp_path):
        def cut(plain):
            path = tmp_path / "examples.npz"
            path.write_bytes(path.read_bytes()[:200])

        assert re.search(r"examples\.npz is damaged", self.damaged(folder, tmp_path, cut))
        missing = self.damaged(folder, tmp_path, lambda plain: (tmp_path / "worst_case.npz").unlink())
        assert re.search(r"worst_case\.npz is missing: give the audit's command again", missing)


class TestCommand:
    def test_draws_it_again_without_computing(self, folder, tmp_path, monkeypatch):
        for name in ("results.json", "examples.npz", "worst_case.npz"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        monkeypatch.setattr(SpikingNetwork, "forward", None)
        done = CliRunner().invoke(main, ["report", str(tmp_path)])
        assert done.exit_code == 0, done.output
        for path in folder.iterdir():
            if path.is_file():
                assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name
        assert "Worst case at ε = 0.15" in done.output and f"wrote {tmp_path / 'report.html'}" in done.output
        assert not (tmp_path / ".lock").exists()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "is no folder of an audit: it has no results.json"),
            ("{", "is no JSON file"),
            ("[]", "of schema None"),
        ],
    )
    def test_a_folder_without_findings_is_a_message(self, tmp_path, content, message):
        if content is not None:
            (tmp_path / "results.json").write_text(content)
        done = CliRunner().invoke(main, ["report", str(tmp_path)])
        assert done.exit_code == 1 and message in done.output and "Traceback" not in done.output

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"eps": 0.1, "sweep": (), "chains": ("cba", "stbp(surrogate=ATan(2.0), detach_reset=True)"), "repeats": 3},
            {"attacks": ("sapgd(max_iter=50)", "AutoProjectedGradientDescent"), "plan": "none", "norm": "2"},
            {"network": "my nets/net's.py:make", "data": "samples of $HOME.npz", "same_gradient": True},
            {
                "checks": False,
                "network": "net.py:make",
                "sources": ("net.py:other", "ann.py:make"),
                "second": "net.py:third",
            },
            {"sweep": (0.05, 1e-7, 1 / 3), "gamma": 1 / 3, "step_size": 0.1, "encoder": "poisson"},
        ],
    )
    def test_that_reproduces_it_gives_the_same_settings(self, changes):
        settings = AuditSettings(**changes)
        program, name, *options = shlex.split(command(settings))
        assert (program, name) == ("art-snn", "audit")
        given = audit_command.make_context("audit", options).params
        assert AuditSettings(**{each.name: given[each.name] for each in dataclasses.fields(settings)}) == settings


class TestSpikes:
    def test_are_those_of_the_prediction(self):
        body = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 12), LIF(threshold=0.2), nn.Linear(12, 9), LIF(0.5, 0.2), nn.Linear(9, 3)
        )
        network = SpikingNetwork(body, 5).eval()
        classifier = PyTorchSNNClassifier(network, nn.CrossEntropyLoss(), (1, 4, 4), 3, device_type="cpu")
        x = np.random.default_rng(0).uniform(0, 2, (3, 1, 4, 4)).astype(np.float32)
        found = spikes(classifier, x)
        assert [(name, fired.shape) for name, fired in found] == [("body.2", (3, 5, 12)), ("body.4", (3, 5, 9))]
        for name, fired in found:
            assert fired.any() and np.allclose(fired.mean(1), classifier.get_activations(x, name))
        with torch.no_grad():  # the last layer's spikes give the logits
            logits = body[5](torch.as_tensor(found[1][1], dtype=torch.float32)).mean(1).numpy()
        assert np.allclose(logits, classifier.predict(x), atol=1e-6)

    def test_of_a_layer_that_is_visited_twice_and_of_an_adapted_network_that_runs_step_by_step(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear, self.neurons = nn.Linear(6, 6), LIF(decay=1.0, threshold=0.3)

            def forward(self, x):
                return self.neurons(self.linear(self.neurons(x)))

        x = np.random.default_rng(0).uniform(0, 1, (2, 6)).astype(np.float32)
        loss = nn.CrossEntropyLoss()
        twice = PyTorchSNNClassifier(SpikingNetwork(Twice(), 4).eval(), loss, (6,), 6, device_type="cpu")
        found = spikes(twice, x)
        assert [name for name, _ in found] == ["body.neurons"] * 2
        assert np.allclose(found[1][1].mean(1), twice.predict(x))

        snntorch = pytest.importorskip("snntorch")

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear, self.leaky = nn.Linear(6, 4), snntorch.Leaky(beta=0.9, threshold=0.2, init_hidden=True)

            def forward(self, x):
                return self.leaky(self.linear(x))

        adapted = art_snn.adapt(Net(), time_steps=7, call="step", readout="mean").eval()
        classifier = PyTorchSNNClassifier(adapted, loss, (6,), 4, device_type="cpu")
        logits = classifier.predict(x)
        ((name, fired),) = spikes(classifier, x)
        assert (name, fired.shape) == ("body.leaky", (2, 7, 4)) and 0 < fired.mean() < 1
        assert np.allclose(fired.mean(1), logits)

    def test_of_an_example_that_is_fooled_and_of_neurons_that_fire(self, result):
        raster, classes = result.raster, result.classes
        fooled = (classes[CLEAN] == classes[TRUE]) & (classes[raster.chain] != classes[TRUE])
        assert fooled[raster.sample] and not fooled[: raster.sample].any()
        assert raster.chain in result.strongest("pgd", "WBA")
        assert [layer.layer for layer in raster.layers] == ["body.2", "body.6", "body.10"]
        for layer in raster.layers:
            two, time_steps, shown = layer.spikes.shape
            assert (two, time_steps, shown) == (2, 3, min(NEURONS, layer.firing)) and layer.firing <= layer.neurons
            assert layer.spikes.any((0, 1)).all()

    def test_classes_of_the_examples_are_those_of_the_rows(self, result):
        classes = result.classes
        for chain in TINY.chains:
            fooled = np.where(classes[chain] == classes[TRUE], "r", "f")
            letters = np.where(classes[CLEAN] == classes[TRUE], fooled, "w")
            assert "".join(letters) == result.rate("pgd", "WBA", chain, 0.15).outcomes[:8], chain

    def test_a_target_without_spikes_has_none(self, tmp_path):
        from art_snn.audit import protocol

        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        ann = PyTorchClassifier(
            network, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0), device_type="cpu"
        )
        x = np.random.default_rng(0).uniform(0, 1, (20, 1, 8, 8)).astype(np.float32)
        y = np.eye(10, dtype=np.float32)[ann.predict(x).argmax(1)]
        subjects = Subjects(
            ann, None, Samples(x[:9], y[:9]), Samples(x[9:], y[9:]), "no spikes", {}, (False, False), {}
        )
        settings = AuditSettings(network="net.py:make", attacks=("fgsm",), sweep=(), plan="none")
        result = protocol.run_audit(settings, tmp_path, subjects=subjects)
        assert result.raster is None and list(result.examples) == ["clean", "none"]
        names = {path.name for path in files.write_files(result, tmp_path)}
        assert "examples.png" in names and "spikes.png" not in names and "gamma.png" not in names
        assert files.load(tmp_path).raster is None


def texts(figure):
    """All that a figure says in letters."""
    return " ".join(text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text")))


class TestFigures:
    def test_are_pictures_of_what_was_found(self, result, folder):
        found = {each.name: each for each in (*figures.all_figures(result), *pictures.all_pictures(result))}
        assert set(found) == {*figures.NAMES, *pictures.NAMES} - {"frames"}
        for name, each in found.items():
            with Image.open(folder / f"{name}.png") as image:
                assert min(image.size) > 300 and len(image.convert("L").getcolors(1 << 16)) > 8
            pdf = (folder / f"{name}.pdf").read_bytes()
            assert pdf.startswith(b"%PDF") and b"/Type /Font" in pdf and b"/Type3" not in pdf
            assert re.search(r"\d", each.alt) and each.alt.endswith(".")

    def test_lines_go_through_the_rates(self, result):
        (axis, *_) = figures.against_eps(result).figure.axes
        lines = {line.get_label(): line.get_xydata() for line in axis.lines if not line.get_label().startswith("_")}
        assert list(lines) == ["CBA", "HART", "STBP (detach_reset = True)"]
        rates = [result.rate("fgsm", "WBA", "hart", eps).rate.percent for eps in (0.1, 0.15)]
        assert np.allclose(lines["HART"], list(zip((0.1, 0.15), rates, strict=True)))
        assert ", ".join(f"{rate:.1f}" for rate in rates) in figures.against_eps(result).alt

    def test_the_curve_of_gamma_has_what_was_tried_and_marks_what_was_chosen(self, result):
        picture = figures.gammas(result)
        assert [axis.get_title() for axis in picture.figure.axes] == [
            f"{attack}, {scenario}" for attack in ("FGSM", "PGD") for scenario in ("white-box", "black-box")
        ]
        curve, ring = picture.figure.axes[2].lines
        tried = [r for r in result.search if r.setting == ("pgd", "WBA", "hart", 0.15) and r.seed == 0]
        assert np.allclose(curve.get_xydata(), [(each.gamma, each.rate.percent) for each in tried])
        chosen = result.rate("pgd", "WBA", "hart", 0.15).gamma
        assert ring.get_xdata().tolist() == [chosen] and f"PGD, white-box, HART: γ = {chosen:g}" in picture.alt
        assert figures.gammas(four()) is None

    def test_the_heat_map_has_a_rate_for_each_source_and_chain(self):
        picture = figures.transfer(four())
        (image,) = picture.figure.axes[0].images
        assert np.allclose(image.get_array(), [[200 / 3, 100], [0, 100 / 3]])
        assert {"66.7", "100.0", "0.0", "33.3", "white-box", "black-box"} <= set(texts(picture.figure).split())
        alone = findings(row("fr"), row("rr", "rga"), network="net.py:make")
        assert figures.transfer(alone) is None and figures.against_eps(alone)

    def test_a_source_without_chains_leaves_the_others_empty(self):
        rows = [row("fr"), row("rr", "rga"), row("rf", "none", "BBA ann.py:make")]
        picture = figures.transfer(findings(*rows, network="net.py:make", sources=("ann.py:make",)))
        values = picture.figure.axes[0].images[0].get_array().filled(-1)
        assert np.allclose(values, [[50, 0, -1], [-1, -1, 50]])
        assert "black-box from ann.py:make: no chain 50.0 %" in picture.alt and "nan" not in texts(picture.figure)

    def test_time_stands_beside_the_rate(self):
        rows = [row("ffr", seconds=12.5), row("frr", "rga", seconds=0.0), row("frr", scenario="BBA", seconds=99.0)]
        picture = figures.against_time(findings(*rows))
        assert "PGD along HART 66.7 % in 12 s; PGD along RGA 33.3 % in 0 s" in picture.alt and "99" not in picture.alt

    def test_a_target_that_gets_nothing_right_has_no_rates_to_draw(self):
        assert list(figures.all_figures(findings(row("www"), row("www", "rga")))) == []

    def test_chains_have_a_look_each(self):
        chains = tuple(AuditSettings().chains)
        rows = [row("fr", chain) for chain in chains]
        lines = figures.against_eps(findings(*rows, chains=chains, network="net.py:make")).figure.axes[0].lines
        looks = {
            (line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines if line.get_marker() != "None"
        }
        markers = {line.get_marker() for line in lines if line.get_marker() != "None"}
        assert len(looks) == len(markers) == len(chains) and {look[0] for look in looks} <= set(COLOURS)

    def test_no_text_leaves_its_figure(self, result):
        long = "a-folder-of-mine/" * 6 + "network.json"
        rows = [dataclasses.replace(each, scenario=f"BBA {long}") for each in result.rows if each.scenario == "BBA"]
        search = [dataclasses.replace(each, scenario=f"BBA {long}") for each in result.search if each.scenario == "BBA"]
        more = dataclasses.replace(
            result,
            settings=dataclasses.replace(TINY, sources=(long,)),
            rows=result.rows + rows,
            search=result.search + search,
        )
        for each in (*figures.all_figures(more), *pictures.all_pictures(more), pictures.frames(recording())):
            each.png()  # which lays it out
            drawn, (width, height) = each.figure.get_tightbbox(), each.figure.get_size_inches()
            inside = drawn.x0 >= -0.01 and drawn.y0 >= -0.01 and drawn.x1 <= width + 0.01 and drawn.y1 <= height + 0.01
            assert inside, (each.name, drawn.extents, width, height)

    def test_what_is_a_formula_to_matplotlib_is_not_the_users(self):
        name = "$\\b{$.py:make"  # which matplotlib would refuse as a formula
        rows = [row("fr"), row("rr", "rga"), row("rf", "none", f"BBA {name}")]
        result = findings(*rows, network="net.py:make", sources=(name,))
        assert figures.transfer(result).png() and plain("a$b") == r"a\$b"
        assert plain("begins" + "x" * 40 + "end", 10) == "beg…xxxend"


def recording():
    """Findings of event frames `(N, T, 2, H, W)`."""
    result = findings(row("fr"), row("rr", "rga"), network="net.py:make")
    clean = np.random.default_rng(0).poisson(0.5, (2, 12, 2, 9, 7)).astype(np.float32)
    attacked = clean.copy()
    attacked[0, 3, 1, 4, 4] += 0.15
    result.examples = {"clean": clean, "hart": attacked, "rga": clean}
    result.classes = {
        TRUE: np.array([4, 5]),
        "clean": np.array([4, 5]),
        "hart": np.array([6, 5]),
        "rga": np.array([4, 5]),
    }
    spikes = np.zeros((2, 12, 3), bool)
    spikes[1, 2, 1] = True
    result.raster = Raster(0, "hart", [LayerSpikes("body.1", 50, 3, (0.0, 0.01), spikes)])
    return result


class TestPictures:
    def test_frames_of_a_recording(self):
        found = {each.name: each for each in pictures.all_pictures(recording())}
        assert list(found) == ["examples", "perturbations", "frames", "spikes"]
        alt = found["frames"].alt
        assert "10 of 12 frames of example 1, clean and adversarial along HART" in alt
        assert "true class 4, predicted 4 before and 6 after; largest change of a pixel's polarity 0.15" in alt
        assert "t = 1 " in f"{texts(found['frames'].figure)} " and "t = 12" in texts(found["frames"].figure)

    def test_who_is_fooled_is_in_a_frame(self, result):
        picture = pictures.examples(result)
        (axis,) = picture.figure.axes
        framed = sum(patch.get_linewidth() > 2 for patch in axis.patches)
        right = result.classes[CLEAN] == result.classes[TRUE]
        counts = {
            name: int((right & (classes != result.classes[TRUE])).sum())
            for name, classes in result.classes.items()
            if name not in (CLEAN, TRUE)
        }
        assert framed == sum(counts.values()) > 0
        assert f"of those are fooled: CBA {counts['cba']}, HART {counts['hart']}" in picture.alt

    def test_each_picture_is_where_it_belongs(self, result):
        (axis,) = pictures.perturbations(result).figure.axes[:1]
        whole = axis.images[0].get_array()
        side = 40  # of 8 pixels of a digit, five times as large
        place, line = 3, 1  # the fourth example along HART
        down, across = side + 12, side + 4
        tile = whole[line * down : line * down + side, place * across : place * across + side]
        change = (result.examples["hart"] - result.examples[CLEAN])[place, 0]
        assert np.abs(change).max() > 0.05 and np.allclose(tile[::5, ::5], change)

    def test_colour_images_stay_coloured(self, tmp_path):
        result = findings(row("fr"), row("rr", "rga"), network="net.py:make")
        x = np.random.default_rng(0).uniform(0, 1, (2, 3, 50, 60)).astype(np.float32)
        result.examples = {"clean": x, "hart": x + 0.01, "rga": x}
        (axis,) = pictures.examples(result).figure.axes
        assert np.allclose(axis.images[0].get_array()[:50, :60], x[0].transpose(1, 2, 0))
        assert "mean of colours" in texts(pictures.perturbations(result).figure)
        assert "largest 0.01" in pictures.perturbations(result).alt

    def test_spikes_stand_at_their_steps(self):
        picture = pictures.spikes(recording())
        right = picture.figure.axes[1]
        segments = [s for lines in right.collections for s in lines.get_segments()]
        assert len(segments) == 1 and np.allclose(segments[0], [(3, 0.6), (3, 1.4)])
        assert "body.1, 50 neurons of which 3 fire: 0.000 and 0.010, of 36 places shown 1 differ" in picture.alt


class TestTables:
    def test_say_what_the_terminal_says(self, result):
        for scenario in ("WBA", "BBA"):
            table = tables.rates(result, scenario)
            (fgsm, pgd) = table.lines
            rates = [result.rates("pgd", scenario, "hart", 0.15)[seed].rate.percent for seed in (0, 1)]
            assert table.columns == ("attack", "CBA", "HART", "STBP (detach_reset = True)")
            assert (fgsm[0].text, pgd[2].text) == ("FGSM", f"{np.mean(rates):.1f}")
            assert f"{min(rates):.1f} to {max(rates):.1f}" == pgd[2].notes[0] and pgd[2].notes[1].startswith("γ = ")

    def test_markdown_is_read_as_it_was_meant(self):
        text = tables.markdown(tables.rates(four(), "WBA"))
        assert text.splitlines() == [
            "**Attack success rate (%), white-box, ε = 0.15**",
            "",
            "| attack | HART | RGA |",
            "| :-- | --: | --: |",
            "| PGD | 66.7 | **100.0** |",
        ]
        odd = tables.Table("a|b *c*", ("x_1",), ((tables.Cell("<b> `d` | e", True, ("f",)),),))
        assert tables.markdown(odd).splitlines()[2:] == [
            r"| x\_1 |",
            "| :-- |",
            r"| **\<b\> \`d\` \| e**<br>f |",
        ]

    def test_latex_is_pasted_as_it_is(self):
        text = tables.latex(tables.rates(four(gamma=2.0), "WBA"))
        assert r"\caption{Attack success rate (\%), white-box, $\varepsilon$ = 0.15.}" in text
        assert r"\begin{tabular}{lrr}" in text and r"PGD & 66.7 & \textbf{100.0} \\" in text
        odd = tables.Table(r"50 % of $x_1$ & {a} #2 ~ ^ \b", ("c",), ((tables.Cell("1", True, ("γ = 3",)),),))
        assert (
            r"\caption{50 \% of \$x\_1\$ \& \{a\} \#2 \textasciitilde{} \textasciicircum{} \textbackslash{}b.}"
            in tables.latex(odd)
        )
        assert r"\begin{tabular}[t]{@{}r@{}}\textbf{1} \\ \scriptsize $\gamma$ = 3\end{tabular} \\" in tables.latex(odd)

    def test_members_of_the_worst_case(self, result, folder):
        table = tables.members(result)
        assert [line[3].text for line in table.lines] == [str(n) for n in result.worst.members["fooled"]]
        for suffix in ("md", "tex"):
            text = (folder / f"tables.{suffix}").read_text(encoding="utf-8")
            assert "white-box" in text and "black-box" in text and "AnnealedHART" in text

    def test_samples_are_counted_by_how_many_chains_fool_them(self):
        rows = [
            row("ffrrw"),
            row("fffrw", "rga"),
            row("fffff", scenario="BBA")[:0] if False else row("ffffw", scenario="BBA"),
        ]
        table = html.by_sample(findings(*rows))
        assert table.columns == ("attack", "wrong before", "0", "1", "2")
        assert [cell.text for cell in table.lines[0]] == ["PGD", "1", "1", "1", "2"]


class Page(HTMLParser):
    """A page's tags, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, *names):
        return [(tag, attributes) for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


class TestPage:
    def test_needs_nothing_from_outside(self, page):
        for tag, attributes in page.tags:
            assert tag != "script" and not any(name.startswith("on") for name in attributes)
            for name in ("src", "href"):
                assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes[name][:80])
        assert "url(" not in page.text and "@import" not in page.text

    def test_begins_with_the_verdict(self, page, result):
        order = ["Verdict", "Flags", "Findings", "Figures", "Method", "Settings", "How to reproduce"]
        body = page.text[page.text.index("Reproduce\n") :]
        assert sorted(order, key=lambda title: body.index(f"\n{title}\n")) == order
        percent = f"{100 * result.worst.robust_accuracy:.1f} %"
        assert page.text.index(percent) < page.text.index("\nFindings\n")

    def test_every_picture_says_what_it_shows(self, page):
        images = [attributes for _, attributes in page.all("img")]
        assert len(images) == len({*figures.NAMES, *pictures.NAMES}) - 1
        for attributes in images:
            assert len(attributes["alt"]) > 60 and re.search(r"\d", attributes["alt"])
            content = base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"))
            with Image.open(io.BytesIO(content)) as image:
                image.verify()

    def test_headings_step_down_one_by_one(self, page):
        levels = [int(tag[1]) for tag, _ in page.all("h1", "h2", "h3", "h4")]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))

    def test_has_every_setting_and_how_to_reproduce_it(self, page, result):
        for each in dataclasses.fields(AuditSettings):
            assert f"\n{each.name}" in page.text
        assert command(TINY) in page.text and "--repeats 2" in command(TINY)
        for value in (*result.data.values(), *result.versions.values()):
            assert value in page.text

    def test_what_comes_from_outside_is_escaped(self, tmp_path):
        result = four(network=f"{NAME}:make", sources=None)
        result.settings = dataclasses.replace(result.settings, second=f"{NAME}:other")
        result.description, result.data = f"{NAME} on digits", {"test_arrays": NAME}
        result.checks = [Flag(NAME, 2.0, 1, NAME, True)]
        files.write_files(result, tmp_path)
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "<script" not in text and not Page(text).all("script")
        assert f"Robustness audit of {NAME} on digits" in Page(text).text and Page(text).text.count(NAME) >= 6
        assert files.load(tmp_path).description == f"{NAME} on digits"

    def test_flags_come_before_the_findings(self):
        def flag(name, raised):
            return Flag(name, 0.3, 0.2, f"what {name} means", raised)

        def text(*flags):
            result = four()
            result.checks = list(flags)
            return Page(html.page(result, [])).text

        one = text(flag("unfinished", True), flag("few-samples", False))
        assert "1 of 2 checks raises a flag" in one and one.index("what unfinished means") < one.index("\nFindings\n")
        assert "None raised, by 1 checks." in text(flag("few-samples", False))
        assert "None raised; this audit made no checks." in text()

    def test_findings_that_are_hardly_any_make_a_page(self, tmp_path):
        result = findings(row("www"), row("www", "rga"))
        result = dataclasses.replace(result, settings=dataclasses.replace(result.settings, network="net.py:make"))
        files.write_files(result, tmp_path)
        text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
        assert "There is nothing to draw." in text and "No worst case was looked for" in text and "nan" not in text
        assert len(pandas.read_csv(tmp_path / "results.csv")) == 2
