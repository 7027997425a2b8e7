"""The estimator keeps the rules that keep results honest."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoProjectedGradientDescent, FastGradientMethod, ProjectedGradientDescent
from art.data_generators import PyTorchDataGenerator
from art.defences.postprocessor import ClassLabels, Rounded
from art.defences.preprocessor import GaussianAugmentation
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_snn import LIF, EventFrames, PoissonEncoder, PyTorchSNNClassifier, SpikingNetwork
from art_snn.chains import BPTR, CBA, HART, RGA, STBP, Mixed, Rate
from art_snn.classifier import Softmax
from tests import networks as nets

ALL = [HART(0.7), STBP(), CBA(), BPTR(), RGA(), Rate(), Mixed(), Mixed([HART(), CBA(), RGA()], [0.5, 0.2, 1.0])]
names = [type(chain).__name__ for chain in ALL[:-1]] + ["MixedWithCBA"]
SHARED = ALL[:-1]  # those that a forward pass of the network itself can follow


def wrap(network: SpikingNetwork, **kwargs) -> PyTorchSNNClassifier:
    network = network.float()
    return PyTorchSNNClassifier(
        network,
        nn.CrossEntropyLoss(),
        kwargs.pop("input_shape", (2, 6, 6)),
        3,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.05),
        clip_values=(0.0, 1.0),
        device_type="cpu",
        **kwargs,
    )


@pytest.fixture
def classifier() -> PyTorchSNNClassifier:
    return wrap(nets.build("residual", seed=3))


@pytest.fixture
def x() -> np.ndarray:
    return nets.image(7, 6).float().numpy()


@pytest.fixture
def y() -> np.ndarray:
    return np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]


def own_gradient(classifier, x, y, chain) -> np.ndarray:
    """The gradient through the network's own autograd, without ART."""
    total = np.zeros_like(x)
    for weight, part in chain.parts():
        classifier.model.chain = part
        leaf = torch.from_numpy(x).requires_grad_()
        nn.functional.cross_entropy(classifier.model(leaf), torch.from_numpy(y).argmax(1)).backward()
        total += weight * leaf.grad.numpy()
    return total


def close(a, b, tolerance=1e-5) -> bool:
    return float(np.linalg.norm(a - b)) <= tolerance * float(np.linalg.norm(b))


@contextmanager
def counting_simulations():
    """How often spiking layers run, with a trace and without."""
    counted: Counter[str] = Counter()
    running: list[str] = []  # a trace runs a simulation of its own

    def counting(name, original):
        def run(self, *args, **kwargs):
            counted.update([] if running else [name])
            running.append(name)
            try:
                return original(self, *args, **kwargs)
            finally:
                running.pop()

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name in ("trace", "simulate"):
            patch.setattr(LIF, name, counting(name, getattr(LIF, name)))
        yield counted


