"""What the pages show is run: their Python blocks in one namespace each, and their commands.

What is marked as not run (see :mod:`integration_tests.docs_blocks`) is parsed, and its options are read; so are the
commands of the pages `LONG_PAGES`, unless `ART_SNN_LONG` is set, as `tox -e long` does.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
from glob import glob
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from art_snn.audit import config
from art_snn.audit.settings import AuditSettings
from art_snn.cli import main
from art_snn.cli.options import SettingsCommand, options
from integration_tests import long
from integration_tests.docs_blocks import Block, blocks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {path.name: list(blocks(path.read_text(encoding="utf-8"))) for path in sorted(DOCS.glob("*.md"))}
NEEDS = {"adapt_spikingjelly.md": "spikingjelly", "adapt_snntorch.md": "snntorch", "adapt_norse.md": "norse"}
NEEDS["adapt_nir.md"] = "nirtorch"
#: Whole benchmarks, suites and studies.
LONG_PAGES = ("benchmark.md", "paper.md", "strength.md")

#: A small network, trained for two epochs, and a few digits: what pages mean by `classifier`, `x` and `y`. Pixels go
#: up to 0.2, so that an ε of 8/255 is large, and a long plan is soon through.
SMALL = """
import art_snn, torch
from art_snn import PyTorchSNNClassifier, datasets, models
(x_train, y_train), (x_test, y_test), low, high = datasets.digits(seed=0)
x_train, x_test, high = 0.2 * x_train, 0.2 * x_test, 0.2 * high
x, y = x_test[:8], y_test[:8]
network = models.small_cnn(time_steps=2, width=0.25)
classifier = PyTorchSNNClassifier(network, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10,
                                  torch.optim.Adam(network.parameters(), 1e-2), clip_values=(low, high))
classifier.fit(x_train, y_train, batch_size=64, nb_epochs=2)
"""

#: Digits, as a reader of another library has them.
DIGITS = """
from art_snn import datasets
_, (x_test, y_test), _, _ = datasets.digits(seed=0)
labels = y_test.argmax(1)
"""
#: A function that returns a network, and arrays of them, as a reader has them.
OWN = """
from pathlib import Path
import numpy as np
np.savez("samples.npz", x=x_test[:300], y=labels[:300], low=0.0, high=1.0)
Path("net.py").write_text("from art_snn import models\\n\\ndef make():\\n    return models.small_cnn(time_steps=2)\\n")
"""
#: A folder of images of CIFAR-10's classes, and one of recordings in N-MNIST's form.
IMAGES, RECORDINGS = (
    f"from integration_tests.docs_files import {name}; {name}({folder!r})"
    for name, folder in (("images", "CIFAR10"), ("recordings", "NMNIST"))
)

#: What is run before pages whose text does not say it.
SET_UP = {
    "trust.md": SMALL + "\nx, y = x_test[:12], y_test[:12]",
    "audit.md": DIGITS + OWN + SMALL,
    "adapt.md": DIGITS,
    "paper.md": IMAGES,
    "strength.md": IMAGES,
    "training.md": IMAGES + "\n" + RECORDINGS,
    "gradients.md": SMALL,
    "art.md": SMALL,
    "chains.md": SMALL,
    "report.md": """
from pathlib import Path
from art_snn.audit import AuditSettings, files, run_audit
Path("art-snn-audit").mkdir()
folder = Path("drawn")
folder.mkdir()
found = run_audit(AuditSettings(attacks=("pgd",), chains=("hart",), sweep=(), epochs=2, samples=20, time_steps=2,
                                plan="none", checks=False), Path("art-snn-audit"))
