r"""Changes of pages before mkdocs builds them.

In a table GitHub needs ``\|`` for a bar in code. The tables of mkdocs take a plain bar there, and
would show the backslash.
"""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401  of mkdocs
    """Return the page with plain bars in its code."""
    return re.sub(r"`[^`\n]+`", lambda span: span[0].replace(r"\|", "|"), markdown)
