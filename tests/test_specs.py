"""Names with parameters: chains, attacks, files of settings."""

from __future__ import annotations

import pytest
from art.attacks.evasion import AutoProjectedGradientDescent, HopSkipJump, ProjectedGradientDescent
from hypothesis import given
from hypothesis import strategies as st

from art_snn.attacks import SAPGD, BriefPGD, PolishedPGD, Square, attack
from art_snn.attacks.table import unwrapped
from art_snn.audit import AuditSettings
from art_snn.audit.columns import column
from art_snn.audit.config import ConfigError, located, read
from art_snn.chains import HART, STBP, Mixed
from art_snn.specs import parsed, split
from art_snn.surrogates import ATan

TEXTS = st.text("ab ,()'\"\\")


class TestSpecs:
    @given(st.dictionaries(st.sampled_from(["a", "max_iter", "x2"]), st.integers() | st.floats(-9, 9) | TEXTS))
    def test_are_read_as_they_are_written(self, arguments):
        inner = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        text = f"some-name({inner})"
        assert parsed(text).name == "some-name" and parsed(text).arguments == arguments
        assert split(f"first,{text} , last") == ("first", text, "last")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "expected a name"),
            ("(a=1)", "expected a name"),
            ("hart(", "expected a name"),
            ("hart(1.0)", "each parameter is given by its name"),
            ("hart(**{})", "each parameter is given by its name"),
            ("hart(gamma=)", "it cannot be read"),
            ("hart(gamma=open('x'))", r"open\('x'\) is no number, word or list"),
        ],
    )
    def test_of_another_form_are_refused(self, text, message):
        with pytest.raises(ValueError, match=message):
            parsed(text)


class TestChains:
    def test_have_parameters(self):
        assert column("hart(gamma=0.5)").chain(None) == HART(0.5)
        assert column("stbp(surrogate=ATan(2.0), detach_reset=True)").chain(None) == STBP(
            surrogate=ATan(2.0), detach_reset=True
        )
        assert column("mixed(gamma=0.5)").chain(None) == Mixed([HART(0.5), STBP()])
        assert column("HART").tuned and not column("HART(gamma=1.0)").tuned
        assert column("hart(gamma=0.5)").title == "HART (γ = 0.5)"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("bptt(gamma=1.0)", "there is no chain 'bptt'"),
            ("cba(gamma=1.0)", "cba cannot be made with {'gamma': 1.0}"),
            ("hart(gamma=-1.0)", "gamma must be"),
        ],
    )
    def test_that_are_not_there_are_named(self, name, message):
        with pytest.raises(ValueError, match=message):
            AuditSettings(chains=(name,))


class TestAttacks:
    def test_are_those_of_the_table_of_art_and_ours(self):
        assert unwrapped(attack("pgd").make) is ProjectedGradientDescent
        assert unwrapped(attack("autoprojectedgradientdescent").make) is AutoProjectedGradientDescent
        assert unwrapped(attack("Square").make) is Square and unwrapped(attack("sapgd(max_iter=3)").make) is SAPGD
        assert unwrapped(attack("briefpgd(max_iter=3)").make) is BriefPGD
        assert unwrapped(attack("PolishedPGD(queries=9)").make) is PolishedPGD
        assert attack("pgd").differentiates and not attack("Square").differentiates
        assert unwrapped(attack("HopSkipJump").make) is HopSkipJump and not attack("HopSkipJump").differentiates

    def test_parameters_go_before_the_settings(self):
        entry = attack("pgd(max_iter=7)")
        assert entry.make.keywords["max_iter"] == 7
        assert entry.arguments(steps=5, step_size=0.1) == {"eps_step": 0.1}
        assert entry.title == "PGD (max_iter=7)" and entry.name == "pgd(max_iter=7)"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("bim(steps=2)", "there is no attack 'bim'"),
            ("pgd(steps=2)", "pgd has no parameter 'steps', it has .*max_iter"),
        ],
    )
    def test_that_are_not_there_are_named(self, name, message):
        with pytest.raises(ValueError, match=message):
            AuditSettings(attacks=(name,))


class TestAFileOfSettings:
    def write(self, tmp_path, *lines):
        path = tmp_path / "audit.toml"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    def test_gives_them_in_their_types(self, tmp_path):
        path = self.write(
            tmp_path, "# two attacks", 'attacks = ["pgd(max_iter=7)", "fgsm"]', "eps = 1", "", "sweep = []"
        )
        found = read(path, AuditSettings)
        assert found == {"attacks": ("pgd(max_iter=7)", "fgsm"), "eps": 1.0, "sweep": ()}
        assert AuditSettings(**found).all_eps() == [1.0]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("epsilon = 0.1", "line 3: epsilon is no setting; there are network, data"),
            ("eps = -0.1", "line 3: eps must be a number above 0, got -0.1"),
            ('eps = "0.1"', "line 3: eps must be a number, got '0.1'"),
            ("chains = 'hart'", "line 3: chains must be a list, got 'hart'"),
            ("chains = [1]", "line 3: chains must be a string, got 1"),
            ("chains = ['hart', 'bptt']", "line 3: chains: there is no chain 'bptt'"),
            ("steps = true", "line 3: steps must be a whole number, got True"),
            ("steps 5", r"line 3, column 7"),
        ],
    )
    def test_is_refused_with_the_line_that_is_wrong(self, tmp_path, line, message):
        with pytest.raises(ConfigError, match=rf"audit\.toml.*{message}"):
            read(self.write(tmp_path, "", "seed = 1", line, "repeats = 2"), AuditSettings)

    def test_names_the_line_of_what_does_not_go_together(self, tmp_path):
        path = self.write(tmp_path, "", "network = 'a:b'", "epochs = 3")
        found = read(path, AuditSettings)
        with pytest.raises(ValueError) as error:
            AuditSettings(**found)
        assert str(located(path, error.value, found)).endswith(
            "audit.toml, line 3: epochs belongs to the embedded network; network has its own."
        )
