"""Names that the manual and the decision records use, held against the program.

A decision record keeps the words of its day. What it names and the program no longer has stands in
its line "Names of that time: `old`, now `new`; `other`, gone." Nothing else may be missing.

Commands are parsed by the program's own parser, and not run. In them:

1. A word in capitals is a placeholder; `N`, `NUMBER`, `SECONDS` and `X` are numbers.
2. `[...]` may be left out, `a|b` is one of them, and `…` is a value or the rest of a line.
3. A line of a block is typed as it stands; code in a sentence may leave out what is required.
"""

import ast
import builtins
import json
import re
import runpy
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product, takewhile
from pathlib import Path
from shlex import shlex
from typing import Any

import pytest
import typer
import typer.main
from markdown.extensions.toc import slugify  # type: ignore[import-untyped]

from lineside.cli.app import app
from lineside.cli.config import CHANNELS
from lineside.core import NotFoundError
from tools.manual import in_json, renewed

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lineside"
BENCHMARKS = ROOT / "benchmarks"
RECORDS = sorted((ROOT / "docs/adr").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").rglob("*.md"))
FOLDERS = {path.name for base in (ROOT, SOURCE) for path in base.iterdir() if path.is_dir()}
# Options, keys and addresses of other programs, and options of the program that a rule becomes.
FOREIGN = {"--cacert", "--randomly-seed", "clean_session", "/tmp/edge_agent"}  # noqa: S108
FOREIGN |= {"--files", "--partitions"}
FENCES = {"```", "```sh", "```console", "```toml", "```python"}
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


@cache
def command_line(*, is_whole: bool) -> Any:  # noqa: ANN401  a command of typer's own click
    """The program's command; what is required may be absent where the line is not whole."""

    def lenient(command: Any) -> Any:  # noqa: ANN401
        for one in command.params:
            one.required = False
        for inner in getattr(command, "commands", {}).values():
            lenient(inner)
        return command

    command = typer.main.get_command(app)
    return command if is_whole else lenient(command)


def fault(words: Iterable[str], *, is_whole: bool) -> str:
    """What the program's parser finds wrong with the words after ``lineside``; "": nothing."""
    args = ["1" if re.fullmatch("N|NUMBER|SECONDS|X", word) else word for word in words]
    while True:
        command, parent, name, rest = command_line(is_whole=is_whole), None, "lineside", args
        try:
            while rest or is_whole or not hasattr(command, "commands"):
                parent = command.make_context(name, list(rest), parent=parent)
                rest = [*getattr(parent, "_protected_args", []), *parent.args]
                if not rest:
                    return ""
                name, command, rest = command.resolve_command(parent, rest)
        except (NotFoundError, typer.Exit):  # a file that only the reader has; --help
            return ""
        except Exception as error:  # noqa: BLE001  of typer's own click, and our own
            said = str(getattr(error, "format_message", error.__str__)())
            choice = re.search(r"'([A-Z]+|[^' ]*…[^' ]*)' is not one of '([^']+)'", said)
            if choice is None or choice[1] not in args:
                return said
            args[args.index(choice[1])] = choice[2]
        else:
            return ""


def words_of(line: str) -> list[str]:
    """Words of a line of a shell, its signs (``>``, ``;``) as words of their own."""
    lexer = shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:  # a quotation goes on in the next line
        return line.split()


def commands(text: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Words after ``lineside`` of each command of a page, and whether nothing is left out."""
    assert set(re.findall(r"(?m)^ *((?:```|~~~).*)", text)) <= FENCES, "a block nobody reads"
    text = re.sub(r"(?<=\w)\|(?=[\w.])", "¦", text.replace("\\\n", " ").replace("\\|", "|"))
    fences = re.findall(r"(?ms)^ *```(\w*)\n(.*?)^ *```$", text)
    blocks = [block for language, block in fences if language in {"", "sh", "console"}]
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", text)
    typed = "\n".join([*blocks, *re.findall(r"(?m)^ {4,}\S.*$", prose)]).splitlines()
    spans = re.findall(r"`([^`]+)`", prose)
    for is_typed, line in (*((True, one) for one in typed), *((False, one) for one in spans)):
        words = words_of(re.sub(r"\[(?=[-A-Za-z])|(?<=[\w…])\]+(?=[ …)]|$)", "", line))
        words = words if is_typed else [word for word in words if not set("()|") >= set(word)]
        for at, word in enumerate(words[:-1], start=1):
            if word.rpartition("/")[2] == "lineside" and re.fullmatch(r"[a-z][a-z¦-]*", words[at]):
                own = list(takewhile(lambda each: not set("();<>|&") >= set(each), words[at:]))
                pairs = zip(["", *own], own, strict=False)
                kept = [each for last, each in pairs if each != "…" or last.startswith("-")]
                is_whole = is_typed and len(kept) == len(own)
                for one in product(*(each.split("¦") for each in kept)):
                    yield one, is_whole


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


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=lambda page: page.stem)
def test_every_command_of_a_page_is_one_that_the_program_takes(page: Path) -> None:
    found = [
        f"lineside {' '.join(words)}: {said}"
        for words, is_whole in commands(page.read_text())
        if (said := fault(words, is_whole=is_whole))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("    lineside token issue NAME --rolle viewer", "--rolle"),
        ("```sh\nsudo /opt/bin/lineside token issue --days 9 > mes.token\n```", "argument 'name'"),
        ("    x $(lineside token revoke NAME NAME | wc)", "unexpected extra argument"),
        ("    lineside plant diff seven --config hub.toml", "'number'"),
        ("`lineside token issue [NAME] --kind apy\\|device`", "'apy'"),
        ("`lineside model approved|reject …`", "approved"),
        ('```console\n$ lineside user add "A. B" --role …; lineside user ad X\n```', "'ad'"),
        ("`lineside hub key … --thing`", "--thing"),
        ("`sudo lineside token issue --rolle viewer`", "--rolle"),
    ],
)
def test_a_wrong_command_of_a_page_is_found(page: str, said: str) -> None:
    faults = [found for words, whole in commands(page) if (found := fault(words, is_whole=whole))]
    assert len(faults) == 1, faults
    assert said in faults[0].lower()


@pytest.mark.parametrize("fence", ["```bash", "```shell", "~~~", '```sh title="a"'])
def test_a_block_that_no_test_reads_is_found(fence: str) -> None:
    with pytest.raises(AssertionError, match="nobody reads"):
        list(commands(f"{fence}\nlineside token issue\n{fence[:3]}\n"))


@page_of
def test_an_item_of_a_list_goes_on_by_four_blanks(page: Path) -> None:
    """With fewer the built manual ends the list, and begins it again at 1."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text())
    assert re.findall(r"\n\n( {1,3}\S.*)", text) == []


def test_every_picture_is_on_a_page_and_every_page_has_its_pictures() -> None:
    shown = {
        (page.parent / path).resolve()
        for page in (*PAGES, *EXAMPLES)
        for path in re.findall(r"!\[[^]]*\]\(([^):]+)\)", page.read_text())
    }
    assert {path for path in shown if path.suffix == ".png"} == {*(ROOT / "docs/images").iterdir()}


def test_the_readme_is_one_screen_for_a_newcomer() -> None:
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"(!?)\[[^]]+\]\([^)]+\)", text)
    assert (found.count("!"), found.count("")) == (1, 5), "one screenshot, five links"
    assert re.findall(r"(?m)^    (.*?) +#", text) == ["make demo", "make test"]
    assert len(re.split(r"[.!?](?:\s|$)", text.split("\n\n")[1].strip())) == 4, "three sentences"
    assert not re.search(r"\bADR|\badr/|Spark|TUF", text)
    assert text.count("\n") < 40


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


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=lambda page: page.stem)
def test_a_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    links = re.findall(r"\]\(([^):#]*)(?:#([^)]+))?\)", page.read_text())
    ends = [((page.parent / path if path else page), anchor) for path, anchor in links]
    wrong = [
        f"{end.name}#{anchor}"
        for end, anchor in ends
        if not end.exists() or (anchor and anchor not in headings(end))
    ]
    assert wrong == []


