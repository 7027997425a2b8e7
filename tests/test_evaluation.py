"""The worst case over a plan: what counts, what it says of itself, and that the order of members changes nothing."""

from __future__ import annotations

import inspect
from functools import partial

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import nn

import art_snn
from art_snn import EventFrames, PoissonEncoder, PyTorchSNNClassifier
from art_snn.attacks import SAPGD, Square
from art_snn.evaluation import PLANS, Member, evaluate, worst_case
from art_snn.evaluation.result import BEFORE, NOTHING
from tests import networks as nets
from tests.test_attacks import X_TEST, classifier

EPS = 0.04
SMALL = [
    Member(SAPGD, "adaptive-hart", {"max_iter": 8}),
    Member(SAPGD, "assg", {"max_iter": 6}),
    Member(Square, None, {"max_iter": 15}),
    Member(SAPGD, "hart", {"max_iter": 4, "loss_type": "margin"}, targets=2),
    Member(ProjectedGradientDescent, "stbp", {"max_iter": 4, "eps_step": 0.02}),
]


def samples(number=40):
    (_, _), (x, y), _, _ = art_snn.datasets.digits(seed=0)
    return x[:number], y[:number]


def run(wrapped=None, **kwargs):
    x, y = samples(kwargs.pop("number", 40))
    wrapped = classifier() if wrapped is None else wrapped
    return art_snn.evaluate(wrapped, x, y, **({"eps": EPS, "plan": SMALL, "verbose": False, "flags": False} | kwargs))


@pytest.fixture(scope="module")
def found():
    return run()


class Moved:
    """An attack that gives what it is told, whatever it is given."""

    def __init__(self, classifier, *, eps, to):
        self.to = to

    def generate(self, x, y):
        return self.to(x)


class TestWhatCounts:
    def test_what_it_says_is_what_the_classifier_predicts(self, found):
        x, y = samples()
        labels, wrapped = y.argmax(1), classifier()
        clean, after = (wrapped.predict(at).argmax(1) for at in (x, found.x_adv))
        correct = clean == labels
        assert np.array_equal(found.samples["label"], labels) and np.array_equal(found.samples["prediction"], clean)
        assert np.array_equal(found.samples["correct"], correct)
        assert found.robust_accuracy == (correct & (after == labels)).mean() < found.accuracy == correct.mean()
        assert found.success_rate == pytest.approx((correct & (after != labels)).sum() / correct.sum())
        low, high = found.interval
        assert 0 <= low < found.robust_accuracy < high <= 1
        assert np.array_equal(found.samples["adversarial"], after)

    def test_adversarial_inputs_are_within_eps_and_the_others_are_untouched(self, found):
        x, _ = samples()
        distance = np.abs(found.x_adv - x).reshape(len(x), -1).max(1)
        assert np.allclose(found.samples["distance"], distance, atol=1e-7) and distance.max() <= EPS + 1e-6
        fooled = found.fooled_by >= 0
        assert fooled.any() and np.array_equal(found.x_adv[~fooled], x[~fooled]) and (distance[fooled] > 0).all()
        assert found.x_adv.dtype == np.float32 and found.x_adv.min() >= 0 and found.x_adv.max() <= 1

    def test_only_survivors_go_on(self, found):
        members = found.members
        assert list(members.columns) == ["attack", "chain", "tried", "fooled", "only", "seconds", "invalid"]
        left = int((found.fooled_by != BEFORE).sum())
        for line in members.itertuples():
            assert line.tried == left
            left -= line.fooled
        assert left == found.survived == (found.fooled_by == NOTHING).sum()
        assert members["only"].isna()[:-1].all() and members["only"].iloc[-1] == members["fooled"].iloc[-1]

    @pytest.mark.parametrize(
        "to",
        [
            lambda x: np.clip(x + 3 * EPS, 0, 1),
            lambda x: x - EPS,
            lambda x: np.full_like(x, np.nan),
        ],
        ids=["beyond eps", "beyond the range", "no numbers"],
    )
    def test_nothing_else_counts(self, to):
        result = run(plan=[Member(partial(Moved, to=to))])
        assert result.robust_accuracy == result.accuracy
        assert result.members["invalid"].tolist() == [int((result.fooled_by != BEFORE).sum())]

    def test_an_attack_that_says_nothing_fools_nothing(self):
        result = run(plan=[Member(partial(Moved, to=lambda x: x))])
        assert result.robust_accuracy == result.accuracy and result.members["invalid"].tolist() == [0]
        assert np.array_equal(result.x_adv, samples()[0])

    def test_another_shape_is_an_error(self):
        with pytest.raises(ValueError, match=r"an attack gave \(1, 1, 8, 8\)"):
            run(plan=[Member(partial(Moved, to=lambda x: x[:1]))])


