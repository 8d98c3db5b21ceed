r"""Parts of the manual that come from code or results, and changes of pages for mkdocs.

1. A part between ``<!-- from the code: KIND ARGUMENTS -->`` and ``<!-- end -->`` is written by the
   function of ``PARTS`` that has the name KIND. ``python tools/manual.py`` (``make reference``)
   writes all of them anew; ``make docs`` fails where one is not what the code gives.
2. Sentences stand in docstrings, help texts and descriptions, there in two backquotes for code.
3. In a table GitHub needs ``\|`` for a bar in code. The tables of mkdocs take a plain bar there,
   and would show the backslash.
"""

import dataclasses
import inspect
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import EnumType
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, get_args, get_origin, get_type_hints

from msgspec import NODEFAULT
from msgspec.structs import fields

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS.parent / "benchmarks" / "results"
PART = re.compile(r"(?s)(<!-- from the code: (\w+)(.*?) -->\n).*?(<!-- end -->)")
MANY = 10  # commands with one option, from which on it is described once
KINDS = {int: "N", float: "X", Path: "PATH"}  # values of options in a word; others are TEXT
FILTER = "the [filter](#filter-of-frames)"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:  # noqa: ANN401  of mkdocs
    """Return the page with plain bars in its code; warn where a part of it is out of date."""
    if renewed(markdown) != markdown:
        logger = logging.getLogger("mkdocs.hooks.manual")
        logger.warning("%s is not what the code gives: make reference", page.file.src_path)
    return re.sub(r"`[^`\n]+`", lambda span: span[0].replace(r"\|", "|"), markdown)


def renewed(markdown: str) -> str:
    """Return a page with its parts as the code gives them now."""
    every = [found[3].split() for found in PART.finditer(markdown)]
    if {markdown.count(one) for one in ("<!-- from the code: ", "<!-- end -->")} != {len(every)}:
        raise ValueError("a part of the page without its end, or the other way round")

    def part(found: re.Match[str]) -> str:
        lines = PARTS[found[2]](found[3].split(), every)
        return "\n".join([found[1], *lines, "", found[4]])

    return PART.sub(part, markdown)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lines of a table; a bar in a cell is no border, and ``<`` no element but ``<br>``."""
    names = [*head]
    yield f"| {' | '.join(names)} |"
    yield "|" + len(names) * "---|"
    for row in rows:
        cells = (re.sub(r"(?<!\\)[|]", r"\\|", cell) for cell in row)
        cells = (
            re.sub(r"(`[^`]*`)|<(?!br>)", lambda one: one[1] or "&lt;", cell) for cell in cells
        )
        yield f"| {' | '.join(cells)} |"


def in_words(docstring: str) -> tuple[str, dict[str, str]]:
    """Sentences of a docstring in Markdown, and those of its attributes by name."""
    plain = " ".join(inspect.cleandoc(docstring).replace("``", "`").split("\n"))
    sentences, _, attributes = plain.partition(" Attributes:")
    parts = re.split(r"(?<! ) {5}(?! )(?=\w+(?:, \w+)*:)", attributes)
    named = dict(part.strip().split(":", 1) for part in parts if part.strip())
    return " ".join(sentences.split()), {
        name: " ".join(text.split()) for name, text in named.items()
    }


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document of a hub with every contract."""
    from fastapi import FastAPI

    from lineside.hub.api import mount_api

    app = FastAPI(title="lineside")
    mount_api(app)
    found: dict[str, Any] = app.openapi()
    return found


def routes(prefixes: list[str], every: list[list[str]]) -> Iterator[str]:
    """Routes whose path begins so, a name below ``/api/v1/``; and their records.

    A route that two parts could have is in that of the longer beginning.
    """
    mine = [*map(beginning, prefixes)]
    known = [beginning(one) for part in every for one in part]
    found, left = [], []
    for path, methods in document()["paths"].items():
        best = max((one for one in known if path.startswith(one)), key=len, default="")
        left += [] if best else [path]
        found += [(method, path, one) for method, one in methods.items() if best in mine]
    if left:
        raise ValueError(f"routes in no part of the page: {left}")
    yield from table(("Method and path", "Does"), (route(*one) for one in found))
    records: dict[str, tuple[str, str]] = {}
    for name, cells in (record for _, _, one in found for record in records_of(one)):
        # of a record that is answer and body, the form that marks what may be left out
        records[name] = max(records.get(name, cells), cells, key=lambda one: one[1].count("?"))
    if records:
        yield ""
        yield from table(("Record", "Is"), records.values())


