"""The `art-snn audit` command, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from art_snn.cli import main

TINY = [
    "audit",
    "--plan",
    "fast",
    "--epochs",
    "2",
    "--samples",
    "40",
    "--time-steps",
    "2",
    "--sweep",
    "",
    "--chains",
    "stbp,hart",
    "--jobs",
    "1",
    "--no-checks",
]


#: Of two spiking networks on images, one chain's γ looked for.
FIGURES = ("asr_against_eps", "gamma", "transfer", "asr_against_time", "examples", "perturbations", "spikes")


def invoke(*arguments: str):
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def first(folder):
    return invoke(*TINY, "--out", str(folder))


def test_prints_the_tables_and_writes_the_files(first, folder):
    assert first.exit_code == 0, first.output
    for part in ("Clean accuracy", "white-box", "black-box", "FGSM", "PGD", "HART", "γ = ", "strongest"):
        assert part in first.output
    assert {path.name for path in folder.iterdir()} == {
        "networks",
        "cells",
        *("results.json", "results.csv", "results.parquet", "samples.parquet", "examples.npz", "worst_case.npz"),
        *("tables.md", "tables.tex", "report.html"),
        *(f"{name}.{suffix}" for name in FIGURES for suffix in ("png", "pdf")),
    }
    assert first.output.index("Worst case at ε = 0.15") < first.output.index("Attack success rate")


def test_a_second_run_does_not_train_again(first, folder):
    kept = {path: path.stat().st_mtime_ns for path in (folder / "networks").iterdir()}
    before = json.loads((folder / "results.json").read_text())
    again = invoke(*TINY, "--out", str(folder))
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "networks").iterdir()} == kept
    assert json.loads((folder / "results.json").read_text()) == before


def test_a_damaged_network_is_a_message(first, folder, tmp_path):
    networks = tmp_path / "networks"
    networks.mkdir()
    for path in (folder / "networks").iterdir():
        (networks / path.name).write_bytes(b"not a network")
    done = invoke(*TINY, "--out", str(tmp_path))
    assert done.exit_code == 1
    assert "is no JSON file" in done.output and "delete" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--chains", "hart,bptt"], "chains: there is no chain 'bptt'"),
        (["--eps", "-0.1"], "eps must be a number above 0"),
        (["--eps", "much"], "'much' is not a valid float"),
        (["--sweep", "0.1,x"], "expected numbers separated by commas"),
        (["--attacks", "bim"], "attacks: there is no attack 'bim'"),
        (["--time-steps", "0"], "time_steps must be a whole number"),
        (["--attacks", "fgsm", "--steps", "9"], "belong to pgd"),
        (["--device", "tpu"], "device must be one of"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_wrong_options_are_named(arguments, message, tmp_path):
    done = invoke("audit", *arguments, "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = invoke("audit", "--out", str(tmp_path / "file" / "out"))
    assert done.exit_code == 2
    assert "cannot be written to" in done.output


def test_poisson_encoding_runs_and_repeats(tmp_path):
    arguments = [*TINY, "--encoder", "poisson", "--chains", "hart", "--gamma", "1", "--attacks", "fgsm"]
    results = []
    for name in ("a", "b"):
        assert invoke(*arguments, "--out", str(tmp_path / name)).exit_code == 0
        rows = json.loads((tmp_path / name / "results.json").read_text())["results"]
        results.append([{key: value for key, value in row.items() if key != "seconds"} for row in rows])
    assert results[0] == results[1]


def command() -> str:
    return str(Path(sys.executable).with_name("art-snn"))


def test_help_and_version_are_quick_to_import():
    heavy = {"torch", "art", "numpy", "scipy", "pandas", "matplotlib", "sklearn", "rich"}
    code = f"""
import sys
from art_snn.cli import main
main(["--help"], standalone_mode=False)
assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    def output(*arguments: str) -> str:
        return subprocess.run([command(), *arguments], capture_output=True, text=True, check=True).stdout

    assert output("--version").startswith("art-snn")
    assert "--eps" in output("audit", "--help")


def in_coding(coding: str) -> dict[str, str]:
    return {**os.environ, "PYTHONIOENCODING": coding, "PYTHONUTF8": "0"}


END = "-- end --"
#: What ends each command is on both streams, with its exit code.
SEVERAL = f"""
import sys
from art_snn.cli import main
for arguments in {{several}}:
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code
    print({END!r}, code, flush=True)
    print({END!r}, file=sys.stderr, flush=True)
"""


