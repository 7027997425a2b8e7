"""A name with parameters, as settings and commands give it: `hart`, `hart(gamma=0.5)`, `sapgd(max_iter=50)`."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_FORM = re.compile(r"([A-Za-z][\w.-]*)\s*(?:\((.*)\))?", re.DOTALL)


@dataclass(frozen=True)
class Spec:
    """A name, and what follows it in brackets.

    :param name: The name.
    :param arguments: The parameters.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def parsed(text: str, known: Mapping[str, Callable[..., Any]] | None = None) -> Spec:
    """
    :param text: A name, or `name(parameter=value, ...)` with values as Python writes them.
    :param known: What a value may be made by besides, by name, such as a surrogate: `stbp(surrogate=ATan(2.0))`.
    :return: The two parts.
    :raises ValueError: If it is of another form.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"expected a name, or name(parameter=value, ...), got {text!r}.")
    name, inner = found.groups()
    if inner is None:
        return Spec(name)
    try:
        call = ast.parse(f"f({inner})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args or any(each.arg is None for each in call.keywords):
            raise ValueError("each parameter is given by its name")
        return Spec(name, {str(each.arg): _value(each.value, known or {}) for each in call.keywords})
    except (SyntaxError, ValueError, TypeError) as error:
        what = "it cannot be read" if isinstance(error, SyntaxError) else str(error).rstrip(".")
        raise ValueError(f"expected {name}(parameter=value, ...), got {text!r}: {what}.") from None


def _value(node: ast.expr, known: Mapping[str, Callable[..., Any]]) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known:
        parts = [_value(part, known) for part in node.args]
        return known[node.func.id](*parts, **{str(each.arg): _value(each.value, known) for each in node.keywords})
    try:
        return ast.literal_eval(node)
    except ValueError:
        more = f" or made by {', '.join(known)}" if known else ""
        raise ValueError(f"{ast.unparse(node)} is no number, word or list{more}") from None


def split(text: str) -> tuple[str, ...]:
    """
    :param text: Names with or without parameters, separated by commas.
    :return: They, one by one; a comma inside brackets or quotes separates nothing.
    """
    parts, depth, quote, escaped = [""], 0, "", False
    for letter in text:
        if quote:
            quote = "" if letter == quote and not escaped else quote
            escaped = letter == "\\" and not escaped
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return tuple(part.strip() for part in parts if part.strip())
