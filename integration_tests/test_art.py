"""What docs/art.md says, through ART's own calls."""

import ast
import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from art.attacks import evasion
from art.attacks.evasion import (
    AutoAttack,
    AutoProjectedGradientDescent,
    CompositeAdversarialAttackPyTorch,
    FastGradientMethod,
    FeatureAdversariesPyTorch,
    HopSkipJump,
    ProjectedGradientDescent,
    SquareAttack,
    UniversalPerturbation,
)
from art.defences.preprocessor import SpatialSmoothingPyTorch
from art.defences.trainer import AdversarialTrainer
from torch import nn

from art_snn import EventFrames, PoissonEncoder, PyTorchSNNClassifier, SpikingNetwork, models
from art_snn.chains import HART, RGA
from art_snn.classifier import Softmax
from integration_tests.art_support.attacks import CountingHART, CountingSTBP
from integration_tests.art_support.checks import BATCH, accuracy, digits, fresh
from integration_tests.art_support.settings import classifier, seeded, setting

PAGE = (Path(__file__).parents[1] / "docs" / "art.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def pgd(estimator, **kwargs):
    arguments = {"eps": 0.2, "eps_step": 0.05, "max_iter": 5, "verbose": False} | kwargs
    return ProjectedGradientDescent(estimator, **arguments)


class TestAdversarialTraining:
    def test_the_attack_follows_the_chain_and_the_weights_stbp(self):
        estimator = fresh("spiking")
        estimator.chain, estimator.model.training_chain = CountingHART(), CountingSTBP()
        CountingHART.calls = CountingSTBP.calls = 0
        trainer = AdversarialTrainer(estimator, FastGradientMethod(estimator, eps=2.55 / 255), ratio=1.0)
        trainer.fit(*digits(2 * BATCH), batch_size=BATCH, nb_epochs=1)
        layers = 3
        # ART attacks in batches of 32; a gain for each layer of each, and a backward pass for each layer of each step.
        assert CountingHART.calls == layers * 2 * BATCH // 32
        assert CountingSTBP.calls == layers * 2


class TestTransfer:
    def fooled(self, source, target, x, y):
        clean = target.predict(x).argmax(1) == y.argmax(1)
        adversarial = pgd(source).generate(x, y)
        return np.mean(target.predict(adversarial).argmax(1)[clean] != y.argmax(1)[clean])

    def test_between_two_spiking_networks_and_a_network_without_spikes_in_all_directions(self):
        where = setting("digits")
        x, y = where.samples(100)
        other = fresh("spiking", seed=1)
        other.fit(where.x_train, where.y_train, batch_size=64, nb_epochs=10)
        victims = {"spiking": where.spiking, "other": other, "plain": where.plain}
        rates = {(a, b): self.fooled(victims[a], victims[b], x, y) for a in victims for b in victims}
        for (source, target), rate in rates.items():
            assert rate > 0.1, (source, target, rates)
            if source != target:  # what was made for the target itself is stronger
                assert rate < rates[target, target], (source, target, rates)


class TestPoissonNoise:
    def estimator(self, samples=1, seed=5):
        torch.manual_seed(0)
        network = models.small_cnn(time_steps=6, width=0.5, threshold=0.3, encoder=PoissonEncoder(seed=seed))
        return classifier(network, (1, 8, 8), chain=RGA(), gradient_samples=samples)

    def test_fresh_noise_gives_another_gradient_at_every_call(self):
        estimator, (x, y) = self.estimator(), setting("digits").samples(4)
        assert not np.array_equal(estimator.loss_gradient(x, y), estimator.loss_gradient(x, y))
        assert not np.array_equal(pgd(estimator).generate(x, y), pgd(estimator).generate(x, y))

    def test_frozen_noise_gives_the_gradient_on_that_noise(self):
        """That of its spikes as event frames, added up over time."""
        estimator, (x, y) = self.estimator(), setting("digits").samples(4)
        noise = torch.rand(6, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        with estimator.model.encoder.frozen(noise):
            gradient = estimator.loss_gradient(x, y)
        spikes = (torch.from_numpy(x) >= noise).float().transpose(0, 1).numpy()
        frames = SpikingNetwork(estimator.model.body, 6, EventFrames())
        on_spikes = classifier(frames, (6, 1, 8, 8), chain=RGA()).loss_gradient(spikes, y)
        assert np.abs(gradient).max() > 0 and np.allclose(gradient, on_spikes.sum(1), atol=1e-7)

    def test_frozen_noise_serves_a_whole_attack(self):
        estimator, (x, y) = self.estimator(), setting("digits").samples(4)
        with estimator.model.encoder.frozen():
            first = pgd(estimator).generate(x, y)
            assert np.array_equal(estimator.predict(x), estimator.predict(x))
            assert np.array_equal(estimator.loss_gradient(x, y), estimator.loss_gradient(x, y))
            assert np.array_equal(pgd(estimator).generate(x, y), first)
        assert not np.array_equal(estimator.predict(x), estimator.predict(x))

    def test_the_average_is_that_of_single_draws(self):
        x, y = setting("digits").samples(4)
        single, averaged = self.estimator(), self.estimator(samples=5)
        expected = np.mean([single.loss_gradient(x, y) for _ in range(5)], axis=0)
        assert np.allclose(averaged.loss_gradient(x, y), expected, atol=1e-7)

    def test_the_average_settles_as_draws_are_added(self):
        x, y = setting("digits").samples(4)

        def spread(samples):
            draws = [self.estimator(samples, seed).loss_gradient(x, y) for seed in (1, 2, 3, 4)]
            return np.std(draws, axis=0).mean() / np.abs(np.mean(draws, axis=0)).mean()

        assert spread(16) < 0.5 * spread(1)


class TestEventFrames:
    def victims(self, number=4):
        where = setting("events")
        return where.spiking, *where.samples(number)

    def test_epsilon_is_in_counts_and_counts_stay_in_their_range(self):
        estimator, x, y = self.victims()
        high = float(estimator.clip_values[1])
        assert high > 1.0  # counts
        adversarial = pgd(estimator, eps=2.0, eps_step=1.0).generate(x, y)
        change = np.abs(adversarial - x)
        assert change.max() == pytest.approx(2.0) and adversarial.min() >= 0 and adversarial.max() <= high

    def test_a_mask_confines_the_attack_to_one_frame(self):
        estimator, x, y = self.victims()
        mask = np.zeros_like(x)
        mask[:, 2] = 1.0
        for attack in (pgd(estimator, eps=2.0, eps_step=1.0), FastGradientMethod(estimator, eps=2.0)):
            change = np.abs(attack.generate(x, y, mask=mask) - x)
            assert change[:, 2].max() > 0
            assert np.delete(change, 2, axis=1).max() == 0

    def test_a_mask_of_one_input_serves_all(self):
        estimator, x, y = self.victims()
        mask = np.zeros(estimator.input_shape, np.float32)
        mask[2] = 1.0
        change = np.abs(pgd(estimator, eps=2.0, eps_step=1.0).generate(x, y, mask=mask) - x)
        assert change[:, 2].max() > 0 and np.delete(change, 2, axis=1).max() == 0

    def test_arts_pgd_takes_no_mask_of_fewer_dimensions(self):
        estimator, x, y = self.victims()
        with pytest.raises(RuntimeError, match="size of tensor"):
            pgd(estimator, eps=2.0, eps_step=1.0).generate(x, y, mask=np.ones(x.shape[-2:], np.float32))

    def test_auto_attack_runs_on_frames_as_the_page_says(self):
        estimator, x, y = self.victims()
        (code,) = (block for block in CODE if "AutoAttack(" in block)
        attacks = {name: getattr(evasion, name) for name in ("AutoAttack", "AutoProjectedGradientDescent", "DeepFool")}
        given = {"classifier": estimator, "x": x, "y": y, **attacks}
        *setup, last = ast.parse(code.replace("verbose=False", "verbose=False, max_iter=3")).body
        exec(compile(ast.Module(setup, []), "art.md", "exec"), given)
        adversarial = eval(compile(ast.Expression(last.value), "art.md", "eval"), given)
        assert 0 < np.abs(adversarial - x).max() <= 2.0 + 1e-6
        assert accuracy(estimator, adversarial, y) < accuracy(estimator, x, y)

    def test_arts_own_choice_for_auto_attack_refuses_them(self):
        estimator, x, y = self.victims()
        attack = AutoAttack(estimator, eps=1e-3, eps_step=1e-3)
        for part in attack.attacks[:3]:
            part.set_params(max_iter=1)
        with pytest.raises(ValueError, match="image data"):
            attack.generate(x, y)

    def test_a_mask_of_pixels_holds_in_every_frame(self):
        estimator, x, y = self.victims()
        pixels = np.zeros(x.shape[-2:], np.float32)
        pixels[3:9, 3:9] = 1.0
        mask = np.broadcast_to(pixels, estimator.input_shape)
        change = np.abs(pgd(estimator, eps=2.0, eps_step=1.0).generate(x, y, mask=mask) - x)
        assert change[..., 3:9, 3:9].max() > 0 and change[..., :3, :].max() == 0

    def test_one_perturbation_for_all_recordings(self):
        estimator, x, y = self.victims(8)
        seeded()
        attack = UniversalPerturbation(
            estimator, "fgsm", {"eps": 2.0}, delta=0.1, max_iter=2, eps=2.0, norm=np.inf, verbose=False
        )
        attack.generate(x, y)
        noise = attack.noise
        assert noise.shape[-4:] == x.shape[1:] and 0 < np.abs(noise).max() <= 2.0 + 1e-6


class TestModes:
    def test_an_attack_on_the_model_itself_sees_it_in_evaluation_mode(self):
        """CompositeAdversarialAttackPyTorch differentiates `estimator.model` in the mode in which `predict` left it."""
        pytest.importorskip("kornia")
        estimator, (x, y) = setting("colour").spiking, setting("colour").samples(2)
        before = {name: value.clone() for name, value in estimator.model.state_dict().items()}
        modes = []

        def record(network, inputs):
            if torch.is_grad_enabled() and inputs[0].requires_grad:
                modes.append(network.training or any(module.training for module in network.modules()))

        estimator.model.train()
        estimator.predict(x)
        with estimator.model.register_forward_pre_hook(record):
            attack = CompositeAdversarialAttackPyTorch(estimator, max_iter=1, max_inner_iter=2, batch_size=2)
            attack.set_params(verbose=False)
            attack.generate(x, y)
        assert modes and not any(modes)
        assert all(torch.equal(before[name], value) for name, value in estimator.model.state_dict().items())


class TestNotFinite:
    def test_square_attack_goes_on_after_its_division_by_zero(self):
        estimator, (x, y) = setting("digits").spiking, setting("digits").samples(8)
        proposals, predict = [], estimator.predict
        try:
            estimator.predict = lambda x, **kwargs: proposals.append(np.isnan(x).any()) or predict(x, **kwargs)
            adversarial = SquareAttack(estimator, norm=2, eps=2.0, max_iter=30, verbose=False).generate(x, y)
        finally:
            del estimator.predict
        assert any(proposals) and not all(proposals)
        assert np.isfinite(adversarial).all() and np.abs(adversarial - x).max() > 0
        assert np.linalg.norm((adversarial - x).reshape(8, -1), axis=1).max() <= 2.0 + 1e-4


class TestActivations:
    def test_are_firing_rates_of_shape_batch_first(self):
        estimator, (x, _) = setting("digits").spiking, setting("digits").samples(5)
        for name in estimator.layer_names:
            activation = estimator.get_activations(x, name, 2)
            assert len(activation) == 5
            module = dict(estimator.model.named_modules())[name]
            if type(module).__name__ == "LIF":
                assert activation.min() >= 0 and activation.max() <= 1
                steps = activation * estimator.model.time_steps
                assert np.allclose(steps, steps.round(), atol=1e-5)

    def test_an_attack_on_features_follows_the_chain(self):
        estimator = setting("digits").spiking
        x, _ = setting("digits").samples(4)
        results = []
        for chain in (HART(1.5), HART(1.5), HART(0.5)):
            estimator.chain = chain
            seeded()
            attack = FeatureAdversariesPyTorch(
                estimator, delta=0.2, layer="body.6", step_size=0.05, max_iter=5, batch_size=4, verbose=False
            )
            results.append(attack.generate(x, np.roll(x, 1, axis=0)))
        estimator.chain = HART(1.5)
        assert np.array_equal(results[0], results[1]) and not np.array_equal(results[0], results[2])

        def distance(images):
            one, other = (estimator.get_activations(part, "body.6", 4) for part in (images, np.roll(x, 1, axis=0)))
            return np.abs(one - other).mean()

        assert distance(results[0]) < distance(x)


class TestEstimatorsDoor:
    def test_double_precision_inputs_are_taken(self):
        estimator = setting("digits").spiking
        x, y = setting("digits").samples(2)
        assert np.array_equal(estimator.predict(x.astype(np.float64)), estimator.predict(x))
        attack = HopSkipJump(estimator, max_iter=1, max_eval=20, init_eval=5, verbose=False)
        assert attack.generate(x, y).shape == x.shape

    def test_softmax_gives_probabilities_and_leaves_the_gradient(self):
        where = setting("digits")
        x, y = where.samples(4)
        estimator = PyTorchSNNClassifier(
            where.spiking.model,
            nn.CrossEntropyLoss(),
            (1, 8, 8),
            10,
            clip_values=(0.0, 1.0),
            postprocessing_defences=Softmax(),
            device_type="cpu",
        )
        assert np.allclose(estimator.predict(x).sum(1), 1.0, atol=1e-6)
        assert np.array_equal(estimator.predict(x).argmax(1), where.spiking.predict(x).argmax(1))
        assert np.array_equal(estimator.loss_gradient(x, y), where.spiking.loss_gradient(x, y))

    def test_the_gradient_passes_through_a_median_filter(self):
        pytest.importorskip("kornia")
        where = setting("digits")
        x, y = where.samples(60)
        smoothing = SpatialSmoothingPyTorch(window_size=3, channels_first=True, device_type="cpu")
        estimator = classifier(where.spiking.model, (1, 8, 8), preprocessing_defences=smoothing)
        unaware = pgd(where.spiking).generate(x, y)
        aware = pgd(estimator).generate(x, y)
        assert accuracy(estimator, aware, y) < accuracy(estimator, unaware, y)

    def test_auto_pgd_goes_on_where_logits_are_equal(self):
        """Three equal logits on top make the loss of AutoPGD 0 / 0."""
        where = setting("digits")
        x, _ = where.samples(4)
        estimator = copy.deepcopy(where.spiking)
        last = estimator.model.body[-1]
        with torch.no_grad():
            last.weight[:3] = last.weight[0].clone()
            last.bias[:3] = 50.0
        attack = AutoProjectedGradientDescent(
            estimator,
            eps=0.15,
            eps_step=0.05,
            max_iter=4,
            loss_type="difference_logits_ratio",
            nb_random_init=1,
            verbose=False,
        )
        seen, gradient = [], attack.estimator.loss_gradient
        attack.estimator.loss_gradient = lambda x, y: seen.append(x) or gradient(x, y)
        attack.generate(x, np.zeros(4, int))
        assert len(seen) == 4 and all(np.isfinite(images).all() for images in seen)
