"""Frames, and the event-camera data sets: tiny recordings in the true formats, read by tonic."""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tonic.io import events_struct, read_aedat4, read_mnist_file
from tonic.transforms import ToFrame

from art_snn import datasets
from art_snn.datasets import events as loaders

CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def random_events(number: int, seed: int = 0, side: int = 34, duration: int = 300_000) -> np.ndarray:
    generator = np.random.default_rng(seed)
    events = np.empty(number, dtype=events_struct)
    events["x"] = generator.integers(0, side, number)
    events["y"] = generator.integers(0, side, number)
    events["t"] = np.sort(generator.integers(0, duration, number))
    events["p"] = generator.integers(0, 2, number)
    return events


def frames(events: np.ndarray, **options) -> np.ndarray:
    return datasets.event_frames(events, **{"sensor": (34, 34), **options})


# --- Frames ---


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 9))
def test_full_bins_of_equal_number_are_those_of_tonic(time_steps, per_bin, seed):
    events = random_events(time_steps * per_bin, seed)
    expected = ToFrame(sensor_size=(34, 34, 2), n_event_bins=time_steps)(events)
    assert np.array_equal(frames(events, time_steps=time_steps), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 200), st.integers(1, 10**6), st.sampled_from(["count", "time"]))
def test_every_event_is_counted_once_in_the_order_of_time(time_steps, number, duration, bins):
    events = random_events(number, number, duration=duration)
    counts = frames(events, time_steps=time_steps, bins=bins)
    assert counts.shape == (time_steps, 2, 34, 34) and counts.dtype == np.uint16
    pixels = np.zeros((2, 34, 34), dtype=int)
    np.add.at(pixels, (events["p"].astype(int), events["y"], events["x"]), 1)
    assert np.array_equal(counts.sum(axis=0), pixels)
    numbers = counts.sum(axis=(1, 2, 3)).astype(int)
    if bins == "count":
        assert numbers.max() - numbers.min() <= 1
    else:
        start, stop = events["t"][0], events["t"][-1] + 1
        edges = start + (stop - start) * np.arange(time_steps + 1) / time_steps
        assert numbers.tolist() == np.histogram(events["t"], bins=edges)[0].tolist()


def test_tonic_would_leave_events_out():
    """The reason for counting ourselves; should this fail, tonic's transform can take over."""
    events = random_events(7)
    assert ToFrame(sensor_size=(34, 34, 2), n_event_bins=10)(events).sum() == 0
    assert ToFrame(sensor_size=(34, 34, 2), n_time_bins=2)(events).sum() < 7


def test_events_out_of_order_are_put_in_order():
    events = random_events(100)
    events["t"] = np.arange(100)
    shuffled = events[np.random.default_rng(0).permutation(100)]
    for bins in ("count", "time"):
        assert np.array_equal(frames(shuffled, bins=bins), frames(events, bins=bins))


def test_resizing_sums_the_events_of_a_block():
    counts = frames(random_events(1000), time_steps=4)
    small = frames(random_events(1000), time_steps=4, size=(17, 2))
    assert np.array_equal(small, counts.reshape(4, 2, 17, 2, 2, 17).sum(axis=(3, 5)))
    assert small.dtype == np.uint16


def an_event_everywhere(side: int) -> np.ndarray:
    """One event in every pixel of a square sensor."""
    events = np.zeros(side * side, dtype=events_struct)
    events["y"], events["x"] = np.divmod(np.arange(side * side), side)
    return events


@pytest.mark.parametrize(
    ("side", "length"),
    [(34, 32), (34, 33), (34, 17), (34, 16), (34, 20), (34, 31), (128, 48), (128, 120), (128, 112), (128, 64)],
)
def test_no_row_or_column_of_a_frame_is_weighted_differently(side, length):
    light = datasets.event_frames(an_event_everywhere(side), sensor=(side, side), size=(length, length), time_steps=1)
    cropped = side - length <= side // 16
    assert light[0, 0] == pytest.approx(1.0 if cropped else (side / length) ** 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 39))
def test_every_event_weighs_one_wherever_it_is_unless_it_is_cropped(side, length, place):
    length, place = min(length, side), place % side
    event = np.array([(place, place, 0, True)], dtype=events_struct)
    options = {"sensor": (side, side), "time_steps": 1, "size": (length, length)}
    margin = side - length if side - length <= side // 16 else 0
    if margin // 2 <= place < side - (margin + 1) // 2:
        assert datasets.event_frames(event, **options).sum() == pytest.approx(1.0)
    else:
        with pytest.raises(ValueError, match="no events"):
            datasets.event_frames(event, **options)


