"""The `art-snn audit` command, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from art_snn.cli import main

TINY = ["audit", "--epochs", "2", "--samples", "40", "--time-steps", "2", "--sweep", "", "--chains", "stbp,hart"]


def run(*arguments: str):
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def first(folder):
    return run(*TINY, "--out", str(folder))


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
    again = run(*TINY, "--out", str(folder))
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "networks").iterdir()} == kept
    assert json.loads((folder / "results.json").read_text()) == before


def test_a_damaged_network_is_a_message(first, folder, tmp_path):
    networks = tmp_path / "networks"
    networks.mkdir()
    for path in (folder / "networks").iterdir():
        (networks / path.name).write_bytes(b"not a network")
    done = run(*TINY, "--out", str(tmp_path))
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
    done = run("audit", *arguments, "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("audit", "--out", str(tmp_path / "file" / "out"))
    assert done.exit_code == 2
    assert "cannot be written to" in done.output


def test_poisson_encoding_runs_and_repeats(tmp_path):
    arguments = [*TINY, "--encoder", "poisson", "--chains", "hart", "--gamma", "1", "--attacks", "fgsm"]
    results = []
    for name in ("a", "b"):
        assert run(*arguments, "--out", str(tmp_path / name)).exit_code == 0
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


def test_an_interrupted_run_leaves_nothing_half_written(tmp_path):
    process = subprocess.Popen(
        [command(), "audit", "--out", str(tmp_path), "--epochs", "500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "networks").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    time.sleep(10)  # past the imports of other libraries, some of which swallow an interruption: into the training
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in errors and "Traceback" not in errors
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
