"""An audit's findings as tables of pandas: a row for each cell, and a row for each sample of each cell."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from art_snn.audit.metrics import FOOLED, RESISTED, WRONG
from art_snn.audit.protocol import AuditResult

if TYPE_CHECKING:
    from pandas import DataFrame

#: What a letter of an outcome means.
WORDS = {FOOLED: "fooled", RESISTED: "resisted", WRONG: "wrong before"}

#: Columns of a row for each cell.
COLUMNS = (
    *("attack", "scenario", "chain", "eps", "norm", "seed", "gamma", "correct", "fooled"),
    *("asr", "asr_low", "asr_high", "tried", "seconds"),
)


def cells(result: AuditResult) -> DataFrame:
    """
    :param result: An audit's findings.
    :return: One row for each cell: `attack`, `scenario`, `chain`, `eps`, `norm`, `seed`, `gamma`, `correct`, `fooled`,
        `asr` and its 95 % interval `asr_low` to `asr_high` in per cent, `tried`, the number of γ that were tried on
        held-out samples, and `seconds`.
    """
    import pandas

    tried = Counter((row.setting, row.seed) for row in result.search)
    lines = []
    for row in result.rows:
        line = row.as_dict()
        del line["outcomes"]
        lines.append(line | {"norm": result.settings.norm, "tried": tried[row.setting, row.seed]})
    frame = pandas.DataFrame(lines, columns=list(COLUMNS))
    return frame.astype({"gamma": float, "asr": float})


def samples(result: AuditResult) -> DataFrame:
    """
    :param result: An audit's findings.
    :return: One row for each sample of each cell: `attack`, `scenario`, `chain`, `eps`, `seed`, `sample` (its index in
        the data set's test part, if that is known, or its place), `outcome`.
    """
    import pandas

    parts = []
    for row in result.rows:
        places = range(len(row.outcomes)) if result.attacked is None else result.attacked
        part = {"sample": list(places), "outcome": [WORDS[letter] for letter in row.outcomes]}
        named = {"attack": row.attack, "scenario": row.scenario, "chain": row.chain, "eps": row.eps, "seed": row.seed}
        parts.append(pandas.DataFrame(named | part))
    frame = pandas.concat(parts, ignore_index=True)
    words = ("attack", "scenario", "chain", "outcome")
    return frame.astype(dict.fromkeys(words, "category"))