class TestGradients:
    @pytest.mark.parametrize("chain", ALL, ids=names)
    def test_loss_gradient_follows_the_chain(self, classifier, x, y, chain):
        expected = own_gradient(classifier, x, y, chain)
        classifier.chain = chain
        assert close(classifier.loss_gradient(x, y), expected)
        assert np.abs(expected).max() > 0

    @pytest.mark.parametrize("chain", ALL, ids=names)
    def test_chain_for_one_call_leaves_the_chain(self, classifier, x, y, chain):
        classifier.chain = "bptr"
        got = classifier.loss_gradient(x, y, chain=chain)
        assert classifier.chain == BPTR()
        assert close(got, own_gradient(classifier, x, y, chain))

    def test_gradients_of_several_chains_are_those_of_each(self, classifier, x, y):
        chains = [*ALL, "hart", HART(gamma=0.5)]
        classifier.chain = "bptr"
        expected = np.stack([classifier.loss_gradient(x, y, chain=chain) for chain in chains])
        found = classifier.loss_gradients(x, y, chains)
        assert found.shape == (len(chains), 6, 2, 6, 6) and classifier.chain == BPTR()
        assert all(close(one, other, 1e-6) for one, other in zip(found, expected, strict=True))
        of_tensor = classifier.loss_gradients(torch.from_numpy(x), torch.from_numpy(y), chains)
        assert isinstance(of_tensor, torch.Tensor) and close(of_tensor.numpy(), expected, 1e-6)

    def test_several_chains_share_one_simulation(self, classifier, x, y):
        layers = sum(isinstance(module, LIF) for module in classifier.model.modules())
        gammas = [HART(gamma=gamma) for gamma in (0.25, 0.5, 1.0, 2.0)]
        kinds = [HART(), STBP(), STBP(gamma=0.5), RGA()]
        for _ in range(2):  # with their comparisons
            classifier.loss_gradients(x, y, gammas)
            classifier.loss_gradients(x, y, kinds)
            classifier.loss_gradient(x, y, chain=Mixed())
        with counting_simulations() as simulated:
            classifier.loss_gradients(x, y, gammas)
        assert simulated == {"trace": layers}
        with counting_simulations() as simulated:  # STBP simulates again in its backward pass
            classifier.loss_gradients(x, y, kinds)
        assert simulated == {"trace": 3 * layers}
        with counting_simulations() as simulated:
            classifier.loss_gradient(x, y, chain=Mixed())
        assert simulated == {"trace": 2 * layers}

    def test_noise_is_shared_by_several_chains_and_averaged_over(self, y):
        network = nets.build(encoder=PoissonEncoder(seed=3)).float()
        wrapped = PyTorchSNNClassifier(network, nn.CrossEntropyLoss(), (2, 6, 6), 3, gradient_samples=2)
        x = nets.image(7, 6).clamp(0, 1).float().numpy()
        before = network.encoder.draws
        found = wrapped.loss_gradients(x, y, ["hart", "hart", "stbp"])
        assert network.encoder.draws == before + 2
        assert np.array_equal(found[0], found[1]) and not close(found[0], found[2], 1e-3)
        network.encoder.draws = before
        assert close(wrapped.loss_gradient(x, y, chain="hart"), found[0], 1e-6)

    def test_what_is_shared_is_of_that_input_and_those_weights(self, classifier, x, y):
        expected = classifier.loss_gradient(x, y, chain="hart"), classifier.loss_gradient(0.5 * x, y, chain="hart")
        with classifier.model.sharing(["hart", "stbp"]):
            assert close(classifier.loss_gradient(x, y, chain="hart"), expected[0])
            assert close(classifier.loss_gradient(0.5 * x, y, chain="hart"), expected[1])
            with torch.no_grad():
                next(classifier.model.parameters()).mul_(1.5)
            changed = classifier.loss_gradient(0.5 * x, y, chain="hart")
        assert not close(changed, expected[1], 1e-3)
        assert close(classifier.loss_gradient(0.5 * x, y, chain="hart"), changed)

    @pytest.mark.parametrize("chains", ["hart", HART(), []], ids=repr)
    def test_several_chains_are_a_sequence(self, classifier, x, y, chains):
        with pytest.raises(ValueError, match="chains must be a sequence of at least one chain"):
            classifier.loss_gradients(x, y, chains)

    def test_chains_differ(self, classifier, x, y):
        gradients = [classifier.loss_gradient(x, y, chain=chain) for chain in ALL]
        for i, a in enumerate(gradients):
            for b in gradients[i + 1 :]:
                assert not close(a, b, 1e-3)

    @pytest.mark.parametrize("chain", ALL, ids=names)
    def test_class_gradient_follows_the_chain(self, classifier, x, chain):
        classifier.chain = chain
        everything = classifier.class_gradient(x)
        assert everything.shape == (6, 3, 2, 6, 6)
        expected = np.zeros_like(x)
        for weight, part in chain.parts():
            classifier.model.chain = part
            leaf = torch.from_numpy(x).requires_grad_()
            classifier.model(leaf)[:, 1].sum().backward()
            expected += weight * leaf.grad.numpy()
        classifier.chain = chain
        assert close(everything[:, 1], expected)
        assert close(classifier.class_gradient(x, label=1)[:, 0], expected)
        own = np.array([0, 1, 2, 0, 1, 2])
        assert close(classifier.class_gradient(x, label=own)[:, 0], everything[np.arange(6), own])
        assert close(classifier.class_gradient(x, label=list(own))[:, 0], everything[np.arange(6), own])

    def test_tensor_in_tensor_out(self, classifier, x, y):
        got = classifier.loss_gradient(torch.from_numpy(x), torch.from_numpy(y))
        assert isinstance(got, torch.Tensor)
        assert close(got.numpy(), classifier.loss_gradient(x, y))

    def test_index_labels_are_one_hot_labels(self, classifier, x, y):
        assert np.array_equal(classifier.loss_gradient(x, y.argmax(1)), classifier.loss_gradient(x, y))
        assert np.array_equal(classifier.compute_loss(x, y.argmax(1)), classifier.compute_loss(x, y))

    @pytest.mark.parametrize("chain", SHARED, ids=names[:-1])
    @pytest.mark.parametrize("loss_type", ["cross_entropy", "difference_logits_ratio"])
    def test_an_attack_that_rebuilds_the_classifier_follows_the_chain(self, classifier, x, y, chain, loss_type):
        """AutoPGD wraps `estimator.model` in a plain PyTorchClassifier with a loss of its own."""
        classifier.chain = chain
        attack = AutoProjectedGradientDescent(classifier, eps=0.1, loss_type=loss_type, max_iter=3, verbose=False)
        rebuilt = attack.estimator
        assert type(rebuilt) is not PyTorchSNNClassifier and isinstance(rebuilt, PyTorchClassifier)
        got = rebuilt.loss_gradient(x, y)
        leaf = torch.from_numpy(x).requires_grad_()
        rebuilt._loss(classifier.model(leaf), torch.from_numpy(y)).backward()
        assert close(got, leaf.grad.numpy())
        if loss_type == "cross_entropy":
            # ART's loss takes a softmax of a softmax here, so only its own gradient can be compared
            assert np.abs(got).max() > 0
        classifier.chain = "stbp" if not isinstance(chain, STBP) else "bptr"
        assert not close(rebuilt.loss_gradient(x, y), got, 1e-3)

    def test_a_rebuilt_classifier_refuses_what_no_forward_pass_can_follow(self, classifier, x, y):
        classifier.chain = ALL[-1]
        attack = AutoProjectedGradientDescent(classifier, eps=0.1, max_iter=2, loss_type="cross_entropy", verbose=False)
        with pytest.raises(ValueError, match="mixes CBA"):
            attack.estimator.loss_gradient(x, y)

    def test_gradients_pass_through_arts_preprocessing(self, x, y):
        network = nets.build("plain", seed=2)
        defended = wrap(network, preprocessing=(0.5, 0.25))
        plain = wrap(network)
        assert close(defended.loss_gradient(x, y), plain.loss_gradient((x - 0.5) / 0.25, y) / 0.25)

    def test_event_frames(self, y):
        network = nets.build(seed=1, time_steps=4, encoder=EventFrames())
        classifier = wrap(network, input_shape=(4, 2, 6, 6))
        frames = nets.recording(2, 4, 6).float().numpy()
        for chain in ALL:
            assert classifier.loss_gradient(frames, y, chain=chain).shape == frames.shape
        classifier.chain = "hart"
        assert classifier.class_gradient(frames).shape == (6, 3, 4, 2, 6, 6)


