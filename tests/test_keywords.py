"""A keyword argument that several functions share stands once, and is in the signature and documentation of each."""

from __future__ import annotations

import inspect
import re
import typing
from typing import Annotated, TypedDict

import pytest
from typing_extensions import Unpack

from art_snn import datasets, models
from art_snn.keywords import NO_DEFAULT, Keyword, spelled_out

NETWORKS = [getattr(models, name) for name in ("small_cnn", "vgg11", "resnet17", "vgg_dvs")]
LOADERS = [getattr(datasets, name) for name in datasets.__all__ if name not in ("Dataset", "event_frames")]


def words(function) -> dict[str, str]:
    """What the documentation says of each argument."""
    fields = re.split(r"\n(?=:)", inspect.getdoc(function))
    found = [re.fullmatch(r":param (\w+): (.*)", " ".join(field.split())) for field in fields]
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("function", [*NETWORKS, *LOADERS])
def test_every_argument_is_in_the_signature_and_documented(function):
    parameters = inspect.signature(function).parameters
    assert list(words(function)) == list(parameters)
    assert not any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters.values())
    assert all(one.default is not one.empty for name, one in parameters.items() if name != "root")
    assert all(isinstance(one.annotation, type) or typing.get_origin(one.annotation) for one in parameters.values())


@pytest.mark.parametrize("functions", [NETWORKS, LOADERS])
def test_what_several_take_means_the_same_in_all(functions):
    own = {"root", "input_shape", "encoder", "size"}  # of frames it is not what it is of images
    seen: dict[str, set[str]] = {}
    for function in functions:
        for name, text in words(function).items():
            seen.setdefault(name, set()).add(text)
    assert {name for name, texts in seen.items() if len(texts) > 1} <= own


@pytest.mark.parametrize("loader", LOADERS)
def test_a_loader_names_what_it_does_not_take(loader):
    given = {"root": "nowhere"} if "root" in inspect.signature(loader).parameters else {}
    with pytest.raises(TypeError, match=rf"{loader.__name__}\(\) got an unexpected keyword argument 'limits'"):
        loader(**given, limits=3)


class Drawn(TypedDict, total=False):
    low: Annotated[float, Keyword(0.0, "Lowest.")]
    high: Annotated[float, Keyword(NO_DEFAULT, "Highest.")]


class TestSpelledOut:
    def drawn(self, **changed):
        @spelled_out(**changed)
        def drawn(number: int, **settings: Unpack[Drawn]) -> tuple:
            """Draw.

            :param number: How many.
            :param settings: From where.
            """
            return number, settings

        return drawn

    def test_gives_the_function_all_of_the_group(self):
        assert self.drawn()(3, high=2.0) == (3, {"low": 0.0, "high": 2.0})
        assert self.drawn(high=1.0, low=-1.0)(number=3, low=0.5) == (3, {"low": 0.5, "high": 1.0})

    def test_writes_signature_and_documentation(self):
        drawn = self.drawn(low=Keyword(0.5, "Not lower."))
        assert str(inspect.signature(drawn)) == "(number: int, *, low: float = 0.5, high: float) -> tuple"
        assert inspect.getdoc(drawn).splitlines() == [
            "Draw.",
            "",
            ":param number: How many.",
            ":param low: Not lower.",
            ":param high: Highest.",
        ]

    def test_requires_what_has_no_default(self):
        with pytest.raises(TypeError, match=r"drawn\(\) missing a required .*argument: 'high'"):
            self.drawn()(3)

    def test_knows_its_group(self):
        with pytest.raises(TypeError, match=r"Drawn has no middle"):
            self.drawn(middle=1.0)

    def test_needs_a_place_in_the_documentation(self):
        def undocumented(**settings: Unpack[Drawn]) -> None:
            """Draw."""

        with pytest.raises(TypeError, match="undocumented must have one line ':param settings"):
            spelled_out()(undocumented)