def test_an_event_is_shared_out_by_the_overlap_of_its_pixel():
    events = np.array([(2, 1, 0, True), (3, 0, 0, True)], dtype=events_struct)
    # Three rows become two, half a row in each; four columns become three, of 4/3 each.
    counts = datasets.event_frames(events, sensor=(3, 4), time_steps=1, size=(2, 3))
    assert counts.dtype == np.float32
    assert counts[0, 1] == pytest.approx(np.array([[0, 1 / 3, 1 / 6 + 1], [0, 1 / 3, 1 / 6]]))
    assert counts[0, 0].max() == 0.0


@pytest.mark.parametrize("bins", ["count", "time"])
def test_a_size_close_to_the_sensors_is_what_a_sensor_in_the_middle_sees(bins):
    events = random_events(3000)
    inner = events[(events["x"] >= 1) & (events["x"] < 33) & (events["y"] >= 1) & (events["y"] < 33)]
    inner["x"], inner["y"] = inner["x"] - 1, inner["y"] - 1
    small = frames(events, size=(32, 32), bins=bins)
    assert small.dtype == np.uint16
    assert np.array_equal(small, datasets.event_frames(inner, sensor=(32, 32), bins=bins))
    if bins == "count":
        numbers = small.sum(axis=(1, 2, 3)).astype(int)
        assert numbers.max() - numbers.min() <= 1


def test_a_size_a_little_larger_than_the_sensors_is_padded():
    events = random_events(500)
    large = frames(events, size=(35, 36))
    assert np.array_equal(large[:, :, 1:, 1:35], frames(events)) and large.sum() == 500


def test_a_recording_with_no_event_in_the_middle_says_so():
    events = np.zeros(5, dtype=events_struct)
    with pytest.raises(ValueError, match="no events in the middle 32 x 32 pixels"):
        frames(events, size=(32, 32))


def test_height_and_width_are_not_confused():
    events = np.array([(5, 1, 0, True)], dtype=events_struct)
    assert np.argwhere(datasets.event_frames(events, sensor=(2, 6), time_steps=1)).tolist() == [[0, 1, 1, 5]]
    with pytest.raises(ValueError, match=r"x outside 0 \.\.\. 1, such as 5"):
        datasets.event_frames(events, sensor=(6, 2), time_steps=1)


@pytest.mark.parametrize(("field", "value"), [("x", 34), ("y", -1), ("y", 200)])
def test_an_event_outside_the_sensor_is_an_error(field, value):
    events = random_events(20)
    events[field][7] = value
    with pytest.raises(ValueError, match=f"1 of 20 events have {field} outside 0 ... 33, such as {value}"):
        frames(events)


def test_a_count_too_large_for_its_16_bits_is_an_error():
    events = np.zeros(70_000, dtype=events_struct)
    assert frames(events, time_steps=2).max() == 35_000  # where 16 bits with a sign would be negative
    with pytest.raises(ValueError, match="70000 events in one pixel"):
        frames(events, time_steps=1)


def test_no_events_is_an_error():
    with pytest.raises(ValueError, match="no events"):
        frames(random_events(0))


@pytest.mark.parametrize(
    "options",
    [{"time_steps": 0}, {"time_steps": 2.0}, {"size": (37, 34)}, {"size": 34}, {"size": (0, 1)}, {"bins": "events"}],
)
def test_bad_framing_is_named_before_a_file_is_opened(options, tmp_path):
    name = next(iter(options))
    with pytest.raises(ValueError, match=name):
        frames(random_events(20), **options)
    with pytest.raises(ValueError, match=name):
        datasets.nmnist(tmp_path, **options)
    with pytest.raises(ValueError, match=name):
        datasets.event_digits(**options)


# --- N-MNIST ---