def beginning(name: str) -> str:
    """Beginning of a path as a part of a page names it."""
    return name if name.startswith("/") else f"/api/v1/{name}"


def route(method: str, path: str, operation: dict[str, Any]) -> tuple[str, str]:
    """Cells of a route."""
    from lineside.hub.api.openapi import answers, bodies

    if not operation["summary"] or not operation["description"]:
        raise ValueError(f"no summary, or no docstring: {method} {path}")
    sentences, _ = in_words(operation["description"])
    documented = dict(records_of(operation))
    taken = [*parameters(operation)]
    for name, words in bodies(operation, document()):
        taken.append(f"body {short(name) if name in documented else f'`{words}`'}")
    given = [
        f"{status} {short(name) or words}".rstrip()
        for status, name, words in answers(operation, document())
    ]
    lines = [
        f"**{code(operation['summary'])}.** {sentences}",
        f"Takes {'; '.join(taken)}." if taken else "",
        f"Answers {'; '.join(given)}. Right: {italic(operation['x-right'])}.",
    ]
    return f"`{method.upper()} {path}`", "<br>".join(filter(None, lines))


def italic(right: str) -> str:
    """A right, and who else may."""
    needed, *others = right.split(" or ")
    return " or ".join([f"*{needed}*", *others])


def parameters(operation: dict[str, Any]) -> Iterator[str]:
    """Parameters in words, of lists of frames the filter as one."""
    from lineside.hub.api.openapi import parameters as listed

    known = [one for one in listed(operation) if one[1] != "path"]
    shared = {"frame", "min_score", "dataset"} <= {name for name, *_ in known}
    names = [name for name, *_ in filtering()] if shared else []
    for name, place, kind, meaning in known:
        if name not in names:
            limits = re.sub(r"^(string|array|integer|number|boolean)(; |$)", "", kind)
            head = " ".join(filter(None, [place if place != "query" else "", f"`{name}`"]))
            yield ": ".join(filter(None, [f"{head} ({limits})" if limits else head, code(meaning)]))
    if shared:
        yield FILTER


def filtering() -> list[tuple[str, str, str, str]]:
    """Parameters of the filter of frames."""
    from lineside.hub.api.openapi import parameters as listed

    return [*listed(document()["paths"]["/api/v1/frames/count"]["get"])]


def short(name: str) -> str:
    """Name of a record without its module, of a list too."""
    words = name.split()
    return " ".join([*words[:-1], f"`{words[-1].rpartition('.')[2]}`"]) if words else ""


