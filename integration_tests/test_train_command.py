"""`art-snn train` as a user runs it: killed and started again, in several processes, audited afterwards."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from art_snn import models
from art_snn.cli import main

PROGRAM = str(Path(sys.executable).with_name("art-snn"))
TINY = ["train", "--epochs", "4", "--width", "0.5", "--time-steps", "4", "--batch-size", "32", "--held-out", "50"]


def invoke(*arguments):
    """The command in this process, where what it imports is imported already."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def weights(folder):
    return models.load_network(folder / "network").state_dict()


def test_a_killed_run_ends_with_the_same_weights(run, start, tmp_path):
    whole = run(PROGRAM, *TINY, "--out", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    assert "test accuracy" in whole.stdout and "firing rates" in whole.stdout
    kills, chance = 0, random.Random(0)
    while not (tmp_path / "cut" / "network.json").exists():
        arguments = [*TINY, "--out", str(tmp_path / "cut")]
        process = start(PROGRAM, *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kills < 3:  # at any moment, from the imports to the end
            checkpoint = tmp_path / "cut" / "checkpoint.safetensors"
            before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
            while process.poll() is None and (checkpoint.stat().st_mtime_ns if checkpoint.exists() else None) == before:
                time.sleep(0.01)
            time.sleep(chance.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(one[name], other[name]) for name in one)
    again = invoke(*TINY, "--out", tmp_path / "cut")
    assert again.exit_code == 0
    assert again.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1]  # the firing rates


@pytest.mark.parametrize("network", [["--network", "small_cnn"], ["--network", "vgg11", "--data", "image-folder"]])
def test_two_processes_learn_what_one_does(run, network, tmp_path):
    arguments = [*TINY, *network, "--epochs", "1", "--learning-rate", "0.02"]
    if "vgg11" in network:
        arguments += [
            "--root",
            str(images(tmp_path / "images")),
            "--width",
            "0.05",
            "--batch-size",
            "8",
            "--held-out",
            "10",
        ]
    alone = invoke(*arguments, "--out", tmp_path / "alone")
    assert alone.exit_code == 0, alone.output
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    together = run(*launch, "-m", "art_snn.cli", *arguments, "--out", str(tmp_path / "together"))
    assert together.returncode == 0, together.stderr
    assert together.stdout.count("test accuracy") == 1  # one process reports
    one, other = weights(tmp_path / "alone"), weights(tmp_path / "together")
    for name, value in one.items():
        if value.is_floating_point():
            assert torch.allclose(value, other[name], rtol=1e-3, atol=1e-4), name


def test_two_processes_learn_in_mixed_precision(run, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [*TINY, "--epochs", "1", "--limit", "200", "--mixed-precision", "--out", str(tmp_path)]
    done = run(*launch, "-m", "art_snn.cli", *arguments)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout


def images(folder, seed=0):
    """Five classes of noise of different brightness, as JPEG files, another for each seed."""
    from PIL import Image

    generator = torch.Generator().manual_seed(seed)
    for part, number in (("train", 8), ("test", 2)):
        for label in range(5):
            path = folder / part / f"class{label}"
            path.mkdir(parents=True)
            for index in range(number):
                pixels = torch.rand(32, 32, 3, generator=generator) * 100 + 30 * label
                Image.fromarray(pixels.byte().numpy()).save(path / f"{index}.jpeg")
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--time-steps", "0"], "--time-steps"),
        (["--data", "mnist"], "--data"),
        (["--data", "nmnist"], "root must name the folder"),
        (
            ["--data", "nmnist", "--root", "nowhere", "--network", "vgg_dvs"],
            "Invalid value for --root: root nowhere does",
        ),
        (["--data", "image-folder", "--root", "nowhere"], "Invalid value for --root: root nowhere does"),
        (["--size", "12"], "expected H,W"),
        (["--held-out", "1430"], "held_out"),
        (["--download"], "download belongs to data sets with an archive"),
        (["--device", "gpu"], "finds no GPU"),
    ],
)
def test_what_goes_wrong_is_said(arguments, message, tmp_path):
    if "gpu" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = invoke("train", *arguments, "--out", tmp_path)
    assert done.exit_code in (1, 2) and isinstance(done.exception, SystemExit)
    assert message in done.stderr and not done.stdout


def test_it_is_said_without_a_traceback(run, tmp_path):
    done = run(PROGRAM, "train", "--data", "nmnist", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "root must name the folder" in done.stderr and "Traceback" not in done.stderr


def test_processes_with_different_data_are_told(run, tmp_path):
    images(tmp_path / "0", seed=0)
    images(tmp_path / "1", seed=1)
    code = (
        "import os, sys\nfrom art_snn.training import TrainSettings, train\n"
        "train(TrainSettings(data='image-folder', root=os.environ['RANK'], epochs=1, batch_size=8, held_out=10), 'out')"
    )
    (tmp_path / "program.py").write_text(code)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run(*launch, "program.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "root must hold the same data for all processes" in done.stderr
    assert not list((tmp_path / "out").glob("network*"))


@pytest.mark.parametrize("command", ["train", "audit"])
def test_a_folder_in_use_is_said_with_its_holder(command, run, start, tmp_path):
    endless = {"train": [*TINY, "--epochs", "100000"], "audit": ["audit", "--epochs", "10000"]}[command]
    out = ["--out", tmp_path]
    first = start(PROGRAM, *endless, *out, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / ".lock").exists() or not (tmp_path / ".lock").read_text().endswith("}"):
        assert first.poll() is None
        time.sleep(0.01)
    second = invoke(*endless, *out)
    assert second.exit_code == 1 and isinstance(second.exception, SystemExit)
    said = " ".join(second.stderr.split())
    assert f"{tmp_path} is in use by process {first.pid} on " in said and f"art-snn {command} " in said
    assert first.poll() is None and (tmp_path / ".lock").exists()


@pytest.mark.parametrize("option", ["--target", "--second"])
def test_a_network_that_is_not_there_names_the_option(option, tmp_path):
    models.save_network(models.small_cnn(), tmp_path / "run" / "network")
    (tmp_path / "damaged.json").write_text("{")
    there = str(tmp_path / "run" / "network.json")
    for given, message in (
        ("nope.json", "there is no file nope.json"),
        ("nope", "there is no file nope.json"),
        (str(tmp_path / "run"), f"is a folder: name the network in it, {there}"),
        (str(tmp_path / "damaged.json"), "is no JSON file"),
    ):
        pair = {"--target": there, "--second": there} | {option: given}
        arguments = [part for name, value in pair.items() for part in (name, value)]
        done = invoke("audit", *arguments, "--out", tmp_path / "out")
        assert done.exit_code == 2 and not (tmp_path / "out").exists()
        said = " ".join(done.output.split())
        assert f"Invalid value for '{option}'" in said and message in said, said


def test_a_trained_pair_can_be_audited(tmp_path):
    for seed in ("0", "1"):
        done = invoke(*TINY, "--seed", seed, "--out", tmp_path / seed)
        assert done.exit_code == 0, done.output
    pair = ["--target", str(tmp_path / "0" / "network.json"), "--second", str(tmp_path / "1" / "network.json")]
    options = ["--samples", "40", "--sweep", "", "--chains", "stbp,hart", "--plan", "fast"]
    done = invoke("audit", *pair, *options, "--out", tmp_path / "audit")
    assert done.exit_code == 0, done.output
    assert "small_cnn (width 0.5) on digits, T = 4" in done.stdout
    assert (tmp_path / "audit" / "results.json").exists()