def write_bin(path: Path, events: np.ndarray) -> None:
    """Bytes x, y, then polarity in the highest bit and 23 bits of time; y = 240 marks an overflow of the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = np.empty((len(events), 5), dtype=np.uint8)
    record[:, 0], record[:, 1] = events["x"], events["y"]
    record[:, 2] = events["p"].astype(int) << 7 | events["t"] >> 16
    record[:, 3], record[:, 4] = events["t"] >> 8 & 255, events["t"] & 255
    path.write_bytes(record.tobytes())


@pytest.fixture
def nmnist_root(tmp_path) -> Path:
    for part, number in (("Train", 3), ("Test", 2)):
        for digit in range(10):
            for index in range(number):
                seed = 100 * (part == "Test") + 10 * digit + index
                write_bin(
                    tmp_path / "data" / "NMNIST" / part / str(digit) / f"{index:05}.bin", random_events(205, seed)
                )
    return tmp_path / "data"


def nmnist(root: Path, **options):
    return datasets.nmnist(root, cache_dir=root.parent / "cache", **options)


def test_nmnist_reads_a_subset_in_the_form_of_art(nmnist_root):
    (x_train, y_train), (x_test, _), low, high = nmnist(nmnist_root, time_steps=5)
    assert x_train.shape == (30, 5, 2, 34, 34) and x_test.shape == (20, 5, 2, 34, 34)
    assert x_train.dtype == y_train.dtype == x_test.dtype == np.float32
    assert low == 0.0 and high == max(x_train.max(), x_test.max()) and isinstance(high, float)
    assert y_train.argmax(axis=1).tolist() == sorted(list(range(10)) * 3)
    assert np.array_equal(x_train[3 * 7 + 1], frames(random_events(205, 71), time_steps=5))
    assert np.array_equal(x_test[2 * 4], frames(random_events(205, 140), time_steps=5))
    assert np.array_equal(x_train, nmnist(nmnist_root / "NMNIST", time_steps=5)[0][0]), "the folder itself will do"


def test_nmnist_takes_its_settings(nmnist_root):
    events = random_events(205)  # the first recording
    (x, _), _, _, _ = nmnist(nmnist_root)
    assert np.array_equal(x[0], frames(events, time_steps=10))
    (x, _), _, _, _ = nmnist(nmnist_root, bins="time", size=(17, 10), time_steps=3)
    assert np.array_equal(x[0], frames(events, bins="time", size=(17, 10), time_steps=3))
    (x, _), _, low, high = nmnist(nmnist_root, time_steps=1, size=(2, 2), binary=True)
    assert (low, high) == (0.0, 1.0) and x[0].tolist() == np.ones((1, 2, 2, 2)).tolist()


def test_the_cache_of_frames_has_a_key_for_every_setting(nmnist_root):
    cache = nmnist_root.parent / "cache"
    settings = [{}, {"time_steps": 4}, {"size": (30, 30)}, {"bins": "time"}, {"limit": 10}, {"limit": 10, "seed": 1}]
    for number, options in enumerate(settings[:4], start=1):
        nmnist(nmnist_root, **options)
        assert len(list(cache.glob("*.npy"))) == 2 * number
    first, other, whole = (
        datasets.nmnist(nmnist_root, cache_dir=nmnist_root.parent / f"cache{'' if number == 2 else number}", **options)
        for number, options in enumerate([settings[4], settings[5], settings[4]])
    )
    assert np.array_equal(first[0][0], whole[0][0]) and not np.array_equal(first[0][0], other[0][0])


def test_the_cache_serves_the_second_time_and_notices_a_changed_recording(nmnist_root):
    nmnist(nmnist_root)
    path = nmnist_root / "NMNIST" / "Train" / "0" / "00000.bin"
    times = {file: file.stat().st_mtime_ns for file in (nmnist_root.parent / "cache").glob("*.npy")}
    nmnist(nmnist_root)
    assert {file: file.stat().st_mtime_ns for file in (nmnist_root.parent / "cache").glob("*.npy")} == times
    write_bin(path, random_events(206, 5))
    assert nmnist(nmnist_root)[0][0][0].sum() == 206


def test_nmnist_with_a_limit(nmnist_root):
    (_, y_train), (_, y_test), _, _ = nmnist(nmnist_root, limit=10)
    assert y_train.sum(axis=0).tolist() == y_test.sum(axis=0).tolist() == [1.0] * 10
    assert sum(len(np.load(file)) for file in (nmnist_root.parent / "cache").glob("*.npy")) == 20


def test_overflows_of_the_time_are_no_events(nmnist_root):
    events = random_events(50)
    events["y"][20] = 240
    write_bin(nmnist_root / "NMNIST" / "Train" / "0" / "00000.bin", events)
    assert nmnist(nmnist_root)[0][0][0].sum() == 49


def test_some_digits_only_keep_their_labels(nmnist_root):
    for part in ("Train", "Test"):
        for digit in "012345678":
            for file in (nmnist_root / "NMNIST" / part / digit).iterdir():
                file.unlink()
            (nmnist_root / "NMNIST" / part / digit).rmdir()
    (_, y), _, _, _ = nmnist(nmnist_root)
    assert y.shape == (3, 10) and y.argmax(axis=1).tolist() == [9, 9, 9]


def outside(events: np.ndarray) -> np.ndarray:
    events["x"][3] = 34
    return events


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "is 0 bytes long"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2]), "is 1023 bytes long, expected 5 for each event"),
        (lambda path: write_bin(path, outside(random_events(9))), "1 of 9 events have x outside"),
        (lambda path: path.write_bytes(b"\x00\xf0\x00\x00\x00" * 4), "no events"),
        (lambda path: path.write_bytes(b"hello"), "outside"),
    ],
    ids=["empty", "truncated", "outside", "no events", "foreign"],
)
def test_a_bad_recording_is_named(nmnist_root, damage, message):
    path = nmnist_root / "NMNIST" / "Test" / "6" / "00001.bin"
    damage(path)
    with pytest.raises(ValueError) as caught:
        nmnist(nmnist_root)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


@pytest.mark.parametrize("size", [(34, 34), (20, 20)])
def test_frames_can_be_scaled_to_one_by_one_number_for_all(nmnist_root, size):
    counts = nmnist(nmnist_root, size=size, time_steps=3)
    largest = counts[3]
    assert largest > 1.0
    (x_train, y_train), (x_test, _), low, high = nmnist(nmnist_root, size=size, time_steps=3, scale="max")
    assert (low, high) == (0.0, 1.0) and max(x_train.max(), x_test.max()) == 1.0
    assert np.array_equal(x_train, counts[0][0] / np.float32(largest))
    assert np.array_equal(x_test, counts[1][0] / np.float32(largest)) and x_test.dtype == np.float32
    assert np.array_equal(y_train, counts[0][1])
    again = nmnist(nmnist_root, size=size, time_steps=3, scale=largest)
    assert np.array_equal(again[0][0], x_train) and again[2:] == (0.0, 1.0)
    larger = nmnist(nmnist_root, size=size, time_steps=3, scale=8)
    assert np.array_equal(larger[1][0], counts[1][0] / np.float32(8)) and larger[2:] == (0.0, 1.0)


def test_a_scale_below_what_the_frames_hold_is_refused(nmnist_root):
    largest = nmnist(nmnist_root, time_steps=1)[3]
    with pytest.raises(ValueError, match=f"scale must be at least the largest value of a frame, {largest:g}, got 1"):
        nmnist(nmnist_root, time_steps=1, scale=1)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), True, "min", [2.0]])
def test_a_bad_scale_is_named_before_a_file_is_opened(scale, tmp_path):
    for load in (datasets.nmnist, datasets.cifar10dvs, datasets.dvsgesture):
        with pytest.raises(ValueError, match="scale must be 'max' or a number above 0"):
            load(tmp_path, scale=scale)
    with pytest.raises(ValueError, match="scale must be 'max' or a number above 0"):
        datasets.event_digits(scale=scale)


def test_binary_frames_have_no_scale(tmp_path):
    with pytest.raises(ValueError, match="scale belongs to counts"):
        datasets.nmnist(tmp_path, binary=True, scale="max")


@pytest.mark.parametrize("size", [(34, 34), (32, 32), (20, 20)])
def test_stray_events_can_be_left_out_which_is_said_each_time(nmnist_root, size, caplog):
    clean = nmnist(nmnist_root, size=size)
    files = [nmnist_root / "NMNIST" / "Train" / "4" / "00001.bin", nmnist_root / "NMNIST" / "Test" / "9" / "00000.bin"]
    for file, seed, number in ((files[0], 41, 1), (files[1], 190, 3)):
        strays = random_events(number)
        strays["x"] = 34 + np.arange(number)
        write_bin(file, np.concatenate([strays, random_events(205, seed)]))
    with pytest.raises(ValueError, match=r"1 of 206 events have x outside .* drop_outside=True .* leaves such events"):
        nmnist(nmnist_root, size=size)
    for _ in ("decoded", "from the cache"):
        caplog.clear()
        found = nmnist(nmnist_root, size=size, drop_outside=True)
        assert np.array_equal(found[0][0], clean[0][0]) and np.array_equal(found[1][0], clean[1][0])
        assert (
            f"1 events outside the sensor's 34 x 34 pixels left out, in 1 of 30 recordings: {files[0]} (1 of 206)"
            in (caplog.text)
        )
        assert (
            f"3 events outside the sensor's 34 x 34 pixels left out, in 1 of 20 recordings: {files[1]} (3 of 208)"
            in (caplog.text)
        )
    with pytest.raises(ValueError, match="outside"):
        nmnist(nmnist_root, size=size)  # what was decoded with the option is not found without it


def test_a_limit_says_what_was_left_out_of_its_own_recordings_only(nmnist_root, caplog):
    for index in range(2):
        file = nmnist_root / "NMNIST" / "Test" / "6" / f"{index:05}.bin"
        write_bin(file, np.concatenate([outside(random_events(9)), random_events(50)]))
    nmnist(nmnist_root, drop_outside=True)
    assert "2 events" in caplog.text and "in 2 of 20 recordings" in caplog.text
    caplog.clear()
    nmnist(nmnist_root, drop_outside=True, limit=10)
    assert "1 events" in caplog.text and "in 1 of 10 recordings" in caplog.text


@pytest.mark.parametrize(
    ("strays", "message"),
    [({"x": 34}, "no events"), ({"p": 2}, "p outside 0 ... 1")],
    ids=["nothing is left", "no polarity"],
)
def test_a_recording_of_another_sensor_or_format_is_refused_nevertheless(strays, message, tmp_path):
    folder = tmp_path / "DVSGesture"
    for part in ("Train", "Test"):
        (folder / f"ibmGesture{part}" / "user01_lab").mkdir(parents=True)
        events = gesture(20, 0)
        events[:, ["x", "y", "p"].index(next(iter(strays)))] = next(iter(strays.values())) + 100 * ("x" in strays)
        np.save(folder / f"ibmGesture{part}" / "user01_lab" / "3.npy", events)
    with pytest.raises(ValueError, match=message):
        dvsgesture(tmp_path, drop_outside=True)


@pytest.mark.parametrize(
    "place", ["Train/10/00000.bin", "Train/zero/00000.bin", "Train/3/notes.txt", "Train/3/x/1.bin"]
)
def test_what_is_no_recording_of_a_class_is_named(nmnist_root, place):
    path = nmnist_root / "NMNIST" / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x00" * 5)
    with pytest.raises(ValueError, match=f"{place.rsplit('/', 1)[0]}.*: expected only"):
        nmnist(nmnist_root)


def test_a_missing_part_or_an_empty_class_is_named(nmnist_root):
    (nmnist_root / "NMNIST" / "Test").rename(nmnist_root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="Test: no such folder"):
        nmnist(nmnist_root)
    (nmnist_root / "NMNIST" / "Test").mkdir()
    with pytest.raises(FileNotFoundError, match="Test: is empty"):
        nmnist(nmnist_root)
    (nmnist_root / "NMNIST" / "Test" / "4").mkdir()
    with pytest.raises(FileNotFoundError, match="Test/4: is empty"):
        nmnist(nmnist_root)


@pytest.mark.parametrize(
    ("loader", "folder", "source"),
    [
        (datasets.nmnist, "NMNIST", "https://doi.org/10.17632/468j46mzdv.1"),
        (datasets.cifar10dvs, "CIFAR10DVS", "https://doi.org/10.6084/m9.figshare.4724671.v2"),
        (datasets.dvsgesture, "DVSGesture", "https://research.ibm.com/interactive/dvsgesture/"),
    ],
)
def test_a_missing_data_set_says_what_to_download_and_where_to(loader, folder, source, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        loader(tmp_path)
    assert source in str(caught.value) and str(tmp_path / folder) in str(caught.value)
    assert "download=True" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# --- CIFAR10-DVS ---

EVENT_RECORD = np.dtype(
    {
        "names": ["t", "x", "y", "p"],
        "formats": ["<i8", "<i2", "<i2", "?"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)
STREAMS = (
    '<dv version="2.0"><node name="outInfo" path="/mainloop/output/outInfo/">'
    '<node name="0" path="/mainloop/output/outInfo/0/">'
    '<attr key="compression" type="string">NONE</attr>'
    '<attr key="typeIdentifier" type="string">{kind}</attr>'
    '<node name="info" path="/mainloop/output/outInfo/0/info/">'
    '<attr key="sizeX" type="int">128</attr><attr key="sizeY" type="int">128</attr></node>'
    "</node></node></dv>"
)


def flat_header(kind: str, table_position: int = -1) -> bytes:
    """The IOHeader of AEDAT 4, a FlatBuffer: no compression, where the table of packets is, which streams there are."""
    text = STREAMS.format(kind=kind).encode()
    table = 24
    fields = struct.pack("<5H", 10, 16, 0, 8, 4)  # size of this list and of the table; where the three fields are
    buffer = struct.pack("<I4s", table, b"IOHE") + fields
    buffer = buffer.ljust(table, b"\0")
    buffer += struct.pack("<iIq", table - 8, 12, table_position)  # back to the list; on to the text
    return buffer + struct.pack("<I", len(text)) + text + b"\0"


def flat_packet(events: np.ndarray) -> bytes:
    """An EventPacket of AEDAT 4, a FlatBuffer that holds one vector of events."""
    table = 16
    buffer = struct.pack("<I4s", table, b"EVTS") + struct.pack("<3H", 6, 8, 4)
    buffer = buffer.ljust(table, b"\0")
    buffer += struct.pack("<iI", table - 8, 8) + b"\0" * 4  # back to the list; on to the vector, aligned
    return buffer + struct.pack("<I", len(events)) + events.astype(EVENT_RECORD).tobytes()


def flip_a_bit(path: Path, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


def write_aedat4(
    path: Path, events: np.ndarray, per_packet: int = 100, kind: str = "EVTS", table: bytes = b""
) -> list[int]:
    """Write a recording, with what stands for a table of packets behind them; return where each packet ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [b"#!AER-DAT4.0\r\n", b"", b""]
    ends, end = [], 18 + len(flat_header(kind))
    for start in range(0, len(events), per_packet):
        packet = flat_packet(events[start : start + per_packet])
        parts.append(struct.pack("<iiI", 0, len(packet) + 4, len(packet)) + packet)
        end += len(parts[-1])
        ends.append(end)
    header = flat_header(kind, end if table else -1)
    parts[1:3] = struct.pack("<I", len(header)), header
    path.write_bytes(b"".join(parts) + table)
    return ends


