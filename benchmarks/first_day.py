"""The first day of a new user: from a bare Debian to a verdict on MQTT, a coil and a dashboard.

    sudo python benchmarks/first_day.py --folder /var/tmp/first-day [--suite bookworm] [--out FILE]

A bare Debian (debootstrap, made once and kept) becomes the images of hub and edge agent by the own
steps of ``deploy/Containerfile``. In them run, as their user and on roots that are read-only, what
a new user types: 60 own images in two folders, ``check``, ``train`` with the defaults, ``hub``,
``edge``, ``model register``, ``approve``, ``use``. Around them stand a camera that speaks RTSP, a
PLC (pymodbus' server) and a Prometheus that scrapes as ``deploy/compose`` has it. The day is over
when a bad part and then a good one gave their verdict on MQTT and switched the coil, and a panel of
``deploy/grafana/line.json`` has an answer.

Measured: seconds of each step, one after the other (``steps``), their sum (``total_s``), and the
processor time of it all (``processor_s``). The bare Debian and the download of wheels are not in
it: they are the network's.
Needs root, debootstrap and Prometheus; on Linux alone. Results: ``results/first_day.json``. A test
of ``make full`` goes through the same day.
"""

import argparse
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx2
import measure
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from lineside.cli.demo.stage import free_port
from lineside.testing.links import wait_until

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.hub.prometheus import scraping
from tests.journeys.plates import FPS, Plates
from tests.links.modbus_plc import modbus_plc
from tests.links.test_cameras import RtspServer

ROOT = Path(__file__).parents[1]
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text().replace("\\\n", " ")
BASE = "python3,python3-venv,python-is-python3"
HOME = "/var/lib/lineside"
WITHIN_S = 900.0
LEARNED = 30
"""Images of each kind that are learned from; those below the camera are others."""
PLANT = """
schema = "lineside.plant/1"
site = "first-day"
line = [{{ id = "belt", name = "Belt" }}]
camera = [{{ id = "top", line = "belt", source = "rtsp://viewer:secret@127.0.0.1:{rtsp}/stream" }}]

[[inspection]]
id = "part"
camera = "top"
task = "classify"
trigger = {{ on = "interval", interval_s = 0.5 }}
labels = ["good", "bad"]

[[output]]
id = "gate"
line = "belt"
url = "{plc}"
switch = "coil/12"
fail_safe = 0
"""
HUB = """
data_dir = "hub-data"
plant = "plant.toml"
port = {http}
bus_port = {mqtt}
"""
EDGE = """
device = "edge-1"
bus = "mqtt://127.0.0.1:{mqtt}"
hub = "http://127.0.0.1:{http}"
token_file = "hub-data/tokens/device.token"
trust_root = "hub-data/trust/root.json"
plant = "plant.toml"
data_dir = "edge-data"
page = {{ listen = "" }}
"""


@dataclass
class Image:
    """A file tree that grows by the steps of a Containerfile.

    Attributes:
        root: of the tree.
        environment: of commands in it.
        folder: where they run.
        user: who runs them, as ``chroot --userspec`` has it.
    """

    root: Path
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    )
    folder: str = "/"
    user: str = "0:0"

    def command(
        self, words: str, *, mounts: Mapping[Path, str], more: Mapping[str, str], writable: bool
    ) -> list[str]:
        """A command line that runs ``words`` in the tree and takes signals for them."""
        there = shlex.quote(str(self.root))
        lines = [f"mount --bind {there} {there}"]
        lines += [] if writable else [f"mount -o remount,ro,bind {there}"]
        lines += [f"mount -t tmpfs tmpfs {there}/tmp", f"mount -t proc proc {there}/proc"]  # noqa: S108  a mount point
        lines += [f"mount --rbind /dev {there}/dev"]
        lines += [
            f"mount --bind {shlex.quote(str(here))} {there}{at}" for here, at in mounts.items()
        ]
        settings = [f"{name}={value}" for name, value in {**self.environment, **more}.items()]
        inside = ["env", "-i", *settings, "sh", "-c", f"cd {self.folder} && exec {words}"]
        lines += [f"exec chroot --userspec={self.user} {there} {shlex.join(inside)}"]
        return ["unshare", "--mount", "sh", "-ec", "\n".join(lines)]


def build(target: str, *, base: Path, folder: Path, wheels: Path) -> Image:
    """Make a stage of the Containerfile; ``base`` stands for the image that it begins from."""
    lines = [
        line for line in CONTAINERFILE.splitlines() if line.strip() and not line.startswith("#")
    ]
    arguments: dict[str, str] = {}
    stages: dict[str, Image] = {}
    image = Image(root=base)
    for line in _needed(lines, target):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            origin, _, name = rest.partition(" AS ")
            stages[name] = image = _copy(stages.get(origin), base=base, to=folder / name)
        elif word == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif word == "ENV":
            for pair in shlex.split(rest):
                name, _, value = pair.partition("=")
                image.environment[name] = value.replace("$PATH", image.environment["PATH"])
        elif word == "WORKDIR":
            image.folder = rest
            (image.root / rest[1:]).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            image.user = f"{rest}:{rest}"
        elif word == "COPY":
            _copy_files(shlex.split(rest), image=image, stages=stages)
        elif word == "RUN":
            # The wheels are there already: an index is the network's.
            own = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", **arguments}
            (image.root / "wheels").mkdir(exist_ok=True)
            words = f"sh -ec {shlex.quote(rest)}"
            done = image.command(words, mounts={wheels: "/wheels"}, more=own, writable=True)
            subprocess.run(done, check=True)
    return stages[target]


