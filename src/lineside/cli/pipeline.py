"""``lineside pipeline``: print a pipeline's definition, or run it.

Flags and exit codes are those of the reference's two tools: a missing module name prints the help
and ends with 2, any failure says ``Exception: …`` on stderr and ends with 1, success with 0. A gate
that refuses is no success.
"""

import ast
import getpass
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from lineside.cli.config import load_hub
from lineside.cli.output import add_commands, say, stop_on_signal, table
from lineside.core import InvalidError, LinesideError, NotFoundError, SystemClock, to_plain

if TYPE_CHECKING:
    from lineside.training import Pipeline, Progress, RunRecord

T = TypeVar("T")

Module = Annotated[
    str, typer.Option("-n", "--module-name", help="Python module with get_pipeline().")
]
Keywords = Annotated[
    str, typer.Option("-kwargs", "--kwargs", help="What get_pipeline() gets, a literal dict.")
]
RoleArn = Annotated[str, typer.Option("-role-arn", "--role-arn", help="Taken and not used.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, "pipeline", "Train, gate and register in one run.", {
        "definition": definition, "run": run,
    })  # fmt: skip


def definition(
    context: typer.Context,
    *,
    module_name: Module = "",
    file_name: Annotated[
        Path | None, typer.Option("-f", "--file-name", help="Write it here instead.")
    ] = None,
    kwargs: Keywords = "",
    role_arn: RoleArn = "",
) -> None:
    """Print a pipeline's definition as JSON, or write it to a file."""
    del role_arn
    _needs_module(context, module_name)
    with _as_exceptions():
        text = json.dumps(_pipeline(module_name, kwargs).definition(), indent=2, sort_keys=True)
        if file_name is None:
            sys.stdout.write(text + "\n")
        else:
            file_name.write_text(text + "\n", "utf-8")


def run(
    context: typer.Context,
    *,
    module_name: Module = "",
    kwargs: Keywords = "",
    role_arn: RoleArn = "",
    description: Annotated[
        str, typer.Option("-description", "--description", help="Kept with the run.")
    ] = "",
    tags: Annotated[
        str, typer.Option("-tags", "--tags", help="A literal list of {'Key': …, 'Value': …}.")
    ] = "",
    folder: Annotated[Path, typer.Option(help="Keeps cached steps and run records.")] = Path(
        "pipelines"
    ),
    by: Annotated[str, typer.Option(help="Who runs it; default: the user.")] = "",
    config: Annotated[
        Path | None,
        typer.Option(
            help="The hub's file: its registry and datasets are used; else those in --folder."
        ),
    ] = None,
) -> None:
    """Print the definition, run every step, and print what each came to."""
    del role_arn
    _needs_module(context, module_name)
    with _as_exceptions():
        pipeline = _pipeline(module_name, kwargs)
        labels = _tags(tags)
        sys.stdout.write(json.dumps(pipeline.definition(), indent=2, sort_keys=True) + "\n")
        sys.stdout.flush()
        record = _carried_out(
            pipeline, folder=folder, by=by or getpass.getuser(), config=config,
            description=description, tags=labels,
        )  # fmt: skip
        _announce(record, config=config)
        sys.stdout.write(json.dumps(to_plain(record), indent=2, sort_keys=True) + "\n")
        say(_words(record))
        if record.outcome != "Succeeded":
            raise InvalidError(f"the gate refused: {record.reason}")


