"""Keyword arguments that several functions share: each stands once, with its type, its default and its words.

A group of them is a `TypedDict` whose fields are annotated with a :class:`Keyword`. A function takes a group as
`**settings: Unpack[Group]`, by which type checkers know the names and types, and :func:`spelled_out` makes of it a
function that has them written out:

    class Draw(TypedDict, total=False):
        seed: Annotated[int, Keyword(0, "Seed of the draw.")]

    @spelled_out()
    def drawn(number: int, **settings: Unpack[Draw]) -> list[float]:
        '''Draw.

        :param number: How many.
        :param settings: Those of every draw.
        '''
        return list(np.random.default_rng(settings["seed"]).random(number))

`help(drawn)` then says `drawn(number: int, *, seed: int = 0)` and what `seed` is.
"""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_type_hints

#: The default of a keyword that must be given, or for which every function says its own.
NO_DEFAULT = inspect.Parameter.empty

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Keyword:
    """What a keyword argument is when it is not given, and what it means, in words."""

    default: Any
    words: str


def spelled_out(**changed: Any) -> Callable[[Function], Function]:
    """Write the group of keyword arguments that a function takes out in its signature and its documentation.

    The function is called with all of the group, by default where they are not given.

    :param changed: What is otherwise for this function: a default, or a :class:`Keyword` with other words too.
    :return: The decorator of a function whose last parameter is `**settings: Unpack[Group]`; the line
        `:param settings:` of its documentation gives way to the group's.
    """

    def decorate(function: Function) -> Function:
        hints = get_type_hints(function, function.__globals__)
        *own, rest = inspect.signature(function, follow_wrapped=False).parameters.values()
        (group,) = get_args(hints[rest.name])
        keywords = _keywords(group, changed)
        types = get_type_hints(group)
        signature = inspect.Signature(
            [
                *(parameter.replace(annotation=hints[parameter.name]) for parameter in own),
                *(
                    inspect.Parameter(
                        name, inspect.Parameter.KEYWORD_ONLY, default=keyword.default, annotation=types[name]
                    )
                    for name, keyword in keywords.items()
                ),
            ],
            return_annotation=hints["return"],
        )

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            given.apply_defaults()
            return function(*given.args, **given.kwargs)

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__doc__ = _documented(function, rest.name, keywords)
        return call  # type: ignore[return-value]

    return decorate


def _keywords(group: type, changed: dict[str, Any]) -> dict[str, Keyword]:
    """A group's keywords by name, as they are for one function."""
    keywords = {}
    for name, hint in get_type_hints(group, include_extras=True).items():
        (keyword,) = (note for note in get_args(hint) if isinstance(note, Keyword))
        new = changed.pop(name, keyword)
        keywords[name] = new if isinstance(new, Keyword) else Keyword(new, keyword.words)
    if changed:
        raise TypeError(f"{group.__name__} has no {', '.join(changed)}.")
    return keywords


def _documented(function: Callable[..., Any], name: str, keywords: dict[str, Keyword]) -> str:
    """A function's documentation, in which those of a group stand in place of the group."""
    fields = "\n".join(
        textwrap.fill(f":param {name}: {keyword.words}", 116, subsequent_indent="    ", break_on_hyphens=False)
        for name, keyword in keywords.items()
    )
    text, number = re.subn(rf"(?m)^:param {name}:.*$", lambda _: fields, inspect.cleandoc(function.__doc__ or ""))
    if number != 1:
        raise TypeError(f"the documentation of {function.__name__} must have one line ':param {name}: ...'.")
    return text
