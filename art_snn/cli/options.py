"""From a setting to the option of a command: name, type, default and help are those of the dataclass's field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

import click

from art_snn.specs import split

#: What reads an option's text beyond what click does.
Callback = Callable[[click.Context, click.Parameter, Any], Any]


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """A comma-separated list of numbers."""
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"expected numbers separated by commas, got {value!r}.") from None


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """A comma-separated list of names, each of which may have parameters in brackets."""
    return None if value is None else tuple(part.lower() if part.isupper() else part for part in split(value))


def pair(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Height and width, as `H,W`."""
    if value is None:
        return None
    try:
        height, width = (int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"expected H,W in pixels, got {value!r}.") from None
    return height, width


def number_or_max(context: click.Context, parameter: click.Parameter, value: str | None) -> float | str | None:
    """A number, or `max`."""
    if value is None or value == "max":
        return value
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"expected max or a number, got {value!r}.") from None


def forms() -> dict[Any, tuple[str, Callback]]:
    """
    :return: By a setting's type: the form of its option's text, and what reads it.
    """
    from art_snn.datasets.frames import Scale

    return {
        tuple[float, ...]: ("NUMBER,...", numbers),
        tuple[str, ...]: ("NAME,...", names),
        tuple[int, int]: ("H,W", pair),
        Scale: ("max|NUMBER", number_or_max),
    }


class SettingsCommand(click.Command):
    """A command with an option for each field of a dataclass of settings, before its own.

    :param settings: What gives the dataclass, when the command is used: `art-snn --help` does not wait for torch.
    :param callbacks: What reads options that need more than their type says, by the fields' names.
    """

    def __init__(
        self, *args: Any, settings: Callable[[], type], callbacks: Mapping[str, Callback] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.settings, self.callbacks, self.own = settings, callbacks or {}, self.params

    def declared(self) -> list[click.Parameter]:
        """
        :return: All its options, those of its settings first.
        """
        return [*options(self.settings(), self.callbacks), *self.own]

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        self.params = self.declared()
        return super().make_context(*args, **kwargs)


def options(settings: type, callbacks: Mapping[str, Callback]) -> list[click.Parameter]:
    """
    :param settings: A dataclass of settings.
    :param callbacks: What reads options that need more than their type says, by the fields' names.
    :return: An option for each field.
    """
    known, types = forms(), get_type_hints(settings)
    return [_option(each, types[each.name], known, callbacks.get(each.name)) for each in fields(settings)]


def _option(each: Field[Any], hint: Any, known: dict[Any, tuple[str, Callback]], callback: Callback | None) -> Any:
    from art_snn.settings import about, default

    kind, setting, name = _without_none(hint), about(each), f"--{each.name.replace('_', '-')}"
    text = setting.text
    if setting.unset is not None:
        text += f"  [default: {setting.unset}]"
    if kind is bool:
        declared = f"{name}/--{setting.off}" if setting.off else name
        return click.Option([declared, each.name], is_flag=True, default=default(each), help=text)
    form, reader = next((found for of, found in known.items() if of == kind), (None, None))
    value = default(each)
    return click.Option(
        [name, each.name],
        type=kind if kind in (int, float) else str,
        default=",".join(map(str, value)) if isinstance(value, tuple) else value,
        metavar=form,
        callback=callback or reader,
        help=text,
    )


def _without_none(hint: Any) -> Any:
    """A type without None: `X` of `X | None`."""
    from functools import reduce
    from operator import or_

    arguments = [argument for argument in get_args(hint) if argument is not NoneType]
    return reduce(or_, arguments) if NoneType in get_args(hint) else hint