class TestOutputThatCannotBeEncoded:
    """As on a terminal that knows no Greek; results are written in UTF-8 whatever it knows."""

    def test_loses_no_result(self, first, folder, run):
        (folder / "results.json").unlink()
        done = run(command(), *TINY, "--out", folder, env=in_coding("cp1252"), encoding="cp1252")
        assert done.returncode == 0, done.stderr
        assert "Target: small_cnn on digits, T = 2, ? = 0.9" in done.stdout and "wrote" in done.stdout
        assert (folder / "results.json").exists()

    @pytest.mark.parametrize("coding", ["cp1252", "ascii"])
    def test_leaves_help_and_errors_readable(self, coding, tmp_path, run):
        """Several commands of one process, on its own standard output and error."""
        good = [["--help"], ["audit", "--help"], ["train", "--help"]]
        bad = [["audit", "--eps", "λ"], ["train", "--data", "ε"]]
        (tmp_path / "several.py").write_text(SEVERAL.format(several=[*good, *bad]), encoding="utf-8")
        done = run(
            sys.executable, "several.py", cwd=tmp_path, env=in_coding(coding), encoding=coding, errors="replace"
        )  # fmt: skip
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        codes = [int(code) for code in re.findall(f"{END} (\\d)", done.stdout)]
        assert codes == [0] * len(good) + [2] * len(bad)
        assert all("--help" in each for each in done.stdout.split(END)[: len(good)])
        assert all("Error" in each for each in done.stderr.split(END)[len(good) : -1])

    def test_lets_training_finish(self, tmp_path, run):
        arguments = ["train", "--epochs", "1", "--width", "0.25", "--time-steps", "2", "--out", tmp_path]
        done = run(command(), *arguments, env=in_coding("ascii"), encoding="ascii")
        assert done.returncode == 0, done.stderr
        assert "test accuracy" in done.stdout and (tmp_path / "network.json").exists()


def test_a_full_disk_loses_no_attack(first, folder, start, run):
    resource = pytest.importorskip("resource")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (24_000, 24_000))  # enough for the numbers, not for the figures

    (folder / "asr_against_eps.png").unlink()
    arguments = [*TINY, "--out", folder]
    done = run(command(), *arguments, preexec_fn=limited)
    assert done.returncode == 1
    assert f"{folder / 'asr_against_eps.png'}: File too large. What was finished is kept in {folder}" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((folder / "results.json").read_text())["results"]
    assert list((folder / "cells").glob("*.json"))
    assert not list(folder.rglob("*.part*"))
    again = invoke(*TINY, "--out", str(folder))
    assert again.exit_code == 0 and (folder / "asr_against_eps.png").exists()


def test_an_interrupted_run_leaves_nothing_half_written(start, tmp_path):
    arguments = ["audit", "--out", tmp_path, "--epochs", "500"]
    process = start(command(), *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "training: 1000 steps\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "Interrupted" in errors and "Traceback" not in errors
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


#: A module in front of the real one: while it is imported it is interrupted, and swallows that, as some libraries do.
SWALLOWS = """
import os, signal, sys
try:
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        pass
except BaseException:
    pass
sys.path.remove(os.path.dirname(os.path.dirname(__file__)))
del sys.modules[__name__]
__import__(__name__)
"""


@pytest.mark.parametrize("library", ["torch", "sklearn", "matplotlib"])
def test_an_interrupt_that_a_library_swallows_is_not_lost(library, first, folder, run, tmp_path):
    """One is imported first, one for the data, and the last when everything is found, to draw the figures."""
    module = tmp_path / library / "__init__.py"
    module.parent.mkdir()
    module.write_text(SWALLOWS)
    out = tmp_path / "out"
    shutil.copytree(folder / "networks", out / "networks")
    done = run(command(), *TINY, "--out", out, env={**os.environ, "PYTHONPATH": in_front(tmp_path)})
    assert done.returncode == 130, done.stderr
    assert "Interrupted. What was finished is kept" in done.stderr and "Traceback" not in done.stderr
    assert "wrote" not in done.stdout
    assert bool(list((out / "cells").glob("*.json"))) == (library == "matplotlib")


@pytest.mark.parametrize("library", ["torch", "sklearn"])
def test_training_does_not_lose_it_either(library, run, tmp_path):
    module = tmp_path / library / "__init__.py"
    module.parent.mkdir()
    module.write_text(SWALLOWS)
    arguments = ["train", "--epochs", "1", "--width", "0.25", "--time-steps", "2", "--out", tmp_path / "out"]
    done = run(command(), *arguments, env={**os.environ, "PYTHONPATH": in_front(tmp_path)})
    assert done.returncode == 130, done.stderr
    assert "Interrupted. Give the same command again" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "network.json").exists()