def cut_between_packets(path: Path) -> None:
    """What only the table of packets betrays: a recording without one may end after any packet."""
    first, *_ = write_aedat4(path, dvs_events(250, 0), table=b"the table")
    path.write_bytes(path.read_bytes()[:first])


def dvs_events(number: int, seed: int) -> np.ndarray:
    events = random_events(number, seed, side=128)[["t", "x", "y", "p"]]
    events["t"] += 1_500_000_000_000_000  # microseconds since 1970
    return events


def test_the_aedat4_written_here_is_read_by_tonic(tmp_path):
    events = dvs_events(250, 0)
    write_aedat4(tmp_path / "a.aedat4", events)
    found = read_aedat4(str(tmp_path / "a.aedat4"))
    for mine, theirs in zip(("t", "x", "y", "p"), found.dtype.names, strict=True):
        assert np.array_equal(events[mine], found[theirs])


@pytest.fixture
def dvs_root(tmp_path) -> Path:
    for label, name in enumerate(CIFAR10_NAMES):
        for index in range(10):
            path = tmp_path / "data" / "CIFAR10DVS" / name / f"cifar10_{name}_{index}.aedat4"
            write_aedat4(path, dvs_events(150 + 10 * label + index, 10 * label + index))
    (tmp_path / "data" / "CIFAR10DVS" / "airplane.zip").write_bytes(b"what the download leaves")
    return tmp_path / "data"


