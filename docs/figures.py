"""The figures of the pages, as SVG in docs/figures, drawn by the package's own chains, neurons and audits.

    python docs/figures.py                   # what follows from equations
    python docs/figures.py AUDIT_FOLDER      # and what an audit found: docs/start.md has the command

`integration_tests/test_docs.py` draws them again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from art_snn import IF, LIF
from art_snn.audit import figures as found_figures
from art_snn.audit import files, pictures
from art_snn.audit.drawing import COLOURS, canvas
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
    OneStepHART,
    Rate,
)
from art_snn.neurons import Trace

FOLDER = Path(__file__).parent / "figures"
BLACK, RED, BLUE, GREEN = COLOURS[:4]
#: Currents of the neuron whose backward pass is drawn: it fires at the second and the fourth step.
CURRENTS = (0.75, 0.5, 0.7, 0.6)
#: Figures of an audit's findings that the pages show, as the audit names them.
FOUND = ("asr_against_eps", "asr_against_time", "examples", "spikes")


def save(figure: Any, path: Path) -> None:
    """SVG whose letters are letters, the same bytes every time."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "art-snn", "path.simplify": False}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def jacobian(chain: BackwardChain, trace: Trace) -> np.ndarray:
    """
    :param chain: A chain.
    :param trace: A trace of one neuron, `(T, 1, 1)`.
    :return: What the gradient at the current x(t) gets of that at the spike s(t'): rows t, columns t'.
    """
    steps = len(trace.spikes)
    units = torch.eye(steps).view(steps, steps, 1, 1)
    return np.stack([chain.backward(unit, trace).flatten().numpy() for unit in units], axis=1)


def crossing() -> Any:
    """How a gradient crosses one neuron in time, along HART, STBP and RGA: as a diagram, and in numbers."""
    trace = LIF(decay=0.9).trace(torch.tensor(CURRENTS).view(-1, 1, 1))
    figure, axes = canvas(2, 3, 12.0, 7.2)
    for column, (chain, name, draw) in enumerate(
        ((HART(), "HART", _merged), (STBP(), "STBP", _unrolled), (RGA(), "RGA", _straight))
    ):
        _diagram(axes[0, column], f"{name}: {draw.__doc__}", draw)
        _numbers(axes[1, column], jacobian(chain, trace))
    return figure


def _diagram(axis: Any, title: str, draw: Any) -> None:
    axis.set(xlim=(-0.9, 3.6), ylim=(-0.6, 2.5), aspect="equal", title=title)
    axis.set_axis_off()
    for step in range(4):
        axis.text(step, 2.3, f"t = {step + 1}", ha="center", va="center")
        for row, letter in ((1.8, "s"), (0.9, "m"), (0.0, "x")):
            hidden = letter == "m" and draw is _straight
            if not hidden:
                _node(axis, step, row, letter)
    draw(axis)


def _node(axis: Any, x: float, y: float, letter: str) -> None:
    box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": BLACK}
    axis.text(x, y, letter, ha="center", va="center", bbox=box, zorder=3)


def _arrow(axis: Any, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.6, "shrinkA": 11, "shrinkB": 11}
    axis.annotate("", end, start, arrowprops=style)


def _bar(axis: Any, y: float, words: str, colour: str) -> None:
    box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": colour}
    axis.text(1.5, y, f"{words:^58}", ha="center", va="center", bbox=box, zorder=4, fontsize=9)


def _merged(axis: Any) -> None:
    """one mean over time"""
    for step in range(4):
        _arrow(axis, (step, 1.8), (step, 0.9), RED)
        axis.annotate("", (step, 0.17), (step, 0.72), arrowprops={"arrowstyle": "-|>", "color": BLUE, "linewidth": 1.6})
        axis.text(step + 0.09, 1.33, f"σ({step + 1})", color=RED)
    _bar(axis, 0.45, "mean over t (Eq. 14), the same for every x", BLUE)


def _unrolled(axis: Any) -> None:
    """back through every step"""
    for step in range(4):
        _arrow(axis, (step, 1.8), (step, 0.9), RED)
        axis.text(step + 0.09, 1.33, f"σ({step + 1})", color=RED)
        _arrow(axis, (step, 0.9), (step, 0.0), BLACK)
        if step:
            _arrow(axis, (step, 0.9), (step - 1, 0.9), GREEN)
    axis.text(1.5, -0.45, "λ and the reset carry it back in time", color=GREEN, ha="center")


def _straight(axis: Any) -> None:
    """one factor for all steps"""
    for step in range(4):
        _arrow(axis, (step, 1.8), (step, 0.0), BLUE)
    _bar(axis, 0.9, "a slope at the mean current", BLUE)


def _numbers(axis: Any, values: np.ndarray) -> None:
    largest = np.abs(values).max()
    axis.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest)
    for (row, column), value in np.ndenumerate(values):
        bright = abs(value) > 0.6 * largest
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if bright else "black")
    steps = range(len(values))
    axis.set(xticks=steps, yticks=steps, xlabel="gradient at the spike s(t')", ylabel="at the current x(t)")
    axis.set_xticklabels([f"t' = {step + 1}" for step in steps])
    axis.set_yticklabels([f"t = {step + 1}" for step in steps])


def surrogates() -> Iterator[tuple[str, Any]]:
    """
    :return: For each chain with a curve of its own, its name and the figure of it.
    """
    for name, (label, curves) in CURVES.items():
        figure, axes = canvas(1, 1, 4.2, 2.3)
        for (words, x, y), colour in zip(curves(), COLOURS[1:], strict=False):
            axes[0, 0].plot(x, y, color=colour, label=words)
        axes[0, 0].set(xlabel=label, ylim=(0.0, None))
        axes[0, 0].legend(fontsize=8)
        yield name, figure


