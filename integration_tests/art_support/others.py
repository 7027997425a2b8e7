"""ART's wrappers, metrics, evaluations, generators and tools on a spiking classifier."""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from art import metrics
from art.attacks.evasion import DeepFool, FastGradientMethod, ProjectedGradientDescent
from art.data_generators import NumpyDataGenerator, PyTorchDataGenerator
from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing
from art.estimators.classification import (
    BlackBoxClassifierNeuralNetwork,
    DeepPartitionEnsemble,
    DetectorClassifier,
    EnsembleClassifier,
    QueryEfficientGradientEstimationClassifier,
)
from art.evaluations.security_curve import SecurityCurve
from art.preprocessing import expectation_over_transformation as eot
from art.preprocessing.expectation_over_transformation.pytorch import EoTPyTorch
from torch import nn

from art_snn.classifier import Softmax
from integration_tests.art_support.checks import (
    BATCH,
    CHECKS,
    EPOCHS,
    Check,
    accuracy,
    around,
    check,
    digits,
    fresh,
    victim,
)
from integration_tests.art_support.defences import detector
from integration_tests.art_support.settings import seeded, setting

WRAPPERS, METRICS, TOOLS = "Wrappers", "Metrics and evaluations", "Generators and tools"


def samples(number: int = 8):
    return setting("digits").samples(number)


def attacks(estimator, x: np.ndarray, y: np.ndarray) -> None:
    attack = ProjectedGradientDescent(estimator, eps=0.3, eps_step=0.15, max_iter=3, verbose=False)
    assert np.abs(attack.generate(x, y) - x).max() > 0


EOT_ARGUMENTS = {
    "EoTBrightnessPyTorch": {"delta": 0.1},
    "EoTContrastPyTorch": {"contrast_factor": (0.5, 1.0)},
    "EoTGaussianNoisePyTorch": {"std": 0.05},
    "EoTImageCenterCropPyTorch": {"size": 2},
    "EoTImageRotationPyTorch": {"angles": 20.0},
    "EoTShotNoisePyTorch": {"lam": (0.1, 0.2)},
    "EoTZoomBlurPyTorch": {"zoom": 1.3},
}
EOT_NOTE = "`predict` gives one row for every transformed sample: evaluate on a classifier without it"
LAST = ("EoTContrastPyTorch", "EoTZoomBlurPyTorch")  # written for channels last


def transformations() -> list[type[EoTPyTorch]]:
    """ART's expectations over transformations for PyTorch."""
    for module in pkgutil.walk_packages(eot.__path__, f"{eot.__name__}."):
        if module.name.endswith(".pytorch"):
            importlib.import_module(module.name)
    return sorted(EoTPyTorch.__subclasses__(), key=lambda kind: kind.__name__)


def transformed(transformation: type[EoTPyTorch]) -> Callable[[str], None]:
    """The gradient is an expectation over transformations, along the chain, and an attack follows it."""
    name = transformation.__name__
    where = "channels last" if name in LAST else "digits"

    def run(kind: str) -> None:
        x, y = setting(where).samples(4)
        expectation = transformation(nb_samples=3, clip_values=(0.0, 1.0), **EOT_ARGUMENTS.get(name, {}))
        estimator = around(kind, where, preprocessing_defences=expectation)

        def gradient(**kwargs) -> np.ndarray:
            seeded()
            return estimator.loss_gradient(x, y, **kwargs)

        assert estimator.predict(x).shape == (3 * len(x), 10)
        assert gradient().shape == x.shape and np.array_equal(gradient(), gradient())
        if kind == "spiking":
            assert not np.array_equal(gradient(), gradient(chain="stbp"))
        attacks(estimator, x, y)

    return run


CHECKS += [
    Check(
        WRAPPERS,
        kind.__name__,
        transformed(kind),
        EOT_NOTE + "; written for channels last" * (kind.__name__ in LAST),
    )
    for kind in transformations()
]


@check(
    WRAPPERS,
    "QueryEfficientGradientEstimationClassifier",
    "needs probabilities: `Softmax()` of `art_snn.classifier`; estimates the gradient from predictions, not by a chain",
)
def query_efficient(kind: str) -> None:
    x, y = samples()
    seeded()
    estimator = QueryEfficientGradientEstimationClassifier(
        around(kind, postprocessing_defences=Softmax()), num_basis=50, sigma=0.2
    )
    gradient = estimator.loss_gradient(x, y)
    assert gradient.shape == x.shape and np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    FastGradientMethod(estimator, eps=0.3).generate(x.astype(np.float32), y)


