"""Attacks of our own: what ART expects of an attack, and what is made right in them."""

from __future__ import annotations

import copy
from functools import lru_cache

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from art_snn import EventFrames, PoissonEncoder, PyTorchSNNClassifier, datasets, models
from art_snn.attacks import SAPGD, BriefPGD, PolishedPGD, Square, stepped
from art_snn.attacks.gradient import logits_and_gradient
from art_snn.attacks.losses import (
    LOSSES,
    cross_entropy,
    difference_logits_ratio,
    margin,
    targeted_difference_logits_ratio,
)
from art_snn.attacks.sapgd import halvings
from art_snn.attacks.stepped import _ladder
from art_snn.chains import ASSG, CBA, HART, STBP, AdaptiveHART, Mixed
from tests import networks as nets

EPS = 0.1

(X_TRAIN, Y_TRAIN), (X_TEST, _), _, _ = datasets.digits(seed=0)


@lru_cache(maxsize=1)
def trained():
    """A small network that has learned the digits a little."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.small_cnn(time_steps=4, width=0.25)
        wrapped = PyTorchSNNClassifier(
            network, nn.CrossEntropyLoss(), (1, 8, 8), 10, torch.optim.Adam(network.parameters(), 1e-2)
        )
        wrapped.fit(X_TRAIN, Y_TRAIN, batch_size=64, nb_epochs=3)
    return network


def classifier(chain="hart", loss=None, encoder=None, network=None, **kwargs):
    network = copy.deepcopy(trained()) if network is None else network
    if encoder is not None:
        network.encoder = encoder
    return PyTorchSNNClassifier(
        network, loss or nn.CrossEntropyLoss(), (1, 8, 8), 10, chain=chain, clip_values=(0, 1), **kwargs
    )


def labelled(wrapped, number=12):
    """Samples, and what is predicted for them, which an attack is to change."""
    x = X_TEST[:number]
    return x, wrapped.predict(x).argmax(1)


def sapgd(wrapped, **kwargs):
    return SAPGD(wrapped, **({"eps": EPS, "max_iter": 10, "seed": 0, "verbose": False} | kwargs))


class TestLosses:
    @settings(deadline=None)
    @given(st.integers(0, 2**16))
    def test_the_margin_is_above_zero_where_another_class_is_predicted(self, seed):
        z = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
        y = torch.arange(5) % 4
        assert torch.equal(margin(z, y) > 0, z.argmax(1) != y)

    def test_the_ratio_is_croces(self):
        z = torch.tensor([[3.0, 1.0, 2.0, -1.0]])
        assert float(difference_logits_ratio(z, torch.tensor([0]))) == pytest.approx(-(3 - 2) / (3 - 1))
        assert float(difference_logits_ratio(z, torch.tensor([1]))) == pytest.approx(-(1 - 3) / (3 - 1))
        found = targeted_difference_logits_ratio(z, torch.tensor([1]))
        assert float(found) == pytest.approx(-(3 - 1) / (3 - (1 - 1) / 2))

    @pytest.mark.parametrize("name", LOSSES)
    @pytest.mark.parametrize("kind", [0, 1])
    def test_equal_logits_give_numbers(self, name, kind):
        z = torch.ones(2, 5, requires_grad=True)
        LOSSES[name][kind](z, torch.tensor([0, 3])).sum().backward()
        assert bool(torch.isfinite(z.grad).all())

    def test_a_targeted_ratio_never_stands_still_at_the_third_class(self):
        z = torch.tensor([[3.0, 2.0, 1.0, 0.0]], requires_grad=True)
        targeted_difference_logits_ratio(z, torch.tensor([2])).backward()
        assert bool(z.grad.any())


class TestGradient:
    @pytest.mark.parametrize("chain", [HART(), STBP(), CBA(), Mixed([HART(), CBA()]), AdaptiveHART()], ids=repr)
    def test_logits_are_the_networks_and_the_gradient_is_the_chains(self, chain):
        wrapped = classifier(chain, loss=nn.CrossEntropyLoss(reduction="sum"))
        x, y = labelled(wrapped)
        found, grad = logits_and_gradient(wrapped, torch.from_numpy(x), torch.from_numpy(y), cross_entropy)
        assert np.allclose(found.numpy(), wrapped.predict(x), atol=1e-6)
        assert np.allclose(grad.numpy(), wrapped.loss_gradient(x, y), rtol=1e-5, atol=1e-8)

    def test_it_leaves_the_loss_as_it_was(self):
        wrapped = classifier()
        x, y = labelled(wrapped)
        before = wrapped._loss

        def broken(logits, labels):
            raise RuntimeError("no loss")

        with pytest.raises(RuntimeError, match="no loss"):
            logits_and_gradient(wrapped, torch.from_numpy(x), torch.from_numpy(y), broken)
        assert wrapped._loss is before

    def test_defences_that_are_numpys(self):
        from art.defences.preprocessor import SpatialSmoothing

        wrapped = classifier(preprocessing_defences=SpatialSmoothing(window_size=3, channels_first=True))
        x, y = labelled(wrapped)
        found, grad = logits_and_gradient(wrapped, torch.from_numpy(x), torch.from_numpy(y), margin)
        assert np.allclose(found.numpy(), wrapped.predict(x), atol=1e-6) and bool(grad.any())


@pytest.mark.parametrize("kind", [SAPGD, BriefPGD, PolishedPGD, Square])
class TestEveryAttack:
    def attack(self, kind, wrapped, **kwargs):
        return kind(wrapped, **({"eps": EPS, "max_iter": 10, "seed": 0, "verbose": False} | kwargs))

    def test_it_fools_within_eps_and_the_range(self, kind):
        wrapped = classifier()
        x, y = labelled(wrapped)
        before = x.copy()
        found = self.attack(kind, wrapped, eps=0.5, max_iter=50).generate(x, y)
        assert found.dtype == np.float32 and np.array_equal(x, before)
        assert np.abs(found - x).max() <= 0.5 + 1e-6 and found.min() >= 0 and found.max() <= 1
        assert (wrapped.predict(found).argmax(1) != y).any()

    def test_a_seed_gives_the_same_and_another_does_not(self, kind):
        wrapped = classifier()
        x, y = labelled(wrapped)
        one, same, other = (self.attack(kind, wrapped, seed=s, max_iter=2).generate(x, y) for s in (1, 1, 2))
        assert np.array_equal(one, same) and np.array_equal(one, other) == (kind is BriefPGD)  # which draws nothing
        state = np.random.get_state()
        np.random.seed(3)
        one = self.attack(kind, wrapped, seed=None, max_iter=2).generate(x, y)
        np.random.seed(3)
        same = self.attack(kind, wrapped, seed=None, max_iter=2).generate(x, y)
        np.random.set_state(state)
        assert np.array_equal(one, same)

    def test_a_sample_does_not_depend_on_the_others(self, kind):
        wrapped = classifier()
        x, y = labelled(wrapped)
        attack = self.attack(kind, wrapped, nb_random_init=1 if kind is BriefPGD else 2, eps=0.3)
        whole = attack.generate(x, y)
        order = np.array([7, 2, 11, 0])
        part = attack.generate(x[order], y[order], samples=order)
        assert np.allclose(part, whole[order], atol=1e-6)
        attack.set_params(batch_size=5)
        assert np.allclose(attack.generate(x, y), whole, atol=1e-6)

    def test_without_labels_it_changes_the_prediction(self, kind):
        wrapped = classifier()
        x, y = labelled(wrapped)
        attack = self.attack(kind, wrapped, max_iter=3)
        assert np.array_equal(attack.generate(x), attack.generate(x, y))

    def test_without_until_fooled_the_largest_margin_is_returned(self, kind):
        """Which is what transfers to another network, not the first iterate that fools."""
        wrapped = classifier()
        x, y = labelled(wrapped)
        settings = {"eps": 0.5, "max_iter": 40}
        first, last = (
            margin(torch.from_numpy(wrapped.predict(attack.generate(x, y))), torch.from_numpy(y)).numpy()
            for attack in (self.attack(kind, wrapped, until_fooled=flag, **settings) for flag in (True, False))
        )
        assert (last >= first - 1e-5).all() and (first > 0).any()
        assert (last[first > 0] > first[first > 0] + 1e-3).mean() > 0.5

    def test_one_hot_labels_are_classes(self, kind):
        wrapped = classifier()
        x, y = labelled(wrapped)
        attack = self.attack(kind, wrapped, max_iter=3)
        assert np.array_equal(attack.generate(x, np.eye(10, dtype=np.float32)[y]), attack.generate(x, y))

    def test_targeted_it_reaches_the_class(self, kind):
        wrapped = classifier()
        x, y = labelled(wrapped)
        wanted = (y + 1) % 10
        before = (wrapped.predict(x).argmax(1) == wanted).sum()
        attack = self.attack(kind, wrapped, targeted=True, eps=0.9, max_iter=60, loss_type="margin")
        assert (wrapped.predict(attack.generate(x, wanted)).argmax(1) == wanted).sum() > before == 0
        with pytest.raises(ValueError, match="wanted classes"):
            attack.generate(x)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"eps": 0.0}, "eps must be"),
            ({"eps": float("nan")}, "eps must be"),
            ({"max_iter": 0}, "max_iter must be"),
            ({"batch_size": 1.5}, "batch_size must be"),
            ({"nb_random_init": True}, "nb_random_init must be"),
            ({"norm": 1}, "norm of"),
            ({"loss_type": "hinge"}, "loss_type"),
            ({"targeted": 1}, "targeted must be"),
            ({"until_fooled": "no"}, "until_fooled must be"),
            ({"seed": -1}, "seed must be"),
        ],
    )
    def test_a_parameter_out_of_range_is_named(self, kind, wrong, message):
        with pytest.raises(ValueError, match=message):
            self.attack(kind, classifier(), **wrong)

    def test_what_it_leaves_in_the_classifier(self, kind):
        wrapped = classifier()
        x, y = labelled(wrapped)
        weights = [value.clone() for value in wrapped.model.state_dict().values()]
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        self.attack(kind, wrapped).generate(x, y)
        assert all(torch.equal(a, b) for a, b in zip(weights, wrapped.model.state_dict().values(), strict=True))
        assert torch.equal(torch_state, torch.get_rng_state())
        assert np.array_equal(numpy_state, np.random.get_state()[1])

    def test_event_frames(self, kind):
        network = nets.build(encoder=EventFrames()).float()
        wrapped = PyTorchSNNClassifier(
            network, nn.CrossEntropyLoss(), (network.time_steps, 2, 6, 6), 3, chain="hart", clip_values=(0, 3)
        )
        x = np.random.default_rng(0).poisson(0.5, (6, network.time_steps, 2, 6, 6)).clip(0, 3).astype(np.float32)
        y = wrapped.predict(x).argmax(1)
        found = self.attack(kind, wrapped, eps=1.0, max_iter=30).generate(x, y)
        assert np.abs(found - x).max() <= 1.0 + 1e-6 and (wrapped.predict(found).argmax(1) != y).any()

    def test_an_ann_of_arts(self, kind):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
        wrapped = PyTorchClassifier(model, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu")
        x, y = labelled(wrapped)
        found = self.attack(kind, wrapped, max_iter=40, eps=0.3).generate(x, y)
        assert (wrapped.predict(found).argmax(1) != y).any()

    def test_wrong_labels_are_named(self, kind):
        wrapped = classifier()
        with pytest.raises(ValueError, match="y must hold a label for each of 12"):
            self.attack(kind, wrapped).generate(X_TEST[:12], np.zeros(3, dtype=int))
        with pytest.raises(ValueError, match="samples must be 12 whole numbers"):
            self.attack(kind, wrapped).generate(X_TEST[:12], np.zeros(12, dtype=int), samples=np.arange(3))


class TestSAPGD:
    def test_the_first_steps_are_the_papers(self):
        wrapped = classifier(STBP())
        x, _ = labelled(wrapped)
        x, steps = torch.from_numpy(x), 4
        attack = sapgd(wrapped, max_iter=steps, until_fooled=False)
        memory = attack.begin(x)
        m, v = torch.zeros_like(x), torch.zeros_like(x)
        for number in range(steps):
            grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(number))
            moved, memory = attack.step(grad, memory, number)
            m = 0.5 * m + grad / grad.abs().mean((1, 2, 3), keepdim=True)
            v = 0.8 * v + grad**2 / (grad**2).mean((1, 2, 3), keepdim=True)
            eta = EPS / 2**number  # of so few steps each is a period
            assert torch.allclose(moved, torch.clamp(m / (v.sqrt() + 1e-12) * eta, -eta, eta), rtol=1e-4)

    def test_the_step_size_is_halved_after_shares_of_the_steps(self):
        when = [k for k in range(1, 100) if halvings(k, 100) > halvings(k - 1, 100)]
        assert when == [22, 41, 57, 70, 80, 87, 93, 99]
        assert halvings(0, 1) == 0 and halvings(0, 7) == 0

    @pytest.mark.parametrize("norm", [np.inf, "inf", 2])
    @pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e-30])
    def test_a_gradient_that_is_no_use_is_no_nan(self, norm, value, monkeypatch):
        wrapped = classifier()
        x, y = labelled(wrapped)
        given = wrapped.loss_gradient
        monkeypatch.setattr(wrapped, "loss_gradient", lambda *a, **k: torch.full_like(given(*a, **k), value))
        found = sapgd(wrapped, norm=norm).generate(x, y)
        assert np.isfinite(found).all()

    @settings(max_examples=15, deadline=None)
    @given(eps=st.floats(1e-3, 3.0), seed=st.integers(0, 100))
    def test_the_euclidean_ball_is_kept(self, eps, seed):
        wrapped = classifier(AdaptiveHART())
        x, y = labelled(wrapped)
        found = sapgd(wrapped, norm=2, eps=eps, seed=seed, max_iter=4).generate(x, y)
        assert np.linalg.norm((found - x).reshape(12, -1), axis=1).max() <= eps * (1 + 1e-5)
        assert found.min() >= 0 and found.max() <= 1

    def test_it_starts_uniformly_in_the_ball(self):
        attack = sapgd(classifier(), eps=1.0)
        x = torch.zeros(400, 1, 8, 8)
        draws = attack._random(x, range(400))
        assert float(draws.abs().max()) <= 1.0
        assert torch.histc(draws, 10, -1, 1).min() > 0.9 * draws.numel() / 10
        attack.set_params(norm=2)
        lengths = attack._random(x, range(400)).flatten(1).norm(dim=1)
        assert float(lengths.max()) <= 1 + 1e-5
        assert float((lengths < 0.5 ** (1 / 64)).float().mean()) == pytest.approx(0.5, abs=0.1)

    def test_an_iterate_that_fooled_counts_though_the_last_does_not(self, monkeypatch):
        """A last step far off changes nothing for what was fooled before."""
        wrapped = classifier()
        x, y = labelled(wrapped)
        attack = sapgd(wrapped, eps=0.5, max_iter=40)
        fooled = wrapped.predict(attack.generate(x, y)).argmax(1) != y
        assert fooled.any()
        step = SAPGD.step

        def back(self, grad, memory, number):
            moved, memory = step(self, grad, memory, number)
            return (moved if number < 39 else -1e3 * moved), memory

        monkeypatch.setattr(SAPGD, "step", back)
        again = wrapped.predict(attack.generate(x, y)).argmax(1) != y
        assert again[fooled].all()

    def test_samples_that_are_fooled_leave_the_batch(self, monkeypatch):
        wrapped, sizes = classifier(), []
        x, y = labelled(wrapped)
        given = wrapped.loss_gradient
        monkeypatch.setattr(wrapped, "loss_gradient", lambda x, y: sizes.append(len(x)) or given(x, y))
        sapgd(wrapped, eps=0.5, max_iter=40).generate(x, y)
        assert sizes[0] == 12 and sizes[-1] < 12 and sizes == sorted(sizes, reverse=True)
        sizes.clear()
        sapgd(wrapped, eps=0.5, max_iter=5, until_fooled=False).generate(x, y)
        assert sizes == [12] * 5

    def test_batches_come_in_few_sizes(self):
        assert [_ladder(n) for n in (1, 2, 3, 4, 5, 6, 7, 9, 13, 100)] == [1, 2, 3, 4, 6, 6, 8, 12, 16, 128]

    def test_a_state_stays_with_its_sample_when_others_leave(self):
        wrapped = classifier(ASSG(corrected=True))
        x, y = labelled(wrapped)
        attack = sapgd(wrapped, eps=0.3, max_iter=12)
        whole = attack.generate(x, y)
        assert (wrapped.predict(whole).argmax(1) != y).any()
        alone = np.concatenate([attack.generate(x[[i]], y[[i]], samples=[i]) for i in range(12)])
        assert np.allclose(whole, alone, atol=1e-5)

    def test_restarts_find_more(self):
        wrapped = classifier()
        x, y = labelled(wrapped, 40)

        def fooled(starts):
            return wrapped.predict(sapgd(wrapped, max_iter=2, nb_random_init=starts).generate(x, y)).argmax(1) != y

        one, many = fooled(1), fooled(6)
        assert (many >= one).all() and many.sum() > one.sum()

    def test_noise_is_drawn_at_every_step(self):
        wrapped = classifier(encoder=PoissonEncoder(seed=0))
        network = wrapped.model
        x, y = labelled(wrapped)
        before = network.encoder.draws
        sapgd(wrapped, max_iter=5, eps=0.01, until_fooled=False).generate(x, y)
        assert network.encoder.draws - before >= 5

    def test_a_network_of_one_output_is_refused(self):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
        model = PyTorchClassifier(body, nn.BCEWithLogitsLoss(), (1, 8, 8), 2, clip_values=(0, 1), device_type="cpu")
        with pytest.raises(ValueError, match="an output for each class"):
            sapgd(model).generate(X_TEST[:12], np.zeros(12, dtype=int))

    def test_classes_may_stand_in_a_column(self):
        wrapped = classifier()
        x, y = labelled(wrapped)
        assert np.array_equal(sapgd(wrapped).generate(x, y[:, None]), sapgd(wrapped).generate(x, y))

    def test_losses_that_need_more_classes_are_refused(self):
        network = nets.build().float()
        wrapped = PyTorchSNNClassifier(network, nn.CrossEntropyLoss(), (2, 6, 6), 3, clip_values=(0, 1))
        with pytest.raises(ValueError, match="needs 4 classes, estimator has 3"):
            sapgd(wrapped, targeted=True, loss_type="difference_logits_ratio").generate(
                np.zeros((1, 2, 6, 6), np.float32), np.zeros(1, dtype=int)
            )


class TestWhatIsPredictedAgain:
    """What a gradient's forward pass says is a prediction, but where something is drawn at random or a defence is."""

    def predictions(self, wrapped, monkeypatch, **kwargs):
        x, y = labelled(wrapped)
        asked, given = [], wrapped.predict
        monkeypatch.setattr(wrapped, "predict", lambda x, **k: asked.append(len(x)) or given(x, **k))
        found = sapgd(wrapped, eps=0.5, max_iter=20, **kwargs).generate(x, y)
        monkeypatch.undo()
        return asked, (wrapped.predict(found).argmax(1) != y)

    def test_nothing_but_the_last_iterates_of_a_network_without_noise(self, monkeypatch):
        asked, fooled = self.predictions(classifier(), monkeypatch)
        assert fooled.any() and asked == [int((~fooled).sum())] * bool((~fooled).any())

    @pytest.mark.parametrize("kind", ["noise", "a defence", "an activation network"])
    def test_what_seems_to_fool_otherwise(self, kind, monkeypatch):
        from art.defences.preprocessor import SpatialSmoothing

        wrapped = {
            "noise": lambda: classifier(encoder=PoissonEncoder(seed=0)),
            "a defence": lambda: classifier(
                preprocessing_defences=SpatialSmoothing(window_size=3, channels_first=True)
            ),
            "an activation network": lambda: classifier(CBA()),
        }[kind]()
        assert len(self.predictions(wrapped, monkeypatch)[0]) > 1

    def test_a_margin_within_rounding(self, monkeypatch):
        wrapped = classifier()
        x, y = labelled(wrapped, 1)
        monkeypatch.setattr(stepped, "ROUNDING", 1e9)
        asked, given = [], wrapped.predict
        monkeypatch.setattr(wrapped, "predict", lambda x, **k: asked.append(1) or given(x, **k))
        attack = sapgd(wrapped, eps=0.9, max_iter=40)
        fooled = given(attack.generate(x, y)).argmax(1) != y
        assert fooled.all() and len(asked) >= 1


