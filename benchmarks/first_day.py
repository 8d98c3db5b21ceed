"""The first day of a new user: from a bare Debian to a verdict on MQTT, a coil and a dashboard.

    sudo python benchmarks/first_day.py --folder /var/tmp/first-day [--arm] [--out FILE]

The user follows docs/how-to/deploy.md: its commands are taken from there, word for word, and typed
beside ``deploy/compose/compose.yaml``. Docker and Compose run in a second Debian, in namespaces of
their own, so that they and what they start meet nothing else on the machine and end with the
program. Nothing is pulled: bare systems (debootstrap, made once and kept) stand for the images of
Python, PostgreSQL and Prometheus, under the names that the files give them. Around them
stand a camera that speaks RTSP and a PLC (pymodbus' server).

In the containers run 60 own images in two folders, ``check``, ``train`` with the defaults, ``model
register``, ``approve``, ``use``. The day is over when a bad part and then a good one gave their
verdict on MQTT and switched the coil, the user has signed in, and a panel of
``deploy/grafana/line.json`` has an answer of Prometheus.

On the days after it (``operation``) the hub is killed, everything restarts, both images are
upgraded as docs/how-to/upgrade.md has it, the containers are removed and made again, and a backup
is restored on empty volumes. Each time verdicts go on, and every frame is in PostgreSQL still. With
``--arm`` a device of ARM takes the line over at the end: its image is built, enrolled and run by an
emulator (qemu-user-static).

Measured: seconds of each step, one after the other (``steps``, ``operation``), and the sum of the
first day's (``total_s``). The bare systems, Debian's packages and the download of wheels are not
in it: they are the network's.
Needs root and debootstrap; on Linux alone. Results: ``results/first_day.json``. A test of ``make
full`` goes through the same days.
"""

import argparse
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx2
import measure
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from lineside.testing.links import wait_until

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.journeys.plates import FPS, Plates
from tests.links.modbus_plc import modbus_plc
from tests.links.test_cameras import RtspServer

ROOT = Path(__file__).parents[1]
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text().replace("\\\n", " ")
SOURCES = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src", "examples", "deploy")
PYTHON = "python3,python3-venv,python-is-python3,libaravis-0.8-0,mosquitto"
"""With what the images install of Debian."""
EXTRAS = re.compile(r'install .*"\.\[([^]]*)\]"')
MANYLINUX = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")
SERVERS = "trixie"
"""The Debian that has Docker with Compose, and PostgreSQL and Prometheus as the compose file."""
ENGINE = "docker.io,docker-cli,docker-compose,docker-buildx,iptables,iproute2,openssl"
SERVICES = "postgresql-17,prometheus"
HERE = "192.0.2.1"
"""The address of this machine for containers; leads to what listens on 127.0.0.1."""
COMPOSE = "/lineside/deploy/compose"
CONFIG = "--config /etc/lineside/hub.toml"
WITHIN_S = 900.0
LEARNED = 30
"""Images of each kind that are learned from; those below the camera are others."""
PLANT = """
schema = "lineside.plant/1"
site = "first-day"
line = [{{ id = "belt", name = "Belt" }}]
camera = [{{ id = "top", line = "belt", source = "rtsp://viewer:secret@{here}:{rtsp}/stream" }}]

[[inspection]]
id = "part"
camera = "top"
task = "classify"
trigger = {{ on = "interval", interval_s = 0.5 }}
labels = ["good", "bad"]

[[output]]
id = "gate"
line = "belt"
url = "modbus://{here}:{plc}"
switch = "coil/12"
fail_safe = 0
"""
ARM = "arm64"
ON_ARM = f"--platform linux/{ARM}"
EDGE_ARM = f"lineside-edge-{ARM}"
STAND_INS = """
ARG BARE=bare-python
FROM bare-servers AS postgres
ENV LANG=C.UTF-8 PATH=/usr/lib/postgresql/17/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
RUN install -d -o postgres -g postgres /run/postgresql /var/lib/postgresql/data
COPY postgres.sh /
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
CMD ["sh", "-e", "/postgres.sh"]

FROM bare-servers AS prometheus
RUN install -d -o 65534 -g 65534 /prometheus
USER 65534:65534
VOLUME /prometheus
ENTRYPOINT ["prometheus", "--config.file=/etc/prometheus/prometheus.yml"]
CMD ["--storage.tsdb.path=/prometheus"]

FROM ${BARE} AS python
ARG WHEELS=wheels
COPY ${WHEELS} /wheels
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
"""
POSTGRES = """
as() { exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
if [ ! -e $PGDATA/PG_VERSION ]; then
  cat $POSTGRES_PASSWORD_FILE > /tmp/word && chown postgres /tmp/word
  (as initdb --username=$POSTGRES_USER --pwfile=/tmp/word --auth-host=scram-sha-256)
  echo "CREATE DATABASE $POSTGRES_DB" | (as postgres --single -D $PGDATA postgres)
  echo "host all all all scram-sha-256" >> $PGDATA/pg_hba.conf
fi
as postgres -c 'listen_addresses=*'
"""


