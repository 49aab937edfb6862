"""The Markdown files of the repository, and their code blocks. Run as a module, it writes generated tables.

`python -m tests.documentation` writes the settings table of server/README.md.
"""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from server.settings import described

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SETTINGS = ROOT / "server/README.md"
BEGIN = "<!-- settings: made by `python -m tests.documentation`, checked by tests/test_documentation.py -->\n"
END = "<!-- end of settings -->"

_FENCED = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```", re.M | re.S)


class Block(NamedTuple):
    """A fenced code block: its document, the line of its fence, the words after the fence, its text."""

    document: Path
    line: int
    info: tuple[str, ...]
    text: str

    @property
    def language(self) -> str:
        return self.info[0] if self.info else ""

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    """Every Markdown file of the repository, new ones included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in sorted(set(listed)) if (ROOT / name).is_file()]


def blocks() -> list[Block]:
    """The code blocks of all documents."""
    return [block for document in documents() for block in _blocks(document)]


def prose(text: str) -> str:
    """Markdown without its code blocks, tables and headings."""
    return re.sub(r"^(\||#).*$", "", _FENCED.sub("", text), flags=re.M)


def sentences(text: str) -> list[int]:
    """How many words each sentence of the Markdown has; an item of a list ends a sentence."""
    paragraphs = re.split(r"\n\s*\n|\n\s*(?=(?:-|\d+\.) )", prose(text))
    plain = (re.sub(r"\]\([^)]*\)|[*`\[\]]", "", paragraph) for paragraph in paragraphs)
    parts = (part for paragraph in plain for part in re.split(r"(?<=[.:?!])\s+", paragraph.strip()))
    counts = (len(re.findall(r"[\w'/.-]*\w[\w'/.-]*", part)) for part in parts)
    return [count for count in counts if count > 1]


def commands(block: Block) -> Iterator[list[str]]:
    """The commands that a console block types after its `$`, one list of words each; comments are left out."""
    joined = block.text.replace("\\\n", " ")
    for typed in re.findall(r"^\s*\$ (.*)$", joined, re.M):
        lexer = shlex.shlex(re.sub(r"(^|\s)#.*", "", typed), posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, ""
        for is_operator, words in itertools.groupby(lexer, lambda word: set(word) <= set("();<>|&")):
            if not is_operator:
                yield list(words)


def settings_table() -> str:
    """The server's settings as a Markdown table."""
    rows = [f"| `{s.name}` | `{s.variable}` | {s.default} | {s.help} |" for s in described()]
    return "\n".join(["| setting | in the environment | default | |", "|---|---|---|---|", *rows]) + "\n"


def with_settings(text: str) -> str:
    """The document with its settings table as the code has it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + settings_table() + END + after


def _blocks(document: Path) -> Iterator[Block]:
    text = document.read_text(encoding="utf-8")
    for match in _FENCED.finditer(text):
        indent, info, body = match.groups()
        line = text.count("\n", 0, match.start()) + 1
        yield Block(document, line, tuple(info.split()), re.sub(rf"^{indent}", "", body, flags=re.M))


if __name__ == "__main__":
    SETTINGS.write_text(with_settings(SETTINGS.read_text(encoding="utf-8")), encoding="utf-8")
