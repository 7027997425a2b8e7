"""Figures of success rates: against ε, γ and time, and from each source along each chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from art_snn.attacks import attack as attack_of
from art_snn.audit.columns import column
from art_snn.audit.drawing import LETTERS, Picture, canvas, legend, numbers, panels, plain, styles, titled
from art_snn.audit.metrics import Row
from art_snn.audit.protocol import AuditResult
from art_snn.audit.settings import SCENARIOS
from art_snn.audit.tables import scenario_name

#: All figures of this module.
NAMES = ("asr_against_eps", "gamma", "transfer", "asr_against_time")

_ASR = "attack success rate (%)"


def all_figures(result: AuditResult) -> Iterator[Picture]:
    """
    :param result: An audit's findings.
    :return: The figures that they give, one after the other.
    """
    if any(row.rate.correct for row in result.rows):
        yield against_eps(result)
        yield from filter(None, [gammas(result), transfer(result)])
        yield against_time(result)


def against_eps(result: AuditResult) -> Picture:
    """
    :param result: An audit's findings.
    :return: White-box ASR against ε, a panel for each attack, a line for each chain.
    """
    settings, look = result.settings, styles(result)
    figure, axes = panels(len(settings.attacks))
    eps, words = settings.all_eps(), []
    for axis, attack in zip(axes, settings.attacks, strict=True):
        title = attack_of(attack).title
        for chain in result.chains(attack, SCENARIOS[0]):
            rates = [result.rate(attack, SCENARIOS[0], chain, each).rate.percent for each in eps]
            axis.plot(eps, rates, label=plain(column(chain).title, LETTERS), **look[chain])
            words.append(f"{title} along {column(chain).title} {_row(rates)}")
        axis.axvline(settings.eps, color="grey", linewidth=0.8, linestyle=":")
        axis.set(title=titled(title, "white-box"), xlabel="ε, on the data's scale", ylabel=_ASR, ylim=(-3, 103))
        axis.xaxis.get_major_locator().set_params(nbins=5)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.grid(alpha=0.3)
    legend(figure, axes)
    at = ", ".join(f"{each:g}" for each in eps)
    alt = f"White-box attack success rate in per cent at ε = {at}: {'; '.join(words)}."
    return Picture("asr_against_eps", "Attack success rate against ε", alt, figure)


def gammas(result: AuditResult) -> Picture | None:
    """
    :param result: An audit's findings.
    :return: ASR on held-out samples against γ at the tables' ε, a panel for each attack and scenario, the chosen γ
        marked; None if none was looked for.
    """
    settings, look = result.settings, styles(result)
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in result.search:
        if row.eps == settings.eps and row.seed == settings.seed and row.rate.correct:
            found.setdefault((row.attack, row.scenario), {}).setdefault(row.chain, []).append(row)
    if not found:
        return None
    figure, axes = panels(len(found))
    words = []
    for axis, ((attack, scenario), chains) in zip(axes, found.items(), strict=True):
        names = attack_of(attack).title, scenario_name(scenario)
        for chain, rows in chains.items():
            style, tried = look[chain], sorted(rows, key=lambda row: row.gamma or 0.0)
            rates = {row.gamma: row.rate.percent for row in tried}
            axis.plot(list(rates), list(rates.values()), label=plain(column(chain).title, LETTERS), **style)
            chosen = result.rate(attack, scenario, chain, settings.eps).gamma
            ring = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "markeredgecolor": style["color"]}
            axis.plot([chosen], [rates[chosen]], linestyle="none", zorder=4, **ring)
            words.append(f"{', '.join(names)}, {column(chain).title}: γ = {chosen:g}, {rates[chosen]:.1f} %")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set(title=titled(*names), xlabel="γ (chosen: in a ring)", ylabel="ASR, held-out samples (%)")
        axis.margins(0.08)
        axis.grid(alpha=0.3)
    legend(figure, axes)
    alt = f"Attack success rate on held-out samples against γ at ε = {settings.eps:g}. Chosen: {'; '.join(words)}."
    return Picture("gamma", "The search for γ", alt, figure)


def transfer(result: AuditResult) -> Picture | None:
    """
    :param result: An audit's findings.
    :return: ASR at the tables' ε by whose gradient was followed, and along which chain, a panel for each attack; None
        if it was the target's own only.
    """
    settings = result.settings
    if len(settings.scenarios) < 2:
        return None
    rows = {scenario: scenario_name(scenario) for scenario in settings.scenarios}
    chains = list(dict.fromkeys(row.chain for row in result.rows if row.eps == settings.eps))
    number = len(settings.attacks)
    figure, axes = canvas(number, 1, 0.9 * len(chains) + 3.6, (0.55 * len(rows) + 1.5) * number + 0.4)
    words = []
    for axis, attack in zip(axes.flat, settings.attacks, strict=True):
        values = np.full((len(rows), len(chains)), np.nan)
        for line, scenario in enumerate(rows):
            there = result.chains(attack, scenario)
            for place, chain in enumerate(chains):
                if chain in there:
                    values[line, place] = result.rate(attack, scenario, chain, settings.eps).rate.percent
            pairs = {column(c).title: value for c, value in zip(chains, values[line], strict=True) if value == value}
            words.append(f"{attack_of(attack).title} {rows[scenario]}: {numbers(pairs)}")
        image = axis.imshow(values, cmap="cividis", vmin=0.0, vmax=100.0, aspect="auto")
        for (line, place), value in np.ndenumerate(values):
            text, ink = ("", "black") if value != value else (f"{value:.1f}", "white" if value < 50 else "black")
            axis.text(place, line, text, ha="center", va="center", color=ink)
        titles = [plain(column(chain).title, LETTERS) for chain in chains]
        axis.set_xticks(range(len(chains)), titles, rotation=30, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(rows)), [plain(name, LETTERS) for name in rows.values()])
        axis.set_title(titled(attack_of(attack).title, f"ε = {settings.eps:g}"))
    figure.colorbar(image, ax=list(axes.flat), label=_ASR)
    alt = f"Attack success rate by whose gradient is followed, at ε = {settings.eps:g}. {'; '.join(words)}."
    return Picture("transfer", "From the target itself, and from other networks", alt, figure)


def against_time(result: AuditResult) -> Picture:
    """
    :param result: An audit's findings.
    :return: White-box ASR at the tables' ε against the seconds that each attack took, the search for its γ included.
    """
    settings, look = result.settings, styles(result)
    figure, axes = panels(len(settings.attacks))
    words = []
    for axis, attack in zip(axes, settings.attacks, strict=True):
        for chain in result.chains(attack, SCENARIOS[0]):
            row = result.rate(attack, SCENARIOS[0], chain, settings.eps)
            style: dict[str, Any] = look[chain] | {"linestyle": "none", "markersize": 9}
            low, high = row.rate.interval()
            error = [[row.rate.percent - low], [high - row.rate.percent]]
            seconds = max(row.seconds, 1e-3)
            label = plain(column(chain).title, LETTERS)
            axis.errorbar([seconds], [row.rate.percent], yerr=error, elinewidth=1.0, label=label, **style)
            words.append(
                f"{attack_of(attack).title} along {column(chain).title} {row.rate.percent:.1f} % in {row.seconds:.2g} s"
            )
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(lambda value, _: "")
        title = titled(attack_of(attack).title, f"white-box, ε = {settings.eps:g}")
        axis.set(title=title, xlabel="seconds, with the search for γ", ylabel=_ASR, ylim=(-3, 103))
        axis.margins(x=0.15)
        axis.grid(alpha=0.3)
    legend(figure, axes)
    alt = f"White-box attack success rate, with its 95 % interval, against time: {'; '.join(words)}."
    return Picture("asr_against_time", "Attack success rate against time", alt, figure)


def _row(rates: list[float]) -> str:
    return ", ".join(f"{rate:.1f}" for rate in rates)
