"""ART's preprocessing and postprocessing defences, detectors and transformers around a spiking classifier."""

from __future__ import annotations

from collections.abc import Callable

import art.defences.detector.evasion
import art.defences.detector.poison
import art.defences.postprocessor
import art.defences.preprocessor
import art.defences.transformer.evasion
import art.defences.transformer.poisoning
import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.defences import postprocessor, preprocessor
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from torch import nn

from art_snn.classifier import Softmax
from integration_tests.art_support.checks import (
    BATCH,
    CHECKS,
    EPOCHS,
    Check,
    accuracy,
    around,
    digits,
    fresh,
    public,
    victim,
)
from integration_tests.art_support.settings import classifier, seeded, setting

FIT_ONLY = (
    "CutMix",
    "CutMixPyTorch",
    "CutMixTensorFlowV2",
    "Mixup",
    "MixupPyTorch",
    "MixupTensorFlowV2",
    "LabelSmoothing",
)
CPU = {"device_type": "cpu"}
PREPROCESSORS: dict[str, Callable[[], object]] = {
    "CutMix": lambda: preprocessor.CutMix(10),
    "CutMixPyTorch": lambda: preprocessor.CutMixPyTorch(10, **CPU),
    "CutMixTensorFlowV2": lambda: preprocessor.CutMixTensorFlowV2(10),
    "CutoutTensorFlowV2": lambda: preprocessor.CutoutTensorFlowV2(3, channels_first=True, apply_predict=True),
    "MixupTensorFlowV2": lambda: preprocessor.MixupTensorFlowV2(10),
    "PixelDefend": lambda: preprocessor.PixelDefend((0.0, 1.0), eps=16, pixel_cnn=pixel_cnn(), batch_size=8),
    "Cutout": lambda: preprocessor.Cutout(3, channels_first=True, apply_predict=True),
    "CutoutPyTorch": lambda: preprocessor.CutoutPyTorch(3, channels_first=True, apply_predict=True, **CPU),
    "FeatureSqueezing": lambda: preprocessor.FeatureSqueezing((0.0, 1.0), bit_depth=3),
    "GaussianAugmentation": lambda: preprocessor.GaussianAugmentation(0.05, augmentation=False, apply_predict=True),
    "JpegCompression": lambda: preprocessor.JpegCompression((0.0, 1.0), quality=80, channels_first=True),
    "Mixup": lambda: preprocessor.Mixup(10),
    "MixupPyTorch": lambda: preprocessor.MixupPyTorch(10, **CPU),
    "SpatialSmoothing": lambda: preprocessor.SpatialSmoothing(3, channels_first=True),
    "SpatialSmoothingPyTorch": lambda: preprocessor.SpatialSmoothingPyTorch(3, channels_first=True, **CPU),
    "TotalVarMin": lambda: preprocessor.TotalVarMin(max_iter=2),
    "Resample": lambda: preprocessor.Resample(8, 8, channels_first=True),
    "Mp3Compression": lambda: preprocessor.Mp3Compression(8000, channels_first=True),
    "Mp3CompressionPyTorch": lambda: preprocessor.Mp3CompressionPyTorch(8000, channels_first=True, **CPU),
    "VideoCompression": lambda: preprocessor.VideoCompression(video_format="avi", channels_first=True),
    "VideoCompressionPyTorch": lambda: preprocessor.VideoCompressionPyTorch(
        video_format="avi", channels_first=True, **CPU
    ),
    "ThermometerEncoding": lambda: preprocessor.ThermometerEncoding((0.0, 1.0), num_space=4, channels_first=True),
}
NOTES = {
    "CutMix": "for training only",
    "CutMixPyTorch": "for training only",
    "Mixup": "for training only",
    "MixupPyTorch": "for training only",
    "LabelSmoothing": "for training only",
    "ThermometerEncoding": "the network takes the levels as channels; give `preprocessing=None` to the classifier, "
    "for ART mistakes the levels' gradient for the classes' in its standardisation",
    "SpatialSmoothing": "the gradient passes as if nothing were smoothed; ART's PyTorch version differentiates it",
    "JpegCompression": "the gradient passes as if nothing were compressed",
    "FeatureSqueezing": "the gradient passes as if nothing were squeezed",
}
NEEDS = {"SpatialSmoothingPyTorch": ("kornia",), "Resample": ("resampy",)}