class TestHonesty:
    @pytest.mark.parametrize("chain", ALL, ids=names)
    def test_predictions_and_losses_are_the_true_networks(self, classifier, x, y, chain):
        with torch.no_grad():
            logits = classifier.model(torch.from_numpy(x))
        classifier.chain = chain
        assert np.allclose(classifier.predict(x), logits.numpy(), atol=1e-6)
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(y).argmax(1), reduction="none")
        assert np.allclose(classifier.compute_loss(x, y), loss.numpy(), atol=1e-6)
        tensor = classifier.compute_loss(torch.from_numpy(x).requires_grad_(), torch.from_numpy(y), reduction="mean")
        assert float(tensor) == pytest.approx(float(loss.mean()), abs=1e-6)

    @pytest.mark.parametrize("chain", ALL, ids=names)
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("training_mode", [False, True])
    def test_an_attack_leaves_everything_but_the_modes_untouched(self, x, y, chain, training, training_mode):
        """The modes are ART's: see TestModes."""
        network = nets.build("residual", seed=3, extra=nn.Dropout(0.3))
        classifier = wrap(network)
        network.train(training)
        weights = {name: value.clone() for name, value in network.state_dict().items()}
        torch.manual_seed(5)
        state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        classifier.chain = chain

        classifier.loss_gradient(x, y, training_mode=training_mode)
        classifier.class_gradient(x, label=1, training_mode=training_mode)
        FastGradientMethod(classifier, eps=0.1).generate(x, y)
        classifier.compute_loss(x, y)

        for name, value in network.state_dict().items():
            assert torch.equal(value, weights[name]), name
        assert all(parameter.requires_grad for parameter in network.parameters())
        assert all(parameter.grad is None for parameter in network.parameters())
        assert torch.equal(torch.get_rng_state(), state)
        assert np.array_equal(np.random.get_state()[1], numpy_state)
        assert classifier.chain == chain

    def test_poisson_noise_leaves_the_global_random_state(self, x, y):
        classifier = wrap(nets.build(encoder=PoissonEncoder(seed=1)))
        state = torch.get_rng_state()
        first = classifier.loss_gradient(x, y)
        assert torch.equal(torch.get_rng_state(), state)
        assert not np.array_equal(classifier.loss_gradient(x, y), first)
        classifier.model.encoder.freeze()
        assert np.array_equal(classifier.loss_gradient(x, y), classifier.loss_gradient(x, y))

    @pytest.mark.parametrize("chain", ALL, ids=names)
    @pytest.mark.parametrize("frozen", [False, True])
    def test_a_samples_gradient_is_the_same_alone_and_in_any_batch(self, x, y, chain, frozen):
        encoder = None
        if frozen:
            encoder = PoissonEncoder(seed=2)
            encoder.freeze()
        classifier = wrap(nets.build("residual", seed=3, encoder=encoder))
        classifier.model.double()
        classifier.chain = chain
        together = classifier.class_gradient(x.astype(np.float64), label=0)
        for i in (0, 3):
            assert close(classifier.class_gradient(x[i : i + 1].astype(np.float64), label=0), together[i : i + 1], 1e-6)

    def test_same_seed_same_result(self, x, y):
        def gradient() -> np.ndarray:
            return wrap(nets.build(seed=9, encoder=PoissonEncoder(seed=4))).loss_gradient(x, y)

        assert np.array_equal(gradient(), gradient())

    def test_only_the_inputs_gradient_is_computed(self, classifier, x, y):
        for chain in ALL:
            classifier.loss_gradient(x, y, chain=chain)
        for chain in SHARED:
            classifier.chain = chain
            classifier.model(torch.from_numpy(x).requires_grad_()).sum().backward()
        assert all(parameter.grad is None for parameter in classifier.model.parameters())

    def test_fit_trains_by_stbp_whatever_the_chain(self, x, y):
        def trained(chain) -> list[torch.Tensor]:
            network = nets.build(seed=6)
            classifier = wrap(network, chain=chain)
            torch.manual_seed(0)
            classifier.fit(x, y, batch_size=3, nb_epochs=2)
            return [parameter.detach().clone() for parameter in network.parameters()]

        expected = trained("stbp")
        before = list(nets.build(seed=6).float().parameters())
        assert any(not torch.equal(a, b) for a, b in zip(expected, before, strict=True))
        for chain in ("hart", "cba", "rga"):
            assert all(torch.equal(a, b) for a, b in zip(trained(chain), expected, strict=True))

    def test_gradients_do_not_pile_up_memory(self, classifier, x, y):
        def tensors() -> int:
            return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

        gc.disable()
        try:
            classifier.loss_gradient(x, y)
            before = tensors()
            for chain in SHARED:
                classifier.loss_gradient(x, y, chain=chain)
            after = tensors()
        finally:
            gc.enable()
        assert after <= before


