"""Print the size and shape of the source, and fail where a figure is above its bound.

``python tools/shape.py`` prints every figure beside its bound, with ``--prose`` those of the
documentation alone. With ``--list FIGURE`` it names what the figure counts, so that a reader sees
what to mend. A bound is raised only together with a line in a decision record (``docs/adr``) that
says what it buys; it is lowered whenever it can be.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lineside"
BOUNDS = {
    "modules": 541,
    "classes": 1633,
    "statements in src": 70905,
    "statements in tests": 60512,
    "records built at one place": 407,
    "modules under 100 lines": 23,
    "modules over 800 lines": 0,
    "most exported names of a package": 40,
    "thread sites outside core.Worker": 0,
    "words with a standard term": 16,
    "docstrings opening with a question word": 0,
    "files from an MQTT image to the page": 20,
    "record types from an MQTT image to the page": 15,
    "lines of prose over 120 characters": 0,
    "sentences over 35 words": 0,
    "phrases with a better word": 0,
}
# Phrases of our own, for which documentation, pages and messages have a better one.
PHRASES = re.compile(
    r"(?i)\b(?:told otherwise|walk back|what rules said|likeness(?:es)?|yardsticks?|trunks?|"
    r"onlookers?|answerers?|pupils?|refills?|far apart|light meters?|parted|picture to twin|"
    r"where nobody said|only tells? kinds|whoever may not|gets? what it lacks|emptied goes|"
    r"at the end of the log|let (?:pictures|images) come|what flaps|anything else is no\b|"
    r"(?:answer(?:s|ed)?|asked) (?:its|the|their)(?: package's)? golden|decides? by (?:it|them)\b|"
    r"never in (?:its|the|their) way|changed under you|others' (?:networks?|models?)|wish waits|"
    r"told early|says? and hears?|hears? and says?)"
)
# Words of our own for which the field has a standard term: not in names of modules, classes,
# functions, parameters and fields (docs/reference/glossary.md).
WORDS = frozenset(
    [
        "answerer",
        "answerers",
        "appraise",
        "appraised",
        "yardstick",
        "parting",
        "lesson",
        "lessons",
        "pupil",
        "trunk",
        "refill",
        "standing",
        "likeness",
        "alike",
        "shelf",
        "shelves",
        "vouching",
        "possession",
        "desk",
        "strays",
        "onlooker",
        "onlookers",
        "suits",
        "suit",
        "proving",
        "proved",
        "saying",
        "notebook",
        "habits",
        "wish",
        "wished",
        "sighting",
        "sightings",
        "finisher",
        "intake",
        "glance",
        "admitted",
        "keeping",
        "tally",
        "tallies",
        "ground",
        "crew",
        "beside",
        "around",
        "turns",
        "told",
        "asked",
        "said",
        "taken",
        "kept",
        "seen",
        "tried",
        "ahead",
        "patience",
        "authority",
        "finder",
        "door",
        "doors",
        "gate",
        "gates",
        "room",
        "rooms",
        "face",
        "faces",
        "supply",
        "supplies",
        "placed",
        "habit",
        "meter",
        "unsaid",
        "untold",
    ]
)
PARTICIPLES = frozenset(
    [
        "Said",
        "Told",
        "Asked",
        "Taken",
        "Kept",
        "Seen",
        "Tried",
        "Found",
        "Made",
        "Placed",
        "Wanted",
        "Judged",
        "Looked",
        "Beside",
        "Around",
        "Ground",
        "Answered",
        "Heard",
        "Shown",
        "Held",
        "Given",
        "Known",
        "Left",
        "Opened",
        "Read",
        "Written",
        "Sent",
        "Waiting",
        "Under",
        "Before",
    ]
)
QUESTION = re.compile(r"(What|How|Which|Whether)\b")
# Terms of the field that hold such a word.
TERMS = (
    "ground_truth", "GroundTruth", "certificate_authority", "CertificateAuthority", "NotFound",
    "patience",  # of somebody who waits
    "placed_at", "placed_by",  # of an order that was placed
)  # fmt: skip


def parsed(folder: Path) -> dict[Path, ast.Module]:
    """Every Python file below a folder; generated stubs are not ours to shape."""
    files = (path for path in sorted(folder.rglob("*.py")) if "_pb2" not in path.name)
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}


def statements(tree: ast.Module) -> int:
    """Statements without imports and docstrings, so that packing lines does not help."""
    return sum(
        isinstance(node, ast.stmt)
        and not isinstance(node, ast.Import | ast.ImportFrom)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in ast.walk(tree)
    )


def records(tree: ast.Module) -> Iterator[str]:
    """Names of the dataclasses of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(
            "dataclass" in ast.unparse(one) for one in node.decorator_list
        ):
            yield node.name


def names(path: Path, tree: ast.Module) -> Iterator[str]:
    """Names that a module gives: its own, its classes', functions', parameters' and fields'."""
    yield path.parent.name if path.stem == "__init__" else path.stem
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def odd_words(path: Path, tree: ast.Module) -> Iterator[str]:
    """Names with a word that has a standard term."""
    for name in names(path, tree):
        if name.startswith("test_") or any(term in name for term in TERMS):
            continue  # sentences of contract suites; terms of the field
        parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
        is_class = name[:1].isupper() and not name.isupper()
        if any(part.lower() in WORDS for part in parts) or (is_class and PARTICIPLES & {*parts}):
            yield name


