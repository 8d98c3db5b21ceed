"""What linters cannot say: the table of packages, public names, file sizes, documented names."""

import ast
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

SOURCE = Path(__file__).parents[1] / "src" / "lineside"
DOCS = Path(__file__).parents[1] / "docs"

PACKAGES: dict[str, set[str]] = {
    "core": set(),
    "vision": {"core"},
    "store": {"core", "vision"},
    "links": {"core", "vision"},
    "datasets": {"core", "vision", "store"},
    "models": {"core", "vision", "store"},
    "streams": {"core", "vision"},
    "twin": {"core", "store", "streams"},
    "fleet": {"core", "vision", "store", "models", "streams"},
    "training": {"core", "vision", "store", "datasets", "models"},
    "web": {"core", "vision"},
    "compat": {"core", "fleet", "vision", "models"},
    "edge": {"core", "vision", "store", "links", "models", "streams", "fleet", "web", "compat"},
    "simulator": {"core", "vision", "links"},
    "library": {"core", "vision", "models", "training", "fleet", "edge"},
    "hub": {
        "core",
        "vision",
        "store",
        "links",
        "datasets",
        "models",
        "streams",
        "fleet",
        "twin",
        "web",
        "compat",
    },
    "cli": set(),  # every package below it
    "testing": set(),  # every package
}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).parts
        if len(parts) > 1:
            yield parts[0], path


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_folder_is_a_declared_package() -> None:
    folders = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(PACKAGES)


@pytest.mark.parametrize(
    "package", [package for package in PACKAGES if package not in {"cli", "testing"}]
)
def test_a_package_imports_only_what_the_table_allows(package: str) -> None:
    for owner, path in modules():
        if owner != package:
            continue
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "lineside" and len(parts) > 1 and parts[1] != package:
                assert parts[1] in PACKAGES[package], f"{path.name} imports {name}"


@pytest.mark.slow
def test_private_modules_of_another_package_are_not_imported() -> None:
    for owner, path in modules():
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "lineside" and len(parts) > 2 and parts[1] != owner:
                private = any(part.startswith("_") for part in parts[1:])
                assert not private, f"{path.relative_to(SOURCE)} imports {name}"


def test_no_source_file_is_longer_than_800_lines() -> None:
    root = SOURCE.parents[1]
    files = [*SOURCE.rglob("*.py"), *(root / "tests").rglob("*.py")]
    files += [path for path in SOURCE.rglob("*.js") if "vendor" not in path.parts]
    long = {
        str(p.relative_to(root)): n for p in files if (n := len(p.read_text().splitlines())) > 800
    }
    assert long == {}


def test_no_change_stands_in_the_changelog_twice() -> None:
    text = (SOURCE.parents[1] / "CHANGELOG.md").read_text()
    begins = Counter(line[:60] for line in text.splitlines() if line.startswith("- "))
    assert [begin for begin, count in begins.items() if count > 1] == []


@pytest.mark.parametrize("package", sorted(set(PACKAGES) - {"testing", "cli"}))
def test_a_package_lists_exactly_what_it_exports(package: str) -> None:
    module = importlib.import_module(f"lineside.{package}")
    tree = ast.parse((SOURCE / package / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    public = {name for name in imported | defined if not name.startswith("_")}
    assert set(module.__all__) == public - {"Any", "TYPE_CHECKING", "import_module"}
    assert module.__doc__
    assert "Not here" in module.__doc__


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_the_command_line_starts_without_numpy_or_torch() -> None:
    heavy = "{'numpy', 'torch', 'cv2', 'fastapi', 'sqlalchemy', 'onnxruntime'}"
    code = f"import sys, lineside.cli; print(sorted({heavy} & set(sys.modules)))"
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize("package", ["edge", "hub", "models", "vision", "simulator"])
def test_torch_and_what_only_some_settings_ask_for_are_not_loaded(package: str) -> None:
    heavy = (
        "{'torch', 'onnxruntime', 'opentelemetry.sdk', 'grpc', 'google.protobuf', 'pyarrow', "
        "'confluent_kafka', 'asyncua', 'pymongo', 'pymodbus', 'gpiod'}"
    )
    code = f"import sys, lineside.{package}; print(sorted({heavy} & set(sys.modules)))"
    assert run_python(code) == "[]\n"


def test_a_hub_starts_without_the_modules_of_its_routes() -> None:
    code = (
        "import sys, lineside.hub.run, lineside.hub.api, lineside.hub.pages\n"
        "print(sorted({'api.line', 'api.iot', 'pages.lines', 'pages.twin'} & "
        "{name.removeprefix('lineside.hub.') for name in sys.modules}))"
    )
    assert run_python(code) == "[]\n"


def test_an_empty_store_is_made_without_alembic() -> None:
    code = (
        "import sys\nfrom lineside.core import SystemClock\n"
        "from lineside.store import open_records\n"
        "open_records('memory://', clock=SystemClock()).close()\n"
        "print('alembic' in sys.modules)"
    )
    assert run_python(code) == "False\n"


def words_of(name: str) -> str:
    return (DOCS / "reference" / name).read_text()


def test_the_index_names_every_page() -> None:
    named = set(re.findall(r"\]\(([^)#]+\.md)", (DOCS / "index.md").read_text()))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert pages - named == {"index.md"}


def test_the_navigation_keeps_the_four_kinds_of_page_apart() -> None:
    def pages(entry: Any) -> Iterator[str]:  # noqa: ANN401  YAML
        if isinstance(entry, str):
            yield entry
        else:
            for inner in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(inner)

    _, *kinds = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text())["nav"]
    folders = {name: {one.partition("/")[0] for one in pages(kind)} for each in kinds
               for name, kind in each.items()}  # fmt: skip
    assert folders == {
        "Tutorials": {"tutorials"}, "How to": {"how-to"}, "Reference": {"reference"},
        "Explanation": {"tour.md", "architecture.md", "explanation", "adr"},
    }  # fmt: skip


def test_every_key_of_a_rule_is_documented() -> None:
    from dataclasses import fields, is_dataclass

    from lineside.core import plant_rules as module

    own = [kind for kind in vars(module).values() if isinstance(kind, type)]
    kinds = [kind for kind in own if kind.__module__ == module.__name__ and is_dataclass(kind)]
    names = {field.name for kind in kinds for field in fields(kind)}
    assert len(names) > 40
    assert {name for name in names if f"`{name}`" not in words_of("plant-file.md")} == set()


def test_every_url_scheme_has_a_row_among_the_adapters() -> None:
    text = words_of("adapters.md")
    pattern = r'^\s+"([a-z0-9+]+)": "lineside\.[a-z_.]+:[a-z_]+"'
    tables = re.findall(pattern, source_text(), re.MULTILINE)
    assert tables
    for scheme in tables:
        assert f"`{scheme}:" in text, scheme


def source_text() -> str:
    return "\n".join(path.read_text() for _, path in modules())


def test_every_contract_suite_has_an_adapter_that_passes_it() -> None:
    suites = set()
    for path in (SOURCE / "testing").glob("*.py"):
        suites |= {
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ClassDef) and node.name.endswith("Contract")
        }
    tests = "\n".join(p.read_text() for p in (SOURCE.parents[1] / "tests").rglob("test_*.py"))
    assert suites
    for suite in suites:
        assert re.search(rf"class Test\w+\({suite}\b", tests) or f", {suite})" in tests, suite
