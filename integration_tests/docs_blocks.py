"""The Python blocks and the commands of a page, and what comments in it say of how the tests run them.

A comment stands directly above what it is about:

- `<!-- not run: REASON -->`: the block below is only parsed, a command's options only read;
- `<!-- run with: epochs = 1, samples = 20 -->`: in the block below these assignments have these values;
- `<!-- run with: --epochs 1 -->`: each command below has these options besides;
- `<!-- set-up` ... `-->`: Python that runs there, which a reader need not see.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

FORM = re.compile(
    r"^<!-- (?P<mark>not run|run with): (?P<said>.*?) -->\n"
    r"|^<!-- set-up\n(?P<hidden>.*?)^-->\n"
    r"|^```(?P<language>\w+)\n(?P<fenced>.*?)^```\n"
    r"|(?<=\n\n)(?P<indented>(?:    [^\n]*\n)+)",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """What is run, or parsed.

    :param line: The line of the page before its first.
    :param language: `python`, `toml`, or `command`.
    :param text: It.
    :param reason: Why it is not run, if it is not.
    :param given: What it is run with.
    """

    line: int
    language: str
    text: str
    reason: str = ""
    given: str = ""

    @property
    def code(self) -> str:
        """A Python block, with the assignments that it is run with."""
        code = self.text
        for part in filter(None, self.given.split(", ")):
            name, _, value = part.partition(" = ")
            code, number = re.subn(rf"^(\s*){name} = .*$", rf"\g<1>{name} = {value}", code, flags=re.M)
            assert number == 1, f"{part}: the block assigns {name} {number} times"
        return "\n" * self.line + code  # so that an error names the line of the page

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of each `art-snn` command of it."""
        found = []
        for line in re.sub(r"\\\n\s*", "", self.text).splitlines():
            for part in line.split("&&"):
                if not part.strip().startswith(("art-snn ", "torchrun ")):
                    continue
                words = shlex.split(part, comments=True)
                if words[:1] == ["torchrun"] and "art_snn.cli" in words:
                    words = ["art-snn", *words[words.index("art_snn.cli") + 1 :]]
                if words[:1] == ["art-snn"]:
                    found.append([word for word in words[1:] if word != "..."] + shlex.split(self.given))
        return found


def blocks(text: str) -> Iterator[Block]:
    """
    :param text: A page in Markdown.
    :return: Its blocks, in order.
    """
    marks: dict[str, str] = {}
    for match in FORM.finditer(text):
        if match["mark"]:
            marks[match["mark"]] = match["said"]
            continue
        line = text[: match.start()].count("\n")
        said = {"reason": marks.pop("not run", ""), "given": marks.pop("run with", "")}
        if match["hidden"] is not None:
            yield Block(line + 1, "python", match["hidden"], **said)
        elif match["language"] in ("python", "toml"):
            yield Block(line + 1, match["language"], match["fenced"], **said)
        elif match["indented"] is not None:
            yield Block(line, "command", match["indented"], **said)
    assert not marks, f"marks of nothing: {marks}"
