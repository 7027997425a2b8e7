"""The estimator keeps the rules that keep results honest."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoProjectedGradientDescent, FastGradientMethod
from art.data_generators import PyTorchDataGenerator
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_snn import LIF, EventFrames, PoissonEncoder, PyTorchSNNClassifier, SpikingNetwork
from art_snn.chains import BPTR, CBA, HART, RGA, STBP, Mixed, Rate
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
    def test_an_attack_leaves_everything_untouched(self, x, y, chain, training, training_mode):
        network = nets.build("residual", seed=3, extra=nn.Dropout(0.3))
        classifier = wrap(network)
        network.train(training)
        network.body[1].eval()  # a mode of one layer only
        modes = [module.training for module in network.modules()]
        weights = {name: value.clone() for name, value in network.state_dict().items()}
        torch.manual_seed(5)
        state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        classifier.chain = chain

        classifier.loss_gradient(x, y, training_mode=training_mode)
        classifier.class_gradient(x, label=1, training_mode=training_mode)
        FastGradientMethod(classifier, eps=0.1).generate(x, y)
        classifier.compute_loss(x, y)

        assert [module.training for module in network.modules()] == modes
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
            (np.full((2, 2, 6, 6), np.nan, np.float32), "finite"),
            (np.full((2, 2, 6, 6), np.inf, np.float32), "finite"),
        ],
    )
    def test_inputs(self, classifier, y, bad, message):
        for call in (
            lambda: classifier.predict(bad),
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
