"""Training: what a batch is, that a run can be cut anywhere, and what it says when it cannot run."""

import dataclasses
import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from art_snn import PyTorchSNNClassifier, datasets, files, models, neurons
from art_snn.audit import subjects
from art_snn.audit.settings import AuditSettings
from art_snn.chains import HART, RGA, STBP
from art_snn.datasets.table import DATASETS
from art_snn.files import LOCK, FolderInUse, held, replacing
from art_snn.identity import versions
from art_snn.training import MemoryNeeded, TrainSettings, bytes_per_sample, loop, train
from art_snn.training.checkpoint import DamagedCheckpoint
from art_snn.training.data import Data, MissingData, batches, load, moved

TINY = TrainSettings(epochs=2, limit=160, held_out=20, batch_size=32, width=0.25, time_steps=3, eps=0.1)


def changed(**changes) -> TrainSettings:
    return dataclasses.replace(TINY, **changes)


def weights(folder) -> dict[str, torch.Tensor]:
    return models.load_network(folder / "network").state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def image_folder(folder, colours: str):
    """Twelve images of 8 x 8 pixels of each of two classes, and as many to test on."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in range(2):
            (folder / part / str(label)).mkdir(parents=True)
            for index in range(24):
                pixels = generator.integers(150 + 40 * label, 256, (8, 8, 3), dtype=np.uint8)
                if colours == "grey":
                    pixels[:] = pixels[:, :, :1]
                if colours == "constant":
                    pixels[:, :, 2] = 51
                Image.fromarray(pixels).save(folder / part / str(label) / f"{index}.png")
    return folder


def nmnist_with_a_stray(folder):
    """Recordings of three events each, one of which has a fourth that is not on the sensor."""
    events = np.array([[8, 9, 0, 0, 1], [20, 9, 128, 0, 2], [8, 21, 0, 0, 3]], np.uint8)
    for part, number in (("Train", 3), ("Test", 1)):
        for digit in range(10):
            (folder / "NMNIST" / part / str(digit)).mkdir(parents=True)
            for index in range(number):
                (folder / "NMNIST" / part / str(digit) / f"{index}.bin").write_bytes(events.tobytes())
    stray = np.array([[34, 9, 0, 0, 4]], np.uint8)
    (folder / "NMNIST" / "Train" / "5" / "1.bin").write_bytes(events.tobytes() + stray.tobytes())
    return folder


class Cut(Exception):
    """The power fails."""


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("data", "mnist"),
            ("network", "vgg12"),
            ("reset", "never"),
            ("encoder", "rate"),
            ("attack", "cw"),
            ("chain", "sgd"),
            ("training_chain", "cba"),
            ("device", "tpu"),
            ("time_steps", 0),
            ("epochs", 0),
            ("batch_size", 1),
            ("steps", 0),
            ("held_out", 5),
            ("seed", -1),
            ("limit", 0),
            ("width", 0.0),
            ("decay", 1.5),
            ("threshold", -1.0),
            ("learning_rate", float("nan")),
            ("eps", 0.0),
            ("step_size", 0.0),
            ("gamma", -0.5),
            ("scale", 0.0),
            ("scale", "largest"),
            ("momentum", 1.0),
            ("weight_decay", -1.0),
        ],
    )
    def test_out_of_range_is_named(self, name, value):
        with pytest.raises(ValueError, match=name):
            TrainSettings(**{name: value})

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"root": "x"}, "root belongs"),
            ({"data": "cifar10"}, "root must name"),
            ({"size": (8, 8)}, "size belongs"),
            ({"data": "event-digits", "encoder": "poisson"}, "poisson"),
            ({"network": "vgg_dvs"}, "vgg_dvs is for event data"),
            ({"scale": "max"}, "scale belongs to event data"),
            ({"drop_outside": True, "data": "event-digits"}, "drop_outside belongs"),
            ({"spiking": False, "training_chain": "hart"}, "belong to spiking"),
            ({"chain": "rga", "gamma": 1.0}, "gamma belongs"),
            ({"spiking": False, "gamma": 1.0}, "gamma and encoder belong"),
            ({"spiking": False, "encoder": "poisson"}, "gamma and encoder belong"),
        ],
    )
    def test_what_does_not_go_together_is_said(self, settings, message):
        with pytest.raises(ValueError, match=message):
            TrainSettings(**settings)

    def test_defaults_are_the_papers(self):
        settings = TrainSettings()
        assert (settings.learning_rate, settings.momentum, settings.weight_decay) == (0.1, 0.9, 5e-4)
        rates = [loop.learning_rate(settings, epoch) for epoch in (0, 100, 199)]
        assert rates == pytest.approx([0.1, 0.05, 0.1 * (1 + np.cos(np.pi * 199 / 200)) / 2])


class TestBatches:
    data = load(TINY)

    def epoch(self, settings=TINY, index=0, **kwargs):
        return list(batches(settings, self.data, index, **kwargs))

    def test_an_epoch_holds_each_sample_at_most_once(self):
        settings = changed(augment=False)
        x = torch.cat([x for x, _ in self.epoch(settings)])
        assert len(x) == 128  # of 140; the other twelve fill no batch
        learned = {sample.tobytes() for sample in self.data.learned[0]}
        seen = [sample.numpy().tobytes() for sample in x]
        assert set(seen) <= learned and len(set(seen)) > 120

    def test_epochs_differ_and_come_again(self):
        first, again, second = self.epoch(), self.epoch(), self.epoch(index=1)
        assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
        assert not any(torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))

    @given(first=st.integers(0, 4))
    def test_a_later_start_gives_the_same_rest(self, first):
        for one, other in zip(self.epoch()[first:], self.epoch(first=first), strict=True):
            assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])

    @given(processes=st.sampled_from([2, 4, 8]))
    def test_processes_share_each_batch(self, processes):
        parts = [self.epoch(rank=rank, processes=processes) for rank in range(processes)]
        for index, (whole, _) in enumerate(self.epoch()):
            shared = torch.empty_like(whole)
            for rank in range(processes):
                shared[rank::processes] = parts[rank][index][0]
            assert torch.equal(shared, whole)

    def test_the_held_out_part_is_not_learned(self):
        learned = {sample.tobytes() for sample in self.data.learned[0]}
        held_out = [sample.tobytes() for sample in self.data.held_out[0]]
        assert len(held_out) == 20 and not learned & set(held_out)

    def test_the_first_test_samples_are_of_all_classes(self):
        settings = changed(limit=None)
        x, y = load(settings).test
        assert len(set(y[:60])) == 10 and len(x) == 360

    @pytest.mark.parametrize("wrong", [{"held_out": 159}, {"batch_size": 141}])
    def test_too_little_data_is_said(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            load(changed(**wrong))


class TestAugmentation:
    def test_the_middle_crop_changes_nothing(self):
        x = torch.rand(3, 2, 5, 6)
        assert torch.equal(moved(x, 2, torch.full((3, 2), 2), torch.zeros(3, dtype=torch.bool)), x)

    def test_a_crop_shifts_and_fills_with_zeros(self):
        x = torch.rand(1, 1, 4, 4)
        out = moved(x, 1, torch.tensor([[0, 2]]), torch.tensor([False]))
        assert torch.equal(out[0, 0, 1:, :3], x[0, 0, :3, 1:])
        assert out[0, 0, 0].eq(0).all() and out[0, 0, :, 3].eq(0).all()

    def test_a_flip_mirrors(self):
        x = torch.rand(2, 1, 4, 5)
        out = moved(x, 0, torch.zeros(2, 2, dtype=torch.long), torch.tensor([True, False]))
        assert torch.equal(out[0], x[0].flip(-1)) and torch.equal(out[1], x[1])

    def test_all_frames_of_a_recording_move_together(self):
        x = torch.rand(1, 1, 2, 6, 6).expand(3, 4, 2, 6, 6)
        shifts = torch.tensor([[0, 1], [4, 2], [3, 3]])
        out = moved(x, 2, shifts, torch.tensor([True, False, True]))
        assert out.shape == x.shape
        assert torch.equal(out, out[:, :1].expand_as(out))

    def test_only_pictures_of_things_are_mirrored_and_nearly_all_are_shifted(self):
        mirrored = {name for name, entry in DATASETS.items() if entry.flips}
        assert mirrored == {"cifar10", "cifar100", "image-folder", "cifar10dvs"}
        assert {name for name, entry in DATASETS.items() if entry.padding == 4} == mirrored | {"dvsgesture"}

    def test_digits_are_not_mirrored(self):
        settings = changed(data="event-digits", limit=60, held_out=20)
        data = load(settings)
        x, _ = next(iter(batches(settings, data, 0)))
        originals = torch.from_numpy(data.learned[0])
        for sample in x[:5]:
            crops = [
                moved(originals, 1, torch.tensor([[i, j]]).expand(len(originals), 2), torch.zeros(len(originals)) > 0)
                for i in range(3)
                for j in range(3)
            ]
            assert any((crop == sample).flatten(1).all(1).any() for crop in crops)


class TestInterruption:
    @pytest.mark.parametrize("chain", ["stbp", "hart"])
    @pytest.mark.parametrize("when", [(1, 1), (1, 4), (2, 2), (2, 4)])
    @pytest.mark.parametrize("every", [0.0, 300.0])
    def test_the_weights_are_those_of_an_uninterrupted_run(self, when, every, chain, tmp_path, monkeypatch):
        settings = changed(training_chain=chain)
        train(settings, tmp_path / "whole")
        monkeypatch.setattr(loop, "CHECKPOINT_EVERY", every)
        epoch = 0

        def started(number, steps):
            nonlocal epoch
            epoch = number

        def stepped(step, loss):
            if (epoch, step) == when:
                raise Cut

        with pytest.raises(Cut):
            train(settings, tmp_path / "cut", started=started, stepped=stepped)
        assert not (tmp_path / "cut" / "network.json").exists()
        history = []
        result = train(settings, tmp_path / "cut", finished=history.append)
        assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
        assert [epoch.epoch for epoch in history] == [1, 2]
        assert result.history == history
        assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["network.json", "network.safetensors"]

    @pytest.mark.parametrize(("attack", "every"), [("none", 300.0), ("fgsm", 0.0), ("pgd", 0.0)])
    def test_poisson_noise_goes_on_where_it_was(self, attack, every, tmp_path, monkeypatch):
        settings = changed(encoder="poisson", attack=attack, steps=2)

        def stepped(step, loss):
            monkeypatch.setattr(loop, "CHECKPOINT_EVERY", every)
            if step == 2 and (tmp_path / "cut" / "checkpoint.safetensors").exists():
                raise Cut

        train(settings, tmp_path / "whole")
        with pytest.raises(Cut):
            train(settings, tmp_path / "cut", stepped=stepped)
        train(settings, tmp_path / "cut")
        assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))

    def cut(self, tmp_path, settings=TINY):
        def finished(epoch):
            raise Cut

        with pytest.raises(Cut):
            train(settings, tmp_path, finished=finished)
        return tmp_path / "checkpoint.safetensors"

    def test_another_runs_checkpoint_is_refused(self, tmp_path):
        self.cut(tmp_path)
        with pytest.raises(DamagedCheckpoint, match=r"seed: 0, now 1"):
            train(changed(seed=1), tmp_path)

    def test_data_may_move(self, tmp_path, monkeypatch):
        monkeypatch.setattr(loop, "load", lambda settings, **options: load(TINY))
        self.cut(tmp_path, changed(data="cifar10", root="here"))
        assert train(changed(data="cifar10", root="there"), tmp_path).history[-1].epoch == 2
        assert train(changed(data="cifar10", root="elsewhere"), tmp_path).history[-1].epoch == 2

    def test_what_a_killed_run_was_writing_is_cleared_away(self, tmp_path):
        (tmp_path / ".checkpoint.safetensors.0.part.safetensors").write_bytes(b"half")
        train(TINY, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["network.json", "network.safetensors"]

    def test_a_description_without_a_history_is_named(self, tmp_path):
        path = train(TINY, tmp_path).path
        about = json.loads(path.read_text())
        del about["training"]["history"]
        path.write_text(json.dumps(about))
        with pytest.raises(models.DamagedNetwork, match=r"network\.json does not say how it was trained"):
            train(TINY, tmp_path)

    def test_a_damaged_checkpoint_is_named(self, tmp_path):
        path = self.cut(tmp_path)
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(DamagedCheckpoint, match=r"checkpoint\.safetensors"):
            train(TINY, tmp_path)

    def test_a_run_from_before_a_setting_was_there_had_its_default(self, tmp_path):
        first = train(TINY, tmp_path)
        about = json.loads(first.path.read_text())
        for name in ("scale", "drop_outside"):
            del about["training"]["settings"][name]
        first.path.write_text(json.dumps(about))
        assert train(TINY, tmp_path) == first

    def test_a_checkpoint_of_other_versions_is_refused(self, tmp_path, monkeypatch):
        self.cut(tmp_path)
        monkeypatch.setattr(loop, "versions", lambda: versions() | {"torch": "99.0", "python": "3.99"})
        with pytest.raises(DamagedCheckpoint, match=r"other versions \(torch: '.*', now '99.0'\)"):
            train(TINY, tmp_path)

    def test_a_checkpoint_with_other_numbers_is_refused(self, tmp_path):
        path = self.cut(tmp_path)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(DamagedCheckpoint, match=r"checkpoint\.safetensors is damaged, its numbers"):
            train(TINY, tmp_path)

    @pytest.mark.parametrize("part", ["data", "versions"])
    def test_a_checkpoint_that_does_not_say_what_it_is_of_is_refused(self, part, tmp_path):
        path = self.cut(tmp_path)
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        del about[part]
        save_file(tensors, path, metadata={"about": json.dumps(about)})
        with pytest.raises(DamagedCheckpoint, match=f"does not say of which {part} it is"):
            train(TINY, tmp_path)

    def test_a_checkpoint_that_cannot_be_written_is_named_and_the_old_one_stays(self, tmp_path):
        path = self.cut(tmp_path)
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            with pytest.raises(OSError, match=r"checkpoint\.safetensors cannot be written"):
                train(TINY, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [path.name]

    def test_a_finished_run_is_not_run_again(self, tmp_path):
        first = train(TINY, tmp_path)
        before = (tmp_path / "network.safetensors").stat().st_mtime_ns
        assert train(TINY, tmp_path) == first
        assert (tmp_path / "network.safetensors").stat().st_mtime_ns == before
        with pytest.raises(ValueError, match="other settings"):
            train(changed(epochs=3), tmp_path)


def images(folder, brightness=0, number=8):
    """A folder of PNG images of two classes, of different noise for each brightness."""
    generator = np.random.default_rng(brightness)
    for part, count in (("train", number), ("test", number)):
        for label in ("a", "b"):
            (folder / part / label).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = generator.integers(0, 255, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(folder / part / label / f"{index}.png")
    return folder


class TestData:
    """Data is known by what it holds, not by where it lies."""

    def settings(self, root, **changes):
        return changed(
            **{"data": "image-folder", "root": str(root), "limit": None, "held_out": 10, "batch_size": 2} | changes
        )

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setattr("art.config.ART_DATA_PATH", str(tmp_path / "cache"))

    def test_a_finished_run_on_other_data_is_not_taken_for_this_one(self, tmp_path):
        a, b = images(tmp_path / "a", 0), images(tmp_path / "b", 1)
        train(self.settings(a), tmp_path / "out")
        with pytest.raises(
            ValueError, match=r"network\.json was trained with other data \(test_arrays: .*training_arr"
        ):
            train(self.settings(b), tmp_path / "out")

    def test_a_cut_run_does_not_go_on_on_other_data(self, tmp_path):
        a, b = images(tmp_path / "a", 0), images(tmp_path / "b", 1)
        with pytest.raises(Cut):
            train(self.settings(a), tmp_path / "out", finished=cut)
        with pytest.raises(DamagedCheckpoint, match=r"checkpoint.*other data \(test_arrays: .*training_arrays: "):
            train(self.settings(b), tmp_path / "out")

    def test_nor_after_images_were_added(self, tmp_path):
        folder = images(tmp_path / "a")
        train(self.settings(folder), tmp_path / "out")
        Image.new("RGB", (8, 8)).save(folder / "train" / "a" / "new.png")
        with pytest.raises(ValueError, match=r"training_arrays: '16 of sha256 .*', now '17 of sha256 "):
            train(self.settings(folder), tmp_path / "out")

    def test_data_that_moved_is_the_same(self, tmp_path):
        folder = images(tmp_path / "a")
        first = train(self.settings(folder), tmp_path / "out")
        moved_to = folder.rename(tmp_path / "elsewhere")
        assert train(self.settings(moved_to), tmp_path / "out") == first

    def test_arrays_and_indices_are_recorded(self, tmp_path):
        settings = self.settings(images(tmp_path / "a"))
        recorded = models.describe(train(settings, tmp_path / "out").path)["training"]["data"]
        other = load(dataclasses.replace(settings, data_seed=1)).identity
        assert recorded == load(settings).identity
        assert {name for name in recorded if recorded[name] != other[name]} == {"learned", "held_out", "test"}

    def test_a_network_that_does_not_say_what_it_learned_is_not_taken_for_this_one(self, tmp_path):
        path = train(TINY, tmp_path).path
        about = json.loads(path.read_text())
        del about["training"]["data"]
        path.write_text(json.dumps(about))
        with pytest.raises(ValueError, match=r"network\.json does not say of which data it is"):
            train(TINY, tmp_path)

    def test_data_that_is_not_there_names_root(self):
        with pytest.raises(MissingData, match="root nowhere does not hold cifar10"):
            load(changed(data="cifar10", root="nowhere"))


def cut(epoch):
    raise Cut


class TestFolder:
    """A folder is one run's at a time."""

    def test_a_second_run_is_told_who_holds_it(self, tmp_path):
        def finished(epoch):
            train(changed(seed=1), tmp_path)

        command = " ".join(sys.argv)
        with pytest.raises(FolderInUse, match=rf"in use by process {os.getpid()} on .* since .*{re.escape(command)}"):
            train(TINY, tmp_path, finished=finished)
        assert train(TINY, tmp_path).history[-1].epoch == 2

    def test_the_lock_of_a_killed_process_is_taken_over(self, tmp_path):
        code = (
            "import sys, time, pathlib\nfrom art_snn.files import held\n"
            "with held(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)"
        )
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "held\n"
            with pytest.raises(FolderInUse, match=f"process {process.pid} on "), held(tmp_path):
                pass
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert (tmp_path / LOCK).exists()
        with held(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
        assert not list(tmp_path.iterdir())

    def test_one_of_many_at_once_gets_it(self, tmp_path):
        taken, inside = [], threading.Barrier(8)

        def run():
            inside.wait()
            for _ in range(200):
                try:
                    with held(tmp_path):
                        taken.append(1)
                        assert len(taken) == 1
                        taken.pop()
                except FolderInUse:
                    pass

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(run) for _ in range(8)]:
                done.result()
        assert not list(tmp_path.iterdir())

    def test_temporary_files_of_others_are_left_alone(self, tmp_path):
        with replacing(tmp_path / "converted.json") as others, replacing(tmp_path / "network.json") as own:
            for temporary in (others, own):
                temporary.write_text("{}")
            train(TINY, tmp_path)
            assert others.exists() and not own.exists()
            own.write_text("{}")

    def test_a_file_that_does_not_fit_on_the_disk_is_named(self, tmp_path):
        path, limits = tmp_path / "results.json", resource.getrlimit(resource.RLIMIT_FSIZE)
        path.write_text("old")
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            with pytest.raises(OSError, match=r"too large: '.*/results\.json'"), replacing(path) as temporary:
                temporary.write_text("new" * 1000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]

    def test_a_file_system_without_locks_is_said(self, tmp_path, monkeypatch):
        def missing(*args):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(files.fcntl, "flock", missing)
        with pytest.warns(UserWarning, match="no locks"), held(tmp_path):
            pass