files.write_files(found, Path("art-snn-audit"))
""",
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.long] if page in LONG_PAGES else [])
        for page, found in PAGES.items()
        if found or page in SET_UP
    ],
)
def test_what_a_page_shows_is_run(page, tables, tmp_path, monkeypatch):
    pytest.importorskip(NEEDS.get(page, "torch"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.removesuffix(".md")}
    exec(SET_UP.get(page, ""), names)
    read_only = page in LONG_PAGES and not long.WANTED
    for block in PAGES[page]:
        if block.language == "python":
            python(block, page, names)
        elif block.language == "toml":
            (tmp_path / "audit.toml").write_text(block.text, encoding="utf-8")
            assert AuditSettings(**config.read(tmp_path / "audit.toml", AuditSettings))
        else:
            for words in block.commands:
                if words[0] == "art-snn":
                    accepted(words[1:])
                if not (block.reason or read_only):
                    run(words, monkeypatch)
    CHECKS.get(page, lambda names, folder: None)(names, tmp_path)


def test_what_readme_shows_can_be_given():
    shown = list(blocks((ROOT / "README.md").read_text(encoding="utf-8")))
    assert any(block.language == "python" and ast.parse(block.code) for block in shown)
    commands = [words for block in shown if block.language != "python" for words in block.commands]
    assert [words[:2] for words in commands] == [["art-snn", "audit"]] * 2
    for words in commands:
        accepted(words[1:])


def python(block: Block, page: str, names: dict[str, object]) -> None:
    """A block that begins with the name of a file is that file; another is run."""
    tree = ast.parse(block.code, page)
    if named := re.match(r"# (\w+\.py)\n", block.text):
        Path(named[1]).write_text(block.text, encoding="utf-8")
    elif not block.reason:
        exec(compile(tree, f"docs/{page}", "exec", dont_inherit=True), names)


def run(words: list[str], monkeypatch) -> None:
    """A command, in this process; a `*` in a word stands for the one file there is."""
    words = [glob(word)[0] if "*" in word and glob(word) else word for word in words]
    if words[0] == "art-snn":
        done = CliRunner().invoke(main, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}"
    else:
        monkeypatch.setattr(sys, "argv", [words[2], *words[3:]])
        try:
            import_module(words[2]).main()
        except SystemExit as end:
            assert not end.code, shlex.join(words)


def accepted(arguments: list[str]) -> None:
    """The command is there, knows each option, and takes its value; files need not be there."""
    command = main.commands[arguments[0]]
    if isinstance(command, SettingsCommand):
        command.params = [*options(command.settings(), {}), *command.own]
    context = click.Context(command, info_name=arguments[0])
    values, rest, _ = command.make_parser(context).parse_args(list(arguments[1:]))
    assert not rest
    for parameter in command.params:
        value = values.get(parameter.name)
        if value is None or isinstance(value, (bool, tuple)) or isinstance(parameter.type, click.Path):
            continue
        value = parameter.type.convert(value, parameter, context)
        if parameter.callback is not None:
            parameter.callback(context, parameter, value)


def extended(names: dict, folder: Path) -> None:
    """What docs/extend.md adds is found by an audit, learned, and attacked with."""
    for name, result in (("bim", names["result"]), ("straight", names["straight"]), ("halving", names["halving"])):
        assert {row.attack for row in result.rows} == {name}
        moved = result.examples["hart"] - result.examples["clean"]
        assert 0 < abs(moved).max() <= result.settings.eps + 1e-6
    assert names["trained"].accuracy > 0.6
    members = names["worst"].members
    assert members["attack"].tolist() == ["Halving(max_iter=4)", "BasicIterativeMethod(max_iter=4)"]
    assert members["chain"].tolist() == ["HART(gamma=1.0)", "RGA()"]


def started(names: dict, folder: Path) -> None:
    """docs/start.md: an attack that stays in its ball, and the audit's page."""
    moved = abs(names["x_adv"] - names["x_test"][: len(names["x_adv"])])
    assert 0 < moved.max() <= 0.15 + 1e-6
    assert (folder / "art-snn-audit" / "report.html").is_file()
    drawn(folder)


def drawn(folder: Path) -> None:
    """The figures of the pages: those that follow from equations are as committed; those of an audit can be drawn."""
    sys.path.insert(0, str(DOCS))
    try:
        import figures
    finally:
        sys.path.remove(str(DOCS))
    figures.equations(folder)
    again = sorted(folder.glob("*.svg"))
    assert {path.stem for path in again} == {"crossing", *(f"chain-{name}" for name in figures.CURVES)}
    for path in again:
        (words, numbers), expected = read_svg(path), read_svg(DOCS / "figures" / path.name)
        assert words == expected[0], path.name
        assert numbers == pytest.approx(expected[1], abs=2.0), path.name  # letters are not placed alike everywhere
    figures.findings(folder / "art-snn-audit", folder)
    assert {path.stem for path in folder.glob("*.svg")} >= set(figures.FOUND)


def read_svg(path: Path) -> tuple[list[str], list[float]]:
    """Its words, and the coordinates of its lines."""
    text = path.read_text(encoding="utf-8")
    lines = " ".join(re.findall(r'[^i]d="(M [^"]*)"', text))
    return re.findall(r"<text[^>]*>(.*?)</text>", text), [float(number) for number in re.findall(r"-?[\d.]+", lines)]


#: What is looked at after a page was run.
CHECKS = {"extend.md": extended, "start.md": started}
