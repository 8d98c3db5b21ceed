"""The command tree, and the one place where failures become exit codes."""

import logging
import os
import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from lineside.cli import (
    alert,
    config,
    dataset,
    demo,
    device,
    evaluate,
    follower,
    hub,
    metrics,
    model,
    operating_point,
    package,
    pipeline,
    plant,
    recordio,
    replay,
    rollout,
    rule,
    run,
    scale,
    store,
    train,
    trust,
    twin,
    user,
)
from lineside.cli.output import explain, say, set_up_logging
from lineside.core import LinesideError, UnavailableError
from lineside.core.drivers import missing_extra

app = typer.Typer(
    name="lineside",
    help="Vision that stands beside the production line.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"lineside {version('lineside')}\n")
        raise typer.Exit


@app.callback()
def options(
    print_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it, end."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
) -> None:
    """Vision that stands beside the production line."""
    del print_version
    set_up_logging(level=logging.DEBUG if debug else logging.INFO, environ=os.environ)  # noqa: TID251  handed in here
    for chatty in ("alembic", "amqtt", "asyncua", "transitions", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.DEBUG if debug else logging.WARNING)


for room in (
    alert,
    config,
    dataset,
    demo,
    device,
    evaluate,
    follower,
    hub,
    metrics,
    model,
    operating_point,
    package,
    pipeline,
    plant,
    recordio,
    replay,
    rollout,
    rule,
    run,
    scale,
    store,
    train,
    trust,
    twin,
    user,
):
    room.register(app)


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        result = command.main(arguments, prog_name="lineside", standalone_mode=False)
    except LinesideError as error:
        explain(error)
        _trace_if_debug(arguments)
        return error.exit_code
    except typer.Exit as leave:
        return leave.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  # boundary
        return _explain_other(error, arguments=arguments)
    return result if isinstance(result, int) else 0


def _explain_other(error: Exception, *, arguments: list[str]) -> int:
    """A wrong word on the command line, a missing extra, an unusable file, or a bug of ours.

    Wrong words come as the command parser's own exceptions, which print themselves; the parser
    stands inside typer, whose versions keep it at different places.
    """
    show_usage, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show_usage) and isinstance(code, int):
        parts = vars(error)  # the parser's checks prefix what they say with the kind of exception
        parts["message"] = str(parts.get("message", "")).removeprefix("Value error, ")
        show_usage()
        return code
    _trace_if_debug(arguments)
    failure: LinesideError | None = None
    if isinstance(error, ModuleNotFoundError):
        failure = missing_extra(error.name or "")
    elif isinstance(error, OSError) and error.filename:
        place = str(error.filename)
        failure = UnavailableError(str(error.strerror), where=place, fix="Check path and rights.")
    if failure is not None:
        explain(failure)
        return failure.exit_code
    say(f"bug: {type(error).__name__}: {error}")
    say("fix: run lineside --debug … and report what it prints.")
    return 1


def _trace_if_debug(arguments: list[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc(file=sys.stderr)
