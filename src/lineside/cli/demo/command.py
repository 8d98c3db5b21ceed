"""The command and the order of its acts: start, teach, train, use, watch, score."""

import shutil
import signal
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import msgspec
import typer

from lineside.cli.demo.solutions import Bins, Socks, Surface, Warehouse
from lineside.cli.demo.stage import Programs, Settings, Stage
from lineside.cli.output import JsonFlag, say, show, writable
from lineside.core import LinesideError
from lineside.core.worker import Worker

_STAGES: dict[str, type[Stage]] = {
    "warehouse": Warehouse, "bins": Bins, "surface": Surface, "socks": Socks,
}  # fmt: skip
_FPS = {"surface": 2.0}  # three devices judge each frame by three packages
_USUAL_FPS = 5.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    solution: Annotated[
        Literal["warehouse", "bins", "surface", "socks"], typer.Argument(help="Which example.")
    ] = "warehouse",
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The page's port, if it is free.")
    ] = 8080,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
    seconds: Annotated[
        float,
        typer.Option("--for", min=0, help="End by itself after this many seconds of scored run."),
    ] = 0.0,
    report: Annotated[Path | None, typer.Option(help="Write the figures as JSON here.")] = None,
    fps: Annotated[
        float,
        typer.Option(min=0, help="Frames a second of the simulated camera; 0: 5, of surface 2."),
    ] = 0.0,
    speed: Annotated[float, typer.Option(help="How much faster the factory runs.")] = 12.0,
    seed: Annotated[int, typer.Option(help="Seed of the scored run.")] = 11,
    kafka: Annotated[
        str, typer.Option(help="Socks: brokers of a Kafka cluster, host:port by commas.")
    ] = "",
    folder: Annotated[
        Path | None, typer.Option(help="Keep everything here instead of a temporary folder.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the whole loop on this machine: simulated line, hub, edge agent, page."""
    writable(report)
    settings = Settings(
        solution=solution,
        port=port,
        fps=fps or _FPS.get(solution, _USUAL_FPS),
        speed=speed,
        seed=seed,
        seconds=seconds,
        kafka=kafka,
    )
    with _ends_are_interrupts(), _workplace(folder) as place, Programs(place) as programs:
        stage = _STAGES[solution](settings, folder=place, programs=programs)
        interrupted = _play(stage, browser=browser)
        figures = stage.finish()
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
        say(f"report written to {report}")
    if seconds or as_json:
        show(figures, as_json=as_json, text=_sentences)
    if interrupted:
        raise KeyboardInterrupt


def _play(demo: Stage, *, browser: bool) -> bool:
    """Run the acts before the score; whether a person ended the last of them."""
    began = time.monotonic()
    link = demo.start()
    say(f"page: {link}")
    if browser:
        Worker("browser", lambda: webbrowser.open(link), every_s=None).start()
    demo.teach()
    demo.train()
    demo.go_live()
    say(f"live after {time.monotonic() - began:.0f} s; page: {link}")
    try:
        demo.watch()
    except KeyboardInterrupt:
        say("stopping")
        return True
    return False


@contextmanager
def _ends_are_interrupts() -> Iterator[None]:
    """However the demo is ended, its programs are stopped: every such signal is a Ctrl-C.

    A shell that starts a command in the background has it ignore Ctrl-C; that is undone here.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  a handler's form
        raise KeyboardInterrupt

    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _workplace(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    made = Path(tempfile.mkdtemp(prefix="lineside-demo-"))
    try:
        yield made
    except LinesideError:
        say(f"the logs of this demo are kept in {made}")
        raise
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    shutil.rmtree(made, ignore_errors=True)


def _sentences(figures: dict[str, object]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in figures.items())