class TestBriefPGD:
    def attack(self, wrapped, **kwargs):
        return BriefPGD(wrapped, **({"eps": EPS, "seed": 0, "verbose": False} | kwargs))

    def test_its_steps_fall_from_eps_to_a_quarter(self):
        attack = self.attack(classifier(), max_iter=5)
        sizes = [attack.eta(number) for number in range(5)]
        assert sizes[0] == EPS and sizes[-1] == pytest.approx(EPS / 4)
        assert np.allclose(np.diff(np.log(sizes)), np.log(0.25) / 4)
        assert self.attack(classifier(), max_iter=1).eta(0) == EPS

    def test_it_begins_at_the_input(self, monkeypatch):
        wrapped, seen = classifier(), []
        x, y = labelled(wrapped)
        given = wrapped.loss_gradient
        monkeypatch.setattr(wrapped, "loss_gradient", lambda x, y: seen.append(x.clone().numpy()) or given(x, y))
        found = self.attack(wrapped, max_iter=3).generate(x, y)
        assert np.array_equal(seen[0], x) and not np.array_equal(found, x)
        again = self.attack(wrapped, max_iter=3, seed=1).generate(x, y)
        assert np.array_equal(found, again)  # nothing is drawn

    def test_it_is_stronger_in_few_steps(self):
        """Over several ε, and against the mean of several starts, since on one a few samples decide."""
        wrapped = classifier()
        x, y = labelled(wrapped, 200)

        def fooled(kind, eps, seed=0):
            attack = kind(wrapped, eps=eps, max_iter=6, seed=seed, verbose=False)
            return (wrapped.predict(attack.generate(x, y)).argmax(1) != y).sum()

        radii = (0.04, 0.06, 0.08, 0.1)
        brief = sum(fooled(BriefPGD, eps) for eps in radii)
        usual = np.mean([sum(fooled(SAPGD, eps, seed) for eps in radii) for seed in range(3)])
        assert brief > usual

    def test_there_is_one_start(self):
        with pytest.raises(ValueError, match="nb_random_init of BriefPGD must be 1"):
            self.attack(classifier(), nb_random_init=2)


