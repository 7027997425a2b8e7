"""What the pages need of Sphinx beyond its own extensions: formulas as MathML, and the options of a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from art_snn.cli import main
from art_snn.cli.options import SettingsCommand


def parameters(name: str) -> list[click.Option]:
    """
    :param name: A command of `art-snn`.
    :return: Its options, those of its settings first.
    """
    command = main.commands[name]
    declared = command.declared() if isinstance(command, SettingsCommand) else command.params
    return [each for each in declared if isinstance(each, click.Option)]


def row(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    """
    :param option: An option.
    :param context: The command's.
    :return: How it is written, its default, and what it is.
    """
    written = ", ".join([*option.opts, *option.secondary_opts])
    if not option.is_flag:
        written += f" {option.make_metavar(context)}"
    text, _, unset = (option.help or "").partition("  [default: ")
    value = option.get_default(context)
    if unset:
        said = unset.rstrip("]")
    elif option.is_flag:
        said = "on" if value is True else "off"
    else:
        said = "must be given" if option.required else str(value) if isinstance(value, (str, int, float, Path)) else ""
    return written, said, text


class Options(SphinxDirective):
    """`{options} audit`: a table of the command's options, out of the command itself."""

    has_content = True  # what a page says where it is read without Sphinx; here the table stands for it
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        context = click.Context(main.commands[name], info_name=name)
        table = nodes.table("", classes=["options"])
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (30, 15, 55)), cols=3)
        head, body = nodes.thead(), nodes.tbody()
        head += self._line([nodes.Text(title) for title in ("option", "default", "what it is")])
        for option in parameters(name):
            written, value, text = row(option, context)
            default = nodes.literal(text=value) if value and " " not in value else nodes.Text(value)
            body += self._line([nodes.literal(text=written), default, nodes.Text(text)])
        group += [head, body]
        table += group
        return [table]

    @staticmethod
    def _line(cells: list[nodes.Node]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    text = node.astext().strip()
    if r"\\" in text and r"\begin" not in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    translator.body.append(f'<div class="math">{convert(text, display="block")}</div>')
    raise nodes.SkipNode


def bars(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """|u| in a docstring is a distance, and no substitution of reStructuredText; formulas are left alone."""
    inside = False
    for place, line in enumerate(lines):
        if line.strip():
            inside = ".. math::" in line or (inside and line.startswith(" "))
        if not inside and ":math:" not in line:
            lines[place] = line.replace("|", r"\|")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("options", Options)
    app.connect("autodoc-process-docstring", bars)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
