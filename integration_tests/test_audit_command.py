"""The `art-snn audit` command, as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from art_snn.cli import main

TINY = ["audit", "--epochs", "2", "--samples", "40", "--time-steps", "2", "--sweep", "", "--chains", "stbp,hart"]


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
        "results.json",
        "results.csv",
        "asr_against_eps.png",
        "examples.png",
    }


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
        (["--chains", "hart,bptt"], "chains must be different ones of"),
        (["--eps", "-0.1"], "eps must be a number above 0"),
        (["--eps", "much"], "'much' is not a valid float"),
        (["--sweep", "0.1,x"], "expected numbers separated by commas"),
        (["--attacks", "bim"], "attacks must be different ones of"),
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
        results.append(json.loads((tmp_path / name / "results.json").read_text())["results"])
    assert results[0] == results[1]


def command() -> str:
    return str(Path(sys.executable).with_name("art-snn"))


def test_help_and_version_are_quick_to_import():
    code = "import sys\nfrom art_snn.cli import main\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

    def output(*arguments: str) -> str:
        return subprocess.run([command(), *arguments], capture_output=True, text=True, check=True).stdout

    assert output("--version").startswith("art-snn")
    assert "--eps" in output("audit", "--help")


def in_coding(coding: str) -> dict[str, str]:
    return {**os.environ, "PYTHONIOENCODING": coding, "PYTHONUTF8": "0"}


@pytest.mark.parametrize("coding", ["cp1252", "ascii"])
class TestOutputThatCannotBeEncoded:
    def test_loses_no_result(self, coding, first, folder, run):
        (folder / "results.json").unlink()
        done = run(command(), *TINY, "--out", folder, env=in_coding(coding), encoding=coding)
        assert done.returncode == 0, done.stderr
        assert "Target: small_cnn on digits, T = 2, ? = 0.9" in done.stdout and "wrote" in done.stdout
        assert (folder / "results.json").exists()

    @pytest.mark.parametrize("arguments", [[], ["audit"], ["train"]])
    def test_leaves_help_readable(self, coding, arguments, run):
        done = run(command(), *arguments, "--help", env=in_coding(coding), encoding=coding, errors="replace")
        assert done.returncode == 0, done.stderr
        assert "--help" in done.stdout

    def test_leaves_errors_readable(self, coding, tmp_path, run):
        for arguments in (["audit", "--eps", "λ"], ["train", "--data", "ε"]):
            done = run(
                command(), *arguments, "--out", tmp_path, env=in_coding(coding), encoding=coding, errors="replace"
            )
            assert done.returncode == 2 and "Error" in done.stderr and "Traceback" not in done.stderr

    def test_lets_training_finish(self, coding, tmp_path, run):
        arguments = ["train", "--epochs", "1", "--width", "0.25", "--time-steps", "2", "--out", tmp_path]
        done = run(command(), *arguments, env=in_coding(coding), encoding=coding)
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
    assert len(list((folder / "networks").glob("attacks-*.json"))) == 1
    assert not list(folder.rglob("*.part*"))
    again = run(command(), *arguments)
    assert again.returncode == 0 and (folder / "asr_against_eps.png").exists()
    assert not list((folder / "networks").glob("attacks-*.json"))


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


@pytest.mark.parametrize("library", ["torch", "rich", "art", "sklearn", "matplotlib"])
def test_an_interrupt_that_a_library_swallows_is_not_lost(library, first, folder, run, tmp_path):
    """The last of them is imported when everything is found, to draw the figures."""
    module = tmp_path / library / "__init__.py"
    module.parent.mkdir()
    module.write_text(SWALLOWS)
    out = tmp_path / "out"
    shutil.copytree(folder / "networks", out / "networks")
    done = run(command(), *TINY, "--out", out, env={**os.environ, "PYTHONPATH": in_front(tmp_path)})
    assert done.returncode == 130, done.stderr
    assert "Interrupted. What was finished is kept" in done.stderr and "Traceback" not in done.stderr
    assert "wrote" not in done.stdout
    assert len(list((out / "networks").glob("attacks-*.json"))) == (library == "matplotlib")


@pytest.mark.parametrize("library", ["torch", "rich", "sklearn"])
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