def test_a_part_of_a_page_that_the_code_does_not_give_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``make docs`` compares every page like this; ``make reference`` writes the parts anew."""
    assert [page.stem for page in PAGES if renewed(page.read_text()) != page.read_text()] == []
    page, bus = ((ROOT / f"docs/reference/{one}.md").read_text() for one in ("http", "messages"))
    assert renewed(page.replace("Pictures that wait", "Pictures that", 1)) == page
    for whole, part, other, told in (
        (page, " orders", "", r"no part of the page: .*/api/v1/orders"),
        (page, "<!-- end", "", "end"),
        (bus, "message ack", "message log", "no part of the page: {'ack'}"),
    ):
        with pytest.raises(ValueError, match=told):
            renewed(whole.replace(f"{part} -->", f"{other} -->", 1))
    for lacking in (CHANNELS["ack"]._replace(who=""), CHANNELS["ack"]._replace(says="")):
        monkeypatch.setitem(CHANNELS, "ack", lacking)
        with pytest.raises(ValueError, match="the topic: ack"):
            renewed(bus)
    assert in_json('none, `""`, `"none"`') == '`null`, `""`, `"none"`'
    known = page + (ROOT / "docs/reference/commands.md").read_text()
    words = ("{good?: [], labels?: [], task?}", "`--limit NAME=LOW:HIGH`…", r"`hub\|edge`")
    assert [one for one in words if one not in known] == []


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
