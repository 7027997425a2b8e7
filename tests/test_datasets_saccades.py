"""The embedded event data: a simulated sensor before moving digits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tonic.io import events_struct

from art_snn import datasets
from art_snn.datasets import saccades
from art_snn.datasets.digits import load_images


def test_event_digits_come_in_the_form_of_art_and_split_as_the_digits():
    (x_train, y_train), (x_test, y_test), low, high = datasets.event_digits(limit=40, seed=2)
    assert x_train.shape == x_test.shape == (40, 10, 2, 34, 34)
    assert x_train.dtype == y_train.dtype == np.float32
    assert low == 0.0 == x_train.min() and high == max(x_train.max(), x_test.max())
    (_, labels), (_, test_labels), _, _ = datasets.digits(limit=40, seed=2)
    assert np.array_equal(y_train, labels) and np.array_equal(y_test, test_labels)
    bins = x_train.sum(axis=(2, 3, 4))
    assert (bins.max(axis=1) - bins.min(axis=1) <= 1).all()
    assert 2000 < bins.sum(axis=1).mean() < 8000, "about as many events as in N-MNIST"


def test_event_digits_take_the_settings_of_the_frames():
    (x, _), _, _, high = datasets.event_digits(limit=10, time_steps=3, size=(17, 12), bins="time", binary=True)
    assert x.shape == (10, 3, 2, 17, 12) and high == 1.0 and set(np.unique(x)) == {0.0, 1.0}


def test_event_digits_can_be_scaled_to_one():
    (counts, _), (test_counts, _), _, high = datasets.event_digits(limit=20, size=(16, 16))
    (x, _), (x_test, _), low, top = datasets.event_digits(limit=20, size=(16, 16), scale="max")
    assert (low, top) == (0.0, 1.0) and max(x.max(), x_test.max()) == 1.0
    assert np.array_equal(x, counts / np.float32(high)) and np.array_equal(x_test, test_counts / np.float32(high))


def test_event_digits_repeat_exactly():
    first, again = (datasets.event_digits(limit=20)[0][0] for _ in range(2))
    assert np.array_equal(first, again)


def test_events_are_those_of_tonic_in_order_and_on_the_sensor():
    images, _ = load_images()
    recordings = saccades.simulate(images[:105, 0])  # more than are simulated at once
    assert len(recordings) == 105
    for events in recordings:
        assert events.dtype == events_struct
        assert (np.diff(events["t"]) >= 0).all() and events["t"][0] >= 0 and events["t"][-1] <= 300_000
        assert events["x"].min() >= 0 and events["x"].max() < 34 and events["y"].min() >= 0 and events["y"].max() < 34
    alone = saccades.simulate(images[104:105, 0])[0]
    assert np.array_equal(alone, recordings[104]), "a recording does not depend on the others"


def test_the_camera_returns_so_that_what_grew_fades():
    """After the third saccade every pixel sees what it saw at first: its events cancel but for one at most."""
    images, _ = load_images()
    for events in saccades.simulate(images[:5, 0], threshold=0.2):
        balance = np.zeros((34, 34))
        np.add.at(balance, (events["y"], events["x"]), np.where(events["p"], 1, -1))
        assert np.abs(balance).max() <= 1


def test_an_event_is_where_the_log_intensity_crosses_the_next_threshold():
    images, _ = load_images()
    image, threshold = images[3], 0.25
    (events,) = saccades.simulate(image, threshold=threshold)
    views = zip(*saccades._views(8), strict=True)
    seen = np.stack([saccades._log_intensity(image, rows, columns)[0] for rows, columns in views])

    memory = seen[0].copy()
    for x, y, t, p in events:
        memory[y, x] += threshold if p else -threshold
        step, rest = divmod(min(t, 299_999), saccades.STEP)
        between = seen[step, y, x] + (seen[step + 1, y, x] - seen[step, y, x]) * rest / saccades.STEP
        assert memory[y, x] == pytest.approx(between, abs=2e-3)  # times are whole microseconds
    assert np.abs(seen[-1] - memory).max() < threshold + 1e-9, "and no crossing was missed"


def test_a_blank_image_gives_no_events():
    (events,) = saccades.simulate(np.zeros((1, 8, 8)))
    assert len(events) == 0


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_a_bad_threshold_is_named(threshold):
    with pytest.raises(ValueError, match="threshold"):
        datasets.event_digits(limit=1, threshold=threshold)


def test_the_digits_can_be_told_apart():
    (x_train, y_train), (x_test, y_test), _, _ = datasets.event_digits(limit=300, size=(17, 17))
    model = LogisticRegression(C=0.01, max_iter=500)
    model.fit(x_train.reshape(len(x_train), -1), y_train.argmax(axis=1))
    assert model.score(x_test.reshape(len(x_test), -1), y_test.argmax(axis=1)) > 0.85
