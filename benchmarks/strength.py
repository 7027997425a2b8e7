"""Which attack is strongest, at equal numbers of steps and at equal time: every chain with PGD, APGD and SA-PGD.

    python -m benchmarks.strength --network nets/digits-fgsm/network.json --data digits --eps 0.2 --out strength

A chain's γ, or level, is the best of a grid on held-out samples, the same effort for every chain. Time is that of one
thread's processor, so that what else a machine does is not in it; on a GPU, which else should do nothing, it is the
clock's. Every cell is kept in `<out>/<name>.json`, so that an interrupted study goes on; the tables are printed from
there, and the figure is drawn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import AutoProjectedGradientDescent, FastGradientMethod, ProjectedGradientDescent
from torch import nn

from art_snn import PyTorchSNNClassifier, evaluate, models
from art_snn.attacks import SAPGD, PolishedPGD
from art_snn.audit.metrics import Paired, SuccessRate
from art_snn.chains import (
    ASSG,
    BPTR,
    CBA,
    HART,
    PDSG,
    RGA,
    STBP,
    AdaptiveHART,
    AnnealedHART,
    BackwardChain,
    Mixed,
    OneStepHART,
    Rate,
)
from art_snn.datasets.table import DATASETS
from art_snn.evaluation import PLANS
from art_snn.files import replacing

WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)
LEVELS = (0.4, 0.425, 0.46, 0.48)
#: Every chain, and what it is tuned over.
CHAINS: dict[str, list[BackwardChain]] = {
    "CBA": [CBA()],
    "BPTR": [BPTR()],
    "Rate": [Rate()],
    "RGA": [RGA()],
    "STBP": [STBP(gamma) for gamma in WIDTHS],
    "PDSG": [PDSG()],
    "ASSG": [ASSG(level) for level in LEVELS],
    "ASSG, corrected": [ASSG(level, corrected=True) for level in LEVELS],
    "HART": [HART(gamma) for gamma in WIDTHS],
    "HART + STBP": [Mixed([HART(gamma), STBP()]) for gamma in WIDTHS],
    "adaptive HART": [AdaptiveHART(level) for level in LEVELS],
    "annealed HART": [AnnealedHART(start=a, end=b) for a, b in ((0.5, 0.03), (1.0, 0.1), (0.5, 0.1), (0.25, 0.03))],
}
PUBLISHED = {"ASSG (as published)": ASSG(), "STBP (γ = 1)": STBP(1.0), "HART (γ = 1)": HART(1.0)}
TUNING_STEPS = 50
EQUAL_STEPS = 50
#: Queries of the search of PolishedPGD.
QUERIES = 50
TABLES = ("one-step", "steps", "attacks", "time", "search", "worst", "alone", "on-the-way")
#: Chains, losses and numbers of steps that are given the time of the whole plan alone.
ALONE = (
    ("ASSG", "cross_entropy", 100),
    ("ASSG", "margin", 100),
    ("ASSG, corrected", "cross_entropy", 100),
    ("ASSG, corrected", "margin", 200),
    ("HART", "cross_entropy", 100),
    ("HART + STBP", "cross_entropy", 100),
    ("annealed HART", "cross_entropy", 100),
)
#: Color and marker of each chain: blue where the gradient is HART's, red where ASSG's, grey where it knows rates only.
LOOKS = {
    "CBA": ("0.75", "v"),
    "BPTR": ("0.6", "s"),
    "Rate": ("0.45", "o"),
    "RGA": ("0.3", "P"),
    "STBP": ("tab:green", "D"),
    "PDSG": ("tab:olive", "p"),
    "ASSG": ("tab:red", "^"),
    "ASSG, corrected": ("tab:orange", "X"),
    "HART": ("tab:blue", "<"),
    "HART + STBP": ("tab:purple", ">"),
    "adaptive HART": ("tab:cyan", "h"),
    "annealed HART": ("navy", "d"),
}


def pgd(classifier: Any, eps: float, steps: int, size: int) -> Any:
    return ProjectedGradientDescent(
        classifier, eps=eps, eps_step=eps / 4, max_iter=steps, num_random_init=1, batch_size=size, verbose=False
    )


def apgd(classifier: Any, eps: float, steps: int, size: int) -> Any:
    return AutoProjectedGradientDescent(
        classifier, eps=eps, eps_step=2 * eps, max_iter=steps, nb_random_init=1, batch_size=size,
        loss_type="cross_entropy", verbose=False,
    )  # fmt: skip


def sapgd(classifier: Any, eps: float, steps: int, size: int) -> Any:
    return SAPGD(classifier, eps=eps, max_iter=steps, batch_size=size, seed=0, verbose=False)


def polished(classifier: Any, eps: float, steps: int, size: int) -> Any:
    return PolishedPGD(classifier, eps=eps, max_iter=steps, queries=QUERIES, batch_size=size, seed=0, verbose=False)


def fgsm(classifier: Any, eps: float, steps: int, size: int) -> Any:
    return FastGradientMethod(classifier, eps=eps, batch_size=size)


ATTACKS: dict[str, Callable[..., Any]] = {"PGD": pgd, "APGD": apgd, "SA-PGD": sapgd, "polished": polished, "FGSM": fgsm}


class Study:
    """One network under every attack.

    :param classifier: The network.
    :param tuning: Samples on which chains are tuned.
    :param samples: Samples that are attacked, classified correctly.
    :param eps: ε, L∞.
    :param path: Where the cells are kept.
    :param size: Samples of one batch.
    :param steps: Numbers of steps of the curves.
    """

    def __init__(
        self, classifier: Any, tuning: Any, samples: Any, eps: float, path: Path, size: int, steps: list[int]
    ) -> None:
        self.clock = time.process_time if classifier.device.type == "cpu" else time.perf_counter
        self.classifier, self.eps, self.path, self.size, self.steps = classifier, eps, path, size, steps
        self.tuning, self.samples = self._correct(*tuning), self._correct(*samples)
        self.cells: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def _correct(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        right = self.classifier.predict(x, batch_size=self.size).argmax(1) == y.argmax(1)
        return x[right], y[right]

    def cell(self, key: str, compute: Callable[[], Any]) -> Any:
        if key not in self.cells:
            self.keep(key, compute())
        return self.cells[key]

    def keep(self, key: str, value: Any) -> None:
        self.cells[key] = value
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(self.cells, indent=1))
        print(f"{self.path.stem}: {key}", flush=True)

    def attack(self, name: str, chain: BackwardChain, steps: int, part: str = "samples") -> dict[str, Any]:
        """Which samples an attack fools, and its seconds."""

        def compute() -> dict[str, Any]:
            x, y = self.samples if part == "samples" else self.tuning
            followed = self.classifier.chain = lasting(chain, steps)
            np.random.seed(0)
            begun, parts = self.clock(), []
            for start in range(0, len(x), self.size):
                batch = slice(start, start + self.size)
                attack = ATTACKS[name](self.classifier, self.eps, steps, self.size)
                with followed.run():  # a chain with state goes on from step to step; ART's attacks know of none
                    parts.append(attack.generate(x[batch], y[batch]))
            seconds, found = self.clock() - begun, np.concatenate(parts)
            assert np.abs(found - x).max() <= self.eps + 1e-6
            fooled = self.classifier.predict(found, batch_size=self.size).argmax(1) != y.argmax(1)
            return {"fooled": marks(fooled), "seconds": seconds}

        return self.cell(f"{part} | {name} | {chain!r} | {steps}", compute)

    def tuned(self, chains: list[BackwardChain]) -> BackwardChain:
        """The best of a grid on the held-out samples, under SA-PGD; of equals the first."""
        if len(chains) == 1:
            return chains[0]
        fooled = [self.attack("SA-PGD", chain, TUNING_STEPS, "tuning")["fooled"].count("1") for chain in chains]
        return chains[int(np.argmax(fooled))]

    def prediction(self) -> float:
        """Seconds of one prediction of all samples."""
        x, _ = self.samples

        def compute() -> float:
            rounds = []
            for _ in range(5):
                begun = self.clock()
                self.classifier.predict(x, batch_size=self.size)
                rounds.append(self.clock() - begun)
            return float(np.median(rounds))

        return self.cell("prediction", compute)

    @staticmethod
    def alone_key(chain: BackwardChain, loss: str, steps: int) -> str:
        return f"alone, by start | {lasting(chain, steps)!r} | {loss} | {steps}"

    def alone(self, chain: BackwardChain, loss: str, steps: int) -> list[dict[str, Any]]:
        """SA-PGD along one chain, with new starts on what is left until the time of the standard plan has passed: what
        is fooled, and the seconds, after each start.
        """
        x, y = self.samples
        chain, limit = lasting(chain, steps), self.worst("standard")["seconds"]
        key = self.alone_key(chain, loss, steps)
        starts = list(self.cells.get(key, []))
        while not starts or (starts[-1]["seconds"] < limit and "0" in starts[-1]["fooled"]):
            left = np.array([each == "0" for each in starts[-1]["fooled"]]) if starts else np.ones(len(x), dtype=bool)
            begun = self.clock()
            with self.classifier.following(chain):
                attack = SAPGD(
                    self.classifier,
                    eps=self.eps,
                    max_iter=steps,
                    batch_size=self.size,
                    seed=len(starts),
                    loss_type=loss,
                    verbose=False,
                )
                found = attack.generate(x[left], y[left], samples=np.flatnonzero(left))
            left[left] = self.classifier.predict(found, batch_size=self.size).argmax(1) == y[left].argmax(1)
            before = starts[-1]["seconds"] if starts else 0.0
            starts.append({"fooled": marks(~left), "seconds": before + self.clock() - begun})
            self.keep(key, starts)
        begun_in_time = sum(each["seconds"] < limit for each in starts[:-1])  # a faster plan leaves some of them out
        return starts[: begun_in_time + 1]

    @staticmethod
    def worst_key(plan: str) -> str:
        return f"worst case, by member | {PLANS[plan]}"

    def worst(self, plan: str) -> dict[str, Any]:
        """The worst case over a plan."""
        x, y = self.samples

        def compute() -> dict[str, Any]:
            options: dict[str, Any] = {"batch_size": self.size, "flags": False, "verbose": False}
            for _ in range(2 if plan == "fast" else 1):  # a brief one's first run is half checks of first use
                begun = self.clock()
                result = evaluate(self.classifier, x, y, eps=self.eps, plan=plan, **options)
                seconds = self.clock() - begun
            ends = np.cumsum(result.seconds)  # by the clock: their shares are those of the processor's time
            parts = [
                {
                    "fooled": marks((result.fooled_by >= 0) & (result.fooled_by <= member)),
                    "seconds": seconds * float(end / ends[-1]),
                }
                for member, end in enumerate(ends)
            ]
            return {**parts[-1], "starts": parts, "members": result.as_dict()["members"], "plan": result.plan}

        return self.cell(self.worst_key(plan), compute)


def lasting(chain: BackwardChain, steps: int) -> BackwardChain:
    """The chain as it is followed in so many steps."""
    return replace(chain, steps=steps) if isinstance(chain, AnnealedHART) else chain


def marks(fooled: np.ndarray) -> str:
    """Which samples are fooled, as a cell keeps it: a 1 for each that is, a 0 for each that is not."""
    return "".join("01"[int(each)] for each in fooled)


def asr(cell: dict[str, Any]) -> float:
    return rate(cell).percent


def rate(cell: dict[str, Any]) -> SuccessRate:
    return SuccessRate(cell["fooled"].count("1"), len(cell["fooled"]))


def interval(cell: dict[str, Any]) -> str:
    low, high = rate(cell).interval()
    return f"{low:.1f} to {high:.1f}"


def paired(one: dict[str, Any], other: dict[str, Any]) -> str:
    pairs = list(zip(one["fooled"], other["fooled"], strict=True))
    found = Paired(pairs.count(("1", "0")), pairs.count(("0", "1")))
    return f"{found.first} : {found.second}, p = {found.p_value:.2g}"


def equal_steps(study: Study, chains: dict[str, BackwardChain], attacks: list[str]) -> Iterator[str]:
    """A table: ASR of every chain and attack at the same number of steps."""
    cells = {name: study.attack("SA-PGD", chain, EQUAL_STEPS) for name, chain in chains.items()}
    best = max(cells, key=lambda name: asr(cells[name]))
    titles = " | ".join(f"{attack}-{EQUAL_STEPS}" for attack in attacks)
    yield f"| chain | {titles} | 95 % | {best} : it | predictions |"
    yield "| --- " * (len(attacks) + 4) + "|"
    for name, chain in chains.items():
        row = [f"{asr(study.attack(attack, chain, EQUAL_STEPS)):.1f}" for attack in attacks]
        cell = cells[name]
        against = "" if name == best else paired(cells[best], cell)
        cost = cell["seconds"] / study.prediction()
        tuned = f"{name}, {chain!r}" if name in CHAINS and len(CHAINS[name]) > 1 else name
        yield f"| {tuned} | {' | '.join(row)} | {interval(cell)} | {against} | {cost:.0f} |"


def by_steps(study: Study, chains: dict[str, BackwardChain]) -> Iterator[str]:
    """A table: ASR of SA-PGD along every chain, by the number of steps."""
    yield f"| chain | {' | '.join(f'{steps} steps' for steps in study.steps)} |"
    yield "| --- " * (len(study.steps) + 1) + "|"
    for name, chain in chains.items():
        row = [f"{asr(study.attack('SA-PGD', chain, steps)):.1f}" for steps in study.steps]
        yield f"| {name} | {' | '.join(row)} |"


def one_step(study: Study) -> Iterator[str]:
    """A table: ASR of FGSM, every chain with its own best parameter on the held-out samples."""
    rows = {}
    for name, grid in {**CHAINS, "one-step HART": [OneStepHART()]}.items():
        if isinstance(grid[0], AnnealedHART):
            continue  # it anneals over steps, of which there is one
        fooled = [study.attack("FGSM", chain, 1, "tuning")["fooled"].count("1") for chain in grid]
        chain = grid[int(np.argmax(fooled))]
        rows[f"{name}, {chain!r}" if len(grid) > 1 else name] = study.attack("FGSM", chain, 1)
    best = max(rows, key=lambda name: asr(rows[name]))
    yield f"| chain | FGSM | 95 % | {best} : it |"
    yield "| --- | --- | --- | --- |"
    for name, cell in rows.items():
        yield f"| {name} | {asr(cell):.1f} | {interval(cell)} | {'' if name == best else paired(rows[best], cell)} |"


def strongest(cells: list[dict[str, Any]], seconds: float) -> dict[str, Any] | None:
    """The cell of the highest rate within a time, if there is one."""
    return max((cell for cell in cells if cell["seconds"] <= seconds), key=asr, default=None)


def equal_time(study: Study, chains: dict[str, BackwardChain], budgets: tuple[int, ...]) -> Iterator[str]:
    """A table: ASR of SA-PGD along every chain, at most so many predictions' time."""
    unit = study.prediction()
    curves = {name: [study.attack("SA-PGD", chain, steps) for steps in study.steps] for name, chain in chains.items()}
    last = {name: strongest(curves[name], budgets[-1] * unit) for name in chains}
    best = max((name for name in last if last[name]), key=lambda name: asr(last[name]))  # type: ignore[arg-type]
    yield f"| chain | {' | '.join(f'{budget} predictions' for budget in budgets)} | {best} : it |"
    yield "| --- " * (len(budgets) + 2) + "|"
    for name in chains:
        found = [strongest(curves[name], budget * unit) for budget in budgets]
        row = ["-" if cell is None else f"{asr(cell):.1f}" for cell in found]
        against = "" if name == best or last[name] is None else paired(last[best], last[name])  # type: ignore[arg-type]
        yield f"| {name} | {' | '.join(row)} | {against} |"