def cifar10dvs(root: Path, **options):
    return datasets.cifar10dvs(root, cache_dir=root.parent / "cache", **options)


def test_cifar10dvs_splits_nine_to_one_by_the_seed(dvs_root, caplog):
    with caplog.at_level(logging.INFO, logger="art_snn"):
        (x_train, y_train), (x_test, y_test), low, high = cifar10dvs(dvs_root, seed=3)
    assert "90 training, 10 test recordings, split by seed 3" in caplog.text
    assert x_train.shape == (90, 10, 2, 48, 48) and x_test.shape == (10, 10, 2, 48, 48)
    assert x_train.dtype == np.float32 and low == 0.0 and high == max(x_train.max(), x_test.max())
    assert y_train.sum(axis=0).tolist() == [9.0] * 10 and y_test.sum(axis=0).tolist() == [1.0] * 10

    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test]).argmax(axis=1)
    numbers = np.rint(x.sum(axis=(1, 2, 3, 4))).astype(int) - 150  # they tell which recording it is: 10 * label + index
    assert sorted(numbers) == list(range(100)) and np.array_equal(numbers // 10, y)
    expected = datasets.event_frames(dvs_events(150 + numbers[0], numbers[0]), sensor=(128, 128), size=(48, 48))
    assert np.array_equal(x[0], expected)

    assert np.array_equal(x_test, cifar10dvs(dvs_root, seed=3)[1][0])
    assert not np.array_equal(x_test, cifar10dvs(dvs_root, seed=4)[1][0])
    assert len(list((dvs_root.parent / "cache").glob("*.npy"))) == 1, "one cache serves every split"


def test_cifar10dvs_with_a_limit(dvs_root):
    (x_train, y_train), (x_test, _), _, high = cifar10dvs(dvs_root, limit=20, binary=True, test_size=0.3)
    assert y_train.sum(axis=0).tolist() == [2.0] * 10 and len(x_test) == 20
    assert high == 1.0 and set(np.unique(x_train)) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "not a whole .aedat4 recording"),
        (lambda path: path.write_bytes(b"hello" * 100), "not a whole .aedat4 recording"),
        (lambda path: flip_a_bit(path, 18), "not a whole .aedat4 recording"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "not a whole .aedat4 recording"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "not a whole .aedat4 recording"),
        (cut_between_packets, "not a whole .aedat4 recording"),
        (lambda path: write_aedat4(path, dvs_events(0, 0)), "not a whole .aedat4 recording"),
        (lambda path: write_aedat4(path, dvs_events(9, 0)[:0], kind="TRIG"), "not a whole .aedat4 recording"),
        (lambda path: write_aedat4(path, random_events(9, side=346)), "outside 0 ... 127"),
    ],
    ids=["empty", "foreign", "damaged", "truncated", "half a header", "cut", "no packet", "no events", "other sensor"],
)
def test_a_bad_aedat4_is_named(dvs_root, damage, message):
    path = dvs_root / "CIFAR10DVS" / "cat" / "cifar10_cat_3.aedat4"
    damage(path)
    with pytest.raises(ValueError) as caught:
        cifar10dvs(dvs_root)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


