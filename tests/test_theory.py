"""χ of Eq. 12 and the theorems beside it: exact cases, a trained network, and what does not decide the figures."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from art_snn import IF, LIF, PoissonEncoder, PyTorchSNNClassifier, SpikingNetwork, adapt, datasets, models, theory
from art_snn.neurons import SpikingLayer, Trace
from art_snn.surrogates import Triangle
from tests.networks import Call, build, image

decays = st.floats(0.05, 1.0)
steps = st.integers(1, 6)


def factorial(mean: torch.Tensor, half: torch.Tensor, time_steps: int, repeats: int = 1) -> torch.Tensor:
    """Potentials (T, G, n) that take mean ± something at each step, in all combinations: uncorrelated, of variance h²/3
    by the unbiased estimate, at every step.
    """
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=time_steps)) * repeats, dtype=torch.float64).T
    size = signs.shape[1]
    return mean[:, None] + signs[:, None] * half[:, None] * math.sqrt((size - 1) / size / 3)


def steady(x: torch.Tensor, size: int) -> torch.Tensor:
    return x[:, None].expand(-1, size)


class TestExactCases:
    @given(st.integers(0, 1000), decays, st.floats(0.5, 2.0), steps)
    @settings(deadline=None, max_examples=30)
    def test_a_soft_reset_obeys_equation_8(self, seed, decay, threshold, time_steps):
        generator = torch.Generator().manual_seed(seed)
        currents = torch.randn(time_steps, 3, 4, 5, generator=generator, dtype=torch.float64) * 2
        found = theory.values(LIF(decay, threshold, "soft").trace(currents))
        assert found.current.shape == (60,) and found.after.shape == (time_steps, 60)
        assert torch.allclose(theory.rate_of(found.current, found.after, decay), found.rate, atol=1e-12)

    def test_the_cases_of_figure_1(self):
        """Appendix A.5: one mean current, θ/2, and spikes at half, more and less of the steps."""
        up, down = 1.5, -0.5
        cases = torch.tensor([[up, down] * 3, [up] * 3 + [down] * 3, [down] * 3 + [up] * 3], dtype=torch.float64)
        trace = IF(1.0, "soft").trace(cases.T.reshape(6, 3, 1))
        assert trace.spikes[:, 0, 0].tolist() == [1, 0, 1, 0, 1, 0]
        found = theory.values(trace)
        assert found.rate.tolist() == [3 / 6, 4 / 6, 2 / 6] and found.current.tolist() == [0.5] * 3
        of_group = theory.retention(found.rate[None], found.current[None])
        assert of_group.item() == pytest.approx(((1 / 3) ** 2 + (1 / 3) ** 2) / 2)  # r/c is 1, 4/3 and 2/3

    @given(st.floats(0.1, 2.0), st.floats(0.5, 5.0), decays, steps)
    @settings(deadline=None, max_examples=40)
    def test_all_forms_of_theorem_1_agree_where_its_conditions_hold(self, slope, largest, decay, time_steps):
        x = largest * torch.cat([torch.linspace(-1, -0.1, 10), torch.linspace(0.1, 1, 10)]).double()
        potentials = factorial(0.7 * x, slope * x.abs(), time_steps, repeats=2)
        current = steady(x, potentials.shape[-1])
        rate = theory.rate_of(current, potentials, decay)
        factor = theory.spread_factor(time_steps, decay)
        expected = slope**2 / 3 * factor
        assert factor * time_steps**2 == pytest.approx((time_steps - 1) * (1 - decay) ** 2 + 1)
        assert theory.retention(rate, current).numpy() == pytest.approx(expected)
        assert theory.uncorrelated(potentials, current, decay).numpy() == pytest.approx(expected)
        width = theory.half_width(potentials, current)
        assert width.numpy() == pytest.approx((slope * x.abs()).numpy())
        for least in (0.0, 0.1 * largest):
            assert theory.integral(width, x, largest, least, factor) == pytest.approx(expected)
        a, b = theory.line(width, x)
        assert (abs(a), b) == (pytest.approx(slope), pytest.approx(0.0, abs=1e-9))
        assert theory.closed_form(a, b, largest, factor) == pytest.approx(expected)
        assert theory.closed_form(a, b, largest, factor, 0.1 * largest) == pytest.approx(expected)

    @given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(0.02, 0.5))
    @settings(deadline=None, max_examples=30)
    def test_the_closed_form_away_from_0_is_the_integral_and_the_printed_one_is_what_is_left_of_it(self, a, b, share):
        largest, factor = 2.0, 0.3
        least = share * largest
        x = torch.linspace(least, largest, 40_001, dtype=torch.float64)
        x = torch.cat([-x.flip(0), x])
        by_sum = theory.integral((a * x + b).abs(), x, largest, least, factor)
        assert theory.closed_form(a, b, largest, factor, least) == pytest.approx(by_sum, rel=1e-4, abs=1e-9)
        # The integral over all but (-δ, δ), with the density of all, is (A2) and a term that grows without bound.
        beyond = theory.closed_form(a, b, largest, factor, least) * (1 - share)
        printed = theory.closed_form(a, b, largest, factor) - share * a**2 * factor / 3
        assert beyond - printed == pytest.approx(factor * b**2 / (3 * least * largest))

    @given(st.floats(0.0, 3.0), st.floats(0.5, 5.0))
    def test_a_width_that_is_nowhere_negative_makes_the_printed_form_no_variance(self, slope, largest):
        for b in (slope * largest, slope * largest + 0.5):
            assert theory.closed_form(slope, b, largest, 0.2) <= 1e-12

    def test_correlated_and_unsteady_potentials_are_seen(self):
        x = torch.ones(1, dtype=torch.float64)
        one = torch.randn(1, 1, 400, dtype=torch.float64)
        same = one.expand(4, 1, 400)
        current = steady(x, 400)
        rate = theory.rate_of(current, same, 0.5)
        assert theory.retention(rate, current) == pytest.approx(
            theory.uncorrelated(same, current, 0.5).numpy() * (0.5 * 3 + 1) ** 2 / (0.25 * 3 + 1)
        )
        growing = same * torch.arange(4.0)[:, None, None]
        assert theory.half_width(growing, current).square() == pytest.approx((3 * one.var(-1).numpy()[0]) * 14 / 4)

    @given(st.floats(0.1, 1.5), decays, steps)
    @settings(deadline=None, max_examples=30)
    def test_theorem_2_asks_for_the_gain_of_the_rate_gradient(self, k, decay, time_steps):
        x = torch.linspace(0.1, 3, 30, dtype=torch.float64)
        potentials = factorial(k * x, 0.3 * x, time_steps)
        current = steady(x, potentials.shape[-1])
        ratio = theory.rate_of(current, potentials, decay) / current
        found = theory.proportion(potentials.mean((0, 2)), x)
        assert found == pytest.approx(k)
        assert theory.needed_gain(found, time_steps, decay) == pytest.approx(float(ratio.mean()))

    @given(st.integers(0, 100), st.floats(0.05, 0.9))
    @settings(deadline=None, max_examples=30)
    def test_the_gamma_that_is_found_gives_the_gain(self, seed, gain):
        distance = torch.rand(500, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
        gamma, most = theory.fitting_gamma(distance, gain)
        reached = [float(Triangle(g).at(distance).mean()) for g in np.geomspace(1 / 32, 32, 400)]
        if math.isnan(gamma):
            assert most < gain and max(reached) < gain + 0.02
        else:
            assert float(Triangle(gamma).at(distance).mean()) == pytest.approx(gain, abs=1e-6)
            assert most >= gain and all(float(Triangle(g).at(distance).mean()) < gain for g in (1.1 * gamma, 2 * gamma))

    def test_of_two_gammas_that_give_a_gain_the_larger_is_taken(self):
        distance = torch.linspace(0.4, 0.6, 100, dtype=torch.float64)
        gamma, most = theory.fitting_gamma(distance, 0.3)
        smaller = [
            g for g in np.linspace(0.41, gamma - 0.01, 300) if abs(float(Triangle(g).at(distance).mean()) - 0.3) < 0.01
        ]
        assert smaller and gamma > 2.0 and most == pytest.approx(0.5, abs=0.01)


def obedient(k=0.6, slope=0.5, largest=3.0, decay=0.7, time_steps=4, size=40_000, shift=0.0):
    """Neurons that are all that the theorems want: v(t) uniform on kc ± slope c, for c uniform on (-C, C)."""
    generator = torch.Generator().manual_seed(0)
    current = torch.linspace(-largest, largest, size, dtype=torch.float64) + shift
    noise = torch.rand(time_steps, size, generator=generator, dtype=torch.float64) * 2 - 1
    after = (k + slope * noise) * current
    rate = theory.rate_of(current, after, decay)
    gain = theory.needed_gain(k, time_steps, decay)
    before = torch.full_like(after, 1.0 + (1.0 - gain))  # where the triangle of γ = 1 has that height
    return theory.Values(current, rate, before, after)


class TestFindings:
    def test_of_neurons_that_are_as_the_theorems_want(self):
        found = theory.findings(obedient(), 0.7)
        expected = 0.5**2 / 3 * theory.spread_factor(4, 0.7)
        for name in ("chi", "closed_form", "chi_away", "uncorrelated", "same_at_every_step", "integral_away"):
            assert found[name] == pytest.approx(expected, rel=0.02)
        assert found["difference"] == found["closed_form"] - found["chi"]
        assert found["difference_away"] == found["closed_form_away"] - found["chi_away"]
        assert found["near_zero"] == pytest.approx(0.05, abs=0.01) and found["chi_50"] < found["chi_75"]
        assert found["uniform_potential"] == pytest.approx(0.95, abs=0.01) and found["theorem_1"] is True
        gain = theory.needed_gain(0.6, 4, 0.7)
        for name in ("gain_needed", "gain_rate", "gain_hart"):
            assert found[name] == pytest.approx(gain, abs=0.01)
        assert found["k"] == pytest.approx(0.6, abs=0.01) and found["gain_met"] == found["proportional"] == 1.0
        assert found["theorem_2"] == 1.0 and found["why_not"] == ""
        narrower = theory.findings(obedient(), 0.7, gamma=1 / 3)
        assert narrower["gain_met"] == narrower["theorem_2"] == 0.0
        assert theory.findings(obedient(), 0.7, size=64)["chi"] == pytest.approx(found["chi"], rel=0.02)

    @pytest.mark.parametrize("condition", ["uniform_current", "uniform_potential", "linear_width", "b"])
    def test_theorem_1_wants_each_condition(self, condition):
        found = obedient(shift=2.0 if condition == "uniform_current" else 0.0)
        current, after = found.current, found.after
        if condition == "uniform_potential":
            after = current * 0.6 + (after - current * 0.6).sign() * current.abs() * 0.3
        if condition == "linear_width":
            after = 0.6 * current + (after - 0.6 * current) * (1 + torch.sin(9 * current))
        if condition == "b":
            after = 0.6 * current + (after - 0.6 * current) / current.abs() * (4.0 + 0.8 * current)
        found = theory.Values(current, theory.rate_of(current, after, 0.7), found.before, after)
        says = theory.findings(found, 0.7)
        assert says["theorem_1"] is False
        held = {"uniform_current": says["uniform_current"] < 0.1, "uniform_potential": says["uniform_potential"] > 0.85}
        held |= {"linear_width": says["linear_width"] > 0.9, "b": abs(says["b"]) < 0.1 * abs(says["a"]) * 3.0}
        assert condition not in [name for name, holds in held.items() if holds]
        if condition == "b":
            assert held["linear_width"] and says["closed_form"] < 0.0 < says["closed_form_away"]

    def test_theorem_2_counts_the_neurons_of_which_both_conditions_hold(self):
        found = obedient()
        before, after = found.before.clone(), found.after.clone()
        before[:, 30_000:] = 5.0  # half of those with a current above 0 are out of reach of the triangle
        half = theory.findings(theory.Values(found.current, found.rate, before, after), 0.7)
        assert half["gain_met"] == pytest.approx(0.5, abs=0.01) == half["theorem_2"] and half["proportional"] == 1.0
        after[:, 20_000:30_000] += 1.0
        rate = theory.rate_of(found.current, after, 0.7)
        none = theory.findings(theory.Values(found.current, rate, before, after), 0.7)
        assert none["gain_met"] < 0.6 and none["theorem_2"] < 0.3

    def test_neurons_without_a_current_are_left_out_and_counted(self):
        found = obedient()
        more = theory.Values(*(torch.cat([part, torch.zeros_like(part[..., :10_000])], -1) for part in found))
        silent, says = theory.findings(more, 0.7), theory.findings(found, 0.7)
        assert silent.pop("without_current") == pytest.approx(0.2) and says.pop("without_current") == 0.0
        assert silent.pop("values") == 50_000 and says.pop("values") == 40_000
        assert silent == pytest.approx(says)

    def test_without_a_current_above_0_there_is_no_theorem_2(self):
        found = obedient()
        below = theory.Values(*(part[..., :20_000] for part in found))
        says = theory.findings(below, 0.7)
        assert says["why_not"] == "no neuron has a current above 0" and "k" not in says and "a" in says


class TestGroups:
    def test_are_of_neighbours_and_leave_out_few(self):
        current = torch.randn(1003)
        groups = theory.neighbours(current, 32)
        assert groups.shape == (31, 32) and len(groups.unique()) == 992
        lowest, highest = current[groups].amin(1), current[groups].amax(1)
        assert bool((highest[:-1] <= lowest[1:]).all())
        assert current[groups].min() == current.min() and current[groups].max() == current.max()

    def test_of_equal_currents_are_exact(self):
        current = torch.arange(5).repeat_interleave(8)[torch.randperm(40)].double()
        assert bool((current[theory.neighbours(current, 8)].var(1) == 0).all())

    def test_need_neurons(self):
        with pytest.raises(ValueError, match="size must be from 2 to the number of neurons, 3, got 4"):
            theory.neighbours(torch.ones(3), 4)


class TestDistributions:
    def test_uniform_currents_are_close_and_others_are_not(self):
        even = torch.linspace(-2, 2, 2001, dtype=torch.float64)
        assert theory.distance_from_uniform(even) < 1e-3
        assert theory.distance_from_uniform(even.abs()) == pytest.approx(0.5, abs=1e-3)

    def test_uniform_potentials_pass_in_95_of_100_and_others_do_not(self):
        uniform = torch.rand(8, 2000, 32, dtype=torch.float64) * 3 + 1
        assert float(theory.is_uniform(uniform).double().mean()) == pytest.approx(0.95, abs=0.01)
        peaked = torch.randn(8, 500, 32, dtype=torch.float64) ** 3
        assert float(theory.is_uniform(peaked).double().mean()) < 0.1
        assert bool(theory.is_uniform(torch.ones(2, 3, 8)).all())

    def test_a_line_may_be_below_0_since_its_square_counts(self):
        x = torch.linspace(-2, 2, 400, dtype=torch.float64)
        for a, b in ((0.5, 3.0), (-0.5, 3.0), (2.0, 0.0), (1.5, 0.0)):
            found = theory.line((a * x + b).abs(), x)
            assert (abs(found[0]), found[1]) == (pytest.approx(abs(a)), pytest.approx(b, abs=1e-9))


@pytest.fixture(scope="module")
def digits():
    return datasets.digits(seed=0)


@pytest.fixture(scope="module")
def trained(digits):
    (x, y), _, low, high = digits
    torch.manual_seed(0)
    network = models.small_cnn(width=0.5, time_steps=4, decay=0.7, reset="soft")
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    loss = nn.CrossEntropyLoss()
    classifier = PyTorchSNNClassifier(network, loss, (1, 8, 8), 10, optimizer, clip_values=(low, high))
    classifier.fit(x, y, batch_size=64, nb_epochs=4)
    return network.cpu().eval()


class TestTrainedNetwork:
    def test_a_layer_of_a_current_that_never_changes_keeps_nothing(self, trained, digits):
        found = theory.measure(trained, digits[1][0])
        assert list(found.columns) == list(theory.COLUMNS) and list(found.layer) == ["body.2", "body.6", "body.10"]
        assert list(found.neurons) == [512, 256, 32]
        first, second = found.chi_away[0], found.chi_away[1]
        assert 0.0 <= first < 0.02 * second
        assert (found.eq_8 < 1e-4).all() and (found.why_not == "").all()
        assert (found.theorem_1 == False).all()  # noqa: E712
        assert (found.gain_most >= found.gain_hart - 1e-9).all()
        assert (found.difference == found.closed_form - found.chi).all()

    def test_is_what_numpy_makes_of_the_trace(self, trained, digits):
        x, kept = digits[1][0][:40], []
        layer = trained.body[10]
        simulate = layer.simulate
        with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(layer, "simulate", lambda c, **more: (kept.append(c.clone()), simulate(c, **more))[1])
            trained(torch.from_numpy(x))
        kept = [layer.trace(currents) for currents in kept]
        c, r = (np.concatenate([getattr(t, n).flatten().numpy() for t in kept]) for n in ("mean_current", "rate"))
        order = np.argsort(c, kind="stable").reshape(-1, 32)
        c, r = c[order].astype(np.float64), r[order].astype(np.float64)
        lines = [np.polynomial.Polynomial.fit(*group, 1) for group in zip(c, r, strict=True)]
        off = np.array([(b - line(a)) ** 2 for line, a, b in zip(lines, c, r, strict=True)])
        variances = off.sum(1) / 30 / (c**2).mean(1)
        found = theory.measure(trained, x).iloc[2]
        assert found["values"] == 40 * 32 == c.size
        assert found.chi == pytest.approx(variances.mean(), rel=1e-5)
        assert found.chi_50 == pytest.approx(np.median(variances), rel=1e-5)
        away = np.abs(c).mean(1) >= theory.NEAR * found.largest_current
        assert found.chi_away == pytest.approx(variances[away].mean(), rel=1e-5)

    def test_rate_is_the_mean_of_that_chains_gain(self, trained, digits):
        x = torch.from_numpy(digits[1][0][:1])
        found = theory.measure(trained, x.numpy(), size=4, gamma=2.0).iloc[1]
        watched = theory._watched(trained, x.numpy(), 10_000, 0)
        (_, seen), *_ = [item for item in watched.layers.items() if item[0][0] is trained.body[6]]
        (part,) = seen.parts
        places = theory.neighbours(part.current, 4)
        driven = theory.level(part.current[places]) > 0
        ratio = (part.rate / part.current)[places][driven]
        assert found.gain_rate == pytest.approx(float(ratio.mean()))
        gain = Triangle(2.0).at((part.before - 1).abs()).mean(0)[places][driven]
        assert found.gain_hart == pytest.approx(float(gain.mean()))

    def test_chunks_do_not_matter_and_the_network_stays_as_it_is(self, trained, digits, monkeypatch):
        x = digits[1][0][:60]
        before, state = theory.measure(trained, x, limit=3000), torch.get_rng_state()
        assert list(before["values"]) == [60 * 50, 60 * 50, 60 * 32]
        monkeypatch.setattr(theory, "BATCH", 7)
        monkeypatch.setattr(type(trained), "memory_bound", 1 << 16)
        after = theory.measure(trained, x, limit=3000)
        assert torch.equal(state, torch.get_rng_state()) and trained.route is None and not trained.training
        for name in theory.COLUMNS[6:-1]:
            assert after[name].to_numpy(float) == pytest.approx(before[name].to_numpy(float), rel=1e-4, nan_ok=True)
        assert theory.measure(trained, x, limit=3000, seed=1).chi[0] != before.chi[0]


class TestOtherNetworks:
    def test_thresholds_are_taken_out(self):
        one, two = (build(threshold=t, reset="soft", seed=3, decay=0.6) for t in (1.0, 2.0))
        with torch.no_grad():
            for module in two.body:
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.mul_(2.0), module.bias.mul_(2.0)
        x = image(0, 12).numpy()
        found, doubled = theory.measure(one, x), theory.measure(two, x)
        for name in ("chi", "chi_away", "closed_form", "gain_needed", "gain_hart", "gain_rate", "eq_8"):
            assert doubled[name].to_numpy() == pytest.approx(found[name].to_numpy(), rel=1e-6, abs=1e-9)

    def test_where_the_theorems_do_not_apply_chi_is_measured_and_the_reason_said(self):
        x = image(1, 12).numpy()
        hard = theory.measure(build(reset="hard"), x)
        assert hard.chi.notna().all() and hard.closed_form.isna().all() and hard.theorem_1.isna().all()
        assert (hard.why_not == "Eq. 8 does not hold: no soft reset by θ from v(0) = 0").all() and (
            hard.eq_8 > 0.1
        ).all()
        mixed = build(reset="soft")
        mixed.body[2] = LIF(torch.linspace(0.5, 0.9, 4), reset="soft").eval()
        found = theory.measure(mixed.double(), x)
        assert found.why_not[0] == "the neurons have not one membrane factor" and found.chi.notna().all()
        assert np.isnan(found.decay[0]) and found.why_not[1] == ""
        began = build(reset="soft")
        began.body[2] = LIF(0.9, reset="soft", v_init=0.5).eval()
        assert "from v(0) = 0" in theory.measure(began.double(), x).why_not[0]

    def test_neurons_without_a_threshold_are_said(self):
        class Odd(SpikingLayer):
            def trace(self, currents, *, spikes=None):
                found = LIF(reset="soft").trace(currents, spikes=spikes)
                return Trace(found.currents, found.potentials, found.spikes, self)

            def simulate(self, currents, *, spikes=None):
                return self.trace(currents, spikes=spikes).spikes

        network = build(reset="soft")
        network.body[2] = Odd().eval()
        found = theory.measure(network, image(0, 12).numpy())
        assert "threshold" in found.why_not[0] and np.isnan(found.chi[0]) and found.why_not[1] == ""

    def test_layers_that_run_twice_have_a_line_each(self):
        found = theory.measure(build("twice", reset="soft"), image(0, 12).numpy())
        assert list(found.layer) == ["body.2", "body.3.neurons", "body.3.neurons, visit 2", "body.7"]

    def test_adapted_networks_are_measured_by_their_description(self):
        class Soft(nn.Module):
            def __init__(self, decay):
                super().__init__()
                self.decay = decay

            def forward(self, x):
                v, out = torch.zeros_like(x[0]), []
                for now in x:
                    v = self.decay * v + now
                    s = (v >= 1.0).to(v)
                    v = v - s
                    out.append(s)
                return torch.stack(out)

        torch.manual_seed(0)
        layers = [nn.Linear(6, 64), Soft(0.6), nn.Linear(64, 40), Soft(0.6), nn.Linear(40, 3)]
        known = {Soft: lambda module: LIF(module.decay, reset="soft")}
        adapted = adapt(nn.Sequential(*layers).eval(), 5, call="sequence", neurons=known)
        own = SpikingNetwork(
            nn.Sequential(layers[0], LIF(0.6, reset="soft"), layers[2], LIF(0.6, reset="soft"), layers[4]), 5
        ).eval()
        x = torch.rand(20, 6).numpy() * 4
        found, expected = theory.measure(adapted, x), theory.measure(own, x)
        assert list(found.layer) == ["body.1", "body.3"]
        for name in ("chi", "chi_away", "closed_form", "k", "gain_hart"):
            assert found[name].to_numpy() == pytest.approx(expected[name].to_numpy(), rel=1e-4)

    def test_what_the_body_draws_is_the_networks_own(self):
        network = build(reset="soft", extra=Call(lambda x: x + 0.1 * torch.rand_like(x)))
        state = torch.get_rng_state()
        theory.measure(network, image(0, 12).numpy())
        assert torch.equal(state, torch.get_rng_state()) and network.randomness.draws > 0

    def test_noise_is_the_encoders_own(self):
        network = build(reset="soft", encoder=PoissonEncoder(seed=0))
        found = theory.measure(network, image(0, 12).numpy())
        assert found.chi_away[0] > 0.0  # a current that changes from step to step

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"size": 3}, "size must be a whole number >= 4, got 3"),
            ({"limit": 20}, "limit must be a whole number >= 32, got 20"),
            ({"gamma": 0.0}, "gamma must be a finite number > 0"),
            ({"seed": -1}, "seed must be a whole number >= 0"),
        ],
    )
    def test_wrong_arguments_are_named(self, changes, message):
        with pytest.raises(ValueError, match=message):
            theory.measure(build(reset="soft"), image(0).numpy(), **changes)

    def test_training_mode_and_other_networks_are_refused(self):
        with pytest.raises(ValueError, match="evaluation mode"):
            theory.measure(build(reset="soft").train(), image(0).numpy())
        with pytest.raises(TypeError, match="got Linear"):
            theory.measure(nn.Linear(2, 2), image(0).numpy())

    def test_too_few_values_are_said(self):
        found = theory.measure(build(reset="soft"), image(0, 1).numpy(), size=200, limit=200)
        assert found.why_not.str.contains("too few neurons get a current").any()
