"""Where the example solutions' files are: inside the installed package, or beside its source."""

from pathlib import Path

import lineside
from lineside.core import NotFoundError


def example(solution: str, name: str) -> Path:
    """The path of an example's file."""
    package = Path(lineside.__file__).parent
    for folder in (package / "examples", package.parents[1] / "examples"):
        path = folder / solution / name
        if path.is_file():
            return path
    raise NotFoundError(
        f"the example {solution} has no {name}", where=str(package), fix="Install lineside again."
    )