def test_a_folder_that_is_no_class_of_cifar10_is_named(dvs_root):
    (dvs_root / "CIFAR10DVS" / "cat").rename(dvs_root / "CIFAR10DVS" / "lion")
    with pytest.raises(ValueError, match="CIFAR10DVS/lion: expected only the class folders"):
        cifar10dvs(dvs_root)


# --- DVS128 Gesture ---


def gesture(number: int, seed: int) -> np.ndarray:
    events = random_events(number, seed, side=128, duration=6000)
    return np.stack([events[name].astype(np.float64) for name in ("x", "y", "p", "t")], axis=1)


@pytest.fixture
def gesture_root(tmp_path) -> Path:
    for part, user in (("Train", "user01"), ("Test", "user24")):
        folder = tmp_path / "data" / "DVSGesture" / f"ibmGesture{part}" / f"{user}_fluorescent_led"
        folder.mkdir(parents=True)
        for label in range(11):
            np.save(folder / f"{label}.npy", gesture(300 + label, label))
    return tmp_path / "data"


def dvsgesture(root: Path, **options):
    return datasets.dvsgesture(root, cache_dir=root.parent / "cache", **options)


def test_dvsgesture_takes_labels_from_file_names(gesture_root):
    (x_train, y_train), (x_test, y_test), _, high = dvsgesture(gesture_root, size=(32, 32), time_steps=4)
    assert x_train.shape == x_test.shape == (11, 4, 2, 32, 32) and high == x_train.max()
    assert np.array_equal(y_train.sum(axis=0), np.ones(11)) and y_test.shape == (11, 11)
    for x, y in zip(x_train, y_train.argmax(axis=1), strict=True):
        events = random_events(300 + y, y, side=128, duration=6000)
        assert np.array_equal(x, datasets.event_frames(events, sensor=(128, 128), size=(32, 32), time_steps=4))


