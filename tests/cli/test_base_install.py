"""A base install has no library of any extra: each command works or names the extra to install."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import lineside
from lineside.cli.app import app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BASE = ("msgspec", "rich", "typer")


def requirements(name: str) -> set[str]:
    """Return a distribution with all that it requires, extras left out."""
    found = {name}
    for line in importlib.metadata.requires(name) or ():
        if "extra ==" in line:
            continue
        required = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]
        try:
            found |= requirements(required)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of installed packages that holds what the base install brings alone."""
    folder = tmp_path_factory.mktemp("site")
    for name in {each for base in BASE for each in requirements(base)}:
        for file in importlib.metadata.distribution(name).files or ():
            top = file.parts[0]
            if top not in {"..", "__pycache__"} and not (folder / top).exists():
                path = Path(str(file.locate()))
                (folder / top).symlink_to([path, *path.parents][len(file.parts) - 1])
    (folder / "lineside").symlink_to(Path(lineside.__file__).parent)
    installed = Path(str(importlib.metadata.distribution("lineside").locate_file("")))
    (about,) = installed.glob("lineside-*.dist-info")
    (folder / about.name).symlink_to(about)
    return folder


def commands() -> Iterator[list[str]]:
    """Give each command with a word for everything that it requires."""

    def walk(command: Any, path: list[str]) -> Iterator[list[str]]:  # noqa: ANN401  the parser's own class
        for name, below in getattr(command, "commands", {}).items():
            yield from walk(below, [*path, name])
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield [*path, *required(command)]

    def required(command: Any) -> Iterator[str]:  # noqa: ANN401
        for parameter in command.params:
            if parameter.required:
                if parameter.param_type_name != "argument":
                    yield parameter.opts[0]
                yield WORDS.get(parameter.name, "x")

    yield from walk(typer.main.get_command(app), [])


WORDS = {"solution": "bins", "program": "hub", "at": "2026-01-01T00:00:00Z"}


RUN_EACH = """
import json, os, sys
import typer.main
from lineside.cli import main
from lineside.cli.app import app

dict(typer.main.get_command(app).commands)  # every module of commands is imported once, here
for number, words in enumerate(json.load(sys.stdin)):
    child = os.fork()  # each command has a process of its own
    if child == 0:
        for stream, name in ((1, "out"), (2, "err")):
            flags = os.O_WRONLY | os.O_CREAT
            os.dup2(os.open(f"{number}.{name}", flags), stream)
        sys.argv[1:] = words
        main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def run(listed: list[list[str]], *, site: Path, folder: Path) -> list[tuple[int, str]]:
    """Run each command; returns its exit code and what it wrote to its standard error."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", RUN_EACH], cwd=folder, text=True, check=True, timeout=800,
        env={"PYTHONPATH": str(site), "PATH": os.defpath}, input=json.dumps(listed),
        stdout=subprocess.PIPE,
    )  # fmt: skip
    codes = list(map(int, done.stdout.split()))
    errors = [(folder / f"{number}.err").read_text() for number in range(len(codes))]
    return list(zip(codes, errors, strict=True))


def test_every_command_works_or_names_the_extra(site: Path, tmp_path: Path) -> None:
    listed = list(commands())
    assert len(listed) > 80
    ended = dict(zip(map(" ".join, listed), run(listed, site=site, folder=tmp_path), strict=True))
    wrong = {
        words: (code, said[-300:])
        for words, (code, said) in ended.items()
        if code == 1 or code < 0 or (code == 7) != ("pip install" in said)
    }
    assert wrong == {}
    assert sum(code == 7 for code, _ in ended.values()) > 40