def _carried_out(
    pipeline: "Pipeline", *, folder: Path, by: str, config: Path | None, description: str,
    tags: dict[str, str],
) -> "RunRecord":  # fmt: skip
    from lineside.models import ModelVersions, Registry
    from lineside.store import open_blobs, open_records
    from lineside.training import PipelineContext, run_pipeline

    folder.mkdir(parents=True, exist_ok=True)
    place = folder.resolve()
    records_url, blobs_url = f"sqlite:///{place}/records.db", f"file://{place}/blobs"
    if config is not None:
        hub = load_hub(config).config
        records_url, blobs_url = hub.records_url, hub.blobs_url
    clock = SystemClock()
    with ExitStack() as stack:
        records = stack.enter_context(open_records(records_url, clock=clock))
        blobs = open_blobs(blobs_url)
        stack.callback(blobs.close)
        cancelled = stack.enter_context(stop_on_signal())
        pipeline_context = PipelineContext(
            folder=place,
            versions=ModelVersions(records, Registry(records, blobs, clock=clock), clock=clock),
            by=by,
            clock=clock,
            progress=_progress,
            cancelled=cancelled,
            records_url=records_url,
            blobs_url=blobs_url,
            on_step=lambda step: say(f"step {step}"),
        )
        return run_pipeline(pipeline, pipeline_context, description=description, tags=tags)


def _announce(record: "RunRecord", *, config: Path | None) -> None:
    """Let the hub know of a version in its registry: it compares it with what is in use."""
    if config is None or not record.version:
        return
    from lineside.cli.model import models

    group, _, number = record.version.rpartition("/")
    with models(config) as opened:
        opened.announce(opened.one(group, int(number)))


def _progress(progress: "Progress") -> None:
    say(f"{progress.percent:3.0f} % {progress.stage}, {progress.eta_s:.0f} s left")


def _words(record: "RunRecord") -> str:
    rows = [
        (step.name, str(step.outcome), "cached" if step.cached else f"{step.seconds:.1f} s")
        for step in record.steps
    ]
    lines = [table([("step", "outcome", ""), *rows]), *record.remarks]
    if record.version:
        lines.append(f"registered as {record.version}; it awaits approval")
    return "\n".join(lines)


def _needs_module(context: typer.Context, module_name: str) -> None:
    if not module_name:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit(2)


@contextmanager
def _as_exceptions() -> Iterator[None]:
    """Any failure as one line on stderr and exit code 1."""
    try:
        yield
    except typer.Exit:
        raise
    except LinesideError as error:
        say(f"Exception: {error.message}" + (f" ({error.where})" if error.where else ""))
        if error.fix:
            say(f"fix: {error.fix}")
        raise typer.Exit(1) from error
    except Exception as error:  # boundary
        say(f"Exception: {error}")
        raise typer.Exit(1) from error


def _pipeline(module_name: str, kwargs: str) -> "Pipeline":
    from lineside.training import Pipeline

    arguments = _literal(kwargs, kind=dict, option="-kwargs") if kwargs else {}
    here = str(Path.cwd())
    sys.path.insert(0, here)  # a module of one's own stands in the folder one works in
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise NotFoundError(
            f"no module {error.name!r}", where="-n", fix="Name an importable Python module."
        ) from error
    finally:
        sys.path.remove(here)
    made = module.get_pipeline(**arguments)
    if not isinstance(made, Pipeline):
        raise InvalidError(
            f"get_pipeline() gave a {type(made).__name__}",
            where=module_name,
            fix="Return a lineside.training.pipeline.Pipeline.",
        )
    return made


def _tags(text: str) -> dict[str, str]:
    found = _literal(text, kind=list, option="-tags") if text else []
    if not all(isinstance(tag, dict) and set(tag) == {"Key", "Value"} for tag in found):
        raise InvalidError(
            "tags of another form", where="-tags", fix="Write [{'Key': 'line', 'Value': '3'}]."
        )
    return {str(tag["Key"]): str(tag["Value"]) for tag in found}


def _literal(text: str, *, kind: type[T], option: str) -> T:
    """A Python literal, never an expression: nothing is called."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise InvalidError(
            f"no literal: {text[:60]}", where=option, fix=f"Write a {kind.__name__} of literals."
        ) from error
    if not isinstance(found, kind):
        raise InvalidError(
            f"a {type(found).__name__}", where=option, fix=f"Write a {kind.__name__}."
        )
    return found