class TestTraining:
    def test_learns_the_digits(self, tmp_path):
        settings = TrainSettings(epochs=6, width=0.5, time_steps=4)
        result = train(settings, tmp_path)
        assert result.accuracy > 0.7 and result.history[-1].loss < result.history[0].loss
        network = models.load_network(result.path)
        (_, _), (x, y), _, _ = datasets.digits(seed=0)
        with torch.no_grad():
            predicted = network(torch.from_numpy(x)).argmax(1).numpy()
        assert (predicted == y.argmax(1)).mean() == pytest.approx(result.accuracy)
        assert all(0 < rate < 1 for rate in result.rates.values()) and len(result.rates) == 3
        kept = json.loads(result.path.read_text())["training"]
        assert kept["settings"]["seed"] == 0 and kept["bytes_per_sample"] > 0

    def test_same_seed_same_weights(self, tmp_path):
        for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
            train(changed(seed=seed), tmp_path / folder)
        assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
        assert not same(weights(tmp_path / "one"), weights(tmp_path / "three"))

    @pytest.mark.parametrize("attack", ["fgsm", "pgd"])
    def test_adversarial_training_learns_attacked_samples_along_the_chain(self, attack, tmp_path, monkeypatch):
        crossed = []
        gain = RGA.gain
        monkeypatch.setattr(RGA, "gain", lambda self, trace: crossed.append(1) or gain(self, trace))
        chains = []
        backward = STBP.backward

        def noted(self, grad_spikes, trace):
            chains.append("stbp")
            return backward(self, grad_spikes, trace)

        monkeypatch.setattr(STBP, "backward", noted)
        settings = changed(attack=attack, chain="rga", steps=2, epochs=1)
        train(settings, tmp_path / attack)
        assert crossed and chains  # the attack follows RGA, the weights STBP
        train(changed(attack="none", chain="rga", epochs=1), tmp_path / "plain")
        assert not same(weights(tmp_path / attack), weights(tmp_path / "plain"))

    def test_robust_accuracy_is_arts_attack_on_the_held_out_part(self, tmp_path):
        settings = changed(chain="hart", gamma=2.0)
        data = load(settings)
        network = loop.fresh_network(settings, data)
        classifier = loop.classifier_for(network, data, "cpu")
        attack = loop.attack_for(settings, classifier)
        assert isinstance(classifier, PyTorchSNNClassifier) and classifier.chain == HART(2.0)
        x, y = data.held_out
        adversarial = x + 0.1 * np.sign(classifier.loss_gradient(x, y))
        expected = (classifier.predict(np.clip(adversarial, 0, 1)).argmax(1) == y).mean()
        assert loop.robust_accuracy(attack, classifier, x, y) == pytest.approx(expected)

    def test_the_same_shape_without_spikes(self, tmp_path):
        result = train(changed(spiking=False), tmp_path)
        network = models.load_network(result.path)
        assert not result.rates
        assert any(isinstance(module, nn.ReLU) for module in network.modules())
        PyTorchClassifier(network, nn.CrossEntropyLoss(), (1, 8, 8), 10, device_type="cpu")

    def test_event_frames(self, tmp_path):
        settings = changed(
            data="event-digits", network="vgg_dvs", width=0.05, size=(16, 16), limit=60, epochs=1, time_steps=4
        )
        result = train(settings, tmp_path)
        network = models.load_network(result.path)
        data = load(settings)
        frames = torch.from_numpy(data.learned[0])
        assert torch.allclose(network.body[0].mean.flatten(), frames.mean((0, 1, 3, 4)), rtol=1e-4)
        assert len(result.rates) == 8

    @pytest.mark.parametrize("colours", ["bright", "grey", "constant"])
    def test_images_are_normalised_by_the_statistics_of_those_learned(self, colours, tmp_path):
        folder = image_folder(tmp_path / "images", colours)
        settings = changed(
            data="image-folder", root=str(folder), network="vgg11", limit=None, width=0.02, epochs=1, batch_size=8
        )
        result = train(settings, tmp_path / "run")
        data = load(settings)
        x = data.learned[0].astype(np.float64)
        kept = models.describe(result.path)["architecture"]["arguments"]
        assert kept["mean"] == pytest.approx(x.mean((0, 2, 3)))
        assert kept["std"] == pytest.approx([value or 1.0 for value in x.std((0, 2, 3)).round(9)])
        network = models.load_network(result.path)
        normalised = network.body[0](torch.from_numpy(data.learned[0]))
        assert normalised.mean((0, 2, 3)).abs().max() < 1e-4 and torch.isfinite(normalised).all()

    def test_frames_scaled_to_one_are_said_with_the_network(self, tmp_path):
        settings = changed(data="event-digits", network="vgg_dvs", width=0.05, size=(16, 16), limit=60, epochs=1)
        counts = load(settings)
        result = train(dataclasses.replace(settings, scale="max"), tmp_path / "max")
        scale = json.loads(result.path.read_text())["training"]["scale"]
        assert scale == counts.clip_values[1] > 1.0 and counts.scale is None
        train(dataclasses.replace(settings, scale=scale), tmp_path / "number")
        assert same(weights(tmp_path / "max"), weights(tmp_path / "number"))
        for one in ("max", scale):
            data = load(dataclasses.replace(settings, scale=one))
            assert data.clip_values == (0.0, 1.0) and data.scale == scale
            assert np.array_equal(data.test[0], counts.test[0] / np.float32(scale))
        with pytest.raises(ValueError, match="scale must be at least"):
            load(dataclasses.replace(settings, scale=scale / 2))

    def test_an_audit_divides_by_the_number_that_training_found(self, tmp_path):
        settings = changed(
            data="event-digits", network="vgg_dvs", width=0.05, size=(16, 16), limit=60, epochs=1, scale="max"
        )
        target, second = (train(dataclasses.replace(settings, seed=seed), tmp_path / str(seed)).path for seed in (0, 1))
        audit = AuditSettings(target=str(target), second=str(second), eps=8 / 255, samples=20, plan="none")
        assert subjects.given(audit).attacked.x.max() <= 1.0
        for path in (target, second):  # as if they had been trained where the largest value is another
            about = json.loads(path.read_text())
            about["training"]["scale"] /= 2
            path.write_text(json.dumps(about))
        with pytest.raises(ValueError, match="scale must be at least the largest value"):
            subjects.given(audit)

    def test_stray_events_are_left_out_where_asked(self, tmp_path, caplog):
        settings = changed(
            data="nmnist", root=str(nmnist_with_a_stray(tmp_path)), limit=None, held_out=10, batch_size=4
        )
        with pytest.raises(ValueError, match="--drop-outside"):
            load(settings)
        data = load(dataclasses.replace(settings, drop_outside=True))
        assert len(data.learned[0]) == 20 and "1 events outside" in caplog.text

    @pytest.mark.parametrize("training_chain", ["stbp", "hart"])
    def test_mixed_precision_is_for_layers_not_for_neurons(self, training_chain, tmp_path, monkeypatch):
        layers, currents = set(), set()
        simulate, forward = neurons.simulate, nn.Linear.forward

        def noted_simulate(x, **kwargs):
            currents.add(x.dtype)
            return simulate(x, **kwargs)

        def noted_forward(self, x):
            out = forward(self, x)
            if self.training:
                layers.add(out.dtype)
            return out

        monkeypatch.setattr(neurons.lif, "simulate", noted_simulate)
        monkeypatch.setattr(nn.Linear, "forward", noted_forward)
        settings = changed(mixed_precision=True, training_chain=training_chain, width=0.5, epochs=6, limit=None)
        result = train(settings, tmp_path / "mixed")
        assert layers == {torch.bfloat16}
        assert currents - {torch.float64} == {torch.float32}  # a comparison with differences takes float64
        assert all(value.dtype != torch.bfloat16 for value in weights(tmp_path / "mixed").values())
        assert result.accuracy > 0.6

    def test_a_mixed_precision_gradient_is_the_full_ones_up_to_rounding(self):
        network = models.small_cnn(width=0.5, time_steps=4).train()
        x, y = (torch.from_numpy(part[:64]) for part in load(TINY).learned)
        gradients = []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                logits = network(x)
            assert logits.dtype == torch.float32
            loss = nn.functional.cross_entropy(logits, y)
            gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))]))
        assert nn.functional.cosine_similarity(*gradients, dim=0) > 0.95
        assert not torch.equal(*gradients)

    @pytest.mark.parametrize("data", ["event-digits"])
    def test_the_sensors_size_suits_the_networks_unless_one_is_given(self, data):
        assert load(changed(data=data, limit=20, held_out=10, batch_size=2)).input_shape == (3, 2, 32, 32)

    def test_the_learning_rate_falls_epoch_by_epoch(self, tmp_path, monkeypatch):
        rates, step = [], torch.optim.SGD.step

        def noted(self, *args, **kwargs):
            rates.append([group["lr"] for group in self.param_groups])
            return step(self, *args, **kwargs)

        monkeypatch.setattr(torch.optim.SGD, "step", noted)
        train(changed(epochs=3), tmp_path)
        expected = [loop.learning_rate(changed(epochs=3), epoch) for epoch in range(3) for _ in range(4)]
        assert [rate for (rate,) in rates] == pytest.approx(expected) and expected[0] > expected[-1]

    def test_logits_that_are_not_finite_have_no_accuracy(self):
        data = load(TINY)
        classifier = loop.classifier_for(loop.fresh_network(TINY, data), data, "cpu")
        with torch.no_grad():
            classifier.model.body[-1].bias[3] = torch.finfo(torch.float32).max  # too large for its sum over time
        with pytest.raises(ValueError, match="logits are not finite: learning_rate may be too high"):
            loop.accuracy(classifier, *data.held_out)

    def test_processes_of_no_two_runs_share_their_noise(self):
        seeds = {loop.noise_seed(seed, rank) for seed in (0, 1, 1_000_003, 2_000_006) for rank in range(4)}
        assert len(seeds) == 16 and loop.noise_seed(5, 0) == 5

    def test_a_loss_that_explodes_is_said(self, tmp_path):
        with pytest.raises(ValueError, match="loss is not finite in epoch 1: learning_rate"):
            train(changed(learning_rate=1e30), tmp_path)

    def test_tensorboard_gets_the_epochs(self, tmp_path):
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        result = train(TINY, tmp_path, tensorboard=True)
        events = EventAccumulator(str(tmp_path / "tensorboard"))
        events.Reload()
        assert [event.value for event in events.Scalars("loss")] == pytest.approx([e.loss for e in result.history])
        assert {"robust", "held_out", "learning_rate"} <= set(events.Tags()["scalars"])