def with_search(study: Study, chains: dict[str, BackwardChain]) -> Iterator[str]:
    """A table: SA-PGD, with a search from its best point, and in twice as many steps."""
    unit, twice = study.prediction(), 2 * EQUAL_STEPS
    attacks = (("SA-PGD", EQUAL_STEPS), ("polished", EQUAL_STEPS), ("SA-PGD", twice))
    yield (
        f"| chain | SA-PGD-{EQUAL_STEPS} | predictions | and {QUERIES} queries | predictions | one : the other | "
        f"SA-PGD-{twice} | predictions |"
    )
    yield "| --- " * 8 + "|"
    for name, chain in chains.items():
        cells = [study.attack(attack, chain, steps) for attack, steps in attacks]
        row = [f"{asr(cell):.1f} | {cell['seconds'] / unit:.0f}" for cell in cells]
        yield f"| {name} | {row[0]} | {row[1]} | {paired(cells[0], cells[1])} | {row[2]} |"


def worst_cases(study: Study, chains: dict[str, BackwardChain]) -> Iterator[str]:
    """A table: the worst case, beside the strongest single member that was run by hand."""
    unit, singles = study.prediction(), []
    for name, chain in {**chains, **PUBLISHED}.items():
        for steps in study.steps:
            cell = study.attack("SA-PGD", chain, steps)
            singles.append((f"SA-PGD-{steps} along {name}", cell))
    yield "| attack | ASR | 95 % | predictions |"
    yield "| --- | --- | --- | --- |"
    for plan in ("fast", "standard"):
        cell = study.worst(plan)
        yield f"| worst case, `{plan}` | {asr(cell):.1f} | {interval(cell)} | {cell['seconds'] / unit:.0f} |"
        limit = [(name, each) for name, each in singles if each["seconds"] <= cell["seconds"]]
        if not limit:
            continue
        name, each = max(limit, key=lambda pair: asr(pair[1]))
        cost = each["seconds"] / unit
        yield f"| strongest single one in that time: {name} | {asr(each):.1f} | {interval(each)} | {cost:.0f} |"
    name, each = max(singles, key=lambda pair: asr(pair[1]))
    yield f"| strongest single one of all: {name} | {asr(each):.1f} | {interval(each)} | {each['seconds'] / unit:.0f} |"


