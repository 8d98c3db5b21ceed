"""Names that the manual and the decision records use, held against the program.

A decision record keeps the words of its day. What it names and the program no longer has stands in
its line "Names of that time: `old`, now `new`; `other`, gone." Nothing else may be missing.
"""

import ast
import builtins
import json
import re
import runpy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from markdown.extensions.toc import slugify  # type: ignore[import-untyped]

from lineside.cli.app import app

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lineside"
BENCHMARKS = ROOT / "benchmarks"
RECORDS = sorted((ROOT / "docs/adr").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = {path.name for base in (ROOT, SOURCE) for path in base.iterdir() if path.is_dir()}
# Options, keys and addresses of other programs, and options of the program that a rule becomes.
FOREIGN = {"--cacert", "--randomly-seed", "clean_session", "/tmp/edge_agent"}  # noqa: S108
FOREIGN |= {"--files", "--partitions"}
page_of = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@cache
def program() -> tuple[set[str], set[str], set[str]]:
    """Classes and functions, fields and parameters, and texts of the source."""
    defined, fields, texts = set(), set(), set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                    defined.add(name)
                case ast.AnnAssign(target=ast.Name(id=name)) | ast.arg(arg=name):
                    fields.add(name)
                case ast.Constant(value=str(text)):
                    texts.add(text)
                case _:
                    continue
    return defined, fields, texts


@cache
def shown() -> set[str]:
    """Texts between tags and quotes of all pages, as a reader sees them."""
    files = (path for path in SOURCE.rglob("*") if path.suffix in {".py", ".html", ".js"})
    pieces = (re.split(r"""[<>"'{}`\\]""", " ".join(path.read_text().split())) for path in files)
    return {piece.strip(" .?!…:,") for each in pieces for piece in each}


# The source is read before the first test, which else would be charged for all of them.
_source = pytest.fixture(scope="module", autouse=True)(program)


def options(command: Any) -> Iterator[str]:  # noqa: ANN401  a command of typer's own click
    for one in command.params:
        yield from (*one.opts, *one.secondary_opts)
    for inner in getattr(command, "commands", {}).values():
        yield from options(inner)


def is_there(name: str) -> bool:
    """Whether a path, a module, a name of a package or a class of ours is in the program."""
    if "/" in name:
        return any((base / name).exists() for base in (ROOT, SOURCE))
    package, _, last = name.removeprefix("lineside.").rpartition(".")
    module = SOURCE.joinpath(*package.split("."))
    files = (module / "__init__.py", module.with_suffix(".py"))
    text = "".join(path.read_text() for path in files if path.is_file())
    return (
        bool(re.search(rf"\b{last}\b", text))
        if package
        else hasattr(builtins, name) or name in program()[0]
    )


def code_names(text: str) -> set[str]:
    """Paths, modules and names of packages among the code of a page."""
    spans = {re.sub(r"\(.*", "", one) for one in re.findall(r"`([^`\n]+)`", text)}
    paths = {one for one in spans if re.fullmatch(r"(\w+)/[\w./-]*(/|\.(py|js|html|md|toml))", one)}
    dotted = "|".join(sorted(path.name for path in SOURCE.iterdir() if path.is_dir()))
    names = {one for one in spans if re.fullmatch(rf"(lineside\.)?({dotted})\.[A-Z]\w+", one)}
    imports = re.findall(r"from (lineside\.[\w.]+) import \(?([\w, ]+)", text)
    return {
        *(one for one in paths if one.partition("/")[0] in FOLDERS),
        *names,
        *(f"{module}.{name.split()[0]}" for module, each in imports for name in each.split(",")),
    }


@page_of
def test_what_a_page_names_of_the_code_is_there(page: Path) -> None:
    text = page.read_text()
    line = " ".join(re.findall(r"^Names of that time: (.*?)\n\n", text, re.DOTALL | re.MULTILINE))
    old = set(re.findall(r"`([^`]+)`, (?:now|gone)", line))
    assert bool(line) == bool(old), "the form is: Names of that time: `old`, now `new`."
    assert not old or page in RECORDS, "only a decision record keeps names of its day"
    records = re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)*)`", text) if page in RECORDS else []
    assert {one for one in {*code_names(text), *records} if not is_there(one)} == old


def test_each_decision_record_has_its_number_and_its_status() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))
    form = re.compile(r"# (\d+)\. .+\n\nStatus: (accepted|superseded by \[ADR \d+\]\(.+\))[.,]")
    wrong = [
        path.name
        for path in RECORDS
        if not (found := form.match(path.read_text())) or int(found[1]) != int(path.name[:4])
    ]
    assert wrong == []


@page_of
def test_options_settings_and_addresses_of_a_page_are_the_programs(page: Path) -> None:
    _, fields, texts = program()
    text = re.sub(r"(?ms)^ *```python\n.*?^ *```", "", page.read_text())
    spans = re.findall(r"`([^`]+)`", text)
    blocks = re.findall(r"(?ms)^ *```toml\n(.*?)^ *```", text)
    lines = "\n".join([*blocks, *re.findall(r"(?m)^ {4,}\S.*$", text), *spans])
    used = set(re.findall(r"(?m)^ *([a-z]\w*) = ", lines))
    used |= {
        one.lower() for one in re.findall(r"LINESIDE_(?:HUB|EDGE)__([A-Z0-9_]+?)(?:__|\b)", text)
    }
    unknown = used - fields - texts
    named = {one.split()[0] for one in spans if re.match(r"--[a-z]", one)}
    unknown |= named - {"--help", *options(typer.main.get_command(app))}
    for address in {one for one in spans if re.fullmatch(r"/[a-z][\w/-]*", one)}:
        first = address.split("/")[1]
        if not any(re.match(rf"(/api/v1)?/{first}\b", known) for known in texts):
            unknown.add(address)
    assert unknown - FOREIGN == set()


@page_of
def test_a_name_in_italics_is_one_that_pages_show(page: Path) -> None:
    """Pages, buttons and columns are in italics with a capital; other stress is bold."""
    if page.parent.name not in {"how-to", "tutorials", "explanation"}:
        return
    text = re.sub(r"(?ms)^```.*?^```$|`[^`]*`", "Code", page.read_text())
    names = re.findall(r"(?<![*\w])\*([A-Z][^*]*)\*(?![*\w])", text)
    names = [" ".join(name.split()).strip(" .?!…:,") for name in names]
    assert {name for name in names if name not in shown()} == set()


@page_of
def test_no_sentence_has_a_run_of_blanks(page: Path) -> None:
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text())
    prose = [line for line in text.splitlines() if not re.match(r" {4}|\s*\|", line)]
    assert [line for line in prose if re.search(r"\S {2,}\S", line)] == []


def test_a_change_is_one_short_sentence_for_a_known_reader() -> None:
    text = (ROOT / "CHANGELOG.md").read_text().partition("## Unreleased\n")[2]
    text = text.partition("\n## ")[0]
    readers = re.findall(r"(?m)^### (.+)$", text)
    known = {
        "Before an upgrade",
        *(f"For {each}" for each in ("operators", "engineers", "developers")),
    }
    assert known.issuperset(readers)
    plain = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "Code", text))
    entries = re.findall(r"(?m)^- (.+(?:\n  .+)*)", plain)
    wrong = [one for one in entries if len(one.split()) > 25 or re.search(r"[.!?] +[A-Z]", one)]
    assert wrong == []


