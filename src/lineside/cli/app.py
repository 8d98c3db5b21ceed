"""The command tree, and the one place where failures become exit codes."""

import logging
import os
import sys
import traceback
from typing import Annotated

import click
import typer

from lineside.cli import (
    check,
    config,
    dataset,
    demo,
    evaluate,
    hub,
    model,
    package,
    run,
    store,
    train,
)
from lineside.cli.output import explain, say
from lineside.core import LinesideError

app = typer.Typer(
    name="lineside",
    help="Vision that stands beside the production line.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
) -> None:
    """Vision that stands beside the production line."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    for chatty in ("amqtt", "transitions", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.DEBUG if debug else logging.WARNING)


for room in (check, config, dataset, demo, evaluate, hub, model, package, run, store, train):
    room.register(app)


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:  # noqa: PLR0911  one return an exit code
    command = typer.main.get_command(app)
    try:
        result = command.main(arguments, prog_name="lineside", standalone_mode=False)
    except LinesideError as error:
        explain(error)
        _trace_if_debug(arguments)
        return error.exit_code
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  # boundary
        say(f"bug: {type(error).__name__}: {error}")
        say("fix: run it again with --debug and report what it prints.")
        _trace_if_debug(arguments)
        return 1
    return result if isinstance(result, int) else 0


def _trace_if_debug(arguments: list[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc(file=sys.stderr)
