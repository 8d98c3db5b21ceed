"""A hub as a process of its own, for tests that kill it."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lineside.testing.links import LONG_S
from tests.hub.test_run import get

PROGRAM = """
import sys, threading, signal
from lineside.core import SystemClock
from lineside.core.config import load_config
from lineside.hub import HubConfig
from lineside.hub.run import run
from pathlib import Path
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
loaded = load_config(HubConfig, program="hub", path=Path(sys.argv[1]), environ={}, flags={})
run(loaded.config, clock=SystemClock(), stop=stop, announce=lambda line: print(line, flush=True))
"""


class Process:
    """A hub in a process of its own over one data folder and one outside broker."""

    def __init__(self, folder: Path, *, bus: str) -> None:
        self._folder = folder
        (folder / "hub.toml").write_text(
            f'data_dir = "{folder}/data"\nplant = "{folder}/plant.toml"\nport = 0\nbus = "{bus}"\n'
        )
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", PROGRAM, str(self._folder / "hub.toml")]
        with (self._folder / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "sign in" in line:
                return
        said = (self._folder / "hub.log").read_text()[-2000:]
        pytest.fail(f"the hub did not start: {said}")

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=LONG_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def ask(self, path: str) -> Any:  # noqa: ANN401  JSON
        address = json.loads((self._folder / "data" / "hub.json").read_bytes())
        token = (self._folder / "data" / "tokens" / "admin.token").read_text().strip()
        return get(address["url"] + path, token=token)
