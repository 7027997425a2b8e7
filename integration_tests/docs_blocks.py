"""The Python blocks and the commands of a page, and what comments in it say of how the tests run them.

A comment stands directly above what it is about:

- `<!-- not run: REASON -->`: the block below is only parsed, a command's options only read;
- `<!-- run with: epochs = 1, samples = 20 -->`: in the block below these assignments have these values;
- `<!-- run with: --epochs 1 -->`: each command below has these options besides; with `;` between them, the first
  command has what stands before, and so on;
- `<!-- where: NAME = table1 -->`: in the block below this word stands for that;
- `<!-- set-up` ... `-->`: Python that runs there, which a reader need not see.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

FORM = re.compile(
    r"^<!-- (?P<mark>not run|run with|where): (?P<said>.*?) -->\n"
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
    :param where: What words of it stand for.
    """

    line: int
    language: str
    text: str
    reason: str = ""
    given: str = ""
    where: str = ""

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
        """The words of each `art-snn` command and each `python -m benchmarks.` of it, its options besides."""
        text = re.sub(r"\\\n\s*", "", self.text)
        for part in filter(None, self.where.split(", ")):
            name, _, value = part.partition(" = ")
            assert name in text, f"{part}: there is no {name}"
            text = text.replace(name, value)
        found = [words for line in text.splitlines() for part in unrolled(line) if (words := command(part))]
        given = self.given.split(";") if ";" in self.given else [self.given] * len(found)
        assert len(given) == len(found), f"{len(given)} parts of options for {len(found)} commands"
        return [[*words, *shlex.split(options)] for words, options in zip(found, given, strict=True)]


def unrolled(line: str) -> Iterator[str]:
    """The commands of a line of shell: those between `&&`, and those of `for seed in 0 1; do ...; done`."""
    loop = re.fullmatch(r"\s*for (\w+) in (.*?); do (.*); done\s*(?:#.*)?", line)
    for value in loop[2].split() if loop else [""]:
        body = loop[3].replace(f"${loop[1]}", value) if loop else line
        yield from re.split(r"&&|;", body) if loop else body.split("&&")


def command(text: str) -> list[str]:
    """Its words, if it is one of this package's; of torchrun, what each process runs."""
    if text.split()[:1] not in (["art-snn"], ["python"], ["torchrun"]):
        return []  # not a command; it may have any apostrophe
    words = shlex.split(text, comments=True)
    if words[:1] == ["torchrun"] and "art_snn.cli" in words:
        words = ["art-snn", *words[words.index("art_snn.cli") + 1 :]]
    if words[:1] == ["art-snn"] or (words[:2] == ["python", "-m"] and words[2].startswith("benchmarks.")):
        return [word for word in words if word != "..."]
    return []


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
        said = {"reason": marks.pop("not run", ""), "given": marks.pop("run with", ""), "where": marks.pop("where", "")}
        if match["hidden"] is not None:
            yield Block(line + 1, "python", match["hidden"], **said)
        elif match["language"] in ("python", "toml"):
            yield Block(line + 1, match["language"], match["fenced"], **said)
        elif match["indented"] is not None:
            yield Block(line, "command", match["indented"], **said)
    assert not marks, f"marks of nothing: {marks}"
