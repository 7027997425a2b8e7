r"""How much temporal information a layer keeps, and what the paper's two theorems say of it, measured on real traces.

Hao et al. (ICLR 2024), sections 4.2 and 4.3. For a neuron with mean input current c = W r of the layer below, firing
rate r and potential v(t) after the spike, all in units of the threshold θ, a soft reset and v(0) = 0 give

.. math::

    r = c - \frac{1}{T} \sum_t w_t v(t), \qquad w_T = 1, \; w_t = 1 - λ \text{ for } t < T   \quad (8)

and what of r is not decided by c is the temporal information that the layer keeps:

.. math:: χ = \int \mathrm{Var}\left(\frac{r}{c} \,\middle|\, c = x\right) P(c = x) \, dx   \quad (12)

**Theorem 1.** If v(t) is uniform on g(x) ± h(x) for every t, neither g nor h depends on t, the v(t) of different t are
uncorrelated (which its proof takes for granted), and c is uniform on (-C, C), then

.. math:: χ = \int_{-C}^{C} \frac{K h^2(x)}{6 C T^2 x^2} \, dx, \qquad K = \sum_t w_t^2 = (T-1)(1-λ)^2 + 1

and with h(x) = ax + b

.. math:: χ = \frac{a^2 C^2 - b^2}{3 C^2} \frac{K}{T^2}   \quad (A2)

That last line holds for b = 0. Otherwise the integral of b²/x² over 0 is infinite, and (A2) is its finite part: no
variance, and not above 0 wherever ax + b ≥ 0 on all of (-C, C), which takes b ≥ |a| C. Over currents of at least δ, in
absolute value, the integral exists, and is

.. math:: χ_δ = \frac{K}{3 T^2} \left(a^2 + \frac{b^2}{δ C}\right)

χ of real traces is likewise ruled by the few currents next to 0. So the theorem is compared over |c| ≥ δ = C/20.

**Theorem 2.** On neurons with c > 0, if g(x) = k x and

.. math:: E\left(\sum_t \frac{∂s(t)}{∂m(t)}\right) = T - k \left((T-1)(1-λ) + 1\right) = T \, E\left(\frac{r}{c}\right)

then HART's gradient is the rate gradient of Eq. 10 in expectation.

Each assumption is taken by itself: from χ as it is, over χ as if the v(t) were uncorrelated, as if they were the same
at every step, as if c were uniform, to h(x) = ax + b, so that one sees which of them costs what.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.stats import kstwo
from torch import Tensor

from art_snn.chains.state import Visit
from art_snn.engine.chunk import batch_chunks
from art_snn.engine.isolate import left_alone
from art_snn.engine.problem import named
from art_snn.engine.visit import Rule, Simulate
from art_snn.network import SpikingNetwork
from art_snn.neurons import NotGiven, Trace
from art_snn.randomness import mixed_seed
from art_snn.surrogates import Triangle, positive

if TYPE_CHECKING:
    from pandas import DataFrame

#: Neighbours along the current that count as neurons of one current, in Eq. 12.
GROUP = 32
#: Values of a layer, neurons times samples, that are looked at; of a larger one a part of the neurons, drawn at random.
VALUES = 1 << 18
#: Samples that are simulated at a time.
BATCH = 128
#: Share of C below which currents count as next to 0.
NEAR = 0.05
#: How far Eq. 8 may be off by rounding in float32, in units of the largest potential.
ROUNDING = 1e-4
#: How close is close: of gains, which are of the order of 1, and of distributions.
CLOSE = 0.1
#: Level of the test of whether potentials are uniform: where they are, it says so of all but this share.
LEVEL = 0.05
#: Where γ is looked for.
GAMMA_LIMITS = (1 / 32, 32.0)


def weights(time_steps: int, decay: float) -> Tensor:
    """Weights of the potentials in Eq. 8: 1 - λ, and 1 at the last step.

    :param time_steps: T.
    :param decay: λ.
    :return: w(t), `(T,)`, in float64.
    """
    found = torch.full((time_steps,), 1.0 - decay, dtype=torch.float64)
    found[-1] = 1.0
    return found


def rate_of(current: Tensor, potentials: Tensor, decay: float) -> Tensor:
    """The firing rate by Eq. 8: c less the weighted mean of the potentials.

    :param current: Mean input currents c, `(...)`, in units of θ.
    :param potentials: Potentials after the spike, v(t), `(T, ...)`, likewise.
    :param decay: λ.
    :return: r, `(...)`.
    """
    return current - torch.tensordot(weights(len(potentials), decay), potentials, 1) / len(potentials)


def neighbours(current: Tensor, size: int = GROUP) -> Tensor:
    """Neurons of nearly the same mean current: the groups of Eq. 12.

    :param current: Mean input currents c, `(M,)`.
    :param size: Neurons of a group, at least 2.
    :return: Their places `(G, size)`, by rising current; fewer than `size` neurons, spread evenly, are in no group.
    :raises ValueError: If there are fewer than `size`.
    """
    if size < 2 or len(current) < size:
        raise ValueError(f"size must be from 2 to the number of neurons, {len(current)}, got {size}.")
    taken = len(current) // size * size
    places = torch.linspace(0, len(current) - 1, taken, dtype=torch.float64).round().long()
    return current.argsort(stable=True)[places].reshape(-1, size)


def level(current: Tensor) -> Tensor:
    """
    :param current: Mean input currents in groups `(G, n)`.
    :return: The current x of each group, `(G,)`: the root of the mean square, with the sign of the mean.
    """
    return current.square().mean(-1).sqrt() * current.mean(-1).sign()


def scatter(of: Tensor, current: Tensor) -> Tensor:
    """Variance among neurons of one current: about a line in the current, since those of a group are not quite equal.

    :param of: Numbers in groups `(..., G, n)`.
    :param current: Mean input currents `(G, n)`.
    :return: Their unbiased variance, `(..., G)`.
    """
    c, off = current - current.mean(-1, keepdim=True), of - of.mean(-1, keepdim=True)
    total = c.square().sum(-1)
    sloping = total > 1e-20 * current.square().sum(-1)  # else they are equal, but for rounding
    slope = torch.where(sloping, (c * off).sum(-1) / total, 0.0)
    return (off - slope[..., None] * c).square().sum(-1) / (c.shape[-1] - 1 - sloping.to(c.dtype))


def retention(rate: Tensor, current: Tensor) -> Tensor:
    """Var(r/c | c = x) of Eq. 12, which is Var(r | c = x) / x². Its mean over the groups is χ.

    :param rate: Firing rates in groups `(G, n)`.
    :param current: Mean input currents, likewise.
    :return: The variance in each group, `(G,)`; unbiased.
    """
    return scatter(rate, current) / current.square().mean(-1)


def uncorrelated(potentials: Tensor, current: Tensor, decay: float) -> Tensor:
    """What :func:`retention` would be if the v(t) of different steps were uncorrelated: Σ w² Var(v(t)) / (T² x²), A1.

    :param potentials: Potentials after the spike in groups `(T, G, n)`.
    :param current: Mean input currents `(G, n)`.
    :param decay: λ.
    :return: The variance in each group, `(G,)`.
    """
    steps = len(potentials)
    of_steps = torch.tensordot(weights(steps, decay).square(), scatter(potentials, current), 1)
    return of_steps / (steps**2 * current.square().mean(-1))


def half_width(potentials: Tensor, current: Tensor) -> Tensor:
    """h of Assumption 1: a uniform distribution on g ± h has variance h²/3.

    :param potentials: Potentials after the spike in groups `(T, G, n)`.
    :param current: Mean input currents `(G, n)`.
    :return: h of each group, `(G,)`, by the mean variance over the steps.
    """
    return (3.0 * scatter(potentials, current).mean(0)).sqrt()


def spread_factor(time_steps: int, decay: float) -> float:
    """
    :param time_steps: T.
    :param decay: λ.
    :return: K / T², K = (T-1)(1-λ)² + 1.
    """
    return float(weights(time_steps, decay).square().sum()) / time_steps**2


def integral(width: Tensor, x: Tensor, largest: float, least: float, factor: float) -> float:
    """Theorem 1, first form: the mean of K h²(x) / (3 T² x²) over c uniform on (-C, C), |c| ≥ δ.

    :param width: h at some currents, `(G,)`.
    :param x: Those currents, rising, `(G,)`. In between, and beyond the outermost, h/x is that of the nearest.
    :param largest: C.
    :param least: δ, from 0; with 0 it is the integral as it stands in the theorem.
    :param factor: K / T², see :func:`spread_factor`.
    :return: It.
    """
    edges = torch.cat([x.new_tensor([-largest]), (x[1:] + x[:-1]) / 2, x.new_tensor([largest])]).clamp(
        -largest, largest
    )
    cells = edges.diff() - edges.clamp(-least, least).diff()  # without their part next to 0
    return factor / (6.0 * (largest - least)) * float(((width / x).square() * cells).sum())


def line(width: Tensor, x: Tensor) -> tuple[float, float]:
    """a and b of h(x) = ax + b, by least squares.

    Only h² counts, so that ax + b may be below 0 for negative currents: of the line through h and that through
    sign(x) h, the one that is closer.

    :param width: h at some currents, `(G,)`.
    :param x: Those currents, `(G,)`.
    :return: a and b.
    """
    design = torch.stack([x, torch.ones_like(x)], 1)
    goals = torch.stack([width, x.sign() * width], 1)
    both = torch.linalg.lstsq(design, goals).solution
    off = ((design @ both).abs() - width[:, None]).square().sum(0)
    a, b = both[:, int(off.argmin())]
    return float(a), float(b)


def closed_form(a: float, b: float, largest: float, factor: float, least: float = 0.0) -> float:
    """Theorem 1, second form: (a²C² - b²) / (3C²) K / T² as it is printed (A2), which is χ where b = 0; or, over
    |c| ≥ δ, (a² + b²/(δC)) / 3 K / T².

    :param a: Slope of h.
    :param b: h at 0.
    :param largest: C > 0.
    :param factor: K / T², see :func:`spread_factor`.
    :param least: δ; 0 for the form that is printed.
    :return: It.
    """
    of_b = b**2 / (least * largest) if least else -((b / largest) ** 2)
    return (a**2 + of_b) / 3.0 * factor


def explained(found: Tensor, expected: Tensor) -> float:
    """
    :param found: Numbers `(G,)`.
    :param expected: What they should be, `(G,)`.
    :return: R²: 1 where they are that; 1 as well where they are all the same, and that.
    """
    off = float((found - expected).square().sum())
    total = float((found - found.mean()).square().sum())
    return 1.0 - off / total if total > 0 else float(off == 0.0)


def distance_from_uniform(current: Tensor) -> float:
    """
    :param current: Mean input currents `(M,)`.
    :return: Kolmogorov's distance of their distribution from the uniform one on (-C, C), C the largest of them.
    """
    largest = current.abs().max()
    expected = (current.sort().values / largest + 1.0) / 2.0
    places = torch.arange(len(current) + 1, dtype=expected.dtype) / len(current)
    return float(torch.maximum(places[1:] - expected, expected - places[:-1]).max())


def is_uniform(potentials: Tensor) -> Tensor:
    """Whether potentials may be uniform: Kolmogorov and Smirnov's test at :data:`LEVEL`, in each group at each step.

    Between the smallest and the largest of n uniform numbers the others are uniform, whatever the ends are, which is
    what is tested. Numbers that are all the same pass: they are uniform on an interval of no length.

    :param potentials: Potentials after the spike in groups `(T, G, n)`, n at least 4.
    :return: `(T, G)`.
    """
    ordered = potentials.sort(-1).values
    low, high = ordered[..., :1], ordered[..., -1:]
    inner = ((ordered[..., 1:-1] - low) / (high - low)).nan_to_num(0.0)
    count = inner.shape[-1]
    places = torch.arange(count + 1, dtype=inner.dtype) / count
    off = torch.maximum(places[1:] - inner, inner - places[:-1]).amax(-1)
    return (off <= float(kstwo.ppf(1.0 - LEVEL, count))) | (high == low).squeeze(-1)


def proportion(mean: Tensor, x: Tensor) -> float:
    """k of Theorem 2, by least squares: g(x) = k x.

    :param mean: g at some currents, `(G,)`.
    :param x: Those currents, `(G,)`.
    :return: k.
    """
    return float((mean * x).sum() / x.square().sum())


def needed_gain(k: float, time_steps: int, decay: float) -> float:
    """What Theorem 2 asks of HART's gain, the mean of ∂s(t)/∂m(t) over time: 1 - k ((T-1)(1-λ) + 1) / T.

    :param k: The proportion of g.
    :param time_steps: T.
    :param decay: λ.
    :return: It: E(r/c), if g is proportional.
    """
    return 1.0 - k * float(weights(time_steps, decay).sum()) / time_steps


def fitting_gamma(distance: Tensor, gain: float) -> tuple[float, float]:
    """The γ of Eq. 15 by which the mean of ∂s(t)/∂m(t) is a given gain.

    :param distance: |m(t) - θ| in units of θ, any shape.
    :param gain: The gain.
    :return: The largest such γ in :data:`GAMMA_LIMITS`, in units of θ, NaN if there is none; and the largest mean that
        any γ gives.
    """
    ordered = distance.flatten().sort().values
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])

    def mean(gamma: float) -> float:
        below = int(torch.searchsorted(ordered, gamma))
        return (below * gamma - float(sums[below])) / (len(ordered) * gamma**2)

    tried = np.geomspace(*GAMMA_LIMITS, 257)
    means = np.array([mean(gamma) for gamma in tried])
    above = means > gain
    changes = np.flatnonzero(above[1:] != above[:-1])
    if not len(changes):
        return math.nan, float(means.max())
    last = int(changes[-1])
    low, high = float(tried[last]), float(tried[last + 1])
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if (mean(middle) > gain) == above[last] else (low, middle)
    return (low + high) / 2, float(means.max())


class Values(NamedTuple):
    """What is known of neurons of a layer on some samples, in units of θ, in float64.

    :param current: Mean input currents c, `(M,)`.
    :param rate: Firing rates r, `(M,)`.
    :param before: Potentials before the spike, m(t), `(T, M)`.
    :param after: Potentials after it by a soft reset, v(t), `(T, M)`.
    """

    current: Tensor
    rate: Tensor
    before: Tensor
    after: Tensor


def values(trace: Trace, places: Tensor | None = None) -> Values:
    """
    :param trace: The trace of a spiking layer, `(T, B, ...)`.
    :param places: Which of its neurons are wanted, of those of a sample in a row; all if None.
    :return: What is known of them.
    :raises NotGiven: If the neurons name no threshold.
    """
    threshold = trace.threshold

    def scaled(of: Tensor) -> Tensor:
        flat = (of / threshold).flatten(2)
        return (flat if places is None else flat[:, :, places.to(of.device)]).flatten(1).cpu().double()

    spikes = trace.spikes.flatten(2)
    spikes = (spikes if places is None else spikes[:, :, places.to(spikes.device)]).flatten(1).cpu().double()
    before = scaled(trace.potentials)
    return Values(scaled(trace.currents).mean(0), spikes.mean(0), before, before - spikes)


def findings(found: Values, decay: float | None, *, gamma: float = 1.0, size: int = GROUP) -> dict[str, Any]:
    """χ as it is, and as the theorems have it, of neurons of one layer.

    :param found: What is known of them.
    :param decay: Their λ; None if they have not one.
    :param gamma: γ of HART, in units of θ, of which Theorem 2's condition is asked.
    :param size: Neurons of a group of Eq. 12, at least 4.
    :return: By the names of the columns of :func:`measure`, from `values` on.
    :raises ValueError: If fewer than `size` neurons get a current.
    """
    steps, there = len(found.before), found.current != 0
    found = Values(*(part[..., there] for part in found))
    groups = neighbours(found.current, size)
    current, rate, after = found.current[groups], found.rate[groups], found.after[:, groups]
    x, kept, largest = level(current), retention(rate, current), float(found.current.abs().max())
    quarters = torch.quantile(kept, torch.tensor([0.25, 0.5, 0.75], dtype=kept.dtype))
    chi, total = float(kept.mean()), float(kept.sum())
    near = x.abs() < NEAR * largest
    plain: dict[str, Any] = {
        "values": len(there),
        "without_current": 1.0 - float(there.double().mean()),
        "chi": chi,
        **dict(zip(("chi_25", "chi_50", "chi_75"), map(float, quarters), strict=True)),
        "near_zero": float(kept[near].sum()) / total if total > 0 else 0.0,
        "chi_away": float(kept[~near].mean()),
        "largest_current": largest,
        "uniform_current": distance_from_uniform(found.current),
    }
    if decay is None:
        return plain | _unknown("the neurons have not one membrane factor")
    off = float((rate_of(found.current, found.after, decay) - found.rate).abs().max())
    plain |= {"eq_8": off}
    if off > ROUNDING * max(1.0, float(found.before.abs().max())):
        return plain | _unknown("Eq. 8 does not hold: no soft reset by θ from v(0) = 0")
    plain |= _first(x[~near], largest, after[:, ~near], current[~near], decay) | {"why_not": ""}
    plain |= {"difference": plain["closed_form"] - chi}
    plain |= {"difference_away": plain["closed_form_away"] - plain["chi_away"]}
    plain |= {"theorem_1": plain["theorem_1"] and plain["uniform_current"] <= CLOSE}
    driven = x > 0
    if not bool(driven.any()):
        return plain | {"why_not": "no neuron has a current above 0"}
    surrogate = Triangle(positive("gamma", gamma))
    distance = (found.before[:, groups] - 1.0).abs()[:, driven]
    return plain | _second(x[driven], after[:, driven], distance, (rate / current)[driven], decay, steps, surrogate)


def _unknown(reason: str) -> dict[str, Any]:
    return {"why_not": reason}


def _first(x: Tensor, largest: float, after: Tensor, current: Tensor, decay: float) -> dict[str, float | bool]:
    """Theorem 1, one assumption after the other, on the groups that are not next to 0."""
    factor, width, least = spread_factor(len(after), decay), half_width(after, current), NEAR * largest
    a, b = line(width, x)
    uniform, linear = float(is_uniform(after).double().mean()), explained(width, (a * x + b).abs())
    return {
        "uncorrelated": float(uncorrelated(after, current, decay).mean()),
        "same_at_every_step": float((factor / 3.0 * (width / x).square()).mean()),
        "integral_away": integral(width, x, largest, least, factor),
        "closed_form_away": closed_form(a, b, largest, factor, least),
        "closed_form": closed_form(a, b, largest, factor),
        "a": a,
        "b": b,
        "uniform_potential": uniform,
        "linear_width": linear,
        "theorem_1": uniform >= 1.0 - LEVEL - CLOSE and linear >= 1.0 - CLOSE and abs(b) <= CLOSE * abs(a) * largest,
    }


def _second(
    x: Tensor, after: Tensor, distance: Tensor, ratio: Tensor, decay: float, steps: int, surrogate: Triangle
) -> dict[str, float]:
    """Theorem 2, on the groups with a current above 0."""
    mean, share = after.mean((0, 2)), float(weights(steps, decay).sum()) / steps
    k = proportion(mean, x)
    needed, gains = needed_gain(k, steps, decay), surrogate.at(distance).mean((0, 2))
    proportional = (mean / x - k).abs() * share <= CLOSE
    met, (gamma, most) = (gains - needed).abs() <= CLOSE, fitting_gamma(distance, needed)
    return {
        "k": k,
        "proportional": float(proportional.double().mean()),
        "gain_needed": needed,
        "gain_hart": float(gains.mean()),
        "gain_rate": float(ratio.mean()),
        "gain_most": most,
        "gamma_needed": gamma,
        "gain_met": float(met.double().mean()),
        "theorem_2": float((met & proportional).double().mean()),
    }


#: Columns of :func:`measure`, in their order.
COLUMNS = (
    *("layer", "neurons", "time_steps", "decay", "values", "without_current"),
    *("chi", "chi_25", "chi_50", "chi_75", "closed_form", "difference", "near_zero"),
    *("chi_away", "uncorrelated", "same_at_every_step", "integral_away", "closed_form_away", "difference_away"),
    *("a", "b", "largest_current"),
    *("eq_8", "uniform_current", "uniform_potential", "linear_width", "theorem_1"),
    *("k", "proportional", "gain_needed", "gain_rate", "gain_hart", "gain_most", "gamma_needed", "gain_met"),
    *("theorem_2", "why_not"),
)


def measure(
    network: SpikingNetwork,
    x: np.ndarray,
    *,
    gamma: float = 1.0,
    size: int = GROUP,
    limit: int = VALUES,
    seed: int = 0,
) -> DataFrame:
    """χ of every layer of a network beside Theorem 1's, and how far both theorems' conditions hold.

    A layer of more than `limit` values, neurons times samples, is represented by neurons drawn at random, the same for
    every sample. One pass over the samples, in batches; no more than `2 limit` numbers a time step are kept of a layer.

    :param network: A spiking network, or one of :func:`art_snn.adapt`, in evaluation mode.
    :param x: Inputs `(N, ...)`, as the network takes them.
    :param gamma: γ of HART, in units of θ, of which Theorem 2's condition is asked.
    :param size: Neurons of nearly one current that make a group of Eq. 12, at least 4.
    :param limit: Most values of a layer; at least `size`, and one neuron is looked at in any case.
    :param seed: Decides which neurons those are.
    :return: One line for each visit of a spiking layer, with:

        - `layer`, `neurons`, `time_steps`, `decay` (λ, missing where the neurons have not one), `values`, and
          `without_current`, the share of those with c = 0, which are left out since r/c is not defined;
        - `chi` (Eq. 12), the quartiles of the variances of which it is the mean, `closed_form` (A2) as it is printed,
          `difference` of that from `chi`, and `near_zero`, the share of `chi` that stems from |c| < C/20;
        - `chi_away`, χ over the other currents, then with one assumption of Theorem 1 more each: `uncorrelated`,
          `same_at_every_step`, `integral_away` (c uniform) and `closed_form_away` (h linear), and `difference_away` of
          the last from the first; `a`, `b` and `largest_current`, C, from which the closed forms are computed;
        - Theorem 1's conditions: `eq_8`, the largest deviation from Eq. 8; `uniform_current`, Kolmogorov's distance of
          c from uniform on (-C, C); `uniform_potential`, the share of groups and steps whose v(t) pass for uniform,
          0.95 where all are; `linear_width`, R² of h(x) = ax + b; `theorem_1`, whether all hold, each within a tenth,
          with b within a tenth of aC;
        - Theorem 2's, over groups with c > 0: `k`; `proportional`, the share of neurons whose r/c follows from it
          within 0.1; `gain_needed`, `gain_rate` and `gain_hart`, the gain that it asks for, and the mean gain of Rate
          and of HART as they are; `gain_most`, HART's with the best γ, and `gamma_needed`, the largest γ by which it is
          as asked for; `gain_met`, the share of neurons whose gain is within 0.1 of that; `theorem_2`, the share for
          which both hold;
        - `why_not`: why the theorems do not apply, if they do not.
    :raises ValueError: If an argument is out of its range.
    :raises TypeError: If the network is none.
    """
    import pandas

    if not isinstance(network, SpikingNetwork):
        raise TypeError(f"network must be a SpikingNetwork or what art_snn.adapt gives, got {type(network).__name__}.")
    if network.training or any(module.training for module in network.body.modules()):
        raise ValueError("network must be in evaluation mode: call its eval() before.")
    positive("gamma", gamma)
    for name, value, least in (("size", size, 4), ("limit", limit, size), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}.")
    watch = _watched(network, np.asarray(x), max(1, limit // max(1, len(x))), seed)
    names: defaultdict[str, int] = defaultdict(int)
    rows = []
    for visit, seen in watch.layers.items():
        name = named(network, visit[0])
        names[name] += 1
        about: dict[str, Any] = {"layer": name if names[name] == 1 else f"{name}, visit {names[name]}"}
        about |= {"neurons": seen.neurons, "time_steps": network.time_steps, "decay": seen.decay}
        if seen.lacking:
            rows.append(about | _unknown(seen.lacking))
            continue
        whole = Values(*(torch.cat(parts, -1) for parts in zip(*seen.parts, strict=True)))
        try:
            rows.append(about | findings(whole, seen.decay, gamma=gamma, size=size))
        except ValueError as error:
            rows.append(about | _unknown(f"too few neurons get a current: {error}"))
    return pandas.DataFrame(rows, columns=list(COLUMNS))


@dataclass
class _Seen:
    """What was seen of a layer so far."""

    neurons: int
    decay: float | None
    places: Tensor | None
    parts: list[Values]
    lacking: str = ""


class _Watch(Rule):
    """A rule that crosses nothing: it keeps, of every layer's trace, the neurons that are looked at."""

    def __init__(self, most: int, seed: int) -> None:
        self.most, self.seed = most, seed
        self.layers: dict[Visit, _Seen] = {}

    def gain(self, trace: Trace, visit: Visit, block: slice) -> Tensor:
        neurons = trace.spikes[0, 0].numel()
        if visit not in self.layers:
            places = None
            if neurons > self.most:
                generator = torch.Generator().manual_seed(mixed_seed(self.seed, len(self.layers)))
                places = torch.randperm(neurons, generator=generator)[: self.most]
            self.layers[visit] = _Seen(neurons, _decay(trace), places, [])
        seen = self.layers[visit]
        try:
            seen.parts.append(values(trace, seen.places))
        except NotGiven as lacking:
            seen.lacking = str(lacking)
        return trace.spikes.new_zeros(()).expand(trace.spikes.shape[1:])


def _decay(trace: Trace) -> float | None:
    """λ, if it is one number for all neurons and steps."""
    try:
        decay = torch.as_tensor(trace.decay)
    except NotGiven:
        return None
    first = decay.flatten()[0]
    return float(first) if bool((decay == first).all()) else None


def _watched(network: SpikingNetwork, x: np.ndarray, most: int, seed: int) -> _Watch:
    """Run the network on the samples, and look."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    inputs, watch = torch.from_numpy(np.ascontiguousarray(x)).to(network.dtype), _Watch(most, seed)
    with torch.no_grad():
        network(inputs[:1].to(device))  # which says what does not fit, and describes adapted neurons
        with left_alone(network):
            for start in range(0, len(inputs), BATCH):
                frames = network.frames(inputs[start : start + BATCH].to(device))
                for chunk in batch_chunks(network, frames):
                    simulate = Simulate(
                        len(frames), chunk.stop - chunk.start, [watch], first=start + chunk.start, layout=network.layout
                    )
                    network.run(frames[:, chunk], simulate)
                    simulate.finish()
    return watch