class TestPolishedPGD:
    def attack(self, wrapped, **kwargs):
        return PolishedPGD(wrapped, **({"eps": EPS, "max_iter": 6, "seed": 0, "verbose": False} | kwargs))

    @pytest.mark.parametrize("norm", [np.inf, 2])
    def test_it_goes_on_where_sapgd_ends_and_never_back(self, norm):
        wrapped = classifier()
        x, y = labelled(wrapped, 200)
        eps = {np.inf: 0.05, 2: 0.5}[norm]
        before = sapgd(wrapped, norm=norm, eps=eps, max_iter=6).generate(x, y)
        after = self.attack(wrapped, norm=norm, eps=eps, queries=100).generate(x, y)
        labels = torch.from_numpy(y)
        first, last = (margin(torch.from_numpy(wrapped.predict(found)), labels).numpy() for found in (before, after))
        fooled, still = (wrapped.predict(found).argmax(1) != y for found in (before, after))
        assert (last[~fooled] >= first[~fooled] - 1e-5).all() and (last[~fooled] > first[~fooled] + 1e-5).any()
        assert still[fooled].all() and still.sum() > fooled.sum()
        assert np.array_equal(after[fooled], before[fooled])  # which had left the batch
        distance = (after - x).reshape(len(x), -1)
        assert (np.abs(distance).max(1) if norm == np.inf else np.linalg.norm(distance, axis=1)).max() <= eps + 1e-5
        assert after.min() >= 0 and after.max() <= 1

    def test_a_query_is_a_prediction(self, monkeypatch):
        wrapped = classifier()
        x, y = labelled(wrapped, 1)
        gradients, predictions = [], []
        gradient, predict = wrapped.loss_gradient, wrapped.predict
        monkeypatch.setattr(wrapped, "loss_gradient", lambda *a, **k: gradients.append(1) or gradient(*a, **k))
        monkeypatch.setattr(wrapped, "predict", lambda *a, **k: predictions.append(1) or predict(*a, **k))
        attack = self.attack(wrapped, eps=1e-4, queries=7, nb_random_init=2)  # nothing is fooled so near
        attack.generate(x, y)
        assert len(gradients) == 2 * 6 and len(predictions) == 2 * (1 + 7)  # the last step's point, too
        assert attack.length == 6 + 7

    def test_it_sets_fewer_and_fewer_values_to_the_edge(self, monkeypatch):
        wrapped, seen = classifier(), []
        x, y = labelled(wrapped, 1)
        attack = self.attack(wrapped, eps=1e-3, queries=40)
        given = attack._moved
        monkeypatch.setattr(attack, "_moved", lambda *a: seen.append((*a, given(*a))) or seen[-1][-1])
        attack.generate(x, y)
        some = [places.shape[1] for _, _, places, _, _ in seen]
        assert some[0] == 4 and some[-1] == 1 and some == sorted(some, reverse=True)  # 4 is half the root of 64
        for at, clean, places, signs, found in seen:
            values = (clean.flatten(1).gather(1, places) + 1e-3 * signs).clamp(0, 1)
            changed = (found != at).flatten(1)
            assert int(changed.sum()) <= places.shape[1] and not bool(changed.scatter(1, places, False).any())
            once = [places[0].tolist().count(place) == 1 for place in places[0].tolist()]
            assert torch.allclose(found.flatten(1).gather(1, places)[0][once], values[0][once], atol=1e-6)

    def test_of_a_place_that_comes_twice_the_last_sign_counts(self):
        """On every device, where a scatter may write in any order."""
        attack = self.attack(classifier(), eps=0.1)
        x, places = torch.full((2, 1, 2, 2), 0.5), torch.tensor([[3, 0, 3, 3], [1, 1, 2, 0]])
        signs = torch.tensor([[1.0, 1.0, 1.0, -1.0], [-1.0, 1.0, 1.0, -1.0]])
        found = attack._moved(x, x, places, signs).flatten(1)
        assert torch.allclose(found, torch.tensor([[0.6, 0.5, 0.5, 0.4], [0.4, 0.6, 0.6, 0.5]]))

    def test_queries_out_of_range_are_named(self):
        for wrong in (0, 2.5, True):
            with pytest.raises(ValueError, match="queries must be"):
                self.attack(classifier(), queries=wrong)


def test_a_square_of_square_is_no_larger_than_its_share():
    attack = Square(classifier(), eps=EPS, p_init=0.25, max_iter=10, verbose=False)
    for share, side in ((0.25, 3), (0.01, 1), (1.0, 6)):
        square = attack._square(torch.zeros(2, 6, 6), share, torch.Generator().manual_seed(1))
        assert set(square.unique().tolist()) <= {-1.0, 0.0, 1.0}
        assert [int((square[c] != 0).sum()) for c in range(2)] == [side * side] * 2
    frames = attack._square(torch.zeros(4, 2, 6, 6), 0.25, torch.Generator().manual_seed(1))
    assert all(torch.equal(frames[0], frame) for frame in frames)
    with pytest.raises(ValueError, match="p_init must be"):
        Square(classifier(), p_init=0.0)
    with pytest.raises(ValueError, match="loss_type of Square"):
        Square(classifier(), loss_type="cross_entropy")
