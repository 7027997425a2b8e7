"""The command that runs an audit again."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import Any

from art_snn.audit.settings import AuditSettings
from art_snn.settings import about, is_default


def command(settings: AuditSettings) -> str:
    """
    :param settings: What was run.
    :return: The command of a POSIX shell that runs it, with every option that has not its default.
    """
    words = ["art-snn", "audit"]
    for each in fields(settings):
        value = getattr(settings, each.name)
        if not is_default(settings, each.name):
            words += _option(f"--{each.name.replace('_', '-')}", value, about(each).off)
    return shlex.join(words)


def _option(name: str, value: Any, off: str | None) -> list[str]:
    if isinstance(value, bool):
        return [name if value else f"--{off}"]
    return [name, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
