"""The networks: their shapes, their twins without spikes, conversion, and their files."""

import hashlib
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from art_snn import LIF, DirectEncoder, EventFrames, PoissonEncoder, PyTorchSNNClassifier, SpikingNetwork, models
from art_snn.models.conversion import ConvertedReLU
from art_snn.models.normalise import Normalise
from art_snn.models.storage import CIFAR_MEAN, CIFAR_STD
from art_snn.neurons import IF, SpikingLayer

SCHEMA_1 = Path(__file__).parent / "schema1"
SHAPES = {"small_cnn": (1, 8, 8), "vgg11": (3, 32, 32), "resnet17": (3, 32, 32), "vgg_dvs": (2, 48, 48)}
SMALL = {"small_cnn": 0.25, "vgg11": 0.05, "resnet17": 0.1, "vgg_dvs": 0.05}


class Memory(TorchDispatchMode):
    """The bytes of the largest tensor that an operation makes on the CPU."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.device.type == "cpu":
            self.most = max(self.most, out.nbytes)
        return out


def inputs(name: str, batch: int = 2, time_steps: int = 3) -> torch.Tensor:
    frames = (time_steps,) if name == "vgg_dvs" else ()
    return torch.rand(batch, *frames, *SHAPES[name], generator=torch.Generator().manual_seed(0))


def small(name: str, **kwargs):
    torch.manual_seed(0)
    return getattr(models, name)(width=SMALL[name], time_steps=3, **kwargs)


def layers(network: nn.Module, kind: type) -> list:
    return [module for module in network.modules() if isinstance(module, kind)]


def test_vgg11_is_the_papers():
    network = models.vgg11()
    channels = [(conv.in_channels, conv.out_channels) for conv in layers(network, nn.Conv2d)]
    expected = [64, 128, 256, 512, 512, 512, 512, 512]
    assert channels == list(zip([3, *expected[:-1]], expected, strict=True))
    assert [(one.in_features, one.out_features) for one in layers(network, nn.Linear)] == [
        (8192, 4096),
        (4096, 4096),
        (4096, 10),
    ]
    assert len(layers(network, LIF)) == 10 and len(layers(network, nn.AvgPool2d)) == 3


def test_resnet17_is_the_papers():
    network = models.resnet17()
    straight = [conv for conv in layers(network, nn.Conv2d) if conv.kernel_size == (3, 3)]
    assert [conv.out_channels for conv in straight] == [64] * 7 + [128] * 8
    assert [index for index, conv in enumerate(straight) if conv.stride == (2, 2)] == [1, 7]
    shortcuts = [conv for conv in layers(network, nn.Conv2d) if conv.kernel_size == (1, 1)]
    assert [(conv.in_channels, conv.out_channels, conv.stride[0]) for conv in shortcuts] == [(64, 64, 2), (64, 128, 2)]
    assert [(one.in_features, one.out_features) for one in layers(network, nn.Linear)] == [(2048, 256), (256, 10)]
    assert len(layers(network, LIF)) == 15
    assert len(straight) + len(layers(network, nn.Linear)) == 17


def test_vgg_dvs_is_the_papers():
    network = models.vgg_dvs()
    assert [conv.out_channels for conv in layers(network, nn.Conv2d)] == [64, 128, 256, 256, 512, 512, 512, 512]
    assert [(one.in_features, one.out_features) for one in layers(network, nn.Linear)] == [(512 * 9, 10)]
    assert isinstance(network.encoder, EventFrames) and network.time_steps == 10


def outline(network: nn.Module) -> str:
    """Channels of convolutions with batch norm and spikes, and P for a pool, in their order."""
    kinds = {nn.Conv2d: "C", nn.BatchNorm2d: "B", LIF: "S", nn.AvgPool2d: "P", nn.Linear: "L"}
    return "".join(kinds.get(type(module), "") for module in network.body)


def test_layers_stand_in_the_papers_order():
    c = "CBS"
    assert outline(models.vgg11()) == f"{c}P{c}{c}P{c}{c}{c}P{c}{c}LSLSL"
    assert outline(models.vgg_dvs()) == f"{c}{c}P{c}{c}P{c}{c}P{c}{c}PL"
    for name in ("vgg11", "vgg_dvs", "resnet17"):
        convolutions = layers(getattr(models, name)(), nn.Conv2d)
        shortcuts = [conv for conv in convolutions if conv.kernel_size == (1, 1)]
        assert len(shortcuts) == (2 if name == "resnet17" else 0)
        assert {conv.kernel_size for conv in convolutions if conv not in shortcuts} == {(3, 3)}
    residual = models.resnet17()
    assert len(layers(residual, nn.BatchNorm2d)) == len(layers(residual, nn.Conv2d))
    assert [type(module) for module in residual.body[-3:]] == [nn.Linear, nn.BatchNorm1d, nn.Linear]


@pytest.mark.parametrize("name", SHAPES)
class TestEveryNetwork:
    def test_gives_logits_and_collapses(self, name):
        network = small(name).eval()
        x = inputs(name).requires_grad_()
        logits = network(x)
        logits.sum().backward()
        assert logits.shape == (2, 10)
        assert network.route.name == "collapsed"

    def test_has_a_twin_without_spikes(self, name):
        network, twin = small(name), small(name, spiking=False)
        assert twin(inputs(name)).shape == (2, 10)
        assert not layers(twin, SpikingLayer)
        assert len(layers(twin, nn.ReLU)) == len(layers(network, LIF))
        assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in network.parameters())

    def test_scales_with_width(self, name):
        more = getattr(models, name)(width=2 * SMALL[name])
        assert sum(p.numel() for p in more.parameters()) > sum(p.numel() for p in small(name).parameters())

    def test_passes_its_neurons_on(self, name):
        network = small(name, decay=0.5, threshold=0.7, reset="soft")
        assert {(lif.decay, lif.threshold, lif.reset) for lif in layers(network, LIF)} == {(0.5, 0.7, "soft")}

    @pytest.mark.parametrize(
        "wrong", [{"input_shape": (3, 30, 31)}, {"input_shape": (3, 32)}, {"nb_classes": 1}, {"width": 0}]
    )
    def test_refuses_what_it_cannot_be(self, name, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            getattr(models, name)(**wrong)

    def test_comes_back_from_disk(self, name, tmp_path):
        network = small(name, decay=0.8)
        network.train()
        network(inputs(name))  # batch norm's statistics are kept as well
        models.save_network(network, tmp_path / "kept", training={"seed": 3})
        for path in (tmp_path / "kept", tmp_path / "kept.json", str(tmp_path / "kept.safetensors")):
            again = models.load_network(path)
            assert torch.equal(again(inputs(name)), network.eval()(inputs(name)))
            assert again.body[0] is not network.body[0] and again.time_steps == 3


@pytest.mark.parametrize("build", [getattr(models, name) for name in SHAPES])
class TestEverySignature:
    def test_is_that_of_the_others_but_for_its_defaults(self, build):
        names = list(inspect.signature(models.vgg11).parameters)
        assert list(inspect.signature(build).parameters) == names
        assert {"time_steps", "decay", "threshold", "reset", "width", "mean", "std", "encoder", "spiking"} < set(names)

    def test_is_what_it_is_built_with(self, build):
        defaults = {name: one.default for name, one in inspect.signature(build).parameters.items()}
        assert build().architecture == {"name": build.__name__, "arguments": defaults}

    def test_is_documented(self, build):
        text = inspect.getdoc(build)
        for name in inspect.signature(build).parameters:
            assert text.count(f":param {name}: ") == 1
        assert ":param settings:" not in text and text.splitlines()[0].endswith(".")

    def test_is_held_to(self, build):
        with pytest.raises(TypeError, match=rf"{build.__name__}\(\) got an unexpected keyword argument 'height'"):
            build(height=3)
        with pytest.raises(TypeError, match=rf"{build.__name__}\(\) too many positional arguments"):
            build((3, 32, 32), 10, 8)


class TestWidth:
    def test_is_a_factor_whatever_the_network(self):
        first = {name: layers(getattr(models, name)(width=0.5), nn.Conv2d)[0].out_channels for name in SHAPES}
        assert first == {"small_cnn": 8, "vgg11": 32, "resnet17": 32, "vgg_dvs": 32}
        assert [layer.out_channels for layer in layers(models.small_cnn(), nn.Conv2d)] == [16, 32]

    def test_of_a_small_network_on_disk_was_its_channels(self):
        """Written at schema 1, by small_cnn(time_steps=3, threshold=0.2, width=3)."""
        network = models.load_network(SCHEMA_1 / "small_cnn")
        assert [layer.out_channels for layer in layers(network, nn.Conv2d)] == [3, 6]
        ramp = torch.arange(64)
        x = torch.stack([(ramp % 17).reshape(1, 8, 8) / 16, (ramp % 5).reshape(1, 8, 8) / 4])
        then = [
            *(-0.19019301, 0.23951466, 0.13910556, 0.11112580, 0.59699291),
            *(-0.02481040, 0.20809305, -0.04738620, -0.11178287, 0.19434290),
            *(-0.29038620, 0.02926026, 0.13496873, 0.46224979, 0.55308163),
            *(-0.02076401, 0.21496196, 0.28341636, -0.34868780, 0.15748727),
        ]
        assert network(x).flatten().tolist() == pytest.approx(then, abs=1e-5)

    def test_of_one_read_from_schema_1_is_kept_as_a_factor(self, tmp_path):
        network = models.load_network(SCHEMA_1 / "small_cnn")
        path = models.save_network(network, tmp_path / "network")
        assert json.loads(path.read_text())["architecture"]["arguments"]["width"] == 3 / 16
        again = models.load_network(path).state_dict()
        assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())


class TestInputNormalisation:
    def test_is_part_of_the_network(self):
        network = small("vgg11", mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
        x = inputs("vgg11")
        plain = SpikingNetwork(network.body[1:], 3).eval()
        by_hand = (x - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 1.0, 2.0])[:, None, None]
        assert torch.allclose(network.eval()(x), plain(by_hand), atol=1e-6)

    @pytest.mark.parametrize("name", ["vgg11", "resnet17", "vgg_dvs"])
    def test_is_no_other_data_sets_where_none_is_given(self, name):
        for channels in (1, 2, 3):
            network = small(name, input_shape=(channels, 32, 32))
            assert not layers(network, Normalise)

    @pytest.mark.parametrize("shape", [(50, 3, 8, 8), (50, 1, 8, 8), (10, 5, 2, 8, 8)])
    def test_takes_the_statistics_of_any_data(self, shape):
        x = np.random.default_rng(0).normal(0.3, 0.2, shape).astype(np.float32)
        mean, std = models.channel_statistics(x)
        network = small("vgg11", input_shape=shape[-3:], mean=mean, std=std)
        normalised = network.body[0](torch.from_numpy(x)).numpy()
        axes = tuple(axis for axis in range(len(shape)) if axis != len(shape) - 3)
        assert len(mean) == len(std) == shape[-3]
        assert normalised.mean(axes) == pytest.approx(0.0, abs=1e-5)
        assert normalised.std(axes) == pytest.approx(1.0, rel=1e-5)

    @pytest.mark.parametrize("constant", [0.0, 0.1, 1.0, 255.0])
    def test_of_a_constant_channel_is_zero(self, constant):
        x = np.random.default_rng(0).random((1000, 3, 8, 8), dtype=np.float32)
        x[:, 1] = constant
        mean, std = models.channel_statistics(x)
        normalised = small("vgg11", mean=mean, std=std).body[0](torch.from_numpy(x))
        assert std[1] == 1.0 and normalised[:, 1].abs().max() < 1e-4
        assert 0.2 < std[0] < 0.4

    def test_of_a_rare_event_is_still_its_own(self):
        x = np.zeros((1000, 2, 8, 8), np.float32)
        x[0, 1, 0, 0] = 1.0
        mean, std = models.channel_statistics(x)
        assert std == [1.0, pytest.approx(1 / np.sqrt(64_000), rel=1e-4)] and mean == [0.0, 1 / 64_000]

    @pytest.mark.parametrize("name", ["vgg11", "resnet17", "vgg_dvs"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_of_a_network_saved_without_any_is_what_it_was(self, name, channels, tmp_path):
        """Before, `mean` and `std` not given stood in the file as null, and meant CIFAR-10's for three channels."""
        given = {"mean": CIFAR_MEAN, "std": CIFAR_STD} if channels == 3 else {}
        network = small(name, input_shape=(channels, 32, 32), **given).eval()
        path = models.save_network(network, tmp_path / "kept")
        about = json.loads(path.read_text())
        about["architecture"]["arguments"] |= {"mean": None, "std": None}
        path.write_text(json.dumps(about))
        again = models.load_network(path)
        x = torch.rand(2, 3, channels, 32, 32) if name == "vgg_dvs" else torch.rand(2, channels, 32, 32)
        assert torch.equal(again(x), network(x))
        models.save_network(again, tmp_path / "again")
        assert torch.equal(models.load_network(tmp_path / "again")(x), network(x))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"mean": (0.5,)},
            {"std": (1.0, 1.0, 0.0)},
            {"std": (1.0, 1.0, 1e-60)},
            {"std": (1.0, 1.0, float("nan"))},
            {"mean": (0.0, 0.0, float("inf"))},
            {"mean": None},
            {"std": "abc"},
        ],
    )
    def test_refuses_what_does_not_fit(self, wrong):
        with pytest.raises(ValueError, match="mean and std must have 3"):
            small("vgg11", **wrong)