@dataclass
class Engine:
    """Docker and Compose in a file tree of Debian, inside this process' own namespaces.

    Attributes:
        root: the tree.
        folder: the user's: sources, data of Docker, log.
        process: of Docker.
    """

    root: Path
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def compose(self) -> Path:
        """The folder of the compose file, as it is named outside."""
        return self.folder / "lineside" / "deploy" / "compose"

    def start(self, stack: ExitStack) -> None:
        """Start Docker, for which the tree is the root; it ends with the stack."""
        (self.folder / "docker").mkdir()
        for name in ("lineside", "mnt", "var/lib/docker"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        lines = [
            f"mount --bind {self.root} {self.root} && cd {self.root}",
            "mount -t tmpfs tmpfs tmp && mount -t tmpfs tmpfs run && mount -t proc proc proc",
            "mount --rbind /sys sys && mount --rbind /dev dev",
            f"mount --bind {self.folder / 'lineside'} lineside",
            f"mount --bind {self.folder / 'docker'} var/lib/docker",
            "pivot_root . mnt && umount --lazy /mnt && cd /",
            f"ip link set lo up && ip address add {HERE}/32 dev lo",
            "sysctl --quiet --write net.ipv4.conf.all.route_localnet=1",
            f"iptables -t nat -A PREROUTING -d {HERE} -j DNAT --to-destination 127.0.0.1",
            "exec dockerd",
        ]
        quiet, log = subprocess.DEVNULL, (self.folder / "docker.log").open("wb")
        stack.callback(log.close)
        self.process = stack.enter_context(
            subprocess.Popen(
                ["unshare", "--mount", "sh", "-ec", "\n".join(lines)],  # noqa: S607  of Debian
                stdout=log,
                stderr=log,
            )
        )
        stack.callback(self.process.terminate)
        wait_until(
            lambda: self.run("docker info", stdout=quiet, stderr=quiet).returncode == 0,
            within_s=WITHIN_S,
        )

    def run(self, words: str, **more: Any) -> "subprocess.CompletedProcess[str]":  # noqa: ANN401  of subprocess.run
        """Run a shell's lines beside the compose file."""
        assert self.process is not None
        command = ["nsenter", f"--target={self.process.pid}", "--mount"]
        command += ["env", f"--chdir={COMPOSE}", "sh", "-ec", words]
        more = {"stdin": subprocess.DEVNULL, **more}
        return subprocess.run(command, text=True, check=False, **more)

    def type(self, words: str, **more: Any) -> str:  # noqa: ANN401  of subprocess.run
        """Run lines that must succeed, and return what they print."""
        done = self.run(words, stdout=subprocess.PIPE, **more)
        if done.returncode:
            self.run("docker compose ps --all; docker compose logs --tail 30", stdout=2)
            sys.exit(f"exit code {done.returncode}: {words}\n{done.stdout}")
        return done.stdout

    def lineside(self, words: str) -> str:
        """Run a command in the hub's container."""
        return self.type(f"docker compose exec hub lineside {words}")


def make_stand_ins(engine: Engine, folder: Path, *, suite: str, arm: bool) -> None:
    """Make the images that the Containerfile and the compose file begin from."""
    bare = {"bare-python": folder / suite, "bare-servers": folder / SERVERS}
    if arm:
        bare[f"bare-{ARM}"] = folder / f"{suite}-{ARM}"
    for name, root in bare.items():
        platform = ON_ARM if name.endswith(ARM) else ""
        words = ["tar", "--create", "--one-file-system", "--exclude=./var/lib/docker/*"]
        words += [f"--directory={root}", "."]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as tree:
            engine.type(f"docker import {platform} - {name}", stdin=tree.stdout)
    context = engine.folder / "lineside" / "stand-ins"
    context.mkdir()
    (context / "Containerfile").write_text(STAND_INS)
    (context / "postgres.sh").write_text(POSTGRES)
    for wheels in folder.glob("wheels*/"):
        shutil.copytree(wheels, context / wheels.name)
    compose = (ROOT / "deploy" / "compose" / "compose.yaml").read_text()
    names = re.findall(r"image: (\S+/(?:\w+-)?(\w+):\S+)", compose)
    names += re.findall(r"ARG PYTHON=(\S+/(\w+):\S+)", CONTAINERFILE)
    builds = [f"--target {target} --tag {name}" for name, target in names]
    if arm:
        of_arm = f"--build-arg BARE=bare-{ARM} --build-arg WHEELS=wheels-{ARM}"
        builds.append(f"{ON_ARM} {of_arm} --target python --tag python-{ARM}")
    build = "cd /lineside/stand-ins && docker build --quiet --file Containerfile"
    for tagged in builds:
        engine.type(f"{build} {tagged} .")
    shutil.rmtree(context)


def commands_of(page: str, heading: str) -> list[str]:
    """The blocks of commands under a heading of a page of docs/how-to, or after a sentence."""
    text = (ROOT / "docs" / "how-to" / page).read_text().split(heading)[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def make_once(folder: Path, *, of: str, make: Callable[[], None]) -> None:
    """Fill a folder, unless it was filled of the same."""
    whole = folder.with_name(f"{folder.name}.whole")
    if not whole.exists() or whole.read_text() != of:
        shutil.rmtree(folder, ignore_errors=True)
        make()
        whole.write_text(of)


def bare_debian(root: Path, *, suite: str, packages: str, of: str = "") -> None:
    """Make a file tree of Debian with packages; ``of``: of another architecture."""
    words = ["debootstrap", "--variant=minbase", f"--include={packages}"]
    words += [f"--arch={of}"] if of else []
    words += [suite, str(root)]

    def make() -> None:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    make_once(root, of=packages, make=make)


def wheels_of(folder: Path, *, arm: bool) -> None:
    """Make wheels of all that the images' steps install, and fetch those of ARM for the device."""
    constraints, extras = ROOT / "constraints.txt", EXTRAS.findall(CONTAINERFILE)
    build_needs = re.findall(r"requires = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
    needs = json.loads(f"[{build_needs[0]}]")
    pip = [sys.executable, "-m", "pip"]

    def make() -> None:
        words = [*pip, "wheel", "--quiet", f"--wheel-dir={wheels}", f"--constraint={constraints}"]
        subprocess.run([*words, f"{ROOT}[{','.join(extras)}]"], check=True)
        subprocess.run([*words, *needs], check=True)

    def fetch() -> None:
        words = [*pip, "download", "--quiet", f"--dest={of_arm}", f"--constraint={constraints}"]
        words += ["--only-binary=:all:", *(f"--platform={one}_aarch64" for one in MANYLINUX)]
        (edge,) = (one for one in extras if one.startswith("edge"))
        subprocess.run([*words, f"{ROOT}[{edge}]", *needs], check=True)

    wheels, of_arm = folder / "wheels", folder / f"wheels-{ARM}"
    made_of = f"{extras}\n{constraints.read_text()}"
    make_once(wheels, of=made_of, make=make)
    if arm:
        make_once(of_arm, of=made_of, make=fetch)
    for own in folder.glob("wheels*/lineside-*.whl"):
        own.unlink()


@dataclass
class Day:
    """What the user does, each step with its time.

    Attributes:
        seconds: of each step.
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is done meanwhile."""
        began = perf_counter()
        yield
        self.seconds[name] = round(perf_counter() - began, 1)
        print(f"{name}: {self.seconds[name]} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="kept between runs")
    parser.add_argument("--suite", default="bookworm", help="of Debian, with this program's Python")
    parser.add_argument("--arm", action="store_true", help="also a device of ARM, emulated")
    parser.add_argument("--out", type=Path, default=None, help="another file")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    if asked.inside:
        result = live(folder, suite=asked.suite, arm=asked.arm)
        print(result)
        measure.write("first_day", result, answer, out=asked.out)
        return
    folder.mkdir(parents=True, exist_ok=True)
    bare_debian(folder / asked.suite, suite=asked.suite, packages=PYTHON)
    bare_debian(folder / SERVERS, suite=SERVERS, packages=f"{ENGINE},{SERVICES}")
    if asked.arm:
        root = folder / f"{asked.suite}-{ARM}"
        bare_debian(root, suite=asked.suite, packages=PYTHON, of=ARM)
    wheels_of(folder, arm=asked.arm)
    shutil.rmtree(folder / "day", ignore_errors=True)
    (folder / "day").mkdir()
    alone = ["unshare", "--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    try:
        subprocess.run([*alone, sys.executable, *sys.argv, "--inside"], check=True)
    finally:
        shutil.rmtree(folder / "day")


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    installed = result["steps"]["install"]
    return f"{result['total_s']:.0f} s, of which installation takes {installed:.0f} s; one run."


def live(folder: Path, *, suite: str, arm: bool) -> dict[str, Any]:
    """Go through the days, and return their times."""
    engine = Engine(root=folder / SERVERS, folder=folder / "day")
    ignored = shutil.ignore_patterns("__pycache__", "secrets")
    for name in SOURCES:
        to = engine.folder / "lineside" / name
        to.parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, to)
    with ExitStack() as stack:
        engine.start(stack)
        make_stand_ins(engine, folder, suite=suite, arm=arm)
        stack.callback(engine.run, "docker compose down --volumes", stderr=subprocess.DEVNULL)
        plates, plc = Plates(45), stack.enter_context(modbus_plc())
        plates.below = plates.good[LEARNED:]
        camera = RtspServer(user="viewer", password="secret", picture=plates.picture, fps=FPS)  # noqa: S106  as in the plant file
        stack.callback(camera.close)
        ports = {"here": HERE, "rtsp": camera.port, "plc": plc.port}
        (engine.compose / "plant" / "plant.toml").write_text(PLANT.format(**ports))
        for name, pictures in (("good", plates.good), ("bad", plates.bad)):
            (engine.compose / "parts" / name).mkdir(parents=True)
            for number, plate in enumerate(pictures[:LEARNED]):
                (engine.compose / "parts" / name / f"{number}.jpg").write_bytes(plate)

        day = Day()
        verdicts = first_day(engine, day=day, plates=plates, coil=lambda: plc.value("coil/12"))
        later = Day()
        verdicts = operate(engine, day=later, verdicts=verdicts)
        if arm:
            with later.step("device of ARM"):
                take_over_by_arm(engine, verdicts=verdicts)
    return {
        "steps": day.seconds,
        "total_s": round(sum(day.seconds.values()), 1),
        "operation": later.seconds,
    }


def first_day(
    engine: Engine, *, day: Day, plates: Plates, coil: Callable[[], int | None]
) -> list[str]:
    """Go from the files to verdicts, and return the list in which they come."""
    secrets, rest, keys, _ = commands_of("deploy.md", "## With containers")
    with day.step("install"):
        engine.type("docker compose build --quiet")
    with day.step("start"):
        engine.type(secrets)
    with day.step("start the rest"):
        link = engine.type(rest).split()[-1]
        engine.type(keys, stderr=subprocess.DEVNULL)
    known = ssl.create_default_context(cafile=engine.compose / "secrets" / "authority.crt")
    with day.step("sign in"), httpx2.Client(follow_redirects=True, verify=known) as browser:
        for page in (link.replace("//hub:", "//localhost:"), "https://localhost:8443/"):
            browser.get(page).raise_for_status()
        assert browser.cookies
    with day.step("check"):
        engine.lineside("check /etc/lineside/plant/plant.toml")
    with day.step("train"):
        engine.type("docker compose cp parts hub:/var/lib/lineside/", stderr=subprocess.DEVNULL)
        engine.lineside(
            "train --task classify --data parts --plant /etc/lineside/plant/plant.toml"
            " --inspection part --out parts.lspkg"
        )
    with day.step("approve"):
        for words in (
            "register parts parts.lspkg --by anna",
            "approve parts/1 --by ben --reason 'looked at its report'",
            "use parts/1 --reason 'first day'",
        ):
            engine.lineside(f"model {words} {CONFIG}")
    verdicts = listen(engine)
    for name, below, value in (("bad", plates.bad, 1), ("good", plates.good, 0)):
        wanted = "reject" if value else "ok"
        with day.step(f"{name} part rejected" if value else f"{name} part passed"):
            plates.below = below[LEARNED:]
            verdicts.clear()
            wait_until(lambda: wanted in verdicts, within_s=WITHIN_S)  # noqa: B023  waited for here
            wait_until(lambda: coil() == value, within_s=WITHIN_S)  # noqa: B023  the same
    with day.step("panel"):
        query = panel("Parts by verdict")
        wait_until(lambda: answers(query), within_s=WITHIN_S)
    return verdicts


def go_on(verdicts: list[str]) -> None:
    """Wait for a further verdict."""
    verdicts.clear()
    wait_until(lambda: verdicts, within_s=WITHIN_S)


def operate(engine: Engine, *, day: Day, verdicts: list[str]) -> list[str]:
    """Go through what happens to containers later; verdicts go on after each.

    Returns:
        The list in which they come then.
    """
    with day.step("all healthy"):
        engine.type("docker compose up --detach --wait", stderr=subprocess.DEVNULL)
        for service in ("hub", "edge"):
            engine.type(f"docker compose exec {service} sh -c '[ $(id -u) = 10001 ]'")
            is_written = engine.run(
                f"docker compose exec {service} touch /here", stderr=subprocess.DEVNULL
            )
            assert is_written.returncode, f"the root of {service} can be written to"
    with day.step("hub killed"):
        before = frames(engine)
        process = engine.type("docker inspect --format '{{.State.Pid}}' lineside-hub-1")
        os.kill(int(process), signal.SIGKILL)
        wait_until(lambda: frames(engine) > before, within_s=WITHIN_S)
        go_on(verdicts)
    with day.step("all restarted"):
        engine.type("docker compose restart", stderr=subprocess.DEVNULL)
        go_on(verdicts)
    with day.step("upgrade"):
        sources = engine.folder / "lineside" / "deploy" / "Containerfile"
        sources.write_text(sources.read_text().replace("USER 10001", "ENV RELEASE=2\nUSER 10001"))
        (upgrade,) = commands_of("upgrade.md", "With containers,")
        for line, upgraded in zip(upgrade.splitlines(), (["edge"], ["edge", "hub"]), strict=True):
            engine.type(line, stderr=subprocess.DEVNULL)
            assert [name for name in ("edge", "hub") if is_new(engine, name)] == upgraded, line
        go_on(verdicts)
    with day.step("removed and made again"):
        before = frames(engine)
        engine.type(
            "docker compose down; docker compose up --detach --wait", stderr=subprocess.DEVNULL
        )
        assert frames(engine) >= before
        verdicts = listen(engine)
        go_on(verdicts)
    with day.step("restored"):
        before = frames(engine)
        (backup,) = commands_of("backup.md", "In containers,")
        (restore,) = commands_of("backup.md", "With containers,")
        lost = "docker compose down; docker volume rm lineside_hub lineside_postgres"
        engine.type(f"{backup}{lost}; {restore}")
        assert frames(engine) >= before
        verdicts = listen(engine)
        go_on(verdicts)
    return verdicts


def take_over_by_arm(engine: Engine, *, verdicts: list[str]) -> None:
    """Build the device's image for ARM, and have such a device take the line over."""
    build = f"docker build --quiet {ON_ARM} --build-arg PYTHON=python-{ARM} --target edge"
    engine.type(f"cd /lineside && {build} --file deploy/Containerfile --tag {EDGE_ARM} .")
    engine.type("docker compose stop edge", stderr=subprocess.DEVNULL)
    code = engine.type(f"docker compose exec hub lineside device invite --name arm {CONFIG}")
    run = f"docker run {ON_ARM} --network lineside_default --read-only --tmpfs /tmp"
    run += " --cap-drop ALL --volume arm:/var/lib/lineside"
    run += " --tmpfs /sys/devices/system/cpu"  # this machine's, by which ONNX Runtime ends there
    engine.type(f"{run} --rm {EDGE_ARM} device enrol --hub https://hub:8443 --code {code.strip()}")
    engine.type(f"{run} --detach --name arm {EDGE_ARM}")
    go_on(verdicts)
    engine.type("docker stop arm")  # lets go of the camera


def is_new(engine: Engine, service: str) -> bool:
    """Return whether a container is of the second release."""
    return "RELEASE=2" in engine.type(f"docker compose exec {service} env")


def frames(engine: Engine) -> int:
    """The frames that PostgreSQL has."""
    query = "psql --username=lineside --tuples-only --command='SELECT count(*) FROM frames'"
    return int(engine.type(f"docker compose exec postgres {query}"))


def listen(engine: Engine) -> list[str]:
    """Return the verdicts that come on the bus, as any client of MQTT has them."""
    came: list[str] = []
    client = paho.Client(CallbackAPIVersion.VERSION2)

    def subscribe(*_: object) -> None:
        client.subscribe("lineside/+/+/verdict", qos=1)

    client.on_connect = subscribe
    client.on_message = lambda _client, _data, message: came.append(
        json.loads(message.payload)["data"]["verdict"]
    )
    password = (engine.compose / "secrets" / "bus.password").read_text().strip()
    client.username_pw_set("programs", password)
    client.connect("localhost")
    client.loop_start()  # in a thread that ends with the program
    return came


def panel(title: str) -> str:
    """The first query of a panel, with the dashboard's variables at their widest."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "line.json").read_text())
    (found,) = (one for one in dashboard["panels"] if one.get("title") == title)
    query: str = found["targets"][0]["expr"]
    return query.replace("$line", ".*").replace("$__rate_interval", "1m")


def answers(query: str) -> bool:
    """Return whether a query has a value above 0."""
    asked = httpx2.get("http://localhost:9090/api/v1/query", params={"query": query})
    found = asked.raise_for_status().json()
    return any(float(one["value"][1]) > 0 for one in found["data"]["result"])


if __name__ == "__main__":
    main()
