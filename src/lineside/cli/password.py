"""How a command comes by a password: never as a word of the command line."""

import sys
from pathlib import Path

import typer

from lineside.core import InvalidError


def read_password(file: Path | None) -> str:
    """From a file, from standard input, or typed twice.

    Raises:
        InvalidError: nobody can be asked, and no file is named.
    """
    if file is not None and str(file) != "-":
        with file.open(encoding="utf-8") as opened:
            return opened.readline().rstrip("\r\n")
    if file is not None:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InvalidError(
            "no password, and nobody to ask",
            where="--password-file",
            fix="Name a file, or - for standard input.",
        )
    typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return typed