Curves = list[tuple[str, np.ndarray, np.ndarray]]
DISTANCE = "u = m - θ"


def _grid(reach: float = 2.0) -> torch.Tensor:
    return torch.linspace(-reach, reach, 161)


def _slopes(chain: Any, potentials: torch.Tensor, gradients: int = 1) -> torch.Tensor:
    """∂s/∂m at m = θ + u; the neurons integrate without a reset, and one gradient crosses one step at a time."""
    neuron = IF(reset="none")
    m = potentials + 1.0
    trace = Trace(torch.zeros(1, 1, len(m)), m.view(1, 1, -1), (m >= 1).float().view(1, 1, -1), neuron)
    state = chain.init(trace)
    for _ in range(gradients):
        state = chain.update(state, trace)
    trace = Trace(trace.currents, trace.potentials, trace.spikes, neuron, state)
    return chain.backward(torch.ones_like(trace.spikes), trace).flatten()


def _lines(chains: dict[str, Any], gradients: int = 1) -> Curves:
    u = _grid()
    return [(words, u.numpy(), _slopes(chain, u, gradients).numpy()) for words, chain in chains.items()]


def _triangles(kind: type) -> Curves:
    return _lines({f"γ = {gamma:g}": kind(gamma) for gamma in (0.5, 1.0, 2.0)})


def _adaptive() -> Curves:
    """A neuron whose mean distance is d: half of its potentials lie at u, the others so that the mean is d."""
    u, drawn = _grid(), []
    for mean in (0.2, 0.5, 1.0):
        distance = torch.stack([u.abs(), (2 * mean - u.abs()).clamp(min=0.0)])
        inside = u.abs() <= 2 * mean
        trace = Trace(torch.zeros(2, 1, len(u)), 1.0 + distance.view(2, 1, -1), torch.ones(2, 1, len(u)), IF())
        drawn.append((f"mean distance {mean:g}", u[inside].numpy(), AdaptiveHART().slopes(trace)[0, 0][inside].numpy()))
    return drawn


def _annealed() -> Curves:
    chain, u = AnnealedHART(), _grid()
    return [(f"gradient {k}", u.numpy(), _slopes(chain, u, k).numpy()) for k in (1, 6, 11)]


def _one_step() -> Curves:
    drawn = []
    for reach in (1.0, 2.0):
        u = _grid(reach)
        drawn.append((f"mean distance {u.abs().mean():.1f}", u.numpy(), _slopes(OneStepHART(), u).numpy()))
    return drawn


def _assg() -> Curves:
    return [(f"gradient {k}", _grid().numpy(), _slopes(ASSG(), _grid(), k).numpy()) for k in (1, 5, 10)]


def _pdsg() -> Curves:
    drawn = []
    for reach in (1.0, 2.0):
        u = _grid(reach)
        drawn.append((f"spread {u.std():.2f}", u.numpy(), _slopes(PDSG(), u).numpy()))
    return drawn


def _gains(chain: BackwardChain, decay: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Of neurons with constant currents over 8 steps: their mean current, and the chain's factor."""
    c = torch.linspace(-0.5, 2.5, 301)
    trace = LIF(decay=decay).trace(c.expand(8, 1, -1))
    return c.numpy(), chain.gain(trace).flatten().numpy()


def _activation() -> Curves:
    c = torch.linspace(-0.5, 1.5, 401).requires_grad_()
    a = CBA().activation(c.unsqueeze(0), 1.0)
    (slope,) = torch.autograd.grad(a.sum(), c)
    x = c.detach().numpy()
    return [("a", x, a.detach().flatten().numpy()), ("∂a/∂c", x, slope.numpy())]


#: By the chain's name: what is along the axis, and what gives the curves.
CURVES: dict[str, tuple[str, Any]] = {
    "cba": ("current c", _activation),
    "bptr": ("mean current, T = 8", lambda: [("[r > 0]", *_gains(BPTR()))]),
    "rate": ("mean current, T = 8", lambda: [("E(r/c) where c > 0", *_gains(Rate()))]),
    "rga": ("mean current", lambda: [(f"λ = {decay:g}", *_gains(RGA(), decay)) for decay in (0.5, 0.9)]),
    "stbp": (DISTANCE, lambda: _triangles(STBP)),
    "hart": (DISTANCE, lambda: _triangles(HART)),
    "adaptive-hart": (DISTANCE, _adaptive),
    "annealed-hart": (DISTANCE, _annealed),
    "one-step-hart": (DISTANCE, _one_step),
    "pdsg": (DISTANCE, _pdsg),
    "assg": (DISTANCE, _assg),
}


def equations(folder: Path) -> None:
    """
    :param folder: Where to draw what follows from equations.
    """
    save(crossing(), folder / "crossing.svg")
    for name, figure in surrogates():
        save(figure, folder / f"chain-{name}.svg")


def findings(audit: Path, folder: Path) -> None:
    """
    :param audit: A folder that `art-snn audit` wrote.
    :param folder: Where to draw what it found.
    """
    result = files.load(audit)
    for picture in (*found_figures.all_figures(result), *pictures.all_pictures(result)):
        if picture.name in FOUND:
            save(picture.figure, folder / f"{picture.name}.svg")
            print(f"![{picture.alt}](figures/{picture.name}.svg)")


if __name__ == "__main__":
    equations(FOLDER)
    for given in sys.argv[1:]:
        findings(Path(given), FOLDER)