def pixel_cnn():
    """A model of the kind that `PixelDefend` asks: 256 scores for the grey levels of each pixel; untrained."""
    from art.estimators.classification import PyTorchClassifier

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64 * 256))
    return PyTorchClassifier(model, nn.CrossEntropyLoss(), (1, 8, 8), 64 * 256, device_type="cpu")


def preprocessed(name: str) -> Callable[[str], None]:
    def run(kind: str) -> None:
        x, y = setting("digits").samples(8)
        defence = PREPROCESSORS[name]() if name in PREPROCESSORS else getattr(preprocessor, name)()
        if name == "ThermometerEncoding":
            return thermometer(kind, defence)
        seeded()
        if name in FIT_ONLY:
            estimator = fresh(kind, preprocessing_defences=defence)
            estimator.fit(*digits(), batch_size=BATCH, nb_epochs=EPOCHS)
            assert accuracy(estimator, *digits()) > 0.5
            return None
        estimator = around(kind, preprocessing_defences=defence)
        estimator.predict(x)
        gradient = estimator.loss_gradient(x, y)
        assert gradient.shape == x.shape and np.abs(gradient).max() > 0
        attack = ProjectedGradientDescent(estimator, eps=0.2, eps_step=0.1, max_iter=2, verbose=False)
        assert np.abs(attack.generate(x, y) - x).max() > 0.1
        return None

    return run


def thermometer(kind: str, defence) -> None:
    """Trains a network that takes the channels it makes of one."""
    from art_snn import models
    from integration_tests.art_support.settings import plain

    x, y = setting("digits").samples(8)
    seeded()
    network = models.small_cnn((4, 8, 8), time_steps=4, width=0.5)
    network = network if kind == "spiking" else plain(network)
    estimator = classifier(network, (1, 8, 8), preprocessing_defences=defence, preprocessing=None)
    estimator.fit(*digits(), batch_size=BATCH, nb_epochs=EPOCHS)
    assert accuracy(estimator, *digits()) > 0.5
    gradient = estimator.loss_gradient(x, y)
    assert gradient.shape == x.shape and np.abs(gradient).max() > 0


CHECKS += [
    Check("Preprocessing defences", name, preprocessed(name), NOTES.get(name, ""), NEEDS.get(name, ()))
    for name, _ in public(art.defences.preprocessor)
    if name not in ("Preprocessor", PreprocessorPyTorch.__name__)
]


def postprocessed(name: str) -> Callable[[str], None]:
    def run(kind: str) -> None:
        x, y = setting("digits").samples(8)
        plainly = victim(kind)
        seeded()
        estimator = around(kind, postprocessing_defences=[Softmax(), getattr(postprocessor, name)()])
        predicted = estimator.predict(x)
        assert predicted.shape == (len(x), 10) and np.isfinite(predicted).all()
        assert not np.array_equal(predicted, plainly.predict(x))
        assert np.array_equal(estimator.loss_gradient(x, y), plainly.loss_gradient(x, y))

    return run


CHECKS += [
    Check(
        "Postprocessing defences",
        name,
        postprocessed(name),
        "made for probabilities: put `Softmax()` of `art_snn.classifier` before it; gradients do not see it",
    )
    for name, _ in public(art.defences.postprocessor)
]


