"""Examples of the page about Python."""

from pathlib import Path
from textwrap import dedent

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "python.md"


def python_example(section: str) -> str:
    """The code that stands in a section of the page."""
    text = PAGE.read_text().partition(f"## {section}\n\n")[2].partition("\n## ")[0]
    lines = text.splitlines()
    end = next(place for place, line in enumerate(lines) if line and not line.startswith("    "))
    return dedent("\n".join(lines[:end]))