class TestMembers:
    def test_their_order_changes_no_outcome(self, found):
        again = run(plan=SMALL[::-1])
        assert np.array_equal(again.fooled_by >= 0, found.fooled_by >= 0)
        assert again.robust_accuracy == found.robust_accuracy

    def test_nor_does_the_size_of_a_batch(self, found):
        assert np.array_equal(run(batch_size=7).fooled_by >= 0, found.fooled_by >= 0)

    def test_a_seed_gives_the_same(self, found):
        again, other = run(), run(seed=1)
        assert np.array_equal(again.x_adv, found.x_adv) and np.array_equal(again.fooled_by, found.fooled_by)
        assert not np.array_equal(other.x_adv, found.x_adv)

    def test_each_alone_is_no_stronger_than_all(self, found):
        """The worst case is at least as strong as any of its members run by hand."""
        every = run(every=True)
        assert np.array_equal(every.fooled_by >= 0, found.fooled_by >= 0)
        for number, member in enumerate(SMALL):
            alone = run(plan=[member])
            assert np.array_equal(alone.fooled_by >= 0, every.each[number])
            assert alone.robust_accuracy >= found.robust_accuracy
        others = [np.delete(every.each, n, 0).any(0) for n in range(len(SMALL))]
        only = [int((each & ~other).sum()) for each, other in zip(every.each, others, strict=True)]
        assert every.members["only"].tolist() == only
        assert every.members["tried"].tolist() == [int((found.fooled_by != BEFORE).sum())] * len(SMALL)

    def test_the_classifier_has_its_own_chain_again_and_numpy_its_state(self):
        wrapped = classifier("rga")
        before, state = wrapped.chain, np.random.get_state()[1].copy()
        torch_state = torch.get_rng_state()
        run(wrapped, number=10)
        assert wrapped.chain == before and np.array_equal(np.random.get_state()[1], state)
        assert torch.equal(torch.get_rng_state(), torch_state)

    def test_targets_are_the_likeliest_wrong_classes(self, monkeypatch):
        asked, wrapped = [], classifier()
        x, y = samples(20)
        generate = SAPGD.generate

        def noted(self, x, y, **kwargs):
            asked.append((self.targeted, len(x), y.argmax(1)))
            return generate(self, x, y, **kwargs)

        monkeypatch.setattr(SAPGD, "generate", noted)
        run(wrapped, number=20, plan=[Member(SAPGD, "hart", {"max_iter": 1}, targets=2)], eps=1e-6)
        logits, labels = wrapped.predict(x), y.argmax(1)
        correct = logits.argmax(1) == labels
        order = np.argsort(-logits, 1)[correct]
        assert [entry[:2] for entry in asked] == [(True, correct.sum())] * 2
        assert np.array_equal(asked[0][2], order[:, 1]) and np.array_equal(asked[1][2], order[:, 2])

    def test_another_network_is_shown_to_the_target(self):
        second = classifier(network=art_snn.models.small_cnn(time_steps=2, width=0.25))
        member = Member(SAPGD, "hart", {"max_iter": 5, "until_fooled": False}, source="second")
        result = run(second=second, plan=[member], eps=0.3)
        assert result.members["attack"].tolist() == ["SAPGD(max_iter=5, until_fooled=False) from the second classifier"]
        assert result.members["fooled"].sum() > 0
        with pytest.raises(ValueError, match="second must be given"):
            run(plan=[member])

    def test_a_norm_of_its_own_is_checked_in_that_norm(self):
        member = Member(SAPGD, "hart", {"max_iter": 10}, norm=2, eps=1.5)
        result = run(plan=[member])
        x, _ = samples()
        length = np.linalg.norm((result.x_adv - x).reshape(len(x), -1), axis=1)
        assert (result.fooled_by >= 0).any() and length.max() <= 1.5 + 1e-5
        assert np.allclose(result.samples["distance"], length, atol=1e-5)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"attack": "sapgd"}, "attack must be"),
            ({"chain": "nope"}, "chain must be"),
            ({"targets": -1}, "targets must be"),
            ({"source": "third"}, "source must be"),
            ({"norm": 2}, "eps must be given with norm"),
        ],
    )
    def test_what_is_wrong_in_one_is_named(self, wrong, message):
        with pytest.raises(ValueError, match=message):
            Member(**({"attack": SAPGD} | wrong))