@check(WRAPPERS, "EnsembleClassifier")
def ensemble(kind: str) -> None:
    x, y = samples()
    parts = [victim(kind), fresh(kind)]
    estimator = EnsembleClassifier(parts, channels_first=True, clip_values=(0.0, 1.0))
    assert np.allclose(estimator.predict(x), sum(part.predict(x) for part in parts) / 2, atol=1e-5)
    expected = sum(part.loss_gradient(x, y) for part in parts) / 2
    assert np.allclose(estimator.loss_gradient(x, y), expected, atol=1e-6)
    attacks(estimator, x, y)


@check(WRAPPERS, "DeepPartitionEnsemble", "trains one copy of the classifier for each partition")
def partitions(kind: str) -> None:
    estimator = DeepPartitionEnsemble(fresh(kind), ensemble_size=2, channels_first=True, clip_values=(0.0, 1.0))
    estimator.fit(*digits(), batch_size=BATCH, nb_epochs=EPOCHS, train_dict={"verbose": False})
    assert accuracy(estimator, *digits()) > 0.5


@check(
    WRAPPERS,
    "DetectorClassifier",
    "the detector is a classifier of two classes, which ART insists on, whose network gives one number, which is used",
)
def with_detector(kind: str) -> None:
    x, _y = samples()
    seeded()
    guard = detector((1, 8, 8))
    guard.model[-1] = nn.Linear(32, 1)
    estimator, inner = DetectorClassifier(victim(kind), guard), victim(kind)
    assert np.array_equal(estimator.predict(x)[:, :10], inner.predict(x))
    assert np.array_equal(estimator.class_gradient(x, label=1), inner.class_gradient(x, label=1))
    assert estimator.class_gradient(x).shape == (len(x), 11, 1, 8, 8)
    assert np.abs(DeepFool(estimator, max_iter=3, verbose=False).generate(x) - x).max() > 0


@check(WRAPPERS, "BlackBoxClassifierNeuralNetwork")
def black_box(kind: str) -> None:
    x, _y = samples()
    estimator = BlackBoxClassifierNeuralNetwork(
        victim(kind).predict, (1, 8, 8), 10, channels_first=True, clip_values=(0.0, 1.0)
    )
    assert np.array_equal(estimator.predict(x), victim(kind).predict(x))


@check(
    WRAPPERS,
    "PyTorchRandomizedSmoothing",
    "takes the network itself, whose attributes choose the chain; predicts by votes; needs `statsmodels`",
    needs=("statsmodels",),
)
def smoothing(kind: str) -> None:
    x, y = samples()
    seeded()
    estimator = PyTorchRandomizedSmoothing(
        victim(kind).model,
        nn.CrossEntropyLoss(),
        (1, 8, 8),
        10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
        sample_size=20,
        scale=0.05,
        alpha=0.1,
    )
    assert (estimator.predict(x, is_abstain=False, verbose=False).argmax(1) == y.argmax(1)).mean() > 0.5
    classes, radius = estimator.certify(x, n=50)
    assert len(classes) == len(radius) == len(x)
    assert np.abs(estimator.loss_gradient(x, y)).max() > 0


@check(METRICS, "adversarial_accuracy")
def adversarial_accuracy(kind: str) -> None:
    x, y = samples(20)
    estimator = victim(kind)
    attack = ProjectedGradientDescent(estimator, eps=0.3, eps_step=0.1, max_iter=5, verbose=False)
    assert 0 <= metrics.adversarial_accuracy(estimator, x, y, attack_crafter=attack) < 0.9


@check(METRICS, "empirical_robustness")
def empirical_robustness(kind: str) -> None:
    x, _ = samples(20)
    parameters = {"eps": 1.0, "eps_step": 0.1}
    assert metrics.empirical_robustness(victim(kind), x, "fgsm", parameters) > 0


@check(METRICS, "loss_sensitivity")
def loss_sensitivity(kind: str) -> None:
    assert metrics.loss_sensitivity(victim(kind), *samples()) > 0