def in_front(folder: Path) -> str:
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


OWN = """
import torch
from torch import nn
import art_snn
from art_snn import LIF, PyTorchSNNClassifier, SpikingNetwork, models


class Neurons(nn.Module):
    def forward(self, x):  # (T*B, ...)
        x, v, spikes = x.unflatten(0, (2, -1)), 0.0, []
        for now in x:
            m = 0.5 * v + now
            spikes.append((m >= 0.2).to(x.dtype))
            v = m * (1 - spikes[-1])
        return torch.stack(spikes).flatten(0, 1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), Neurons(), nn.Linear(40, 10))

    def forward(self, x):
        return self.layers(x.repeat(2, 1, 1, 1)).unflatten(0, (2, -1))


def describe(module):
    return LIF(0.5, 0.2)


def make(seed=0):
    torch.manual_seed(seed)
    return art_snn.adapt(Net(), 2, call="whole", neurons={Neurons: describe})


def other():
    loss = nn.CrossEntropyLoss()
    return PyTorchSNNClassifier(make(1), loss, (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu")


def wide():
    network = SpikingNetwork(nn.Sequential(nn.Linear(9, 9), LIF()), 2)
    return PyTorchSNNClassifier(network, nn.CrossEntropyLoss(), (9,), 9, device_type="cpu")


def plain():
    return nn.Linear(64, 10)


def fails():
    raise RuntimeError("no weights here")
"""


class TestOwnNetworks:
    """--network: a function that returns a network, adapted or not, or a classifier."""

    FEW = (
        "--jobs",
        "1",
        "--no-checks",
        "--plan",
        "fast",
        "--samples",
        "30",
        "--sweep",
        "",
        "--chains",
        "stbp,hart",
        "--attacks",
        "fgsm",
    )

    @pytest.fixture
    def file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "own_networks.py").write_text(OWN)
        yield "own_networks.py"
        sys.modules.pop("own_networks", None)

    def test_it_is_attacked_white_box(self, file, tmp_path):
        found = invoke("audit", "--network", f"{file}:make", *self.FEW, "--out", "out")
        assert found.exit_code == 0, found.output
        assert "own_networks.py:make on digits, T = 2" in found.output and "30 attacked samples" in found.output
        assert "white-box FGSM" in found.output and "black-box" not in found.output
        results = json.loads((tmp_path / "out" / "results.json").read_text())
        assert results["clean_accuracy"]["second"] is None and results["seeds"] == {"data": 0, "order": 0}
        assert {row["scenario"] for row in results["results"]} == {"WBA"}

    def test_a_module_by_name_and_a_second_network(self, file, tmp_path):
        networks = ("--second", "own_networks:other", "--network", "own_networks:make")
        found = invoke("audit", *networks, *self.FEW, "--out", "out")
        assert found.exit_code == 0, found.output
        assert "black-box FGSM" in found.output and "(second network: " in found.output

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--network", "own_networks.py"], "network must be module:function or file.py:function"),
            (["--network", "nowhere.py:make"], "there is no file nowhere.py"),
            (["--network", "no_such_module:make"], "No module named 'no_such_module'"),
            (["--network", "own_networks.py:nothing"], "has no attribute 'nothing'"),
            (["--network", "own_networks.py:fails"], "gives no network (RuntimeError: no weights here)"),
            (["--network", "own_networks.py:plain"], "must return a SpikingNetwork, what art_snn.adapt gives"),
            (["--network", "own_networks.py:wide"], "takes inputs (9,) of 9 classes, the data have (1, 8, 8) of 10"),
            (["--network", "own_networks.py:make", "--samples", "1000"], "samples must be at most 240"),
            (["--network", "own_networks.py:make", "--epochs", "3"], "epochs belongs to the embedded network"),
            (["--network", "own_networks.py:make", "--data", "cifar10"], "root must be given with data='cifar10'"),
            (["--network", "own_networks.py:make", "--root", "."], "root belongs to data sets with files"),
            (["--data", "cifar10"], "data belongs to network"),
        ],
    )
    def test_what_cannot_be_is_a_message(self, file, arguments, message):
        found = invoke("audit", *arguments, "--out", "out")
        assert found.exit_code != 0 and message in " ".join(found.output.replace("│", " ").split())
        assert "Traceback" not in found.output