def records_of(operation: dict[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Cells of the records of a route, of bodies those that have more than a sentence."""
    from lineside.hub.api.openapi import answers, bodies

    known = document()["components"]["schemas"]
    taken = [(name, words) for name, words in bodies(operation, document()) if name]
    given = [(name.split()[-1], words) for _, name, words in answers(operation, document()) if name]
    for name, words in (*taken, *given):
        if name not in known:
            continue
        text, named = in_words(known[name].get("description", ""))
        sentences = [text, *(f"{codes(one)}: {meaning}" for one, meaning in named.items())]
        if (name, words) not in taken or named or re.search("[;:]", text):
            said = re.sub(r"\bNone\b", "null", " ".join(sentences))
            yield name, (short(name), f"{said}<br>`{words}`")


def code(sentence: str) -> str:
    """A sentence with code as Markdown has it."""
    return sentence.replace("``", "`")


def codes(names: str) -> str:
    """Names with commas between them as code."""
    return ", ".join(f"`{name.strip()}`" for name in names.split(",") if name)


def frames(_: list[str], __: list[list[str]]) -> Iterator[str]:
    """Parameters of the filter of frames."""
    rows = ((f"`{name}`", code(meaning)) for name, _, _, meaning in filtering())
    yield from table(("Parameter", "Frames"), rows)


def settings(kind: list[str], every: list[list[str]]) -> Iterator[str]:
    """Keys of a record, ``module:Record`` or ``module:Record:prefix``, with default and meaning.

    Further names are records whose keys stand in tables of their own.
    """
    module, name, prefix = [*kind[0].split(":"), ""][:3]
    record = getattr(import_module(f"lineside.{module}"), name)
    apart = {(one + ":").split(":")[":" in one] for part in every for one in part}
    yield from table(("Key", "Default", "Means"), keys(record, prefix=prefix, apart=apart))


def keys(record: Any, *, prefix: str, apart: set[str]) -> Iterator[tuple[str, str, str]]:  # noqa: ANN401  a dataclass
    """Cells of each key of a record, in the order of its docstring, and of records in it.

    A record with a part of its own is left ``apart``.
    """
    members = dataclasses.fields(record) if dataclasses.is_dataclass(record) else fields(record)
    known = {field.name: field for field in members}
    _, sentences = in_words(record.__doc__)
    told = (names for names, sentence in sentences.items() if sentence)
    if (named := set(", ".join(told).split(", "))) != known.keys():
        raise ValueError(f"{record}: no sentence, or no field: {named ^ known.keys()}")
    kinds = get_type_hints(record)
    for names, sentence in sentences.items():
        first = names.partition(",")[0]
        dotted = ", ".join(f"{prefix}.{key}".lstrip(".") for key in names.split(", "))
        defaults = [default(known[key]) for key in names.split(", ")]
        if sentence.startswith("needed with "):  # left out it is refused, whatever the field has
            defaults = [""]
        if len(set(defaults)) == 1:
            defaults = defaults[:1]
        yield codes(dotted), ", ".join(defaults), sentence.removesuffix(".")
        held = (kinds[first], *get_args(kinds[first]))
        inner: Any = next(filter(is_record, held), None)
        if inner and inner.__name__ not in apart:
            yield from keys(inner, prefix=dotted, apart=apart)


def is_record(kind: Any) -> bool:  # noqa: ANN401  of any type
    """Whether a type is one of our two kinds of records."""
    return dataclasses.is_dataclass(kind) or hasattr(kind, "__struct_fields__")


def default(field: Any) -> str:  # noqa: ANN401  of any type
    """Default of a key as a settings file has it."""
    value, missing = field.default, (dataclasses.MISSING, NODEFAULT)
    if value in missing:
        if field.default_factory in missing:
            return "needed"
        value = field.default_factory()
    value = value.reveal() if hasattr(value, "reveal") else value
    if dataclasses.is_dataclass(value):
        return ""
    if value and value == get_args((*get_args(field.type), None)[0]):
        return "all"
    if value is None:
        return "none"
    return f"`{json.dumps(value).removesuffix('.0')}`"


def message(names: list[str], every: list[list[str]]) -> Iterator[str]:
    """Fields of a message of the bus, of an event those of its ``data``."""
    from lineside.cli.config import MESSAGES

    if left := MESSAGES.keys() - {name for part in every for name in part}:
        raise ValueError(f"messages in no part of the page: {left}")
    rows = (
        (name, in_json(value), re.sub(r"\bNone\b", "null", meaning))
        for name, value, meaning in keys(resolve_name(MESSAGES[names[0]]), prefix="", apart=set())
    )
    yield from table(("Field", "Default", "Means"), rows)


def bodies(names: list[str], _: list[list[str]]) -> Iterator[str]:
    """Fields of messages that another page describes; ``?`` where one may be left out."""
    from lineside.cli.config import forms
    from lineside.core.codec import json_schemas
    from lineside.hub.api.openapi import members

    rows = []
    for name in names:
        found, known = json_schemas(
            [resolve_name(one) for one in forms(name)], "#/components/schemas/{name}"
        )
        for one in found:
            text = in_words(known[one["$ref"].rpartition("/")[2]]["description"])[0]
            rows.append((f"`{name}`", f"{text}<br>`{members(one, known, '?')}`"))
    yield from table(("Name", "Is"), rows)


def in_json(defaults: str) -> str:
    """Defaults of a cell as JSON has them; a text "none" stands in quotes and stays."""
    return ", ".join("`null`" if one == "none" else one for one in defaults.split(", "))


def topics(_: list[str], __: list[list[str]]) -> Iterator[str]:
    """Topics of lineside on the bus, those that one sentence describes in one row; their levels."""
    from lineside.cli.config import CHANNELS, PARAMETERS

    rows: dict[tuple[str, str, str], list[str]] = {}
    for name, one in CHANNELS.items():
        if not one.who or not one.says:
            raise ValueError(f"no sender and receiver, or no sentence, of the topic: {name}")
        cells = (one.who, f"{one.qos}, {'yes' if one.retain else 'no'}", code(one.says))
        rows.setdefault(cells, []).append(re.sub(r"{(\w+)}", r"<\1>", one.address))
    yield from table(
        ("Topic", "Who → who", "QoS, retained", "Payload"),
        ((codes(",".join(names)), *cells) for cells, names in rows.items()),
    )
    yield ""
    yield from table(
        ("Level", "Is"), ((f"`<{name}>`", code(says)) for name, says in PARAMETERS.items())
    )


def metrics(first: list[str], every: list[list[str]]) -> Iterator[str]:
    """Series of ``/metrics`` from the named one to that of the next part."""
    from lineside.hub.eventlog.stats import METRICS, series_name

    series = {
        series_name(key)[0] + ("_total" if one.kind == "counter" else ""): one
        for key, one in METRICS.items()
    }
    names = [*series]
    starts = [*(names.index(one[0]) for one in every), len(names)]
    if starts[0]:
        raise ValueError(f"series in no part of the page: {names[: starts[0]]}")
    begin = names.index(first[0])
    end = min(start for start in starts if start > begin)
    rows = (
        (f"`{name}`", series[name].kind, codes(",".join(series[name].labels)), series[name].help)
        for name in names[begin:end]
    )
    yield from table(("Series", "Kind", "Labels", "Means"), rows)


def errors(_: list[str], __: list[list[str]]) -> Iterator[str]:
    """Classes of failures with what each means, its exit code and its HTTP status."""
    from lineside.core import errors as module

    kinds = [
        kind for kind in module.LinesideError.__subclasses__() if kind.__module__ == module.__name__
    ]
    rows = (
        (
            f"`{one.__name__}`",
            in_words(one.__doc__ or "")[0],
            f"{one.exit_code}",
            f"{one.http_status}",
        )
        for one in sorted(kinds, key=lambda kind: kind.exit_code)
    )
    yield from table(("Class", "Means", "Exit code", "HTTP status"), rows)


@cache
def all_commands() -> dict[str, Any]:
    """Commands of the program by their words."""
    import typer.main

    from lineside.cli.app import app

    def inner(words: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  of typer's own click
        known = getattr(command, "commands", {})
        if words and (not known or command.invoke_without_command):
            yield words, command
        for name, one in known.items():
            yield from inner(f"{words} {name}".strip(), one)

    return dict(inner("", typer.main.get_command(app)))


def signature(option: Any, command: Any) -> tuple[str, str]:  # noqa: ANN401  of typer's own click
    """Names of an option with its value, and its help.

    Of one that is on by itself there is the name that switches it off, too.
    """
    names = [*option.opts, *(option.secondary_opts if option.default is True else ())]
    names[-1] = f"{names[-1]} {value(option, command)}".strip()
    return ", ".join(f"`{name}`" for name in names) + "…" * option.multiple, option.help or ""


def value(one: Any, command: Any) -> str:  # noqa: ANN401  of typer's own click
    """Word for the value of an option or argument: its own, its choices, or its kind."""
    if getattr(one, "is_flag", False):
        return ""
    kind = inspect.signature(command.callback).parameters[one.name].annotation
    while get_origin(kind) not in (None, Literal):  # Annotated[list[str] | None, …]
        kind = get_args(kind)[0]
    choices = [*kind] if isinstance(kind, EnumType) else get_args(kind)
    return str(one.metavar or "|".join(choices) or KINDS.get(kind, "TEXT"))


@cache
def shared_options() -> list[tuple[str, str]]:
    """Options that many commands have with the same meaning, the most frequent first."""
    known = all_commands().values()
    every = (
        signature(one, command)
        for command in known for one in command.params if one.param_type_name == "option"
    )  # fmt: skip
    return [one for one, count in Counter(every).most_common() if count >= MANY]


def options(_: list[str], __: list[list[str]]) -> Iterator[str]:
    """Options that many commands have."""
    yield from table(("Option", "Is"), shared_options())


def commands(first: list[str], every: list[list[str]]) -> Iterator[str]:
    """Commands that begin with these words."""
    named = {word for part in every for word in part}
    if left := {words for words in all_commands() if words.split()[0] not in named}:
        raise ValueError(f"commands in no part of the page: {left}")
    found = [(words, one) for words, one in all_commands().items() if words.split()[0] in first]
    found.sort(key=lambda one: first.index(one[0].split()[0]))
    yield from table(("Command", "Does"), (command_cells(*one) for one in found))


def command_cells(words: str, command: Any) -> tuple[str, str]:  # noqa: ANN401  of typer's own click
    """Cells of a command."""
    usage, own, shared = [f"lineside {words}"], [], []
    for one in sorted(command.params, key=lambda one: one.param_type_name):
        if one.param_type_name == "argument":
            name, word = (one.metavar or one.name).strip("[]{}…").upper(), value(one, command)
            usage.append((name if one.required else f"[{name}]") + "…" * (one.nargs == -1))
            choices = "" if one.metavar or "|" not in word else f" (`{word}`)"
            own.append(f"`{name}`{choices}: {linked(one.help or '')}")
        elif (found := signature(one, command)) in shared_options():
            shared.append(re.sub(r" [^`]*`", "`", found[0]) + " (needed)" * one.required)
        else:
            own.append(f"{found[0]}{default_of(one)}: {linked(found[1])}")
    help_text, _ = in_words(command.help or "")
    summary, _, more = help_text.partition(". ")
    lines = [
        f"**{summary.removesuffix('.')}.** {more}".strip(),
        *own,
        f"Also {', '.join(shared)}." if shared else "",
    ]
    return f"`{' '.join(usage)}`", "<br>".join(filter(None, lines))


def linked(text: str) -> str:
    """Help in Markdown, with links to pages that it names."""
    return re.sub(r"docs/reference/([\w-]+)\.md", r"[\1](\1.md)", code(text))


def default_of(option: Any) -> str:  # noqa: ANN401  of typer's own click
    """Default of an option, or that it is needed."""
    value = option.default
    if value and not callable(value) and not isinstance(value, bool | list | tuple):
        return f" (default `{value}`)"
    return " (needed)" if option.required else ""


def accuracy(_: list[str], __: list[list[str]]) -> Iterator[str]:
    """Every goal of ``learning.py``, met or not."""
    from lineside.vision.metrics import metric_words

    rows = json.loads((RESULTS / "learning.json").read_bytes())["rows"]
    goals = [
        (name, row, goal, row["metrics"][goal["metric"]])
        for name, row in sorted(rows.items())
        for goal in row["goals"]
    ]
    yield from table(
        ("Images", "Count", "Task", "Figure", "Package (95 %)", "Without learning", "Goal"),
        (
            (
                name, str(row["pictures"]), f"`{row['task']}`", metric_words(goal["metric"]),
                f"{found['value']:.3f} ({found['low']:.3f}-{found['high']:.3f})",
                f"{found['baseline']:.3f}", f"{bounds(goal)}, {'met' if goal['met'] else 'missed'}",
            )
            for name, row, goal, found in goals
        ),
    )  # fmt: skip


def bounds(goal: dict[str, Any]) -> str:
    """The bounds of a goal in words."""
    words = (("at least", goal["at_least"]), ("at most", goal["at_most"]))
    return ", ".join(f"{word} {bound:.2f}" for word, bound in words if bound is not None)


Cell = Callable[[dict[str, Any]], str]


def rates(result: str, key: str, columns: Mapping[str, str | Cell]) -> Iterator[str]:
    """A table of a result's rows: by column a figure of the row, as a share, or what makes it."""
    rows = json.loads((RESULTS / f"{result}.json").read_bytes())[key]

    def cell(row: dict[str, Any], what: str | Cell) -> str:
        if callable(what):
            return what(row)
        return "" if row[what] is None else f"{row[what]:.3f}".removeprefix("0")

    yield from table(
        ("Images", *columns),
        (
            (name, *(cell(row, one) for one in columns.values()))
            for name, row in sorted(rows.items())
        ),
    )


def kept_seeds(row: dict[str, Any]) -> str:
    """Seeds whose error was at most what was stated."""
    return f"{row['seeds_kept']} of {row['seeds']}"


def task_of(row: dict[str, Any]) -> str:
    """The task of a row."""
    return f"`{row['task']}`"


def rates_of_classes(_: list[str], __: list[list[str]]) -> Iterator[str]:
    """Stated and true rates of ``promises.py``, with the accuracy of other ways."""
    yield from rates("promises", "sets", {
        "Count": lambda row: f"{row['pictures']}",
        "Kept": kept_seeds, "Stated": "stated", "Wrong": "error", "Unsure": "unsure",
        "Unsure, best in hindsight": "best_unsure", "Accuracy": "accuracy",
        "Logistic regression": "plain_head", "Commonest class": "commonest",
    })  # fmt: skip


def rates_of_limits(_: list[str], __: list[list[str]]) -> Iterator[str]:
    """Stated and true rates of ``limits.py``."""
    yield from rates("limits", "rows", {
        "Held out": lambda row: f"{row['pictures']}", "Task": task_of,
        "Kept": kept_seeds, "Stated": "stated", "Wrong": "error",
        "Of the worst seed": "error_highest", "Unsure": "unsure",
        "Unsure, best in hindsight": "best_unsure",
    })  # fmt: skip


def rates_of_packages(_: list[str], __: list[list[str]]) -> Iterator[str]:
    """Stated and true rates of ``learning.py``, with intervals and costs of a training."""
    yield from rates("learning", "rows", {
        "Count": lambda row: f"{row['pictures']}", "Task": task_of,
        "Kept": lambda row: f"{row['kept']} of {row['folds']}",
        "Stated": "stated",
        "Wrong of answers": lambda row: f"{row['wrong']} of {row['answered']}",
        "Unsure": "unsure", "Best in hindsight": "best_unsure",
        "Defects let through": lambda row: (
            f"{row['let_through']} of {row['defective']}"
            if 0 < row["defective"] < row["pictures"]
            else ""
        ),
        "Intervals right": lambda row: (
            f"{sum(one['held'] for one in row['metrics'].values())}"
            f" of {sum(one['of'] for one in row['metrics'].values())}"
            if row["folds"] < row["pictures"]
            else ""
        ),
        "Training": lambda row: f"{row['processor_s']:.0f} s",
        "Memory": lambda row: f"{row['peak_mb'] / 1000:.1f} GB",
        "Answer": lambda row: f"{row['answer_ms']:.0f} ms" if row["answer_ms"] else "",
    })  # fmt: skip


HAND = "FastAPI with ONNX Runtime by hand"
SPEED = (
    *(
        (f"requests a second, {clients}, {contract}", HAND, "serving",
         f"beside_others/{key}/hub, {contract}/rate_to_fastapi", "at least 1.0")
        for clients, key in (("1 client", "1 clients"), ("8 clients", "8 clients"))
        for contract in ("gRPC", "SageMaker contract", "Open Inference HTTP")
    ),
    ("frame on the bus to its event, 1 camera", "decoding and network alone", "live",
     "loads/0/ratio", "at most 1.2"),
    ("the same, 16 cameras", "decoding and network alone", "live", "loads/2/ratio", ""),
    ("frames stored a second", "a subscriber that writes files", "ingest", "mosquitto/share",
     "at least 0.7"),
    ("answer of a device by gRPC, time", "the predictor in its process", "edge",
     "speed/ratio/grpc", "at most 1.25"),
    ("GigE camera to coil, time, 10 images a second", "a loop by hand", "outputs",
     "camera_to_coil/10 a second/ratio", ""),
    ("training without fine-tuning, processor time", "a script without evidence",
     "training_speed", "ratios/frozen to peer, user", ""),
    ("kernel time of fine-tuning", "malloc's defaults", "training_speed",
     "ratios/tuned to memory given back, kernel", ""),
    ("processor time of a frame, whole history", "a thousandth of it", "growth", "growth/frame",
     ""),
    ("the same, PostgreSQL", "a thousandth of it", "growth-postgresql", "growth/frame", ""),
    ("the same, data folder held at its limit", "before the limit", "growth-retention",
     "growth/frame", ""),
)  # fmt: skip
"""What is measured, beside what, in which result, where in it, and the goal."""


def speed(_: list[str], __: list[list[str]]) -> Iterator[str]:
    """Ratios, each of one run."""
    rows = []
    for what, beside, result, path, goal in SPEED:
        stored = found = json.loads((RESULTS / f"{result}.json").read_bytes())
        for key in path.split("/"):
            found = found[int(key) if isinstance(found, list) else key]
        day = stored["measured"]["date"]
        rows.append((what, beside, f"{found:.2f}", goal, day))
    yield from table(("Measured", "Beside", "Ratio", "Goal", "Day"), rows)


PARTS: dict[str, Callable[[list[str], list[list[str]]], Iterable[str]]] = {
    "routes": routes,
    "frames": frames,
    "settings": settings,
    "message": message,
    "bodies": bodies,
    "topics": topics,
    "metrics": metrics,
    "errors": errors,
    "options": options,
    "commands": commands,
    "accuracy": accuracy,
    "rates_of_classes": rates_of_classes,
    "rates_of_limits": rates_of_limits,
    "rates_of_packages": rates_of_packages,
    "speed": speed,
}


if __name__ == "__main__":
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (now := renewed(text)) != text:
            path.write_text(now, encoding="utf-8")