@check(
    METRICS, "clever_u", "its bound assumes a continuous function with a true gradient, which a spiking network is not"
)
def clever_u(kind: str) -> None:
    seeded()
    x, _ = samples(1)
    assert metrics.clever_u(victim(kind), x[0], 3, 4, 0.5, norm=2, pool_factor=2, verbose=False) >= 0


@check(METRICS, "clever_t", "as `clever_u`")
def clever_t(kind: str) -> None:
    seeded()
    x, y = samples(1)
    target = int((y[0].argmax() + 1) % 10)
    assert metrics.clever_t(victim(kind), x[0], target, 3, 4, 0.5, norm=2, pool_factor=2) >= 0


@check(METRICS, "loss_gradient_check", "finds gradients that vanish")
def gradient_check(kind: str) -> None:
    found = metrics.loss_gradient_check(victim(kind), *samples(), verbose=False)
    assert not found.any()


@check(METRICS, "wasserstein_distance")
def distance(kind: str) -> None:
    x, _ = samples()
    predicted = victim(kind).predict(x)
    assert (metrics.wasserstein_distance(predicted, np.roll(predicted, 1, 0)) > 0).all()


@check(METRICS, "PDTP", "needs probabilities: `Softmax()` of `art_snn.classifier`; trains copies")
def pdtp(kind: str) -> None:
    seeded()
    where = setting("digits")
    target = around(kind, postprocessing_defences=Softmax())
    extra = fresh(kind, postprocessing_defences=Softmax())
    average, worst, _ = metrics.PDTP(target, extra, where.x_train[:20], where.y_train[:20], np.array([0]), num_iter=1)
    assert len(average) == len(worst) == 1


@check(METRICS, "SHAPr", "needs probabilities: `Softmax()` of `art_snn.classifier`")
def shapr(kind: str) -> None:
    where = setting("digits")
    estimator = around(kind, postprocessing_defences=Softmax())
    leakage = metrics.SHAPr(estimator, where.x_train[:30], where.y_train[:30], where.x_test[:10], where.y_test[:10])
    assert leakage.shape == (30,)


@check(METRICS, "SecurityCurve")
def security_curve(kind: str) -> None:
    x, y = samples(20)
    curve = SecurityCurve(eps=[0.02, 0.3])
    _, accuracies, accuracy_clean = curve.evaluate(victim(kind), x, y, eps_step=0.1, max_iter=3, verbose=False)
    assert accuracies[1] < accuracies[0] <= accuracy_clean


@check(TOOLS, "fit_generator with PyTorchDataGenerator")
def pytorch_generator(kind: str) -> None:
    estimator = fresh(kind)
    x, y = digits()
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=BATCH, shuffle=True
    )
    estimator.fit_generator(PyTorchDataGenerator(loader, len(x), BATCH), nb_epochs=EPOCHS)
    assert accuracy(estimator, x, y) > 0.5


@check(TOOLS, "fit_generator with NumpyDataGenerator")
def numpy_generator(kind: str) -> None:
    estimator = fresh(kind)
    x, y = digits()
    estimator.fit_generator(NumpyDataGenerator(x, y, batch_size=BATCH, shuffle=True), nb_epochs=EPOCHS)
    assert accuracy(estimator, x, y) > 0.5


@check(TOOLS, "SummaryWriter", "needs `tensorboardX`", needs=("tensorboardX",))
def summary_writer(kind: str) -> None:
    x, y = samples()
    with tempfile.TemporaryDirectory() as folder:
        attack = ProjectedGradientDescent(
            victim(kind), eps=0.2, eps_step=0.1, max_iter=2, summary_writer=folder, verbose=False
        )
        attack.generate(x, y)
        attack.summary_writer.summary_writer.flush()
        assert sum(path.stat().st_size for path in Path(folder).rglob("events*")) > 100


@check(TOOLS, "save")
def save(kind: str) -> None:
    estimator, other = victim(kind), around(kind)
    with tempfile.TemporaryDirectory() as folder:
        estimator.save("classifier", folder)
        other.model.load_state_dict(torch.load(Path(folder) / "classifier.model", weights_only=True))
    assert np.array_equal(other.predict(samples()[0]), estimator.predict(samples()[0]))