def _needed(lines: list[str], target: str) -> list[str]:
    """Return the lines of the stages that a target is made of, in order."""
    stages: dict[str, list[str]] = {"": []}
    for line in lines:
        if line.startswith("FROM "):
            stages[line.rpartition(" AS ")[2]] = here = []
        else:
            here = stages[next(reversed(stages))]
        here.append(line)
    wanted, found = [target], {""}
    while wanted:
        name = wanted.pop()
        found.add(name)
        text = "\n".join(stages[name])
        wanted += [one for one in re.findall(r"FROM (\S+) AS|--from=(\S+)", text) for one in one]
        wanted = [one for one in wanted if one in stages and one not in found]
    return [line for name, lines in stages.items() if name in found for line in lines]


def _copy(origin: Image | None, *, base: Path, to: Path) -> Image:
    source = origin.root if origin else base
    subprocess.run(["cp", "--archive", "--reflink=auto", str(source), str(to)], check=True)  # noqa: S607  of coreutils
    if origin is None:
        return Image(root=to)
    return Image(
        root=to, environment=dict(origin.environment), folder=origin.folder, user=origin.user
    )


def _copy_files(words: list[str], *, image: Image, stages: Mapping[str, Image]) -> None:
    """Copy from the checkout, or from a stage: names, then where to."""
    start = ROOT
    if words[0].startswith("--from="):
        start = stages[words.pop(0).removeprefix("--from=")].root
    *names, where = words
    to = image.root / str(Path(image.folder, where))[1:]
    for name in names:
        source = start / name.lstrip("/")
        at = to if source.is_dir() else to / source.name
        at.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, at, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy2(source, at)


def bare_debian(folder: Path, *, suite: str) -> Path:
    """A file tree of Debian with Python, made once."""
    root, whole = folder / suite, folder / f"{suite}.whole"
    if not whole.exists():
        shutil.rmtree(root, ignore_errors=True)
        words = ["debootstrap", "--variant=minbase", f"--include={BASE}", suite, str(root)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        whole.touch()
    return root


def wheels_of(folder: Path) -> Path:
    """Wheels of all that the image's steps install, made once for the same extras and versions."""
    wheels, constraints = folder / "wheels", ROOT / "constraints.txt"
    extras = re.findall(r'install .*"\.\[([^]]*)\]"', CONTAINERFILE)
    done, made_of = wheels / "done", f"{extras}\n{constraints.read_text()}"
    build_needs = re.findall(r"requires = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
    if not done.exists() or done.read_text() != made_of:
        words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheels)]
        words += ["--constraint", str(constraints)]
        subprocess.run([*words, f"{ROOT}[{','.join(extras)}]"], check=True)
        subprocess.run([*words, *json.loads(f"[{build_needs[0]}]")], check=True)
        for own in wheels.glob("lineside-*.whl"):
            own.unlink()
        done.write_text(made_of)
    return wheels


@dataclass
class Day:
    """What the user does, each step with its time.

    Attributes:
        images: of the programs, by name; other commands run in the hub's.
        home: the folder of the commands.
        seconds: of each step.
    """

    images: Mapping[str, Image]
    home: Path
    stack: ExitStack
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is done meanwhile."""
        began = perf_counter()
        yield
        self.seconds[name] = round(perf_counter() - began, 1)
        print(f"{name}: {self.seconds[name]} s", flush=True)

    def command(self, words: str) -> list[str]:
        """The command line of a user's words."""
        image = self.images.get(words.split()[1], self.images["hub"])
        return image.command(words, mounts={self.home: HOME}, more={}, writable=False)

    def type(self, words: str) -> None:
        """Run a command to its end."""
        subprocess.run(self.command(words), check=True)

    def keep_running(self, words: str) -> None:
        """Start a program that runs to the end of the day."""
        log = self.stack.enter_context((self.home.parent / f"{words.split()[1]}.log").open("wb"))
        process = subprocess.Popen(
            self.command(words), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="kept between runs")
    parser.add_argument("--suite", default="bookworm", help="of Debian")
    parser.add_argument("--out", type=Path, default=None, help="another file")
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    base, wheels = bare_debian(folder, suite=asked.suite), wheels_of(folder)
    shutil.rmtree(folder / "day", ignore_errors=True)
    (folder / "day").mkdir()
    began, used_s = perf_counter(), processor_s()
    images = {}
    for name in ("hub", "edge"):
        own = folder / "day" / f"stages-{name}"
        own.mkdir()
        images[name] = build(name, base=base, folder=own, wheels=wheels)
    installed = round(perf_counter() - began, 1)
    with ExitStack() as stack:
        result = live(folder / "day", images=images, installed_s=installed, stack=stack)
    shutil.rmtree(folder / "day")
    result["processor_s"] = round(processor_s() - used_s, 1)
    print(result)
    measure.write("first_day", result, answer, out=asked.out)


