"""Settings from a TOML file, each checked by itself; what is wrong is said with its line.

```toml
network = "net.py:make"
data = "samples.npz"
eps = 0.03
attacks = ["sapgd(max_iter=50)", "AutoProjectedGradientDescent(max_iter=20)"]
chains = ["hart(gamma=0.5)", "stbp(detach_reset=True)"]
```
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from art_snn.settings import about

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class ConfigError(ValueError):
    """What is wrong with a file, and in which line."""


def read(path: Path, settings: type) -> dict[str, Any]:
    """
    :param path: A TOML file.
    :param settings: The dataclass of settings, whose fields' names it uses.
    :return: The settings that it gives.
    :raises ConfigError: If it cannot be read, or a setting is not known, of another type, or out of its range.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}.") from None
    known, hints = {each.name: each for each in fields(settings)}, get_type_hints(settings)
    values = {}
    for name, value in found.items():
        if name not in known:
            raise ConfigError(
                f"{path}, line {line_of(text, name)}: {name} is no setting; there are {', '.join(known)}."
            )
        try:
            values[name] = _typed(name, value, hints[name])
            if (check := about(known[name]).check) is not None:
                check(name, values[name])
        except ValueError as error:
            raise ConfigError(f"{path}, line {line_of(text, name)}: {error}") from None
    return values


def located(path: Path, error: ValueError, given: Mapping[str, Any]) -> ConfigError | None:
    """
    :param path: The TOML file.
    :param error: What is wrong with settings together; its first word is one.
    :param given: The settings that the file gives.
    :return: It with the line, if the file has one.
    """
    name = str(error).split()[0].rstrip(":")
    if name not in given:
        return None
    return ConfigError(f"{path}, line {line_of(path.read_text(encoding='utf-8'), name)}: {error}")


def line_of(text: str, name: str) -> int:
    """
    :param text: A TOML file's text.
    :param name: A key on its top level.
    :return: The number of its line, from 1.
    """
    form = re.compile(rf"""\s*["']?{re.escape(name)}["']?\s*[=.]|\s*\[\[?\s*["']?{re.escape(name)}\b""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if form.match(line)), 1)


def _typed(name: str, value: Any, hint: Any) -> Any:
    """A value of TOML as the setting's type."""
    kinds = [each for each in (get_args(hint) if NoneType in get_args(hint) else (hint,)) if each is not NoneType]
    for kind in kinds:
        if get_origin(kind) is tuple:
            if isinstance(value, list):
                inner = get_args(kind)[0]
                return tuple(_typed(name, each, inner) for each in value)
        elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        elif isinstance(kind, type) and type(value) is kind:
            return value
    wanted = " or ".join("a list" if get_origin(kind) is tuple else _WORDS.get(kind, str(kind)) for kind in kinds)
    raise ValueError(f"{name} must be {wanted}, got {value!r}.")


_WORDS: dict[Any, str] = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