class TestFurtherOptions:
    """What an audit takes besides settings, and further sources of black-box attacks."""

    FEW = ("--jobs", "1", "--plan", "fast", "--samples", "30", "--sweep", "", "--chains", "hart", "--attacks", "fgsm")

    @pytest.fixture(autouse=True)
    def inside(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "own_networks.py").write_text(OWN)
        yield
        sys.modules.pop("own_networks", None)

    @pytest.fixture
    def config(self, tmp_path):
        path = tmp_path / "audit.toml"
        path.write_text(
            'network = "own_networks.py:make"\nplan = "none"\nchecks = false\nsweep = []\nsamples = 30\n'
            'chains = ["hart(gamma=0.5)"]\nattacks = ["fgsm", "sapgd(max_iter=3)"]\neps = 0.125\n'
        )
        return path

    def test_settings_from_a_file_and_options_that_go_before(self, config, tmp_path):
        found = invoke("audit", "--config", str(config), "--samples", "20", "--jobs", "1", "--out", "out")
        assert found.exit_code == 0, found.output
        settings = json.loads((tmp_path / "out" / "results.json").read_text())["settings"]
        assert (settings["samples"], settings["eps"], settings["attacks"]) == (20, 0.125, ["fgsm", "sapgd(max_iter=3)"])

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("epsilon = 0.1", "line 9: epsilon is no setting"),
            ("steps = 1.5", "line 9: steps must be a whole number, got 1.5"),
            ('norm = "3"', "line 9: norm must be one of"),
            ("epochs = 3", "line 9: epochs belongs to the embedded network"),
            ("steps = = 3", "at line 9"),
        ],
    )
    def test_what_is_wrong_in_a_file_is_said_with_its_line(self, config, line, message, tmp_path):
        config.write_text(config.read_text() + line + "\n")
        found = invoke("audit", "--config", str(config), "--out", "out")
        assert found.exit_code == 2 and "Traceback" not in found.output
        assert message in " ".join(found.output.split()), found.output
        assert not (tmp_path / "out").exists()

    def test_a_dry_run_says_what_would_run_and_runs_nothing(self, tmp_path):
        found = invoke("audit", "--network", "own_networks.py:make", *self.FEW, "--dry-run", "--out", "out")
        assert found.exit_code == 0, found.output
        assert "2 cells, 1 at once" in found.output and " s in 1 process, " in found.output
        assert found.output.count("worst case: BriefPGD") == 1 and "fgsm" in found.output

    def test_a_dry_run_of_what_is_not_trained_yet_says_nothing_of_its_gradients(self, tmp_path, caplog):
        found = invoke("audit", *self.FEW, "--chains", "bptr", "--dry-run", "--out", "out")
        assert found.exit_code == 0 and "bptr" in found.output and not caplog.records
        assert not (tmp_path / "out").exists()

    def test_a_strict_audit_ends_with_code_3_where_a_flag_is_raised(self):
        eps = ("--eps", "0.001")  # so that some of the few samples survive, and how many is known to 20 points only
        arguments = ("audit", "--network", "own_networks.py:make", *self.FEW, *eps, "--out", "out")
        first = invoke(*arguments, "--strict")
        assert first.exit_code == 3, first.output
        assert first.output.index("FLAG few-samples") < first.output.index("Worst case")
        assert invoke(*arguments).exit_code == 0

    def test_black_box_attacks_from_several_sources_one_of_them_without_spikes(self, tmp_path):
        (tmp_path / "ann.py").write_text(
            "import torch\nfrom art.estimators.classification import PyTorchClassifier\n\n\ndef make():\n"
            "    torch.manual_seed(0)\n"
            "    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
            "    loss = torch.nn.CrossEntropyLoss()\n"
            '    return PyTorchClassifier(net, loss, (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu")\n'
        )
        sources = ("--second", "own_networks:other", "--sources", "ann.py:make")
        found = invoke("audit", "--network", "own_networks.py:make", *sources, *self.FEW, "--no-checks", "--out", "out")
        assert found.exit_code == 0, found.output
        rows = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
        chains = {(row["scenario"], row["chain"]) for row in rows}
        assert chains == {("WBA", "hart"), ("BBA", "hart"), ("BBA ann.py:make", "none")}
        sys.modules.pop("ann", None)