class TestPlans:
    def test_a_plan_by_name_takes_no_parameters_and_has_a_version(self):
        for name, plan in PLANS.items():
            assert str(plan) == f"{name}, version {plan.version}"
            assert len({str(member) for member in plan.members}) == len(plan.members)

    def test_standard_has_what_it_is_to_have(self):
        text = " ".join(str(member) for member in PLANS["standard"].members)
        for part in ("AdaptiveHART", "HART(gamma", "ASSG", "STBP", "Square", "difference_logits_ratio", "second"):
            assert part in text
        assert any(member.targets for member in PLANS["standard"].members)
        assert any(
            member.settings.get("loss_type", "cross_entropy") == "cross_entropy" for member in PLANS["standard"].members
        )

    def test_what_cannot_run_is_left_out_and_few_classes_get_the_margin(self):
        wrapped = classifier()
        plan = PLANS["standard"]
        assert len(plan.members_for(wrapped, wrapped)) == len(plan.members)
        assert all(member.source == "target" for member in plan.members_for(wrapped))
        assert all(member.attack is not Square for member in plan.members_for(wrapped, wrapped, norm=2))
        torch.manual_seed(0)
        two = PyTorchClassifier(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), nn.CrossEntropyLoss(), (1, 8, 8), 2, clip_values=(0, 1),
            device_type="cpu",
        )  # fmt: skip
        members = plan.members_for(two)
        assert all(member.settings.get("loss_type") != "difference_logits_ratio" for member in members)
        assert all(member.targets <= 1 for member in members)
        assert all(member.chain is None for member in members)  # and the chain is not said to be followed
        assert len(members) == len({str(member) for member in members}) < len(plan.members_for(classifier()))
        x, _ = samples(6)
        result = evaluate(two, x, two.predict(x).argmax(1), eps=0.3, plan="fast", verbose=False)
        assert result.robust_accuracy < 1.0 and set(result.members["chain"]) == {""}

    @pytest.mark.parametrize("name", PLANS)
    def test_they_run(self, name):
        result = run(plan=name, number=6, eps=0.05)
        assert result.plan == str(PLANS[name])
        text = str(result)
        assert f"{100 * result.robust_accuracy:.1f} %" in text and name in text

    def test_in_the_euclidean_norm(self):
        x, _ = samples(10)
        result = run(plan="fast", number=10, norm=2, eps=1.5)
        assert np.linalg.norm((result.x_adv - x).reshape(10, -1), axis=1).max() <= 1.5 + 1e-5
        assert result.norm == "2" and (result.fooled_by >= 0).any()

    def test_event_frames_and_noise(self):
        network = nets.build(encoder=EventFrames()).float()
        wrapped = PyTorchSNNClassifier(
            network, nn.CrossEntropyLoss(), (network.time_steps, 2, 6, 6), 3, clip_values=(0, 3)
        )
        x = np.random.default_rng(0).poisson(0.5, (6, network.time_steps, 2, 6, 6)).clip(0, 3).astype(np.float32)
        result = evaluate(wrapped, x, wrapped.predict(x).argmax(1), eps=1.0, plan="fast", verbose=False)
        assert result.accuracy == 1.0 and result.robust_accuracy < 1.0
        assert "STBP" in result.chains[0]  # each frame has its own gradient, which HART's are not
        assert "HART" in run(plan="fast", number=10).chains[0]
        noisy = classifier(encoder=PoissonEncoder(seed=0), gradient_samples=2)
        assert 0.0 <= run(noisy, plan="fast", number=10).robust_accuracy <= 1.0