class TestMemory:
    def need(self, time_steps, batch=2):
        network = models.vgg11(width=0.1, time_steps=time_steps).train()
        return bytes_per_sample(network, torch.rand(batch, 3, 32, 32), torch.zeros(batch, dtype=torch.long))

    def test_is_a_samples_whatever_the_batch_and_grows_with_time(self):
        assert self.need(4, batch=2) == pytest.approx(self.need(4, batch=4), rel=0.05)
        assert self.need(8) == pytest.approx(2 * self.need(4), rel=0.1)

    def test_holds_at_least_every_layers_currents(self):
        network = models.vgg11(width=0.1, time_steps=4)
        sizes = []
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(lambda _m, _a, out: sizes.append(out.numel() * 4 / 2))
        bytes_ = bytes_per_sample(network.train(), torch.rand(2, 3, 32, 32), torch.zeros(2, dtype=torch.long))
        assert sum(sizes) < bytes_ < 10 * sum(sizes)

    def test_leaves_the_network_alone(self):
        network = models.vgg11(width=0.1, time_steps=2).train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        bytes_per_sample(network, torch.rand(2, 3, 32, 32), torch.zeros(2, dtype=torch.long))
        assert same(before, network.state_dict())

    def test_a_batch_that_runs_out_of_memory_is_said(self, tmp_path, monkeypatch):
        def run_out(*args):
            raise torch.OutOfMemoryError("CUDA out of memory.")

        monkeypatch.setattr(loop._Run, "_learn", run_out)
        with pytest.raises(MemoryNeeded, match="a batch of 32 does not fit into memory: try batch_size 16"):
            train(TINY, tmp_path)

    def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(self, tmp_path, monkeypatch):
        class Little:
            available = 1 << 20

        monkeypatch.setattr("psutil.virtual_memory", Little)
        with pytest.raises(MemoryNeeded, match=r"128 of small_cnn at T = 3 needs at least .* batch_size can be"):
            train(changed(batch_size=128), tmp_path)


def test_data_keeps_the_shape_of_its_inputs():
    x, y = np.zeros((2, 1, 8, 8), np.float32), np.zeros(2, int)
    assert Data((x, y), (x, y), (x, y), 10, (0.0, 1.0)).input_shape == (1, 8, 8)