def headings(page: Path) -> set[str]:
    """Anchors of a page, made of its headings as mkdocs makes them."""
    titles = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in titles)
    return {slugify(re.sub(r"[`*]", "", title), "-") for title in plain}


@page_of
def test_a_link_leads_to_a_heading_that_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^):#]*)#([^)]+)\)", page.read_text())
    ends = [((page.parent / path if path else page), anchor) for path, anchor in links]
    wrong = [f"{end.name}#{anchor}" for end, anchor in ends if anchor not in headings(end)]
    assert wrong == []


def test_the_table_of_benchmarks_has_every_file_and_the_answer_of_each_result() -> None:
    """``make bench`` writes the table; a result that somebody renewed by hand needs it too."""
    text = (BENCHMARKS / "README.md").read_text()
    renew = runpy.run_path(str(BENCHMARKS / "renew.py"))
    rows = renew["rows"](text)
    named = {*re.findall(r"`([\w-]+\.(?:py|toml))`", text), *re.findall(r"\]\(([^):]+)\)", text)}
    assert {path.name for path in BENCHMARKS.glob("*.py")} - named == set()
    assert {name for name in named if not (BENCHMARKS / name).exists()} == set()
    stored = {path.stem for path in (BENCHMARKS / "results").glob("*.json")}
    assert stored == {"full", *(row.result for row in rows)}
    assert text.count("\n| [`") == len(rows), "a row that renew.py does not read"
    assert renew["renewed"](text) == text, "run make bench"


def test_a_result_says_on_which_day_it_was_measured(tmp_path: Path) -> None:
    write = runpy.run_path(str(BENCHMARKS / "measure.py"))["write"]
    result = write("any", {"n": 1}, lambda one: f"{one['n']} thing.", out=tmp_path / "any.json")
    found = json.loads(result.read_bytes())
    assert found.keys() == {"machine", "measured", "answer", "n"}
    assert found["answer"] == "1 thing."
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["measured"]["date"])
    assert found["measured"].keys() - {"date"} in (
        {"seconds"},
        {"seconds", "commit", "changed_files"},
    )