def equal_time_alone(study: Study, chains: dict[str, BackwardChain]) -> Iterator[str]:
    """A table: the standard plan, beside SA-PGD along one chain with as many starts as its time allows."""
    unit, standard = study.prediction(), study.worst("standard")
    yield "| attack | ASR | 95 % | predictions | worst case : it |"
    yield "| --- | --- | --- | --- | --- |"
    cost = standard["seconds"] / unit
    yield f"| worst case, `standard` | {asr(standard):.1f} | {interval(standard)} | {cost:.0f} | |"
    for name, loss, steps in ALONE:
        if name in chains:
            starts = study.alone(chains[name], loss, steps)
            of = "" if loss == "cross_entropy" else f" of the {loss}"
            said = f"SA-PGD-{steps}{of} along {name}, {len(starts)} starts"
            cost, against = starts[-1]["seconds"] / unit, paired(standard, starts[-1])
            yield f"| {said} | {asr(starts[-1]):.1f} | {interval(starts[-1])} | {cost:.0f} | {against} |"


def on_the_way(study: Study, chains: dict[str, BackwardChain], budgets: tuple[int, ...]) -> Iterator[str]:
    """A table: what the standard plan has found within a time, beside the best of one chain alone within it: one start
    of any number of steps, or new starts.
    """
    unit, standard = study.prediction(), study.worst("standard")
    budgets = tuple(budget for budget in budgets if budget * unit < standard["seconds"])

    nothing = {"fooled": "0" * len(standard["fooled"])}

    def within(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [strongest(cells, budget * unit) or nothing for budget in budgets]

    yield f"| attack | {' | '.join(f'{budget} predictions' for budget in budgets)} |"
    yield "| --- " * (len(budgets) + 1) + "|"
    found = within(standard["starts"])
    yield f"| `standard` so far | {' | '.join(f'{asr(cell):.1f}' for cell in found)} |"
    for name, loss in dict.fromkeys((name, loss) for name, loss, _ in ALONE if name in chains):
        alone = [study.alone(chains[name], loss, steps) for other, of, steps in ALONE if (other, of) == (name, loss)]
        cells = [start for starts in alone for start in starts]
        if loss == "cross_entropy":
            cells += [study.attack("SA-PGD", chains[name], steps) for steps in study.steps]
        pairs = zip(found, within(cells), strict=True)
        row = [f"{asr(cell):.1f} ({paired(plan, cell)})" for plan, cell in pairs]
        yield f"| {name}{'' if loss == 'cross_entropy' else f', {loss}'} | {' | '.join(row)} |"


def draw(study: Study, chains: dict[str, BackwardChain], path: Path) -> None:
    """ASR against time, and what else the tables have computed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis, unit = figure.subplots(), study.prediction()
    curves = {name: [study.attack("SA-PGD", chain, steps) for steps in study.steps] for name, chain in chains.items()}
    for name in sorted(curves, key=lambda name: -asr(curves[name][-1])):
        cells, (color, marker) = curves[name], LOOKS[name]
        axis.plot(
            [c["seconds"] / unit for c in cells], [asr(c) for c in cells], color=color, marker=marker, label=name,
            markersize=5, linewidth=1.3,
        )  # fmt: skip
    standard = study.cells.get(study.worst_key("standard"))
    if standard is not None:
        ends = [cell["seconds"] / unit for cell in standard["starts"]]
        axis.plot(
            ends, [asr(cell) for cell in standard["starts"]], "k", drawstyle="steps-post", linewidth=1.3, zorder=3
        )
    for plan, side in (("fast", "left"), ("standard", "right")):
        cell = study.cells.get(study.worst_key(plan))
        if cell is not None:
            axis.plot(cell["seconds"] / unit, asr(cell), "k*", markersize=13, zorder=4)
            axis.annotate(f'worst case, "{plan}"', (cell["seconds"] / unit, asr(cell)), xytext=(0, 9),
                          textcoords="offset points", ha=side)  # fmt: skip
    for name, loss, steps in [each for each in ALONE if each[0] in chains] if standard is not None else []:
        if study.alone_key(chains[name], loss, steps) in study.cells:
            cell, (color, marker) = study.alone(chains[name], loss, steps)[-1], LOOKS[name]
            axis.plot(cell["seconds"] / unit, asr(cell), marker, color=color, markersize=7, fillstyle="none")
    axis.set(xscale="log", xlabel="time, in predictions of the same samples", ylabel="attack success rate (%)")
    axis.set_title(f"{study.path.stem}, ε = {study.eps:.3g}: SA-PGD of {study.steps[0]} to {study.steps[-1]} steps")
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.margins(y=0.12)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path, required=True, help="A network.json of art-snn train.")
    parser.add_argument("--data", default="digits", choices=sorted(DATASETS))
    parser.add_argument("--root", help="Folder of the data set.")
    parser.add_argument("--size", type=int, nargs=2, help="Height and width of frames.")
    parser.add_argument("--limit", type=int, help="Samples that are read, of each part.")
    parser.add_argument("--eps", type=float, required=True)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 25, 50, 100, 200])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--attacks", nargs="+", default=["PGD", "APGD", "SA-PGD"], choices=list(ATTACKS))
    parser.add_argument("--chains", nargs="+", default=list(CHAINS), choices=list(CHAINS))
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--device", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument("--out", type=Path, default=Path("strength"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    network = models.load_network(args.network.with_suffix("")).eval()
    options: dict[str, Any] = {"seed": 0} | ({"limit": args.limit} if args.limit else {})
    if DATASETS[args.data].events:
        options |= {"time_steps": network.time_steps, "size": tuple(args.size)}
    (_, _), (x, y), low, high = DATASETS[args.data].load(*([args.root] if args.root else []), **options)
    order = np.random.default_rng(0).permutation(len(x))
    tuning, attacked = order[: args.held_out], order[args.held_out : args.held_out + args.samples]
    classifier = PyTorchSNNClassifier(
        network, nn.CrossEntropyLoss(), x.shape[1:], y.shape[1], clip_values=(low, high), device_type=args.device
    )
    torch.set_num_threads(1)
    path = args.out / f"{args.network.parent.name}.json"
    study = Study(
        classifier, (x[tuning], y[tuning]), (x[attacked], y[attacked]), args.eps, path, args.batch, args.steps
    )
    print(f"{len(study.samples[0])} of {len(attacked)} samples classified correctly")
    if not (len(study.samples[0]) and len(study.tuning[0])):
        parser.error("--samples and --held-out must hold samples that are classified correctly: there are none.")
    chains = {name: study.tuned(CHAINS[name]) for name in args.chains}
    both = {**chains, **PUBLISHED}
    tables: dict[str, Callable[[], Iterator[str]]] = {
        "one-step": lambda: one_step(study),
        "steps": lambda: by_steps(study, both),
        "attacks": lambda: equal_steps(study, both, args.attacks),
        "time": lambda: equal_time(study, both, (25, 100, 400)),
        "search": lambda: with_search(study, chains),
        "worst": lambda: worst_cases(study, chains),
        "alone": lambda: equal_time_alone(study, chains),
        "on-the-way": lambda: on_the_way(study, chains, (50, 100, 200, 400, 800)),
    }
    for name in args.tables:
        print("\n".join(["", *tables[name]()]), flush=True)
    draw(study, chains, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