class Always(nn.Linear):
    """Maps 4 numbers to 4 times the given one."""

    def __init__(self, value: float) -> None:
        super().__init__(4, 4)
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, value)


class TestConversion:
    @given(
        threshold=st.floats(0.1, 10.0),
        time_steps=st.integers(1, 64),
        values=st.lists(st.floats(-20.0, 20.0), min_size=1, max_size=20),
    )
    def test_a_converted_rectifier_is_a_rectifier_rounded_to_t_levels(self, threshold, time_steps, values):
        x = torch.tensor([values], dtype=torch.float64)
        converted = SpikingNetwork(ConvertedReLU(threshold, time_steps).double(), time_steps)
        converted.register_parameter("unit", nn.Parameter(torch.ones((), dtype=torch.float64)))  # its type
        expected = torch.clamp(x, 0.0, threshold)
        got = converted(x).detach()
        assert torch.all((got - expected).abs() <= threshold / (2 * time_steps) * (1 + 1e-9))

    def trained(self):
        from art_snn import datasets

        (x, y), (x_test, y_test), _, _ = datasets.digits(seed=0)
        torch.manual_seed(0)
        ann = models.small_cnn(spiking=False)
        classifier = PyTorchClassifier(
            ann, nn.CrossEntropyLoss(), (1, 8, 8), 10, torch.optim.Adam(ann.parameters(), 1e-2), device_type="cpu"
        )
        classifier.fit(x, y, batch_size=64, nb_epochs=5)
        return classifier, x, x_test, y_test

    def test_more_time_steps_come_closer_to_the_network(self, tmp_path):
        classifier, x, x_test, y_test = self.trained()
        reference = classifier.predict(x_test)
        error = []
        for time_steps in (4, 16, 64):
            network = models.convert(classifier.model, x[:200], time_steps=time_steps)
            assert layers(network, IF) and not layers(network, nn.ReLU)
            spiking = PyTorchSNNClassifier(network, nn.CrossEntropyLoss(), (1, 8, 8), 10, device_type="cpu")
            logits = spiking.predict(x_test)
            error.append(np.abs(logits - reference).mean())
        assert error[0] > error[1] > error[2]
        right = reference.argmax(1) == y_test.argmax(1)
        assert np.mean((logits.argmax(1) == y_test.argmax(1))[right]) > 0.98
        models.save_network(network, tmp_path / "converted")
        again = models.load_network(tmp_path / "converted")
        assert torch.equal(again(torch.from_numpy(x_test[:9])), network(torch.from_numpy(x_test[:9])))

    @pytest.mark.parametrize("name", SHAPES)
    def test_every_twin_converts(self, name, tmp_path):
        network = models.convert(small(name, spiking=False).eval(), inputs(name).numpy(), time_steps=3)
        assert network(inputs(name)).shape == (2, 10)
        models.save_network(network, tmp_path / "converted")
        assert torch.equal(models.load_network(tmp_path / "converted")(inputs(name)), network(inputs(name)))

    def test_leaves_the_network_alone(self):
        ann = small("vgg11", spiking=False)
        before = {name: value.clone() for name, value in ann.state_dict().items()}
        models.convert(ann, inputs("vgg11").numpy(), time_steps=3)
        assert ann.training and len(layers(ann, nn.ReLU)) == 10
        assert all(torch.equal(before[name], value) for name, value in ann.state_dict().items())

    @pytest.mark.parametrize(
        ("ann", "message"),
        [
            (nn.Sequential(nn.Linear(4, 2)), "no torch.nn.ReLU"),
            (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sigmoid(), nn.Linear(4, 2)), "sigmoid is not known"),
            (nn.Sequential(Always(-1.0), nn.ReLU(), nn.Sigmoid(), nn.Linear(4, 2)), "sigmoid is not known"),
            (nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Softplus(), nn.ReLU(), nn.Linear(4, 2)), "softplus"),
        ],
    )
    def test_refuses_what_it_would_get_wrong(self, ann, message):
        with pytest.raises(ValueError, match=message):
            models.convert(ann, np.random.default_rng(0).random((8, 4), np.float32), time_steps=4)

    @pytest.mark.parametrize("percentile", [0, -1, 100.5])
    def test_refuses_percentiles_out_of_range(self, percentile):
        with pytest.raises(ValueError, match="percentile"):
            models.convert(small("vgg11", spiking=False), inputs("vgg11").numpy(), time_steps=3, percentile=percentile)

    def test_refuses_to_do_without_inputs(self):
        with pytest.raises(ValueError, match="x must hold at least one input"):
            models.convert(small("small_cnn", spiking=False), inputs("small_cnn").numpy()[:0], time_steps=3)

    def test_refuses_time_steps_out_of_range(self):
        with pytest.raises(ValueError, match="time_steps must be an integer >= 1, got 0"):
            models.convert(small("small_cnn", spiking=False), inputs("small_cnn").numpy(), time_steps=0)

    def test_a_rectifier_in_two_places_becomes_one_layer_with_the_greater_threshold(self):
        relu = nn.ReLU()
        network = models.convert(
            nn.Sequential(Always(1.0), relu, Always(3.0), relu, Always(2.0), relu),
            np.ones((2, 4), np.float32),
            time_steps=6,
        )
        assert not layers(network, nn.ReLU) and [layer.threshold for layer in layers(network, IF)] == [3.0]
        torch.testing.assert_close(network(torch.ones(1, 4)), torch.full((1, 4), 2.0))

    def test_a_rectifier_that_never_fires_is_named(self):
        ann = nn.Sequential(Always(-1.0), nn.ReLU(), nn.Linear(4, 2))
        with pytest.raises(ValueError, match=r"modules \[0\]"):
            models.convert(ann, np.ones((2, 4), np.float32), time_steps=4)