class Noisy(nn.Module):
    """Noise that stays on in evaluation mode."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


CALLS = {
    "predict": lambda c, x, y, mode: c.predict(x, training_mode=mode),
    "loss_gradient": lambda c, x, y, mode: c.loss_gradient(x, y, training_mode=mode),
    "class_gradient": lambda c, x, y, mode: c.class_gradient(x, label=0, training_mode=mode),
    "compute_loss": lambda c, x, y, mode: c.compute_loss(x, y),
    "get_activations": lambda c, x, y, mode: c.get_activations(x, 0, 128),
    "_predict_framework": lambda c, x, y, mode: c._predict_framework(torch.from_numpy(x)),
}


class TestModes:
    """Every call leaves the network in the mode in which ART's own classifier leaves its model.

    Attacks that differentiate `estimator.model` themselves rely on it: a network in training mode would be attacked
    with the statistics of the batch.
    """

    @staticmethod
    def plain() -> PyTorchClassifier:
        model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        return PyTorchClassifier(model, nn.CrossEntropyLoss(), (2, 6, 6), 3, optimizer, device_type="cpu")

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("mode", [False, True])
    @pytest.mark.parametrize("before", ["training", "evaluation", "one layer frozen"])
    def test_are_those_that_art_leaves(self, classifier, x, y, call, mode, before):
        left = []
        for victim in (self.plain(), classifier):
            victim.model.train(before != "evaluation")
            if before == "one layer frozen":
                next(m for m in victim.model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
            CALLS[call](victim, x, y, mode)
            left.append({module.training for module in victim.model.modules()})
        assert left[0] == left[1] and len(left[0]) == 1

    def test_the_model_is_attacked_in_evaluation_mode_after_a_prediction(self, x, y):
        network = nets.build("residual", seed=3)
        classifier = wrap(network)
        expected = own_gradient(classifier, x, y, HART())
        statistics = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
        network.train()
        classifier.predict(x)
        assert np.array_equal(own_gradient(classifier, x, y, HART()), expected)
        assert all(torch.equal(network.state_dict()[name], value) for name, value in statistics.items())

    def test_construction_leaves_them(self):
        network = nets.build("residual", seed=3).train()
        network.body[1].eval()
        modes = [module.training for module in network.modules()]
        wrap(network)
        assert [module.training for module in network.modules()] == modes


class TestState:
    def test_chain_is_a_parameter(self, classifier):
        classifier.set_params(chain=RGA())
        assert classifier.get_params()["chain"] == classifier.chain == classifier.model.chain == RGA()
        classifier.set_params(chain="stbp")
        assert classifier.chain == STBP()

    def test_the_networks_chain_is_the_default(self):
        network = nets.build()
        network.chain = "rga"
        assert wrap(network).chain == RGA()
        assert wrap(network, chain=HART(0.4)).chain == HART(0.4)

    @pytest.mark.parametrize("twin", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))], ids=["copy", "pickle"])
    def test_copies_keep_chain_weights_and_optimizer(self, classifier, x, y, twin, tmp_path, monkeypatch):
        from art import config

        monkeypatch.setattr(config, "ART_DATA_PATH", str(tmp_path))
        classifier.chain = HART(0.6)
        other = twin(classifier)
        assert other.chain == HART(0.6) and other.device == classifier.device
        assert np.array_equal(other.predict(x), classifier.predict(x))
        assert np.array_equal(other.loss_gradient(x, y), classifier.loss_gradient(x, y))
        other.chain = "rga"
        before = classifier.predict(x)
        other.fit(x, y, nb_epochs=1)
        assert classifier.chain == HART(0.6)
        assert np.array_equal(classifier.predict(x), before)
        assert not np.array_equal(other.predict(x), before)
        assert list(tmp_path.iterdir()) == []  # nothing left on disk

    def test_save_and_load(self, classifier, x, tmp_path):
        classifier.save("snn", path=str(tmp_path))
        fresh = wrap(nets.build("residual", seed=8))
        assert not np.array_equal(fresh.predict(x), classifier.predict(x))
        fresh.model.load_state_dict(torch.load(tmp_path / "snn.model", weights_only=True))
        assert np.array_equal(fresh.predict(x), classifier.predict(x))

    def test_clone_for_refitting_has_fresh_weights_and_the_same_settings(self, classifier, x, y):
        classifier.chain = HART(0.6)
        clone = classifier.clone_for_refitting()
        assert clone.chain == HART(0.6) and clone.device == classifier.device
        assert np.array_equal(clone.clip_values, classifier.clip_values)
        assert clone.model.time_steps == classifier.model.time_steps
        assert not np.array_equal(clone.predict(x), classifier.predict(x))
        before = classifier.predict(x)
        clone.fit(x, y, nb_epochs=1)
        assert np.array_equal(classifier.predict(x), before)

    def test_compiled_networks_run_eagerly_and_right(self, classifier, x, y):
        compiled = PyTorchSNNClassifier(
            torch.compile(classifier.model), nn.CrossEntropyLoss(), (2, 6, 6), 3, device_type="cpu"
        )
        assert compiled.model is classifier.model
        assert np.array_equal(compiled.loss_gradient(x, y), classifier.loss_gradient(x, y))

    def test_compiling_the_classifiers_model_gives_the_same_gradient(self, classifier, x, y):
        compiled = torch.compile(classifier.model)
        leaf = torch.from_numpy(x).requires_grad_()
        logits = compiled(leaf)
        nn.functional.cross_entropy(logits, torch.from_numpy(y).argmax(1)).backward()
        assert np.array_equal(logits.detach().numpy(), classifier.predict(x))
        assert close(leaf.grad.numpy(), classifier.loss_gradient(x, y))


class CountedHART(HART):
    gains = 0

    def gain(self, trace):
        type(self).gains += trace.spikes.shape[1] > 1  # a comparison looks at a single sample
        return super().gain(trace)


class TestTrainingChain:
    @pytest.mark.parametrize("how", ["fit", "fit_generator"])
    def test_decides_the_weights_gradient_of_one_call(self, how, x, y):
        def trained(**kwargs):
            classifier = wrap(nets.build("residual", seed=3))
            before = classifier.model.training_chain
            torch.manual_seed(0)
            if how == "fit":
                classifier.fit(x, y, batch_size=3, nb_epochs=2, **kwargs)
            else:
                data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
                loader = torch.utils.data.DataLoader(data, batch_size=3)
                classifier.fit_generator(PyTorchDataGenerator(loader, 6, 3), nb_epochs=2, **kwargs)
            assert classifier.model.training_chain is before and not classifier.model.training
            return classifier.predict(x)

        CountedHART.gains = 0
        by_hart, by_stbp = trained(training_chain=CountedHART(0.8)), trained()
        layers = sum(isinstance(module, LIF) for module in nets.build("residual").modules())
        assert CountedHART.gains == layers * 2 * 2
        assert not np.array_equal(by_hart, by_stbp)
        assert np.array_equal(trained(training_chain="stbp"), by_stbp)

    def test_is_restored_after_an_error(self, classifier, x, y):
        with pytest.raises(ValueError, match="CBA"):
            classifier.fit(x, y, training_chain=CBA())
        assert isinstance(classifier.model.training_chain, STBP)


class TestActivations:
    def test_are_the_layers_outputs_averaged_over_time(self, classifier, x):
        network = classifier.model
        seen = {}
        handles = [
            module.register_forward_hook(lambda _m, _a, out, name=name: seen.__setitem__(name, out))
            for name, module in network.named_modules()
            if name in classifier.layer_names
        ]
        with torch.no_grad():
            network.eval()(torch.from_numpy(x))
        for handle in handles:
            handle.remove()
        assert set(seen) == set(classifier.layer_names)
        for index, name in enumerate(classifier.layer_names):
            out = seen[name]
            over_time = out.unflatten(0, (-1, len(x))).mean(0) if len(out) > len(x) else out
            got = classifier.get_activations(x, name, 4)
            assert got.shape == over_time.shape
            assert np.allclose(got, over_time.numpy(), atol=1e-6)
            assert np.array_equal(got, classifier.get_activations(x, index, 4))

    @pytest.mark.parametrize("chain", [HART(0.7), STBP(), RGA()])
    def test_are_differentiable_along_the_chain(self, classifier, x, chain):
        """The last layer's activations are the logits."""
        classifier.chain = chain
        leaf = torch.from_numpy(x).requires_grad_()
        last = classifier.get_activations(leaf, classifier.layer_names[-1], framework=True)
        (got,) = torch.autograd.grad(last.sum(), leaf)
        expected = classifier.class_gradient(x).sum(1)
        assert close(got.numpy(), expected)

    @pytest.mark.parametrize("layer", [-99, 99, "encoder", "nowhere", None, 1.5])
    def test_an_unknown_layer_is_named(self, classifier, x, layer):
        with pytest.raises(ValueError, match="layer must be one of"):
            classifier.get_activations(x, layer)