def processor_s() -> float:
    """Processor seconds of the programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    installed = result["steps"]["install"]
    return f"{result['total_s']:.0f} s, of which installation takes {installed:.0f} s; one run."


def live(
    folder: Path, *, images: Mapping[str, Image], installed_s: float, stack: ExitStack
) -> dict[str, Any]:
    """Go through the day in the images, and return its times."""
    home = folder / "home"
    home.mkdir()
    day = Day(images=images, home=home, stack=stack, seconds={"install": installed_s})
    plates, plc = Plates(45), stack.enter_context(modbus_plc())
    plates.below = plates.good[LEARNED:]
    camera = RtspServer(user="viewer", password="secret", picture=plates.picture, fps=FPS)  # noqa: S106  as in the plant file
    stack.callback(camera.close)
    ports = {"rtsp": str(camera.port), "http": str(free_port()), "mqtt": str(free_port())}
    for name, own in (("good", plates.good), ("bad", plates.bad)):
        (home / "parts" / name).mkdir(parents=True)
        for number, plate in enumerate(own[:LEARNED]):
            (home / "parts" / name / f"{number}.jpg").write_bytes(plate)
    for name, text in (("plant", PLANT), ("hub", HUB), ("edge", EDGE)):
        (home / f"{name}.toml").write_text(text.format(plc=plc.url, **ports))
    for path in (home, *home.rglob("*")):
        os.chown(path, 10001, 10001)

    with day.step("check"):
        day.type("lineside check plant.toml")
    with day.step("train"):
        day.type(
            "lineside train --task classify --data parts --plant plant.toml --inspection part"
            " --out parts.lspkg"
        )
    with day.step("start"):
        day.keep_running("lineside hub --config hub.toml")
        token = home / "hub-data" / "tokens" / "device.token"
        wait_until(lambda: token.exists() and is_ready(ports["http"]), within_s=WITHIN_S)
        day.keep_running("lineside edge --config edge.toml")
    with day.step("approve"):
        for words in (
            "register parts parts.lspkg --by anna",
            "approve parts/1 --by ben --reason 'looked at its report'",
            "use parts/1 --reason 'first day'",
        ):
            day.type(f"lineside model {words} --config hub.toml")
    verdicts = listen(int(ports["mqtt"]), stack=stack)
    for name, below, coil in (("bad", plates.bad, 1), ("good", plates.good, 0)):
        wanted = "reject" if coil else "ok"
        with day.step(f"{name} part rejected" if coil else f"{name} part passed"):
            plates.below = below[LEARNED:]
            verdicts.clear()
            wait_until(lambda: wanted in verdicts, within_s=WITHIN_S)  # noqa: B023  waited for here
            wait_until(lambda: plc.value("coil/12") == coil, within_s=WITHIN_S)  # noqa: B023  the same
    with day.step("panel"):
        query = panel("Parts by verdict")
        admin, hub = token.with_name("admin.token"), f"127.0.0.1:{ports['http']}"
        prometheus = stack.enter_context(scraping(hub, token=admin, folder=folder))
        wait_until(lambda: answers(prometheus, query), within_s=WITHIN_S)
    return {"steps": day.seconds, "total_s": round(sum(day.seconds.values()), 1)}


def is_ready(port: str) -> bool:
    """Return whether the hub can do its work."""
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def listen(port: int, *, stack: ExitStack) -> list[str]:
    """Return the verdicts that come on the bus, as any client of MQTT has them."""
    came: list[str] = []
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: came.append(
        json.loads(message.payload)["data"]["verdict"]
    )
    client.connect("127.0.0.1", port)
    client.subscribe("lineside/+/+/verdict", qos=1)
    client.loop_start()
    stack.callback(client.loop_stop)
    stack.callback(client.disconnect)
    return came


def panel(title: str) -> str:
    """The first query of a panel, with the dashboard's variables at their widest."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "line.json").read_text())
    (found,) = (one for one in dashboard["panels"] if one.get("title") == title)
    query: str = found["targets"][0]["expr"]
    return query.replace("$line", ".*").replace("$__rate_interval", "15s")


def answers(prometheus: httpx2.Client, query: str) -> bool:
    """Return whether a query has a value above 0."""
    found = prometheus.get("/query", params={"query": query}).raise_for_status().json()
    return any(float(one["value"][1]) > 0 for one in found["data"]["result"])


if __name__ == "__main__":
    main()
