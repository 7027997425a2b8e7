"""The examples run as files, and print what their first lines say."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from art_snn.chains.names import everywhere

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("attack_*.py"))
NEEDS = {
    "attack_spikingjelly": "spikingjelly",
    "attack_snntorch": "snntorch",
    "attack_norse": "norse",
    "attack_nir": "nirtorch",
}


def test_there_is_one_for_each_library():
    assert {path.stem for path in EXAMPLES} == {*NEEDS, "attack_own_neuron"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_prints_a_rate_for_every_chain(path, run):
    pytest.importorskip(NEEDS.get(path.stem, "torch"))
    done = run(sys.executable, "-W", "ignore", path, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"clean accuracy ([\d.]+)%", done.stdout)[1])
    assert accuracy > 90
    rates = {line.split()[0]: [float(rate) for rate in line.split()[1:]] for line in done.stdout.splitlines()[2:]}
    assert list(rates) == [*everywhere(), "native"]
    assert all(0 < fgsm <= pgd <= 100 for fgsm, pgd in rates.values())
