"""The suite that attacks nothing: χ of Eq. 12 in every layer of trained networks, beside Theorems 1 and 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from art_snn import models
from art_snn.files import replacing
from art_snn.network import SpikingNetwork
from art_snn.suites.cases import DECAYS
from art_snn.suites.run import as_markdown, trained
from art_snn.suites.settings import SuiteSettings
from art_snn.theory import measure
from art_snn.training.data import load

if TYPE_CHECKING:
    from pandas import DataFrame

TITLE = "What each layer keeps of time: χ of Eq. 12 from real traces, beside Theorem 1, and Theorem 2's gain."

#: The columns of the table: χ, and over |c| >= C/20, its closed form there, and what Theorem 2 asks for and finds.
SHOWN = (
    *("layer", "decay", "time_steps", "chi", "chi_away", "closed_form_away", "theorem_1"),
    *("gain_needed", "gain_hart", "gain_met", "theorem_2"),
)


def run_theory(
    settings: SuiteSettings,
    folder: Path,
    start: Callable[[str, int], None] = lambda what, total: None,
    advance: Callable[[], None] = lambda: None,
) -> DataFrame:
    """
    :param settings: What it is run on.
    :param folder: Where networks are kept, and `theory.csv`, `theory.parquet` and `theory.md` are written.
    :param start: Called with a name and a number of steps when a stage begins.
    :param advance: Called after each step of a stage.
    :return: A row for each spiking layer of each network, see :func:`art_snn.theory.measure`.
    """
    import pandas

    parts = []
    for decay in DECAYS:
        for steps in (max(1, settings.steps // 2), settings.steps, 2 * settings.steps):
            training = settings.training(decay=decay, time_steps=steps, reset="soft")
            network = models.load_network(trained(training, folder, start, advance)).eval()
            assert isinstance(network, SpikingNetwork)
            start(f"measuring, T = {steps}, λ = {decay:g}", 1)
            parts.append(measure(network, load(training).test[0][: settings.samples]))
            advance()
    found = pandas.concat(parts, ignore_index=True)
    for suffix, put in (
        ("csv", lambda path: found.to_csv(path, index=False, encoding="utf-8")),
        ("parquet", lambda path: found.to_parquet(path, index=False)),
        ("md", lambda path: path.write_text(f"{TITLE}\n\n{as_markdown(shown(found))}", encoding="utf-8")),
    ):
        with replacing(folder / f"theory.{suffix}") as temporary:
            put(temporary)
    return found


def shown(found: DataFrame) -> DataFrame:
    """
    :param found: What :func:`run_theory` gave.
    :return: The columns that the table shows, rounded.
    """
    table = found[list(SHOWN)].copy()
    for name in table.columns:
        if table[name].dtype.kind == "f":
            table[name] = table[name].map("{:.3g}".format)
    return table
