"""The command tree, and the one place where failures become exit codes.

``_COMMANDS`` names each command, its module and its line of ``lineside --help``: a module is
imported when one of its commands is asked for, so that a command costs its own imports alone.
"""

import logging
import os
import sys
import traceback
from collections import UserDict
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from lineside.core import LinesideError

_COMMANDS = {
    "schema": ("config", "Print the JSON Schema of a message of the bus."),
    "demo": ("demo", "Run the whole loop on this machine."),
    "evaluate": ("evaluate", "Measure a package on labelled pictures."),
    "predict": ("evaluate", "Print a package's decisions for pictures."),
    "check": ("plant", "Report every fault of a plant file at once."),
    "replay": ("replay", "Run a recorded span through another package."),
    "simulate": ("run", "Run a simulated line."),
    "tune": ("scale", "Search hyper-parameters by validation loss."),
    "score": ("scale", "Judge stored frames with a package."),
    "backup": ("store", "Write one archive of everything the hub keeps."),
    "restore": ("store", "Fill an empty hub from an archive."),
    "doctor": ("store", "Check settings, plant file, certificates, store, chains."),
    "upgrade": ("store", "Bring a stopped hub's records to this release's form."),
    "status": ("store", "Show a running hub on one screen."),
    "support-bundle": ("store", "Write a ZIP for support."),
    "trace": ("store", "Walk an event or frame back to picture, package, data."),
    "train": ("train", "Train an inspection from labelled pictures."),
    "alert": ("running_hub", "Alerts of the site and their history."),
    "config": ("config", "Settings and their origins."),
    "count": ("running_hub", "Images that were counted for you."),
    "dataset": ("dataset", "Labelled pictures."),
    "device": ("device", "Devices of the site."),
    "follower": ("follower", "Followers of the event log and their quarantines."),
    "hub": ("hub", "The hub: pages, store, broker."),
    "job": ("running_hub", "Jobs of devices."),
    "local-device": ("running_hub", "The device on the hub's own machine."),
    "metrics": ("metrics", "Figures of predictions in a table."),
    "model": ("model", "Packages in the hub's registry."),
    "operating-point": ("operating_point", "Limits of an inspection, apart from its package."),
    "order": ("running_hub", "Orders of the line."),
    "package": ("package", "Package files."),
    "pipeline": ("pipeline", "Train, gate and register in one run."),
    "plant": ("plant", "The plant file's form and versions."),
    "camera": ("plant", "Cameras that this machine or the hub can reach."),
    "recordio": ("recordio", "List files and record files."),
    "review": ("running_hub", "Images that wait for a person."),
    "rollout": ("rollout", "Releases on their way to devices."),
    "rule": ("rule", "Rules over what was seen and said."),
    "edge": ("run", "The edge agent."),
    "training": ("running_hub", "Training runs at the hub."),
    "trust": ("trust", "Who may sign packages, and with which keys."),
    "twin": ("twin", "The twin of a hub."),
    "user": ("user", "People who sign in."),
    "token": ("user", "Tokens of programs."),
}


class _Commands(UserDict[str, Any]):
    """The commands by name, each made when it is first asked for."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  the parser's own class
        """Import the module of a command; ``KeyError`` where there is no such command."""
        if self.data[name] is None:
            part = typer.Typer(rich_markup_mode=None)
            import_module(f"lineside.cli.{_COMMANDS[name][0]}").register(part)
            self.data |= typer.main.get_group(part).commands
        return self.data[name]


class _CommandLine(TyperGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401  the parser's own
        super().__init__(**settings)
        self.commands = _Commands(dict.fromkeys(_COMMANDS))

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  the parser's own
        """List the commands by their lines, without importing them."""
        lines: dict[str, Any] = {
            name: TyperCommand(name, help=line) for name, (_, line) in _COMMANDS.items()
        }
        TyperGroup(commands=lines).format_commands(ctx, formatter)


app = typer.Typer(
    name="lineside",
    cls=_CommandLine,
    help="Vision that stands beside the production line.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"lineside {version('lineside')}\n")
        raise typer.Exit


@app.callback()
def options(
    print_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it, end."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Write logs as JSON lines.")] = False,
) -> None:
    """Vision that stands beside the production line."""
    from lineside.cli.output import set_up_logging

    del print_version
    set_up_logging(
        level=logging.DEBUG if debug else logging.INFO,
        as_json=log_json,
        environ=os.environ,  # noqa: TID251  handed in here
    )
    for chatty in ("alembic", "amqtt", "asyncua", "transitions", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.DEBUG if debug else logging.WARNING)


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        result = command.main(arguments, prog_name="lineside", standalone_mode=False)
    except typer.Exit as leave:
        return leave.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  # boundary
        return _explain(error, arguments=arguments)
    return result if isinstance(result, int) else 0


def _explain(error: Exception, *, arguments: list[str]) -> int:
    """A failure of ours, a wrong word on the command line, an unusable file, or a bug of ours.

    Wrong words come as the command parser's own exceptions, which print themselves; the parser
    stands inside typer, whose versions keep it at different places.
    """
    show_usage, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show_usage) and isinstance(code, int):
        parts = vars(error)  # the parser's checks prefix what they say with the kind of exception
        parts["message"] = str(parts.get("message", "")).removeprefix("Value error, ")
        show_usage()
        return code
    from lineside.cli.output import explain, say

    _trace_if_debug(arguments)
    failure = _failure(error)
    if failure is not None:
        explain(failure)
        return failure.exit_code
    say(f"bug: {type(error).__name__}: {error}")
    say("fix: run lineside --debug … and report what it prints.")
    return 1


def _failure(error: Exception) -> "LinesideError | None":
    """Return a failure in our own words; None for a bug."""
    from lineside.core import LinesideError, UnavailableError
    from lineside.core.drivers import missing_extra
    from lineside.core.errors import MissingExtraError

    match error:
        case LinesideError():
            return error
        case ModuleNotFoundError(name="fcntl" | "resource"):
            return MissingExtraError(
                "this command needs Linux or another Unix", fix="On Windows, run it in WSL 2."
            )
        case ModuleNotFoundError():
            return missing_extra(error.name or "")
        case OSError() if error.filename:
            place = str(error.filename)
            return UnavailableError(str(error.strerror), where=place, fix="Check path and rights.")
    return None


def _trace_if_debug(arguments: list[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc(file=sys.stderr)