def test_a_download_is_left_to_tonic_which_downloads_nothing_that_is_complete(gesture_root):
    for part, number in (("Train", 1), ("Test", 24)):
        for user in range(number, number + 10):  # tonic wants the archive and a hundred files
            folder = gesture_root / "DVSGesture" / f"ibmGesture{part}" / f"user{user:02}_lab"
            folder.mkdir()
            for label in range(11):
                np.save(folder / f"{label}.npy", gesture(20, label))
        (gesture_root / "DVSGesture" / f"ibmGesture{part}.tar.gz").write_bytes(b"the archive")
    (x_train, y_train), _, _, _ = dvsgesture(gesture_root, size=(8, 8), download=True)
    assert x_train.shape == (121, 10, 2, 8, 8) and y_train.sum(axis=0).tolist() == [11.0] * 11


def test_a_download_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tonic.datasets.CIFAR10DVS.url", "http://127.0.0.1:1/CIFAR10DVS.zip")
    with pytest.raises(OSError, match=f"CIFAR10-DVS could not be downloaded to {tmp_path}: .*refused"):
        datasets.cifar10dvs(tmp_path, download=True)


@pytest.mark.parametrize(
    "content",
    [None, np.zeros((4, 3)), np.zeros((0, 4)), np.full((3, 4), np.nan), np.full((3, 4), 200), np.array(["a", "b"])],
    ids=["foreign", "columns", "no events", "nan", "outside", "text"],
)
def test_a_bad_gesture_is_named(gesture_root, content):
    path = gesture_root / "DVSGesture" / "ibmGestureTrain" / "user01_fluorescent_led" / "5.npy"
    path.write_bytes(b"hello") if content is None else np.save(path, content)
    with pytest.raises(ValueError) as caught:
        dvsgesture(gesture_root)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_place_or_polarity_that_is_no_whole_number_is_an_error(gesture_root, column):
    events = gesture(20, 0)
    events[5, column] = -0.5  # which a cast would make 0
    path = gesture_root / "DVSGesture" / "ibmGestureTrain" / "user01_fluorescent_led" / "5.npy"
    np.save(path, events)
    with pytest.raises(ValueError, match=r"5\.npy: holds x, y or p that are no whole numbers, such as -0\.5"):
        dvsgesture(gesture_root)


