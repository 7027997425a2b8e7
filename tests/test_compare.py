"""Two audits side by side: which test, on which samples, with which p."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest

from art_snn.audit import AuditResult, AuditSettings, compare, report
from art_snn.audit.metrics import Row, SuccessRate
from art_snn.cli import main
from art_snn.files import json_text

DATA = {"training_arrays": "9 of sha256 a", "test_arrays": "20 of sha256 b"}


def letters(seed, size=40, wrong=0.1, fooled=0.5):
    generator = np.random.default_rng(seed)
    return "".join(generator.choice(list("wfr"), size, p=[wrong, (1 - wrong) * fooled, (1 - wrong) * (1 - fooled)]))


def folder(path, *rows, attacked=None, worst=None, change=lambda plain: plain, data=DATA, **chosen):
    """A folder with the results.json of these rows: attack, scenario, chain, ε, outcomes."""
    settings = AuditSettings(chains=("hart", "rga"), sweep=(), **chosen)
    made = [Row(attack, scenario, chain, eps, None, found) for attack, scenario, chain, eps, found in rows]
    result = AuditResult(settings, f"network {path.name}", {}, (50.0, None), (True, True), 9, data=data, rows=made)
    size = len(rows[0][-1]) if rows else len(worst or ())
    result.attacked = list(range(size)) if attacked is None else attacked
    plain = report.as_dict(result)
    if worst is not None:
        plain["worst_case"] = {"plan": "fast, version 1", "eps": 0.15, "norm": "inf", "fooled_by": worst, "seed": 0}
    path.mkdir(exist_ok=True)
    (path / "results.json").write_text(json_text(change(plain)), encoding="utf-8")
    return compare.read(path)


def one(letters_):
    return ("pgd", "WBA", "hart", 0.15, letters_)


class TestPaired:
    def test_is_mcnemar_on_what_both_classify_correctly(self, tmp_path):
        first, second = letters(0, 60, fooled=0.8), letters(1, 60, fooled=0.5)
        found = compare.compare(folder(tmp_path / "a", one(first)), folder(tmp_path / "b", one(second)))
        (line,) = found.lines
        both = [(a, b) for a, b in zip(first, second, strict=True) if "w" not in (a, b)]
        counts = [[sum(pair == (a, b) for pair in both) for b in "fr"] for a in "fr"]
        assert found.why_unpaired == "" and line.test == "McNemar, exact"
        assert line.p == pytest.approx(mcnemar(counts, exact=True).pvalue)
        assert line.samples == (len(both),) and line.only == (counts[0][1], counts[1][0])
        assert line.difference == pytest.approx(100 * (line.only[1] - line.only[0]) / len(both))
        assert line.first == pytest.approx(100 * first.count("f") / (60 - first.count("w")))
        assert line.first_interval == SuccessRate(first.count("f"), 60 - first.count("w")).interval()

    def test_goes_by_the_samples_places(self, tmp_path):
        first, second = letters(0), letters(1)
        order = np.random.default_rng(2).permutation(40)
        shuffled = "".join(second[place] for place in order)
        a = folder(tmp_path / "a", one(first))
        straight = compare.compare(a, folder(tmp_path / "b", one(second)))
        moved = folder(tmp_path / "c", one(shuffled), attacked=[int(place) for place in order])
        assert compare.compare(a, moved).lines == straight.lines
        assert compare.compare(moved, a).lines[0].only == straight.lines[0].only[::-1]

    def test_worst_cases_count_all_samples(self, tmp_path):
        a = folder(tmp_path / "a", one("r" * 10), worst=[-1] * 8 + [-2, 0])
        b = folder(tmp_path / "b", one("r" * 10), worst=[-1, 3, 3, 3, 3, 3, 3, 3, -1, -2])
        line = compare.compare(a, b).lines[0]
        assert (line.attack, line.measure, line.first, line.second) == ("worst case", "robust accuracy", 80.0, 20.0)
        assert line.only == (7, 1) and line.difference == -60.0 and line.samples == (10,)
        assert line.p == pytest.approx(mcnemar([[1, 7], [1, 1]], exact=True).pvalue)

    def test_without_a_sample_that_both_get_right_there_is_no_test(self, tmp_path):
        found = compare.compare(folder(tmp_path / "a", one("wfw")), folder(tmp_path / "b", one("fwr")))
        (line,) = found.lines
        assert (line.test, line.p, line.adjusted, line.difference) == ("", None, None, None)
        assert line.first == 100.0 and "| - | - | - |" in compare.markdown(found)


class TestUnpaired:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"data": DATA | {"test_arrays": "20 of sha256 c"}}, "the data are not the same (test_arrays: '20 of"),
            ({"attacked": list(range(1, 41))}, "the samples are not the same: 39 of 40 and 40 are both's"),
            ({"data": {}}, "the second audit does not say which samples it attacked"),
        ],
    )
    def test_other_samples_are_said_and_compared_as_two_proportions(self, tmp_path, changes, reason):
        first, second = letters(0, fooled=0.8), letters(1, fooled=0.4)
        found = compare.compare(folder(tmp_path / "a", one(first)), folder(tmp_path / "b", one(second), **changes))
        (line,) = found.lines
        assert reason in found.why_unpaired and reason in "\n".join(compare.words(found))
        assert line.test == "two proportions" and line.only is None
        hits, sizes = [s.count("f") for s in (first, second)], [40 - s.count("w") for s in (first, second)]
        assert line.samples == tuple(sizes)
        assert line.p == pytest.approx(proportions_ztest(hits, sizes)[1])
        assert line.difference == pytest.approx(line.second - line.first)

    @given(st.integers(0, 60), st.integers(1, 60), st.integers(0, 60), st.integers(1, 60))
    @settings(deadline=None, max_examples=60)
    def test_is_fishers_where_counts_are_small(self, a, n, b, m):
        a, b = min(a, n), min(b, m)
        test, p = compare.unpaired(SuccessRate(a, n), SuccessRate(b, m))
        if min(n, m) * min(a + b, n + m - a - b) < 5 * (n + m):
            assert test == "Fisher, exact"
            assert p == pytest.approx(fisher_exact([[a, n - a], [b, m - b]]).pvalue)
        else:
            assert test == "two proportions" and p == pytest.approx(proportions_ztest([a, b], [n, m])[1])


@pytest.mark.parametrize("p", [[0.3], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 1.0], [0.0, 0.02, 0.02, 0.9]])
def test_holm_is_that_of_statsmodels(p):
    assert compare.holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


class TestPairing:
    def rows(self, seed, **fooled):
        return [
            (attack, scenario, chain, eps, letters(seed + place, 100, 0.0, fooled.get(chain, 0.5)))
            for place, (attack, scenario, chain, eps) in enumerate(
                [("fgsm", "WBA", "hart", 0.15), ("fgsm", "WBA", "rga", 0.15), ("fgsm", "BBA", "hart", 0.15)]
            )
        ]

    def test_is_by_attack_scenario_chain_and_eps_and_the_rest_is_named(self, tmp_path):
        a, b = self.rows(0, hart=0.95), self.rows(9, hart=0.05)
        found = compare.compare(
            folder(tmp_path / "a", *a, one(letters(3, 100, 0.0))),
            folder(tmp_path / "b", *b[::-1], ("pgd", "WBA", "hart", 0.2, letters(3, 100, 0.0))),
        )
        assert [(line.attack, line.scenario, line.chain, line.eps) for line in found.lines] == [r[:4] for r in a]
        assert found.only_first == [("pgd", "WBA", "hart", 0.15, "inf", 1)]
        assert found.only_second == [("pgd", "WBA", "hart", 0.2, "inf", 1)]
        p = [line.p for line in found.lines]
        assert [line.adjusted for line in found.lines] == pytest.approx(multipletests(p, method="holm")[1].tolist())
        assert [line.found for line in found.lines] == [True, False, True]
        text = "\n".join(compare.words(found))
        assert "2 of 3 differences are found" in text
        assert "Only in A: pgd WBA hart at ε = 0.15." in text and "Only in B: pgd WBA hart at ε = 0.2." in text

    def test_a_difference_that_chance_makes_among_so_many_is_not_found(self, tmp_path):
        chains = [("pgd", "WBA", chain, 0.15) for chain in ("hart", "rga", "stbp")]
        first, second = "f" * 12 + "r" * 88, "r" * 12 + "fff" + "r" * 85
        found = compare.compare(
            folder(tmp_path / "a", *((*chain, first) for chain in chains)),
            folder(tmp_path / "b", *((*chain, second) for chain in chains)),
        )
        assert all(line.p < 0.05 < line.adjusted and not line.found for line in found.lines)
        alone = compare.compare(folder(tmp_path / "c", one(first)), folder(tmp_path / "d", one(second)))
        assert alone.lines[0].p == found.lines[0].p == alone.lines[0].adjusted and alone.lines[0].found

    def test_repetitions_are_paired_in_the_order_of_their_seeds(self, tmp_path):
        def seeded(*seeds):
            def change(plain):
                for row, seed in zip(plain["results"], seeds, strict=True):
                    row["seed"] = seed
                return plain

            return change

        rows = [one(letters(seed, 50, 0.0)) for seed in range(4)]
        a = folder(tmp_path / "a", *rows[:2], change=seeded(0, 1))
        b = folder(tmp_path / "b", *rows[2:], change=seeded(8, 7))
        found = compare.compare(a, b)
        assert [line.repeat for line in found.lines] == [1, 2]
        for line, other in zip(found.lines, (rows[3], rows[2]), strict=True):
            assert line.second == pytest.approx(100 * other[4].count("f") / (50 - other[4].count("w")))
        fewer = compare.compare(a, folder(tmp_path / "c", rows[2]))
        assert fewer.only_first == [("pgd", "WBA", "hart", 0.15, "inf", 2)]
        assert "Only in A: pgd WBA hart at ε = 0.15, repetition 2." in compare.words(fewer)
        assert "| PGD, 2 |" in compare.markdown(found)

    def test_other_norms_are_other_attacks(self, tmp_path):
        found = compare.compare(folder(tmp_path / "a", one("fr")), folder(tmp_path / "b", one("fr"), norm="2"))
        assert found.lines == [] and "Only in B: pgd WBA hart at ε = 0.15 (L2)." in compare.words(found)

    def test_what_is_in_no_table_has_its_own_name(self, tmp_path):
        rows = [("myattack", "BBA net.py:make", "mychain(a=2)", 0.15, "fr")]
        found = compare.compare(folder(tmp_path / "a", *rows), folder(tmp_path / "b", *rows))
        assert "| myattack | black-box from net.py:make | mychain(a=2) |" in compare.markdown(found)

    def test_settings_that_differ_are_said(self, tmp_path):
        found = compare.compare(
            folder(tmp_path / "a", one("fr")), folder(tmp_path / "b", one("fr"), steps=9, decay=0.5)
        )
        assert found.notes == ["Their settings differ: decay: 0.9 and 0.5, steps: 5 and 9."]

    def test_worst_cases_of_other_balls_are_not_compared(self, tmp_path):
        def wider(plain):
            plain["worst_case"]["eps"] = 0.3
            plain["worst_case"]["plan"] = "standard, version 1"
            return plain

        a = folder(tmp_path / "a", one("fr"), worst=[0, -1])
        found = compare.compare(a, folder(tmp_path / "b", one("fr"), worst=[0, -1], change=wider))
        assert [line.attack for line in found.lines] == ["pgd"]
        assert any("other balls, Linf of 0.15 and Linf of 0.3" in note for note in found.notes)
        assert any("other attacks: fast, version 1; standard, version 1" in note for note in found.notes)
        none = compare.compare(a, folder(tmp_path / "c", one("fr")))
        assert "Only the first has a worst case." in none.notes


class TestReading:
    def test_leaves_what_it_does_not_know(self, tmp_path):
        def richer(plain):
            plain["flags"], plain["results"][0]["seconds"] = [{"name": "zero-gradient"}], 2.5
            plain["worst_case"]["flags"] = []
            return plain

        known, more = folder(tmp_path / "a", one("fr"), worst=[0, -1]), tmp_path / "b"
        found = folder(more, one("fr"), worst=[0, -1], change=richer)
        assert (found.rows, found.worst) == (known.rows, known.worst)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "is no folder of an audit: it has no results.json"),
            ("{", "is no JSON file"),
            ("[]", "is of schema None, this version of art-snn compares"),
            ('{"schema": 1}', "is of schema 1, this version"),
            ('{"schema": 999}', "is of schema 999, this version"),
            ('{"schema": true}', "is of schema True, this version"),
            ('{"schema": 3, "results": 3}', "is not as an audit writes it"),
            ('{"schema": 3, "results": []}', r"is not as an audit writes it \(KeyError: 'data'\)"),
        ],
    )
    def test_other_folders_are_named(self, text, message, tmp_path):
        if text is not None:
            (tmp_path / "results.json").write_text(text)
        with pytest.raises(compare.NoAudit, match=message):
            compare.read(tmp_path)
        done = CliRunner().invoke(main, ["compare", str(tmp_path), str(tmp_path)])
        assert done.exit_code == 1 and str(tmp_path) in done.output and "Traceback" not in done.output

    def test_what_contradicts_itself_is_refused(self, tmp_path):
        def outcomes(plain):
            plain["results"][0]["outcomes"] = "fx"
            return plain

        def nowhere(plain):
            del plain["settings"]["norm"]
            return plain

        with pytest.raises(compare.NoAudit, match="does not say in which norm"):
            folder(tmp_path / "d", one("fr"), change=nowhere)
        with pytest.raises(compare.NoAudit, match="is of 2, 3 samples at once"):
            folder(tmp_path / "a", one("fr"), attacked=[0, 1, 2])
        with pytest.raises(compare.NoAudit, match="two results of one attack"):
            folder(tmp_path / "b", one("fr"), one("ff"))
        with pytest.raises(compare.NoAudit, match="outcomes must consist of"):
            folder(tmp_path / "c", one("fr"), change=outcomes)


class TestCommand:
    @pytest.fixture
    def folders(self, tmp_path):
        for name, fooled in (("a", 0.95), ("b", 0.1)):
            folder(tmp_path / name, one(letters(0, 60, fooled=fooled)), worst=[0] * 30 + [-1] * 30)
        return [str(tmp_path / name) for name in "ab"]

    def test_prints_a_table_and_writes_files(self, folders, tmp_path):
        files = ["--json", str(tmp_path / "c.json"), "--csv", str(tmp_path / "c.csv")]
        done = CliRunner().invoke(main, ["compare", *folders, *files])
        assert done.exit_code == 0, done.output
        for part in (
            "worst case, robust accuracy",
            "PGD",
            "white-box",
            "HART",
            "McNemar, exact",
            "< 0.001 *",
            "1 of 2",
        ):
            assert part in done.output
        found = compare.compare(*map(compare.read, folders))
        plain = json.loads((tmp_path / "c.json").read_text())
        assert plain["schema"] == 1 and plain["first"]["target"] == "network a"
        assert [line["p"] for line in plain["lines"]] == [line.p for line in found.lines]
        with (tmp_path / "c.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert tuple(lines[0]) == compare.COLUMN_NAMES
        assert [float(line["first_low"]) for line in lines] == [line.first_interval[0] for line in found.lines]
        assert [line["found"] for line in lines] == ["False", "True"]

    def test_prints_markdown(self, folders):
        done = CliRunner().invoke(main, ["compare", *folders, "--markdown"])
        rows = [line for line in done.output.splitlines() if line.startswith("|")]
        assert len(rows) == 4 and {row.count("|") for row in rows} == {len(compare.HEADS) + 1}
        assert "- Samples are the same and paired" in done.output

    def test_a_missing_folder_is_a_wrong_argument(self, folders):
        done = CliRunner().invoke(main, ["compare", folders[0], "nowhere"])
        assert done.exit_code == 2 and "nowhere" in done.output

    def test_help_does_not_wait_for_torch(self):
        code = (
            "import sys\nfrom click.testing import CliRunner\nfrom art_snn.cli import main\n"
            "done = CliRunner().invoke(main, ['compare', '--help'])\n"
            "assert done.exit_code == 0 and 'torch' not in sys.modules and 'scipy' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