class TestFiles:
    @pytest.mark.parametrize("encoder", [DirectEncoder(), PoissonEncoder(seed=7), None])
    def test_the_encoder_comes_back(self, encoder, tmp_path):
        network = models.small_cnn(encoder=encoder)
        models.save_network(network, tmp_path / "kept")
        again = models.load_network(tmp_path / "kept").encoder
        assert type(again) is type(network.encoder)
        assert getattr(again, "seed", None) == getattr(network.encoder, "seed", None)

    def test_training_is_kept_beside_it(self, tmp_path):
        path = models.save_network(models.small_cnn(), tmp_path / "new" / "kept", training={"accuracy": 0.5})
        assert json.loads(path.read_text())["training"] == {"accuracy": 0.5}

    def test_loading_leaves_the_random_state(self, tmp_path):
        models.save_network(models.small_cnn(), tmp_path / "kept")
        state = torch.random.get_rng_state()
        models.load_network(tmp_path / "kept")
        assert torch.equal(state, torch.random.get_rng_state())

    def test_an_unknown_architecture_is_not_saved(self, tmp_path):
        with pytest.raises(ValueError, match="unknown architecture"):
            models.save_network(nn.Linear(2, 2), tmp_path / "kept")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda network: setattr(network, "time_steps", 16), "time_steps"),
            (lambda network: setattr(network, "encoder", PoissonEncoder()), "encoder"),
            (lambda network: setattr(layers(network, LIF)[0], "decay", 0.5), "layers"),
            (lambda network: network.double(), "dtype"),
        ],
    )
    def test_a_network_that_was_changed_is_not_saved_as_another(self, change, what, tmp_path):
        network = small("small_cnn")
        change(network)
        with pytest.raises(ValueError, match=f"changed after it was built: its architecture gives other {what} back"):
            models.save_network(network, tmp_path / "network")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "change",
        [
            lambda about: about["architecture"].update(name=["x"]),
            lambda about: about["architecture"]["arguments"].update(width=10**7),
            lambda about: about["architecture"].update(converted={"thresholds": [1.0] * 3, "time_steps": 0}),
            lambda about: about.update(training=None),
        ],
    )
    def test_a_description_that_cannot_be_built_is_damaged(self, change, tmp_path):
        path = models.save_network(small("small_cnn", spiking=False), tmp_path / "network")
        about = json.loads(path.read_text())
        change(about)
        path.write_text(json.dumps(about))
        with pytest.raises(models.DamagedNetwork, match=r"network\.json"):
            models.load_network(path)

    @pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000])
    def test_json_beyond_pythons_limits_is_damaged(self, text, tmp_path):
        (tmp_path / "network.json").write_text(text)
        with pytest.raises(models.DamagedNetwork, match=r"network\.json"):
            models.describe(tmp_path / "network")

    def test_what_a_description_claims_takes_no_memory_before_the_weights_fit(self, tmp_path):
        path = models.save_network(small("vgg11"), tmp_path / "network")
        about = json.loads(path.read_text())
        about["architecture"]["arguments"]["width"] = 3
        path.write_text(json.dumps(about))
        with (
            Memory() as memory,
            pytest.raises(models.DamagedNetwork, match=r"does not fit the network of network\.json"),
        ):
            models.load_network(path)
        assert memory.most < 10 * path.with_suffix(".safetensors").stat().st_size

    @pytest.mark.parametrize("name", SHAPES)
    def test_a_network_from_disk_has_memory_of_its_own(self, name, tmp_path):
        network = models.load_network(models.save_network(small(name), tmp_path / "network"))
        assert {value.device.type for value in [*network.parameters(), *network.buffers()]} == {"cpu"}
        assert all(parameter.requires_grad for parameter in network.parameters())
        nn.functional.cross_entropy(network.train()(inputs(name)), torch.tensor([0, 1])).backward()
        torch.optim.SGD(network.parameters(), 0.1).step()

    def test_weights_of_another_type_do_not_fit(self, tmp_path):
        path = models.save_network(small("small_cnn"), tmp_path / "network")
        weights = save({name: value.double() for name, value in models.load_network(path).state_dict().items()})
        about = json.loads(path.read_text()) | {"weights_sha256": hashlib.sha256(weights).hexdigest()}
        path.with_suffix(".safetensors").write_bytes(weights)
        path.write_text(json.dumps(about))
        with pytest.raises(models.DamagedNetwork, match=r"does not fit .*body\.0\.weight is torch\.float64"):
            models.load_network(path)

    def test_a_description_is_valid_json_with_a_schema(self, tmp_path):
        def refuse(constant):
            raise AssertionError(f"{constant} is not JSON")

        accuracies = {"accuracy": float("nan"), "history": [{"loss": float("inf")}], "rates": (0.5, 1)}
        path = models.save_network(small("small_cnn"), tmp_path / "network", training=accuracies)
        about = json.loads(path.read_text(), parse_constant=refuse)
        assert about["schema"] == 2
        assert about["training"] == {"accuracy": None, "history": [{"loss": None}], "rates": [0.5, 1]}

    @pytest.mark.parametrize("schema", [3, "1", None])
    def test_a_later_schema_is_refused(self, schema, tmp_path):
        path = models.save_network(small("small_cnn"), tmp_path / "network")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": schema}))
        with pytest.raises(models.DamagedNetwork, match=rf"network\.json is of schema {schema!r}, .* up to 2"):
            models.load_network(path)

    def test_a_description_without_a_schema_is_older_and_loads(self, tmp_path):
        path = models.save_network(small("small_cnn"), tmp_path / "network")
        about = json.loads(path.read_text())
        del about["schema"]
        about["architecture"]["arguments"]["width"] = 4  # channels, then; SMALL's factor now
        path.write_text(json.dumps(about))
        assert torch.equal(
            models.load_network(path)(inputs("small_cnn")), small("small_cnn").eval()(inputs("small_cnn"))
        )

    def test_a_folder_is_not_a_network(self, tmp_path):
        models.save_network(small("small_cnn"), tmp_path / "run" / "network")
        with pytest.raises(FileNotFoundError, match=r"run is a folder: name the network in it, .*network\.json"):
            models.load_network(tmp_path / "run")

    def damage(self, tmp_path, change):
        models.save_network(models.small_cnn(), tmp_path / "kept")
        change(tmp_path / "kept.json", tmp_path / "kept.safetensors")
        with pytest.raises(models.DamagedNetwork, match="kept") as error:
            models.load_network(tmp_path / "kept")
        return str(error.value)

    def test_truncated_weights(self, tmp_path):
        def change(_, weights):
            weights.write_bytes(weights.read_bytes()[:-10])

        assert "damaged" in self.damage(tmp_path, change)

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\x00"])
    def test_a_foreign_description(self, text, tmp_path):
        self.damage(tmp_path, lambda description, _: description.write_text(text))

    def test_a_name_from_elsewhere(self, tmp_path):
        def change(description, _):
            description.write_text(description.read_text().replace('"small_cnn"', '"os.system"'))

        assert "os.system" in self.damage(tmp_path, change)

    @pytest.mark.parametrize(
        ("key", "value"), [("width", 8), ("time_steps", 0), ("unheard_of", 1), ("encoder", {"name": "morse"})]
    )
    def test_a_description_of_another_network(self, key, value, tmp_path):
        def change(description, _):
            content = json.loads(description.read_text())
            content["architecture"]["arguments"][key] = value
            description.write_text(json.dumps(content))

        self.damage(tmp_path, change)

    @pytest.mark.parametrize("missing", ["kept.json", "kept.safetensors"])
    def test_a_missing_file_is_named(self, missing, tmp_path):
        models.save_network(models.small_cnn(), tmp_path / "kept")
        (tmp_path / missing).unlink()
        with pytest.raises(FileNotFoundError, match=missing):
            models.load_network(tmp_path / "kept")