def test_fractions_of_a_millisecond_count(tmp_path):
    file = tmp_path / "0.npy"
    np.save(file, np.array([[1, 2, 0, 0.0], [1, 2, 0, 0.25], [1, 2, 1, 0.75], [3, 2, 1, 1.0]]))
    assert loaders._read_npy(file)["t"].tolist() == [0, 250, 750, 1000]


@pytest.mark.parametrize("name", ["11.npy", "wave.npy", "05.npy", "5.txt"])
def test_a_gesture_without_a_label_is_named(gesture_root, name):
    folder = gesture_root / "DVSGesture" / "ibmGestureTest" / "user24_fluorescent_led"
    np.save(gesture_root / "x.npy", gesture(5, 0))
    (gesture_root / "x.npy").rename(folder / name)
    with pytest.raises(ValueError, match=f"{name}: expected only files named"):
        dvsgesture(gesture_root)


def test_a_folder_that_is_no_user_is_named(gesture_root):
    (gesture_root / "DVSGesture" / "ibmGestureTest" / "somebody").mkdir()
    with pytest.raises(ValueError, match="somebody: expected only folders named like"):
        dvsgesture(gesture_root)


# --- The real recordings, where they are at hand ---

DATA = os.environ.get("ART_SNN_DATA", "")


@pytest.mark.skipif(not Path(DATA, "NMNIST").is_dir() or not DATA, reason="ART_SNN_DATA names no folder with NMNIST")
def test_real_nmnist(tmp_path):
    (x_train, y_train), (x_test, _), low, high = datasets.nmnist(DATA, limit=50, cache_dir=tmp_path / "cache")
    assert x_train.shape == x_test.shape == (50, 10, 2, 34, 34) and low == 0.0 and high >= 1.0
    assert y_train.sum(axis=0).tolist() == [5.0] * 10
    bins = x_train.sum(axis=(2, 3, 4))
    assert (bins.max(axis=1) - bins.min(axis=1) <= 1).all() and 2000 < bins.sum(axis=1).mean() < 8000

    file = sorted(Path(DATA, "NMNIST", "Train", "0").iterdir())[0]
    events = read_mnist_file(str(file), dtype=events_struct)
    whole = len(events) // 10 * 10
    expected = ToFrame(sensor_size=(34, 34, 2), n_event_bins=10)(events[:whole])
    assert np.array_equal(frames(events[:whole]), expected)


@pytest.mark.skipif(not Path(DATA, "CIFAR10DVS").is_dir() or not DATA, reason="ART_SNN_DATA holds no CIFAR10DVS")
def test_real_cifar10dvs(tmp_path):
    (x_train, y_train), (x_test, _), _, _ = datasets.cifar10dvs(DATA, limit=20, cache_dir=tmp_path / "cache")
    assert x_train.shape == x_test.shape == (20, 10, 2, 48, 48)
    assert y_train.sum(axis=0).tolist() == [2.0] * 10
    bins = x_train.sum(axis=(2, 3, 4))
    assert (bins.max(axis=1) - bins.min(axis=1) <= 1.01).all()  # events are shared out, up to rounding


@pytest.mark.skipif(not Path(DATA, "DVSGesture").is_dir() or not DATA, reason="ART_SNN_DATA holds no DVSGesture")
def test_real_dvsgesture(tmp_path):
    (x_train, y_train), _, _, _ = datasets.dvsgesture(DATA, limit=22, cache_dir=tmp_path / "cache")
    assert x_train.shape == (22, 10, 2, 128, 128)
    assert y_train.sum(axis=0).tolist() == [2.0] * 11
