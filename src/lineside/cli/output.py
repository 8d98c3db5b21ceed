"""How commands speak: results on stdout, everything else on stderr, failures as sentences."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer

from lineside.core import InvalidError, LinesideError, NotFoundError, to_plain

T = TypeVar("T")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def show(result: T, *, as_json: bool, text: Callable[[T], str]) -> None:
    """Print a result: as JSON for programs, as text for people."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(to_plain(result))).decode() + "\n")
    else:
        sys.stdout.write(text(result).rstrip("\n") + "\n")


def say(line: str) -> None:
    """Progress and remarks, on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def ask(question: str, *, yes: bool) -> None:
    """Go on where a person agrees, or ``--yes`` was given.

    Raises:
        InvalidError: neither, and no terminal is there to ask at.
        typer.Abort: the person does not agree.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidError(
            f"{question} Nobody is there to ask", where="--yes", fix="Add --yes to do it unasked."
        )
    typer.confirm(question, abort=True, err=True)


def explain(error: LinesideError) -> None:
    """A failure in words: what and where, every fault, how to fix."""
    place = f" ({error.where})" if error.where else ""
    say(f"error: {error.message}{place}")
    if len(error.faults) > 1:
        for fault in error.faults:
            say(f"  - {fault}")
    if error.fix:
        say(f"fix: {error.fix}")


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows as aligned columns."""
    if not rows:
        return ""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def writable(path: Path | None) -> None:
    """Refuse an output file that could not be written, before any work is done for it."""
    if path is None:
        return
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise NotFoundError(
            "no file can be written there", where=str(path), fix="Name a file in a folder of yours."
        )