class TestInterruption:
    def test_it_goes_on_where_it_was(self, tmp_path, monkeypatch, found):
        attack, number = worst_case._attack, []

        def once(*args, **given):
            if len(number) == 4:
                raise KeyboardInterrupt
            number.append(args[1])
            return attack(*args, **given)

        monkeypatch.setattr(worst_case, "_attack", once)
        with pytest.raises(KeyboardInterrupt):
            run(folder=tmp_path, batch_size=15)
        assert len(list(tmp_path.iterdir())) == 1
        begun = list(number)
        monkeypatch.setattr(worst_case, "_attack", lambda *a, **g: number.append(a[1]) or attack(*a, **g))
        again = run(folder=tmp_path, batch_size=15)
        assert number[:4] == begun and len(number) > 4
        whole = run(batch_size=15)
        assert np.array_equal(again.x_adv, whole.x_adv) and np.array_equal(again.fooled_by, whole.fooled_by)
        assert again.members["tried"].tolist() == whole.members["tried"].tolist()
        before = len(number)
        assert np.array_equal(run(folder=tmp_path, batch_size=15).x_adv, whole.x_adv) and len(number) == before

    def test_another_evaluation_has_another_file(self, tmp_path):
        plan = SMALL[:1]
        for settings in ({}, {"eps": 0.05}, {"seed": 1}, {"plan": SMALL[1:2]}, {"number": 10}):
            run(**({"plan": plan, "folder": tmp_path, "number": 12} | settings))
        wrapped = classifier()
        with torch.no_grad():
            next(wrapped.model.parameters())[0] += 1e-3
        run(wrapped, plan=plan, folder=tmp_path, number=12)
        assert len(list(tmp_path.iterdir())) == 6

    def test_a_damaged_file_is_named(self, tmp_path):
        run(plan=SMALL[:1], folder=tmp_path, number=12)
        (path,) = tmp_path.iterdir()
        path.write_bytes(b"no numbers")
        with pytest.raises(ValueError, match=r"worst-case-.* cannot be read .*delete it"):
            run(plan=SMALL[:1], folder=tmp_path, number=12)


class TestArguments:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"eps": 0.0}, "eps must be"),
            ({"eps": True}, "eps must be"),
            ({"norm": 1}, "norm must be"),
            ({"plan": "strongest"}, "plan must be one of standard, fast"),
            ({"plan": []}, "plan must be"),
            ({"plan": [SAPGD]}, "plan must be"),
            ({"plan": [Member(SAPGD, "hart", targets=10)]}, "targets of"),
            ({"batch_size": 0}, "batch_size must be"),
            ({"seed": -1}, "seed must be"),
        ],
    )
    def test_what_is_wrong_is_named(self, wrong, message):
        with pytest.raises(ValueError, match=message):
            run(**wrong)

    def test_wrong_samples_are_named(self):
        wrapped, (x, y) = classifier(), samples(4)
        for bad_x, bad_y, message in (
            (x[:, :, :4], y, "x must be an array"),
            (x * np.nan, y, "x must hold finite numbers"),
            (x + 1, y, "x must lie in clip_values"),
            (x, y[:3], "y must hold a label for each of 4"),
            (x, np.array([0, 1, 2, 11]), "y must hold classes from 0 to 9"),
            (x, y[:, :4], "y must be one-hot"),
        ):
            with pytest.raises(ValueError, match=message):
                evaluate(wrapped, bad_x, bad_y, eps=0.1, verbose=False)
        with pytest.raises(TypeError, match="classifier must be"):
            evaluate(wrapped.model, x, y, eps=0.1)
        with pytest.raises(TypeError, match="second must be"):
            evaluate(wrapped, x, y, eps=0.1, second=wrapped.model)

    def test_nothing_classified_correctly(self):
        wrapped, (x, _) = classifier(), samples(4)
        wrong = (wrapped.predict(x).argmax(1) + 1) % 10
        result = evaluate(wrapped, x, wrong, eps=0.1, plan="fast", verbose=False)
        assert result.robust_accuracy == result.accuracy == 0.0 and np.isnan(result.success_rate)
        assert result.members["tried"].tolist() == [0] * len(result.attacks)

    def test_every_parameter_is_documented(self):
        for name in inspect.signature(evaluate).parameters:
            assert f":param {name}:" in evaluate.__doc__


def test_plain_values_are_json(found):
    import json

    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert plain["robust_accuracy"] == found.robust_accuracy and len(plain["members"]) == len(SMALL)
    assert plain["members"][0]["only"] is None and plain["versions"]["torch"]


def test_an_attack_of_arts_is_given_what_it_takes():
    member = Member(FastGradientMethod, "hart")
    attack = member.on(classifier(), eps=0.1, norm=2, batch_size=7, seed=3, verbose=False)
    assert (attack.eps, attack.norm, attack.batch_size) == (0.1, 2, 7)
    ours = Member(Square, None, {"max_iter": 3}).on(
        classifier(), eps=0.1, norm=np.inf, batch_size=7, seed=3, verbose=False
    )
    assert (ours.eps, ours.batch_size, ours.seed, ours.verbose, ours.max_iter) == (0.1, 7, 3, False, 3)


def test_x_test_is_not_touched():
    before = X_TEST.copy()
    run(number=10)
    assert np.array_equal(before, X_TEST)
