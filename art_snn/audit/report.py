"""An audit's findings in words, and on the screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from art_snn.attacks import attack as attack_of
from art_snn.audit import tables
from art_snn.audit.columns import column
from art_snn.audit.metrics import paired
from art_snn.audit.protocol import AuditResult
from art_snn.audit.settings import GAMMA_LIMITS, GAMMAS
from art_snn.audit.tables import scenario_name


def worst_case(result: AuditResult) -> str:
    """
    :param result: An audit's findings, with a worst case.
    :return: It, in words: the first figure.
    """
    worst = result.worst
    assert worst is not None
    low, high = (100.0 * end for end in worst.interval)
    by = worst.members[worst.members["fooled"] > 0]
    counts = "; ".join(
        f"{line.fooled} by {line.attack}" + (f" along {line.chain}" if line.chain else "") for line in by.itertuples()
    )
    return (
        f"Worst case at ε = {worst.eps:g}: {100.0 * worst.robust_accuracy:.1f} % of the samples are classified "
        "correctly "
        f"and survive every attack (95 % interval {low:.1f} to {high:.1f}); attack success rate "
        f"{100.0 * worst.success_rate:.1f} %. "
        f"Plan {worst.plan}, {len(worst.attacks)} attacks, each on what the ones before left: fooled "
        f"{counts or 'none'}."
    )


def flags(result: AuditResult) -> str:
    """
    :param result: An audit's findings.
    :return: What speaks against them, a line for each flag: what stands before all figures.
    """
    if not result.flags:
        return f"Can the figures be trusted? Of {len(result.checks)} checks none speaks against them."
    lines = [f"FLAG {flag}" for flag in result.flags]
    return "\n".join([f"{len(lines)} of {len(result.checks)} checks speak against the figures:", *lines])


def table(result: AuditResult, scenario: str) -> Table:
    """
    :param result: An audit's findings.
    :param scenario: A scenario of the settings.
    :return: Its success rates, see :func:`art_snn.audit.tables.rates`, for the terminal.
    :raises ValueError: If the rows are not of the same samples.
    """
    found = tables.rates(result, scenario)
    view = Table(title=escape(found.title), title_justify="left")
    for number, title in enumerate(found.columns):
        view.add_column(escape(title), justify="left" if number < found.words else "right")
    for line in found.lines:
        texts = [f"[bold]{escape(cell.text)}[/bold]" if cell.best else escape(cell.text) for cell in line]
        view.add_row(*("\n".join([text, *map(escape, cell.notes)]) for text, cell in zip(texts, line, strict=True)))
    return view


def headline(result: AuditResult) -> str:
    """
    :param result: An audit's findings.
    :return: What was attacked: the lines above the tables.
    """
    accuracy, second = result.accuracy
    attacked = len(result.rows[0].outcomes) if result.rows else result.settings.samples
    text = f"Target: {result.description}. Clean accuracy {accuracy:.1f} % on the {attacked} attacked samples"
    if second is None:
        return f"{text}."
    seed = f", seed {result.seeds['second']}" if "second" in result.seeds else ""
    return f"{text} (second network{seed}: {second:.1f} %)."


def verdict(result: AuditResult) -> str:
    """
    :param result: An audit's findings.
    :return: How it was attacked, which chain came out strongest, and how the featured ones did: the lines below the
        tables.
    """
    return "\n".join([*method(result), *findings(result)])


def method(result: AuditResult) -> list[str]:
    """
    :param result: An audit's findings.
    :return: Steps, and how γ was chosen, in sentences.
    """
    s = result.settings
    lines = []
    for sized in (True, False):
        stepped = [each.title for each in s.entries if each.takes and ("step_size" in each.takes) == sized]
        if stepped:
            takes, of = "takes" if len(stepped) == 1 else "take", f" of {s.alpha(s.eps):g}" if sized else ""
            lines.append(f"{_words(stepped)} {takes} {s.steps} steps{of}.")
    columns = s.columns
    if tuned := [each.entry.title for each in columns if each.tuned]:
        how = (
            f"is given as {s.gamma:g}"
            if s.gamma is not None
            else f"is chosen on {result.held_out} held-out samples, each chain's own, from "
            f"{_words([f'{gamma:g}' for gamma in GAMMAS])}, from beyond where the best is at an edge, and from the "
            "middles to its neighbours"
        )
        lines.append(f"γ of {_words(tuned)} {how}.")
    for each in columns:
        if each.entry.default_too and not each.tuned:
            lines.append(f"Plain {each.title} is {each.chain(None)!r}, its default.")
    return lines


def findings(result: AuditResult) -> list[str]:
    """
    :param result: An audit's findings.
    :return: Where the search for γ ended too early, and for each scenario and attack the strongest chains.
    """
    s = result.settings
    lines = []
    if at_limit := result.at_limit():
        low, high = GAMMA_LIMITS
        where = ", ".join(
            f"{column(row.chain).title} in {scenario_name(row.scenario)} {attack_of(row.attack).title} "
            f"at ε = {row.eps:g} (γ = {row.gamma:g})"
            for row in at_limit
        )
        lines.append(f"The search ended at a limit, {low:g} or {high:g}: a better γ may lie beyond for {where}.")
    for scenario in s.scenarios:
        for attack in s.attacks:
            lines.append(
                f"{scenario_name(scenario)} {attack_of(attack).title}: {_strongest(result, attack, scenario)}."
            )
    return lines


def _strongest(result: AuditResult, attack: str, scenario: str) -> str:
    """The strongest chains, those featured that are not among them, and the strongest beside the next, pair by pair."""
    eps, best = result.settings.eps, result.strongest(attack, scenario)
    rows = {chain: result.rate(attack, scenario, chain, eps) for chain in result.chains(attack, scenario)}
    first, *others = sorted(rows, key=lambda chain: -rows[chain].rate.fooled)
    rate = rows[first].rate
    if not rate.correct:
        return "no sample is classified correctly before the attack, so that there is no rate"
    low, high = rate.interval()
    text = f"strongest {' and '.join(column(chain).title for chain in best)}, {rate.percent:.1f} % "
    text += f"(95 % interval {low:.1f} to {high:.1f})"
    for chain in rows:
        if column(chain).featured and chain not in best:
            text += f"; {column(chain).title} {rows[chain].rate.percent:.1f} %"
    if others:
        pair = paired(rows[first], rows[others[0]])
        one, other = column(first).title, column(others[0]).title
        text += f"; {pair.first} samples fooled by {one} and not by {other}, {pair.second} the other way "
        text += f"(McNemar's exact test, p = {pair.p_value:.2g})"
    return text


def _words(words: Sequence[str]) -> str:
    """Words in a row: one, two and three."""
    return " and ".join([*filter(None, [", ".join(words[:-1])]), words[-1]])
