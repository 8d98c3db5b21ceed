"""Each tutorial as its reader types it, from an empty folder, and how-tos at a running hub.

1. A block of TOML or Python that begins with ``# NAME`` is a file of that name.
2. In a ``console`` block each line after ``$`` is typed; what stands below is part of what is then
   printed, in order, where ``…`` stands for any text.
3. Where the paragraph before names a terminal of its own, the command runs on to the end.
4. The ports of the page are free ones here, so that tutorials run beside other programs.
5. At a picture of ``SHOWN`` the reader opens that page of the hub; ``--screenshots`` keeps it.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from shutil import rmtree

import psutil
import pytest
from playwright.sync_api import expect

import lineside
from lineside.testing.links import wait_until
from tests.browser.conftest import CHROMIUM, browsing
from tests.browser.test_pages import settle, take_shot
from tests.conftest import skip_or_fail
from tests.journeys.plates import FPS, Plates
from tests.links.conftest import free_port
from tests.links.test_cameras import RtspServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DOCS = Path(__file__).parents[2] / "docs"
PAGES = DOCS / "tutorials"
BLOCK = re.compile(
    r"^```(toml|python|console)\n(.*?)^```$|^!\[[^]]*\]\(../images/([\w-]+).png\)$",
    re.DOTALL | re.MULTILINE,
)
VERDICT = ".tile header :text-matches('^(ok|reject|review)')"
SHOWN = {
    "good-and-bad-label": ("/datasets/parts/label", ".label-canvas"),
    "good-and-bad-lines": ("/", VERDICT),
    "only-good-parts-version": ("/models/groups/unlike/1", ":text('Approved by ben')"),
    "only-good-parts-lines": ("/", VERDICT),
    "how-many-lines": ("/", "[data-answer]:text-matches('^[3-6]')"),
    "in-place-twin": ("/twin", "[data-canvas] .tag"),
    "in-place-regions": ("/regions?camera=rack", "[data-id=A1]"),
    "ten-devices-devices": ("/devices", "[data-device=edge-3] :text('online')"),
    "ten-devices-rollout": ("/rollouts a:text('unlike 1')", "[data-standing] :text('done')"),
}
"""By picture the address of the page, a link that leads on, and what it has to show."""
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
OWN_TERMINAL = re.compile(r"\b[Ii]n a (?:second|third|fourth) terminal")
PORTS = re.compile(r"\b(?:8080|1883|8883|8554)\b")
WITHIN_S = 240.0
TRIES = 20


@dataclass
class Reader:
    """Somebody who follows a page in a folder.

    Attributes:
        hands: what the page asks of its reader's hands, by the beginning of the command after it.
        ports: of the page → free ones.
        shots: folder of ``--screenshots``.
    """

    folder: Path
    hands: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)
    shots: Path | None = None
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ports |= {port: str(free_port()) for port in ("8080", "1883", "8883")}
        programs = self.folder / "bin"
        programs.mkdir()
        for name, words in (("lineside", "-m lineside"), ("python", "")):
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
            script.chmod(0o755)
        self.environment = {
            **os.environ,  # noqa: TID251  handed on to children
            "PATH": f"{programs}:{os.environ['PATH']}",  # noqa: TID251
            "LINESIDE_HUB__PORT": self.ports["8080"],
            "LINESIDE_HUB__BUS_PORT": self.ports["1883"],
            "OMP_NUM_THREADS": "1",
        }

    def follow(self, page: Path) -> None:
        """Write each file and type each command of a page."""
        text = page.read_text()
        for block in BLOCK.finditer(text):
            lead = text[: block.start()].rstrip().rpartition("\n\n")[2]
            if block[3] in SHOWN and CHROMIUM.exists():
                self.look(block[3])
            elif block[1] in {"toml", "python"}:
                name = block[2].partition("\n")[0].removeprefix("# ")
                (self.folder / name).write_text(self.local(block[2]))
            elif block[1]:
                commands = COMMAND.findall(block[2])
                assert commands, block[2]
                stays = OWN_TERMINAL.search(lead) is not None
                for command, shown in commands:
                    self.type(command, shown.splitlines(), stays=stays)
        if not CHROMIUM.exists() and pictures_of(page):
            skip_or_fail("browser", f"all followed but the pictures: no Chromium at {CHROMIUM}")

    def look(self, picture: str) -> None:
        """Open the page of a picture, signed in by a link, and wait for what it has to show."""
        words = ["lineside", "hub", "link", "--name", "M. Keller", "--config", "hub.toml"]
        link = subprocess.check_output(words, cwd=self.folder, env=self.environment, text=True)
        base, (address, sign) = link.partition("/sign-in")[0], SHOWN[picture]
        address, _, further = address.partition(" ")
        with browsing() as browser:
            page = browser.new_page(
                viewport={"width": 1440, "height": 900}, ignore_https_errors=True
            )
            page.goto(link.strip())
            page.wait_for_url(f"{base}/")
            page.goto(base + address)
            if further:
                page.click(further)
            expect(page.locator(sign).first).to_be_visible()
            settle(page)
            for _ in range(TRIES):  # until the live image stays for the time of a picture
                expect(page.locator(sign).first).to_be_visible()
                take_shot(page, picture, folder=self.shots)
                if page.locator(sign).first.is_visible():
                    break

    def local(self, text: str) -> str:
        """Text of the page with the ports of this machine."""
        return PORTS.sub(lambda found: self.ports[found[0]], text)

    def type(self, command: str, shown: Sequence[str], *, stays: bool) -> None:
        """Run a command, and find what the page shows in what it prints."""
        shown = [self.local(line) for line in shown]
        for begin, lay in self.hands.items():
            if command.startswith(begin):
                lay()
        log = self.folder / "bin" / f"{len(list(self.folder.glob('bin/*')))}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", self.local(command)],  # noqa: S607  as in a terminal
                cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self.running.append(process)
        if stays:
            wait_until(lambda: not unseen(shown, log.read_text()) or process.poll() is not None)
            assert process.poll() is None, self.printed(command)
        else:
            with suppress(subprocess.TimeoutExpired):
                process.wait(WITHIN_S)
            assert process.returncode == 0, self.printed(command)
            self.running.remove(process)
        assert unseen(shown, log.read_text()) == "", self.printed(command)

    def printed(self, command: str) -> str:
        """Return what every command printed so far, for the report of one that failed."""
        logs = sorted(self.folder.glob("bin/*.log"), key=lambda log: int(log.stem))
        return "\n".join([f"$ {command}", *(log.read_text()[-1500:] for log in logs)])

    def close(self) -> None:
        """End what still runs, the newest first."""
        for process in reversed(self.running):
            with suppress(psutil.NoSuchProcess):
                shell = psutil.Process(process.pid)
                for one in shell.children() if shell.name() == "bash" else [shell]:
                    one.terminate()
            process.wait(WITHIN_S)


def pictures_of(page: Path) -> set[str]:
    """Pictures that have the name of their page; of others a tutorial takes none."""
    names = {name for *_, name in BLOCK.findall(page.read_text())}
    return {name for name in names if name.startswith(f"{page.stem}-")}


def unseen(shown: Sequence[str], printed: str) -> str:
    """Return the first shown line that is not among the printed ones, in order; "": none."""
    place, printed = 0, re.sub(r" +", " ", printed)
    for line in shown:
        words = " ".join(line.split())
        pattern = ".*".join(re.escape(part) for part in words.split("…"))
        found = re.compile(rf"^ ?{pattern} ?$", re.MULTILINE).search(printed, place)
        if found is None:
            return line
        place = found.end()
    return ""


FOLLOWED = ("only-good-parts.md", "in-place.md", "how-many.md", "ten-devices.md")
WITH_A_CAMERA = "good-and-bad.md"


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_tutorial_does_what_it_shows(
    page: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    take_off = partial(rmtree, tmp_path / "hub-data" / "keys", ignore_errors=True)
    person = Reader(
        folder=tmp_path, hands={"lineside hub --config": take_off},
        shots=pytestconfig.getoption("--screenshots"),
    )  # fmt: skip
    try:
        person.follow(PAGES / page)
        if page == "how-many.md":
            held = held_ranges(tmp_path, port=person.ports["8080"])
            assert sum(held) > 0.8 * len(held)
    finally:
        person.close()


def held_ranges(folder: Path, *, port: str) -> list[bool]:
    """Of each tray that a device counted whether its number lies in the range that was said."""
    token = (folder / "hub-data/tokens/admin.token").read_text().strip()
    hub = lineside.connect(f"http://127.0.0.1:{port}", token=token)
    trays = {
        f"sha256:{sha256(path.read_bytes()).hexdigest()}": int(path.stem) % 7
        for path in (folder / "live").glob("*.png")
    }
    said = [event["data"] for event in hub.events(kind="lineside.prediction.v1")]
    return [
        one["count"]["low"] <= trays[one["frame"]["digest"]] <= one["count"]["high"]
        for one in said
        if one["count"] and one["frame"]["digest"] in trays  # read whole, not while it was written
    ]


def test_a_network_camera_is_taught_and_then_rejects_what_lies_under_it(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    plates = Plates()
    camera = RtspServer(
        user="viewer", password="secret",  # noqa: S106  the page's
        picture=plates.picture, fps=FPS,
    )  # fmt: skip
    teach = "lineside dataset add parts --camera top --for 10 --label"
    lay_good, lay_bad = partial(plates.lay, plates.good), partial(plates.lay, plates.bad)
    hands = {
        f"{teach} good": lay_good, f"{teach} bad": lay_bad,
        "python verdict.py reject": lay_bad, "python verdict.py ok": lay_good,
    }  # fmt: skip
    person = Reader(
        folder=tmp_path, hands=hands, ports={"8554": str(camera.port)},
        shots=pytestconfig.getoption("--screenshots"),
    )  # fmt: skip
    try:
        person.follow(PAGES / WITH_A_CAMERA)
    finally:
        person.close()
        camera.close()


def test_the_how_to_on_access_is_followed_at_a_hub_that_runs(tmp_path: Path) -> None:
    person = Reader(folder=tmp_path)
    (tmp_path / "plant.toml").write_text('schema = "lineside.plant/1"\nsite = "hall"\n')
    (tmp_path / "hub.toml").write_text('data_dir = "hub-data"\nplant = "plant.toml"\n')
    try:
        person.type("lineside hub --config hub.toml", ["sign in once: …"], stays=True)
        person.follow(DOCS / "how-to" / "users.md")
    finally:
        person.close()


def test_every_tutorial_is_followed() -> None:
    assert {path.name for path in PAGES.glob("*.md")} == {*FOLLOWED, WITH_A_CAMERA, "index.md"}
    assert {name for path in PAGES.glob("*.md") for name in pictures_of(path)} == SHOWN.keys()