def docstrings(tree: ast.Module) -> Iterator[str]:
    """First lines of all docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield (ast.get_docstring(node) or "").partition("\n")[0]


def exported(tree: ast.Module) -> int:
    """Names in ``__all__``."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return len(ast.literal_eval(node.value))
    return 0


def image_way() -> tuple[set[str], set[str]]:
    """Files and record types that ``docs/tour.md`` names on an MQTT image's way to the page."""
    tour = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    way = tour.partition("## From an MQTT image to the page")[2].partition("\n## ")[0]
    return set(re.findall(r"`([\w/]+\.(?:py|js))` \|", way)), set(re.findall(r"`([A-Z]\w+)`", way))


def paragraphs(page: str) -> Iterator[str]:
    """Paragraphs and list items of a page, each on one line; code and tables are left out."""
    page = re.sub(r"(?ms)^```.*?^```$", "", page)
    for block in re.split(r"\n\s*\n", page):
        kept = [line for line in block.splitlines() if not re.match(r"\s{4}|\s*\||#|!\[", line)]
        for item in re.split(r"\n(?=\s*(?:[*-]|\d+\.) )", "\n".join(kept)):
            if item.strip():
                yield " ".join(item.split())


def sentences(paragraph: str) -> list[str]:
    """Sentences of a paragraph; code and the address of a link count as one word."""
    plain = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "Code", paragraph))
    return re.split(r"(?<=[.!?])\s+(?=[A-Z*\[(])| · ", plain)


def measure() -> dict[str, list[str]]:
    """What each figure counts, one entry for each."""
    source, tests = parsed(SOURCE), parsed(ROOT / "tests")
    shown = {path: str(path.relative_to(ROOT)) for path in source}
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in source}
    calls = Counter(
        ast.unparse(node.func).rpartition(".")[2]
        for tree in source.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    )
    faces = {shown[path]: exported(tree) for path, tree in source.items()}
    widest = max(faces, key=lambda face: faces[face])
    files, types = image_way()
    every = [(shown[path], path, tree) for path, tree in source.items()]
    return {
        "modules": list(shown.values()),
        "classes": [
            f"{name}: {node.name}"
            for name, _, tree in every
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        ],
        "statements in src": [name for name, _, tree in every for _ in range(statements(tree))],
        "statements in tests": ["" for tree in tests.values() for _ in range(statements(tree))],
        "records built at one place": [
            f"{name}: {one}" for name, _, tree in every for one in records(tree) if calls[one] == 1
        ],
        "modules under 100 lines": [
            f"{lengths[path]:4} {name}"
            for name, path, _ in every
            if path.stem != "__init__" and lengths[path] < 100
        ],
        "modules over 800 lines": [name for name, path, _ in every if lengths[path] > 800],
        "most exported names of a package": [widest] * faces[widest],
        "thread sites outside core.Worker": [
            f"{name}:{node.lineno}"
            for name, _, tree in every
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] == "Thread"
            and not name.endswith("core/worker.py")
        ],
        "words with a standard term": [
            f"{name}: {word}" for name, path, tree in every for word in odd_words(path, tree)
        ],
        "docstrings opening with a question word": [
            f"{name}: {line}"
            for name, _, tree in every
            for line in docstrings(tree)
            if QUESTION.match(line)
        ],
        "files from an MQTT image to the page": sorted(files),
        "record types from an MQTT image to the page": sorted(types),
        **measure_pages(),
    }


def messages() -> Iterator[tuple[str, str]]:
    """Texts that people read beside the manual: changes, pages, and sentences in the source."""
    for path in (ROOT / "CHANGELOG.md", *sorted(SOURCE.rglob("*.html"))):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path, tree in parsed(SOURCE).items():
        documented = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            match node:
                case ast.Constant(value=str(text)) if " " in text and id(node) not in documented:
                    yield str(path.relative_to(ROOT)), text
                case _:
                    continue


def measure_pages() -> dict[str, list[str]]:
    """What each figure of the documentation counts; decision records are as they were written."""
    files = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    pages = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in files
        if path.parent.name != "adr"
    }
    prose = [(name, part) for name, page in pages.items() for part in paragraphs(page)]
    return {
        "lines of prose over 120 characters": [
            f"{name}:{number}"
            for name, page in pages.items()
            for number, line in enumerate(page.splitlines(), start=1)
            if len(line) > 120 and not line.lstrip().startswith(("|", "!["))
        ],
        "sentences over 35 words": [
            f"{name}: {one}"
            for name, part in prose
            for one in sentences(part)
            if len(one.split()) > 35
        ],
        "phrases with a better word": [
            f"{name}: {found[0]}"
            for name, part in (*prose, *messages())
            for found in PHRASES.finditer(part)
        ],
    }


def main(arguments: list[str]) -> int:
    """Print the figures; 1 where one is above its bound."""
    found = measure_pages() if arguments == ["--prose"] else measure()
    if arguments[:1] == ["--list"]:
        sys.stdout.write("\n".join(dict.fromkeys(found[" ".join(arguments[1:])])) + "\n")
        return 0
    bounds = {figure: bound for figure, bound in BOUNDS.items() if figure in found}
    above = {figure for figure, bound in bounds.items() if len(found[figure]) > bound}
    for figure, bound in bounds.items():
        mark = "  above its bound: --list shows what it counts" if figure in above else ""
        sys.stdout.write(f"{len(found[figure]):7} of {bound:6}  {figure}{mark}\n")
    return bool(above)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