class TestGradientSamples:
    @pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
    def test_out_of_range_is_named(self, wrong):
        with pytest.raises(ValueError, match="gradient_samples"):
            wrap(nets.build(), gradient_samples=wrong)

    def test_are_kept_by_copies(self):
        classifier = wrap(nets.build(), gradient_samples=3)
        for twin in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
            assert twin.gradient_samples == 3
        assert classifier.get_params()["gradient_samples"] == 3

    def test_without_noise_there_is_nothing_to_average(self, x, y):
        one, three = wrap(nets.build("residual", seed=3)), wrap(nets.build("residual", seed=3), gradient_samples=3)
        assert np.array_equal(one.loss_gradient(x, y), three.loss_gradient(x, y))


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model": nn.Linear(2, 2)}, "model must be an art_snn.SpikingNetwork"),
            ({"input_shape": (0, 6, 6)}, "input_shape"),
            ({"input_shape": ()}, "input_shape"),
            ({"nb_classes": 1}, "nb_classes"),
            ({"nb_classes": 2.5}, "nb_classes"),
            ({"chain": "bptt"}, "chain"),
        ],
    )
    def test_constructor(self, change, message):
        arguments = {
            "model": nets.build(),
            "loss": nn.CrossEntropyLoss(),
            "input_shape": (2, 6, 6),
            "nb_classes": 3,
            "device_type": "cpu",
            **change,
        }
        with pytest.raises((TypeError, ValueError), match=message):
            PyTorchSNNClassifier(**arguments)

    def test_event_frames_must_have_one_frame_a_step(self):
        with pytest.raises(ValueError, match="one event frame per time step"):
            wrap(nets.build(time_steps=4, encoder=EventFrames()), input_shape=(5, 2, 6, 6))

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (np.zeros((2, 1, 6, 6), np.float32), r"x must have shape \(N, 2, 6, 6\)"),
            (np.zeros((0, 2, 6, 6), np.float32), "N >= 1"),
            (np.zeros((2, 6, 6), np.float32), "x must have shape"),
        ],
    )
    def test_inputs(self, classifier, y, bad, message):
        with pytest.raises(ValueError, match=message):
            classifier.predict(bad)
        self.check_differentiated(classifier, y, bad, message)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_inputs_that_are_not_finite_have_no_gradient_and_no_loss(self, classifier, y, value):
        self.check_differentiated(classifier, y, np.full((2, 2, 6, 6), value, np.float32), "finite")

    def check_differentiated(self, classifier, y, bad, message):
        for call in (
            lambda: classifier.loss_gradient(bad, y[: len(bad)]),
            lambda: classifier.class_gradient(bad),
            lambda: classifier.compute_loss(torch.from_numpy(bad), torch.from_numpy(y[: len(bad)])),
        ):
            with pytest.raises(ValueError, match=message):
                call()
        with pytest.raises(TypeError, match="x must be a numpy array"):
            classifier.compute_loss("image", y)

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (np.array([0, 1, 2, 3, 0, 0]), "from 0 to 2"),
            (np.array([0, 1, 2, -1, 0, 0]), "from 0 to 2"),
            (np.array([0, 1, 2, 0.5, 0, 0]), "from 0 to 2"),
            (np.zeros((5,)), "one-hot labels"),
            (np.zeros((6, 4)), "one-hot labels"),
            (np.full((6, 3), np.nan), "finite"),
        ],
    )
    def test_labels(self, classifier, x, bad, message):
        with pytest.raises(ValueError, match=message):
            classifier.loss_gradient(x, bad)
        with pytest.raises(ValueError, match=message):
            classifier.compute_loss(x, bad)
        with pytest.raises(TypeError, match="y must be a numpy array"):
            classifier.loss_gradient(x, [0] * 6)

    def test_failed_call_leaves_the_chain(self, classifier, x, y):
        classifier.chain = RGA()
        classifier.model.gradient_route = "collapsed"
        with pytest.raises(ValueError, match="cannot be taken"):
            classifier.loss_gradient(x, y, chain="stbp")
        assert classifier.chain == RGA()

    def test_float64_and_integers_are_taken(self, classifier, x, y):
        assert np.allclose(classifier.predict(x.astype(np.float64)), classifier.predict(x), atol=1e-5)
        assert classifier.predict((x > 0.5).astype(np.int64)).shape == (6, 3)
        assert classifier.predict(x > 0.5).shape == (6, 3)

    @pytest.mark.parametrize("claimed", [2, 4, 12])
    def test_nb_classes_is_the_number_of_the_networks_outputs(self, claimed):
        with pytest.raises(
            ValueError, match=f"nb_classes must be the number of the network's outputs, 3, got {claimed}"
        ):
            PyTorchSNNClassifier(nets.build().float(), nn.CrossEntropyLoss(), (2, 6, 6), claimed, device_type="cpu")

    def test_nb_classes_is_compared_when_it_is_set_and_behind_a_defence(self, classifier, x):
        with pytest.raises(ValueError, match="nb_classes"):
            classifier.set_params(nb_classes=5)
        network = nets.build().float()
        defence = GaussianAugmentation(sigma=0.1, augmentation=False, apply_predict=True)
        defended = PyTorchSNNClassifier(
            network, nn.CrossEntropyLoss(), (2, 6, 6), 5, preprocessing_defences=defence, device_type="cpu"
        )
        with pytest.raises(ValueError, match="nb_classes"):
            defended.predict(x)
        with pytest.raises(ValueError, match="nb_classes"):
            defended.loss_gradient(x, np.eye(5, dtype=np.float32)[[0] * 6])

    def test_an_input_shape_that_the_network_does_not_take_is_named(self):
        with pytest.raises(ValueError, match=r"input_shape \(2, 7, 9\)"):
            wrap(nets.build(), input_shape=(2, 7, 9))

    def test_construction_changes_nothing(self):
        noise = nn.Sequential(nn.Dropout(0.3), Noisy())
        network = nets.build("residual", seed=3, encoder=PoissonEncoder(seed=1), extra=noise).float().train()

        def state():
            values = {name: value.clone() for name, value in network.state_dict().items()}
            return values, network.draws, network.route, [module.training for module in network.modules()]

        before, random_state, numpy_state = state(), torch.get_rng_state(), np.random.get_state()[1].copy()
        wrap(network)
        after = state()
        assert all(torch.equal(before[0][name], value) for name, value in after[0].items())
        assert before[1:] == after[1:]
        assert torch.equal(torch.get_rng_state(), random_state)
        assert np.array_equal(np.random.get_state()[1], numpy_state)

    @pytest.mark.parametrize(
        "loss",
        [
            nn.CrossEntropyLoss(reduction="none"),
            nn.BCEWithLogitsLoss(reduction="none"),
            lambda logits, y: logits[:, 0] - logits[:, 1],
        ],
        ids=["cross-entropy", "binary cross-entropy", "a function"],
    )
    def test_a_loss_that_is_no_single_number_is_refused(self, classifier, loss):
        with pytest.raises(ValueError, match="loss must give one number"):
            PyTorchSNNClassifier(classifier.model, loss, (2, 6, 6), 3, device_type="cpu")

    def test_a_loss_that_is_no_single_number_is_refused_later_too(self, classifier):
        with pytest.raises(ValueError, match="loss must give one number"):
            classifier.set_params(loss=nn.CrossEntropyLoss(reduction="none"))

    def test_a_failed_loss_leaves_its_reduction(self, classifier, x, y):
        with pytest.raises(ValueError, match="fault"):
            classifier.compute_loss(x, y, reduction="fault")
        assert classifier.loss.reduction == "mean"

    @pytest.mark.parametrize("std", [0.0, -0.5, np.nan, np.inf, 1e-60, np.array([0.5, 0.0])], ids=str)
    def test_a_std_that_cannot_divide_is_refused(self, std):
        with pytest.raises(ValueError, match=r"preprocessing=\(mean, std\): std must hold finite numbers > 0"):
            wrap(nets.build(), preprocessing=(np.zeros_like(std), std))

    def test_a_mean_that_is_not_finite_is_refused(self, classifier):
        with pytest.raises(ValueError, match=r"preprocessing=\(mean, std\): mean must hold finite numbers"):
            wrap(nets.build(), preprocessing=(np.nan, 1.0))
        with pytest.raises(ValueError, match="std must hold finite numbers > 0"):
            classifier.set_params(preprocessing=(0.0, 0.0))

    @pytest.mark.parametrize("label", [3, -1, 0.5, True, [0, 1, 2, 3, 0, 0], [0, -1, 0, 0, 0, 0], [0, 1], [0.5] * 6])
    def test_class_labels(self, classifier, x, label):
        with pytest.raises(ValueError, match="label must be"):
            classifier.class_gradient(x, label=label)

    @pytest.mark.parametrize("kind", [np.complex64, "U3"])
    def test_inputs_that_are_no_real_numbers(self, classifier, kind):
        with pytest.raises(TypeError, match="x must hold real numbers"):
            classifier.predict(np.ones((1, 2, 6, 6)).astype(kind))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu():
    x, y = nets.image(7, 6).float().numpy(), np.arange(6) % 3
    on_cpu = wrap(nets.build("residual", seed=3))
    network = nets.build("residual", seed=3).float()
    on_gpu = PyTorchSNNClassifier(network, nn.CrossEntropyLoss(), (2, 6, 6), 3, device_type="gpu")
    assert on_gpu.device.type == "cuda"
    for chain in ALL:
        assert close(on_gpu.loss_gradient(x, y, chain=chain), on_cpu.loss_gradient(x, y, chain=chain), 1e-3)
    assert LIF().simulate(torch.rand(3, 2, 2, device="cuda")).is_cuda


