"""`python -m tests.documentation`: writes into README.md what is made from the code."""

from __future__ import annotations

from pathlib import Path

from server.settings import described

README = Path(__file__).parents[1] / "README.md"
BEGIN = "<!-- settings: made by `python -m tests.documentation`, checked by tests/test_documentation.py -->\n"
END = "<!-- end of settings -->"


def settings_table() -> str:
    """The server's settings as a Markdown table."""
    rows = [f"| `{s.name}` | `{s.variable}` | {s.default} | {s.help} |" for s in described()]
    return "\n".join(["| setting | in the environment | default | |", "|---|---|---|---|", *rows]) + "\n"


def with_settings(text: str) -> str:
    """The README with its settings table as the code has it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + settings_table() + END + after


if __name__ == "__main__":
    README.write_text(with_settings(README.read_text()))
