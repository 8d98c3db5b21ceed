"""Tests that lists of known defects name."""

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent


@cache
def names_in(file: str) -> frozenset[str]:
    """The functions of a test file."""
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def missing(named: Iterable[str]) -> list[str]:
    """Names of the form ``file::Class::function`` that no test has."""
    split = ((name, *name.split("::")) for name in named)
    return [name for name, file, *_, function in split if function not in names_in(file)]


def defects_in(file: str) -> set[int]:
    """The numbers of the defects that a file tests itself."""
    found = (re.match(r"test_defect_(\d+)_", name) for name in names_in(file))
    return {int(match[1]) for match in found if match}