def reversed_(values: np.ndarray, *axes: int) -> np.ndarray:
    """The same numbers, as a view of memory read backwards."""
    where = tuple(slice(None, None, -1) if axis in axes else slice(None) for axis in range(values.ndim))
    view = np.ascontiguousarray(values[where])[where]
    assert np.array_equal(view, values)
    return view


def read_only(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flags.writeable = False
    return values


LAYOUTS = {
    "first axis reversed": lambda values: reversed_(values, 0),
    "last axis reversed": lambda values: reversed_(values, values.ndim - 1),
    "all axes reversed": lambda values: reversed_(values, *range(values.ndim)),
    "every other": lambda values: np.repeat(values, 2, axis=0)[::2],
    "big-endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "read-only": read_only,
    "Fortran order": np.asfortranarray,
    "long double": lambda values: values.astype(np.longdouble),
    "half": lambda values: values.astype(np.float16),
}


class TestArrays:
    """Inputs and labels of every layout and kind give what plain ones give."""

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize(("preprocessing", "samples"), [((0.0, 1.0), 6), (None, 1)], ids=["standardised", "raw"])
    def test_layouts(self, x, y, layout, preprocessing, samples):
        x, y = x[:samples].astype(np.float16).astype(np.float32), y[:samples]
        index = y.argmax(1)

        def results(x, y, index):
            classifier = wrap(nets.build(seed=3), preprocessing=preprocessing)
            yield classifier.predict(x)
            yield classifier.loss_gradient(x, y)
            yield classifier.loss_gradient(x, index)
            yield classifier.class_gradient(x, label=index)
            yield classifier.compute_loss(x, y)
            yield classifier.get_activations(x, 2, 4)
            yield FastGradientMethod(classifier, eps=0.1).generate(x, y)
            yield ProjectedGradientDescent(classifier, eps=0.1, eps_step=0.05, max_iter=2, verbose=False).generate(x, y)
            torch.manual_seed(0)
            classifier.fit(x, y, nb_epochs=1)
            yield classifier.predict(x)

        change = LAYOUTS[layout]
        labels = index if layout in ("long double", "half") else change(index)
        for got, expected in zip(results(change(x), change(y), labels), results(x, y, index), strict=True):
            assert np.allclose(got, expected, atol=1e-6), layout

    def test_an_axis_of_length_one_read_backwards(self, classifier, x, y):
        """A contiguous copy of it is itself."""
        one, label = x[:1][::-1], y[:1][::-1]
        assert one.strides[0] < 0 and np.ascontiguousarray(one).strides[0] < 0
        assert np.array_equal(classifier.predict(one), classifier.predict(x[:1]))
        assert np.array_equal(classifier.loss_gradient(one, label), classifier.loss_gradient(x[:1], y[:1]))

    @pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("form", ["one-hot", "indices", "column"])
    @pytest.mark.parametrize("tensors", ["x", "y", "both", "neither"])
    def test_labels_of_every_kind(self, classifier, x, y, kind, form, tensors):
        if kind is bool and form != "one-hot":
            pytest.skip("indices are numbers")
        expected = classifier.loss_gradient(x, y), classifier.compute_loss(x, y)
        labels = {"one-hot": y, "indices": y.argmax(1), "column": y.argmax(1)[:, None]}[form].astype(kind)
        inputs = torch.from_numpy(x) if tensors in ("x", "both") else x
        labels = torch.from_numpy(labels) if tensors in ("y", "both") else labels
        gradient, loss = classifier.loss_gradient(inputs, labels), classifier.compute_loss(inputs, labels)
        assert type(gradient) is type(inputs) and type(loss) is type(inputs)
        assert np.array_equal(np.asarray(gradient), expected[0])
        assert np.array_equal(np.asarray(loss), expected[1])

    @pytest.mark.parametrize("kind", [bool, np.int64, np.float64])
    @pytest.mark.parametrize("tensors", [False, True])
    def test_fit_takes_them_too(self, x, y, kind, tensors):
        def trained(x, y):
            classifier = wrap(nets.build("residual", seed=3))
            torch.manual_seed(0)
            classifier.fit(x, y, nb_epochs=1)
            return classifier.predict(nets.image(7, 6).float().numpy())

        labels = y.astype(kind)
        inputs, labels = (torch.from_numpy(x), torch.from_numpy(labels)) if tensors else (x, labels)
        assert np.array_equal(trained(inputs, labels), trained(x, y))

    @pytest.mark.parametrize("double", [False, True])
    def test_probabilities_as_labels_are_in_the_networks_type(self, classifier, x, double):
        labels = np.full((6, 3), [0.5, 0.3, 0.2])
        if double:
            classifier.model.double()
            x = x.astype(np.float64)
        expected = classifier.loss_gradient(torch.from_numpy(x), torch.from_numpy(labels))
        assert np.array_equal(classifier.loss_gradient(x, labels.astype(np.float64)), expected.numpy())


class TestNoGrad:
    """A gradient that is asked for is taken, whatever the mode of the caller, and is the same number."""

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    @pytest.mark.parametrize("chain", ALL, ids=names)
    def test_gradients(self, classifier, x, y, mode, chain):
        expected = classifier.loss_gradient(x, y, chain=chain), classifier.class_gradient(x, label=1, chain=chain)
        with mode():
            assert np.array_equal(classifier.loss_gradient(x, y, chain=chain), expected[0])
            assert np.array_equal(classifier.class_gradient(x, label=1, chain=chain), expected[1])
            tensors = torch.from_numpy(x).clone(), torch.from_numpy(y).clone()
            assert np.array_equal(classifier.loss_gradient(*tensors, chain=chain).numpy(), expected[0])
            assert not torch.is_grad_enabled() and torch.is_inference_mode_enabled() == (mode is torch.inference_mode)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_attacks_training_and_activations(self, x, y, mode):
        def results(classifier):
            yield FastGradientMethod(classifier, eps=0.1).generate(x, y)
            attack = ProjectedGradientDescent(classifier, eps=0.1, eps_step=0.05, max_iter=3, verbose=False)
            yield attack.generate(x, y)
            name = classifier.layer_names[2]
            yield classifier.custom_loss_gradient(lambda difference, p: difference.norm(p=p), x, x[::-1], name)
            torch.manual_seed(0)
            classifier.fit(x, y, nb_epochs=1)
            yield classifier.predict(x)

        expected = list(results(wrap(nets.build("residual", seed=3))))
        classifier = wrap(nets.build("residual", seed=3))
        with mode():
            got = list(results(classifier))
        assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


class TestNotFinite:
    """ART's attacks can divide by zero; what they make of that must never look like an answer."""

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_rows_get_nan_and_the_others_what_they_always_get(self, classifier, x, caplog, value):
        broken = x.copy()
        broken[1, 0, 2, 2] = broken[4] = value
        with caplog.at_level(logging.WARNING, logger="art_snn"):
            first, again = classifier.predict(broken), classifier.predict(broken, batch_size=2)
        assert np.isnan(first[[1, 4]]).all() and np.isnan(again[[1, 4]]).all()
        rest = [0, 2, 3, 5]
        assert np.array_equal(first[rest], classifier.predict(x)[rest])
        (record,) = caplog.records
        assert "2 of 6" in record.getMessage() and record.name.startswith("art_snn")

    def test_defences_never_make_them_look_finite(self, x):
        broken = x.copy()
        broken[1] = np.nan
        for defence in ([Softmax(), ClassLabels()], [Softmax(), Rounded()]):
            got = wrap(nets.build(), postprocessing_defences=defence).predict(broken)
            assert np.isnan(got[1]).all() and np.isfinite(np.delete(got, 1, 0)).all()

    @pytest.mark.parametrize("encoder", [None, PoissonEncoder(seed=1)], ids=["direct", "poisson"])
    def test_the_network_itself_says_so_too(self, x, encoder):
        """Some attacks call `estimator.model`."""
        network = nets.build(encoder=encoder).float()
        classifier = wrap(network)
        broken = torch.from_numpy(x.copy())
        broken[1, 0, 0, 0] = torch.nan
        for logits in (network(broken).detach(), classifier._predict_framework(broken)[0].detach()):
            assert torch.isnan(logits[1]).all() and torch.isfinite(logits[[0, 2, 3, 4, 5]]).all()
        with torch.no_grad():
            assert torch.isnan(network(broken)[1]).all()

    def test_infinity_before_a_poisson_encoder_ends_nothing_for_the_others(self, x):
        classifier = wrap(nets.build(encoder=PoissonEncoder(seed=1)))
        broken = x.copy()
        broken[0], broken[1, 0] = np.inf, -np.inf
        with classifier.model.encoder.frozen():
            got, expected = classifier.predict(broken), classifier.predict(x)
        assert np.isnan(got[:2]).all() and np.array_equal(got[2:], expected[2:])

    def test_what_shares_its_statistics_with_them_has_no_answer_either(self, x):
        network = nets.build("residual", seed=3).float().train()
        broken = torch.from_numpy(x.copy())
        broken[1, 0, 0, 0] = torch.nan
        assert torch.isnan(network(broken)).all()

    def test_a_frame_of_a_recording(self):
        classifier = wrap(nets.build(seed=1, time_steps=4, encoder=EventFrames()), input_shape=(4, 2, 6, 6))
        frames = nets.recording(2, 4, 3).float().numpy()
        expected = classifier.predict(frames)
        frames[2, 3, 1, 0, 0] = np.nan
        got = classifier.predict(frames)
        assert np.isnan(got[2]).all() and np.array_equal(got[:2], expected[:2])


def binary(kind: str, loss: nn.Module) -> PyTorchClassifier:
    """A network of one output, spiking or plain."""
    network = nets.build(seed=5).float()
    body = network.body[:-1]
    torch.manual_seed(5)
    body.append(nn.Linear(36, 1))
    if isinstance(loss, nn.BCELoss):
        body.append(nn.Sigmoid())
    if kind == "plain":
        model = nn.Sequential(*(nn.ReLU() if isinstance(layer, LIF) else layer for layer in body))
    else:
        model = SpikingNetwork(body, 4)
    model.eval()
    made = PyTorchSNNClassifier if kind == "spiking" else PyTorchClassifier
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    return made(model, loss, (2, 6, 6), 2, optimizer, clip_values=(0.0, 1.0), device_type="cpu")


@pytest.mark.parametrize("loss", [nn.BCELoss(), nn.BCEWithLogitsLoss()], ids=["BCE", "BCEWithLogits"])
class TestBinary:
    """A network of one output with two classes does what it does in ART's own classifier."""

    y = np.array([0, 1, 1, 0, 1, 0])

    @pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32, np.float64])
    @pytest.mark.parametrize("how", ["loss_gradient", "compute_loss", "fit", "pgd"])
    def test_takes_the_labels_that_a_plain_classifier_takes(self, x, loss, kind, how):
        y = self.y.astype(kind)
        forms = {"column": y[:, None], "indices": y, "one-hot": np.eye(2)[self.y].astype(kind)}
        results = {}
        for name, labels in forms.items():
            plain, spiking = binary("plain", loss), binary("spiking", loss)
            try:
                expected = self.run(plain, how, x, labels)
            except Exception:
                expected = None
            results[name] = self.run(spiking, how, x, labels)
            if expected is not None:
                assert results[name].shape == expected.shape
        assert np.array_equal(results["column"], results["indices"])
        assert np.array_equal(results["column"], results["one-hot"])

    @staticmethod
    def run(classifier, how, x, y):
        torch.manual_seed(0)
        if how == "fit":
            classifier.fit(x, y, nb_epochs=2)
            return classifier.predict(x)
        if how == "pgd":
            attack = ProjectedGradientDescent(classifier, eps=0.3, eps_step=0.1, max_iter=3, verbose=False)
            return attack.generate(x, y)
        return getattr(classifier, how)(x, y)

    def test_shapes(self, x, loss):
        plain, spiking = binary("plain", loss), binary("spiking", loss)
        assert spiking.predict(x).shape == plain.predict(x).shape == (6, 1)
        for label in (None, 0, np.zeros(6, int)):
            got = spiking.class_gradient(x, label=label)
            assert got.shape == plain.class_gradient(x, label=label).shape == (6, 1, 2, 6, 6)
            assert np.abs(got).max() > 0
        with pytest.raises(ValueError, match="label must be"):
            spiking.class_gradient(x, label=1)

    def test_the_gradient_is_the_networks_own(self, x, loss):
        spiking, y = binary("spiking", loss), self.y.astype(np.float32)[:, None]
        leaf = torch.from_numpy(x).requires_grad_()
        loss(spiking.model(leaf), torch.from_numpy(y)).backward()
        assert np.abs(leaf.grad.numpy()).max() > 0
        assert close(spiking.loss_gradient(x, y), leaf.grad.numpy())
        assert close(spiking.loss_gradient(torch.from_numpy(x), torch.from_numpy(y)).numpy(), leaf.grad.numpy())

    def test_tensors_have_a_loss_too(self, x, loss):
        spiking, y = binary("spiking", loss), self.y[:, None]
        got = spiking.compute_loss(torch.from_numpy(x), torch.from_numpy(y))
        assert isinstance(got, torch.Tensor) and np.array_equal(got.numpy(), spiking.compute_loss(x, y))

    def test_an_attack_raises_the_loss(self, x, loss):
        spiking, y = binary("spiking", loss), self.y[:, None]
        adversarial = self.run(spiking, "pgd", x, y)
        assert spiking.compute_loss(adversarial, y).mean() > spiking.compute_loss(x, y).mean()

    def test_soft_labels_have_a_gradient_and_are_refused_where_art_would_round_them(self, x, loss):
        spiking, y = binary("spiking", loss), np.full((6, 1), 0.3, np.float32)
        assert np.abs(spiking.loss_gradient(x, y)).max() > 0
        for call in (spiking.fit, spiking.compute_loss):
            with pytest.raises(ValueError, match="0 or 1"):
                call(x, y)

    def test_labels_out_of_range(self, x, loss):
        with pytest.raises(ValueError, match="y must"):
            binary("spiking", loss).loss_gradient(x, np.full((6, 1), 2.0))


def test_one_output_needs_a_binary_loss(x):
    """A cross-entropy over one logit is always 0."""
    with pytest.raises(ValueError, match="one output"):
        binary("spiking", nn.CrossEntropyLoss()).loss_gradient(x, np.zeros((6, 1)))