def attacked(kind: str, number: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Clean and adversarial training digits."""
    x, y = digits(number)
    seeded()
    attack = ProjectedGradientDescent(victim(kind), eps=0.3, eps_step=0.1, max_iter=5, verbose=False)
    return x, attack.generate(x, y)


def detector(inputs: tuple[int, ...]):
    """A small network that tells clean from adversarial."""
    from art.estimators.classification import PyTorchClassifier

    seeded()
    model = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(inputs)), 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    return PyTorchClassifier(model, nn.CrossEntropyLoss(), inputs, 2, optimizer, device_type="cpu")


def told_apart(found, clean: np.ndarray, adversarial: np.ndarray) -> None:
    clean_flags, adversarial_flags = found.detect(clean)[1], found.detect(adversarial)[1]
    assert len(clean_flags) == len(clean)
    assert np.mean(adversarial_flags) > np.mean(clean_flags) + 0.2


def binary(name: str) -> Callable[[str], None]:
    """A classifier of inputs, or of the firing rates of a hidden layer."""

    def run(kind: str) -> None:
        clean, adversarial = attacked(kind)
        both = np.concatenate([clean, adversarial])
        labels = np.eye(2, dtype=np.float32)[[0] * len(clean) + [1] * len(adversarial)]
        if name == "BinaryInputDetector":
            found = art.defences.detector.evasion.BinaryInputDetector(detector((1, 8, 8)))
        else:
            estimator = victim(kind)
            inside = estimator.get_activations(clean[:1], 10, 1).shape[1:]
            found = art.defences.detector.evasion.BinaryActivationDetector(estimator, detector(inside), layer=10)
        found.fit(both, labels, batch_size=BATCH, nb_epochs=20)
        told_apart(found, clean, adversarial)

    return run


def subset_scanning(kind: str) -> None:
    clean, adversarial = attacked(kind, 60)
    found = art.defences.detector.evasion.SubsetScanningDetector(victim(kind), digits(200)[0], layer=6, verbose=False)
    _, _, power = found.scan(clean, adversarial)
    assert power > 0.6


def beyond(kind: str) -> None:
    x, _ = setting("digits").samples(8)

    class Represented(nn.Module):
        """What ART's detector wants of a self-supervised model: a backbone and heads."""

        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.backbone = network
            self.model = nn.Identity()
            self.projector = nn.Identity()
            self.classifier = nn.Identity()

        def forward(self, x):
            return self.backbone(x)

    ssl = classifier(Represented(victim("plain").model), (1, 8, 8))

    def noise(image):
        return image + 0.05 * torch.randn_like(image)

    found = art.defences.detector.evasion.BeyondDetectorPyTorch(victim(kind), ssl, noise, aug_num=5, var_K=2)
    found.fit(x, None)
    assert len(found.detect(x)[1]) == len(x)


EVASION_DETECTORS = {
    "BinaryInputDetector": binary("BinaryInputDetector"),
    "BinaryActivationDetector": binary("BinaryActivationDetector"),
    "SubsetScanningDetector": subset_scanning,
    "BeyondDetectorPyTorch": beyond,
}


def poisoned(kind: str):
    """Digits of which some zeros are marked by a bright corner and labelled 1; a classifier trained on them."""
    x, y = (part.copy() for part in digits(400))
    labels = y.argmax(1)
    chosen = np.flatnonzero(labels == 0)[:15]
    x[chosen, :, :2, :2] = 1.0
    y[chosen] = np.eye(10, dtype=np.float32)[1]
    estimator = fresh(kind)
    estimator.fit(x, y, batch_size=BATCH, nb_epochs=EPOCHS)
    is_clean = np.ones(len(x), int)
    is_clean[chosen] = 0
    return estimator, x, y, is_clean


def activation_defence(kind: str) -> None:
    estimator, x, y, is_clean = poisoned(kind)
    defence = art.defences.detector.poison.ActivationDefence(estimator, x, y)
    report, judged = defence.detect_poison(nb_clusters=2, nb_dims=5, reduce="PCA")
    assert len(judged) == len(x) and report
    assert np.mean(np.array(judged)[is_clean == 0]) < np.mean(np.array(judged)[is_clean == 1])


def spectral(kind: str) -> None:
    estimator, x, y, _is_clean = poisoned(kind)
    defence = art.defences.detector.poison.SpectralSignatureDefense(
        estimator, x, y, expected_pp_poison=0.1, batch_size=BATCH, eps_multiplier=1.5
    )
    _, judged = defence.detect_poison()
    assert len(judged) == len(x)


def share_right(y: np.ndarray, predicted: np.ndarray) -> float:
    return float((y.argmax(1) == predicted.argmax(1)).mean())


def provenance(kind: str) -> None:
    estimator, x, y, is_clean = poisoned(kind)
    # ART tells samples apart by their single pixels' values, of which digits have 17.
    x = x + np.random.default_rng(0).uniform(0, 1e-3, x.shape).astype(np.float32)
    sources = np.eye(2)[1 - is_clean]
    where = setting("digits")
    defence = art.defences.detector.poison.ProvenanceDefense(
        estimator, x, y, sources, x_val=where.x_test[:50], y_val=where.y_test[:50], perf_func=share_right
    )
    _, judged = defence.detect_poison()
    assert len(judged) == len(x)


def roni(kind: str) -> None:
    where = setting("features")
    x, y = where.x_train[:6], where.y_train[:6]
    defence = art.defences.detector.poison.RONIDefense(
        getattr(where, kind), x, y, where.x_test[:40], where.y_test[:40], pp_cal=0.2, pp_quiz=1.0, perf_func=share_right
    )
    _, judged = defence.detect_poison()
    assert len(judged) == 6


POISON_DETECTORS = {
    "ActivationDefence": activation_defence,
    "SpectralSignatureDefense": spectral,
    "ProvenanceDefense": provenance,
    "RONIDefense": roni,
}


OWN_MEASURE = "give it a `perf_func` of labels and predictions: ART's own knows no one-hot labels"
DETECTOR_NOTES = {
    "ProvenanceDefense": OWN_MEASURE,
    "RONIDefense": "for feature vectors, not images; " + OWN_MEASURE,
}


def unknown(member: type) -> Callable[[str], None]:
    return lambda kind: member(victim(kind))


CHECKS += [
    Check("Detectors", name, known.get(name, unknown(member)), DETECTOR_NOTES.get(name, ""))
    for module, known, skip in (
        (art.defences.detector.evasion, EVASION_DETECTORS, ()),
        (art.defences.detector.poison, POISON_DETECTORS, ("ClusteringAnalyzer", "GroundTruthEvaluator")),
    )
    for name, member in public(module)
    if name not in skip
]


def distillation(kind: str) -> None:
    """A student learns from a teacher's probabilities."""
    teacher = around(kind, postprocessing_defences=Softmax())
    student = fresh(kind, postprocessing_defences=Softmax())
    student.set_params(loss=nn.CrossEntropyLoss())
    transformer = art.defences.transformer.evasion.DefensiveDistillation(teacher, batch_size=BATCH, nb_epochs=EPOCHS)
    x, y = digits()
    assert accuracy(transformer(x, student), x, y) > 0.5


def cleanse(kind: str) -> None:
    estimator, x, y, _ = poisoned(kind)
    transformer = art.defences.transformer.poisoning.NeuralCleanse(estimator)
    transformer(estimator, steps=2, batch_size=BATCH).mitigate(x, y, mitigation_types=["filtering"])


def strip(kind: str) -> None:
    x, _ = digits(30)
    estimator = around(kind, postprocessing_defences=Softmax())
    guarded = art.defences.transformer.poisoning.STRIP(estimator)()
    guarded.mitigate(x[:20])
    assert guarded.predict(x[20:30]).shape == (10, 10)


TRANSFORMERS = {"DefensiveDistillation": distillation, "NeuralCleanse": cleanse, "STRIP": strip}
CHECKS += [
    Check(
        "Transformers",
        name,
        TRANSFORMERS.get(name, unknown(member)),
        "needs probabilities: `Softmax()` of `art_snn.classifier`" if name != "NeuralCleanse" else "",
    )
    for module in (art.defences.transformer.evasion, art.defences.transformer.poisoning)
    for name, member in public(module)
]
