"""The sock line's acts: render, train on that, sort live, hold against what is true."""

import json
from pathlib import Path
from typing import Any

from lineside.cli.demo.programs import free_port
from lineside.cli.demo.sock_score import SockTruth, read_socks, score_socks, socks_passed
from lineside.cli.demo.stage import Stage
from lineside.cli.output import say

_TAUGHT_PICTURES, _TEACH_SEED = 168, 7
_WATCH_PORT = 4000
_SAID = "sockfound"
_SEEN, _PAIRED = "sock-seen", "pair-found"
_KAFKA_SAID, _KAFKA_EVENTS = "data_mqtt", "socks"


class Socks(Stage):
    """Trained from a rendered folder; the camera is watched over HTTPS, socks become events."""

    def hub_settings(self) -> str:
        """Messages unchanged and events as they are to Kafka, where one is named."""
        if not self._settings.kafka:
            return ""
        return (
            f'[kafka]\nbrokers = "{self._settings.kafka}"\n'
            f'[[kafka.bridge]]\nmqtt = "{_SAID}"\ntopic = "{_KAFKA_SAID}"\n'
            f'[[kafka.send]]\ntopic = "{_KAFKA_EVENTS}"\n'
        )

    def prepare_site(self) -> None:
        """The site's authority, and of it a certificate for the camera's page."""
        config = f"--config={self._folder / 'hub.toml'}"
        for name, words in (
            ("site", ("hub", "init", config)),
            ("page-certificate",
             ("hub", "certificate", config, f"--to={self._tls}", "--hosts=localhost,127.0.0.1")),
        ):  # fmt: skip
            self._programs.wait(self._programs.start(name, *words))

    def device_settings(self) -> str:
        """The device's page by HTTPS, where the cameras of before had theirs."""
        self._watch_port = free_port(_WATCH_PORT)
        return (
            f'[page]\nlisten = "127.0.0.1:{self._watch_port}"\n'
            f'tls_cert = "{self._tls / "server.crt"}"\ntls_key = "{self._tls / "server.key"}"\n'
        )

    def teach(self) -> None:
        """Render socks that the line will not show."""
        say(f"teaching: {_TAUGHT_PICTURES} rendered pictures of six designs and the empty table")
        program = self._programs.start(
            "render-taught",
            *("simulate", "socks", f"--out={self._taught}"),
            *(f"--pictures={_TAUGHT_PICTURES}", f"--seed={_TEACH_SEED}"),
        )
        self._programs.wait(program)

    def train(self) -> None:
        """Train the package that tells designs apart, and take it into use."""
        say("training: which sock, or none")
        name = self._train("classify", data=self._taught, inspection=self._inspection)
        say(f"trained package {name} is in use; pairs stand at {self._base}/events")

    def go_live(self) -> None:
        super().go_live()
        camera = f"https://127.0.0.1:{self._watch_port}"
        say(f"camera: {camera}/cameras/{self._camera}/answers.mjpeg (page: {camera}/)")
        say(f"its certificate is of the site's authority: {self._tls / 'server.crt'}")

    def line_options(self) -> tuple[str, ...]:
        return ()

    def step(self) -> None:
        """Nothing: socks come and go by themselves."""

    def report(self) -> dict[str, object]:
        lines = [json.loads(line) for line in self._truth_file.read_text().splitlines()]
        truths = read_socks(lines, camera=self._camera)
        predictions = self._predictions()
        found = score_socks(truths, predictions)
        answered = found.total - found.unsure
        return {
            **self._flow(truth.frame for truth in truths),
            "predictions": len(predictions),
            "decisions_correct": found.correct,
            "decisions_unsure": found.unsure,
            "decisions_total": found.total,
            "decisions_between": found.between,
            "right_of_answered": found.correct / answered if answered else 0.0,
            "messages_heard": len(self._heard()),
            **self._counted(truths),
            "wrong": found.wrong,
            "pictures_refused": found.refused,
            "twin_matches_truth": None,
        }

    def _counted(self, truths: list[SockTruth]) -> dict[str, object]:
        """Socks and pairs as the rules counted them, and as they were."""
        passed = socks_passed(truths)
        seen = [event["values"]["label"] for event in self._events_of(_SEEN)]
        paired = {
            event["key"]["label"]: event["values"]["pairs"] for event in self._events_of(_PAIRED)
        }
        return {
            "socks_passed": passed,
            "socks_seen": seen,
            "pairs_true": sum(passed.count(design) // 2 for design in set(passed)),
            "pairs_found": sum(paired.values()),
        }

    def _events_of(self, rule: str) -> list[Any]:
        """Data of a rule's events, oldest first."""
        events = self._hub.items("/events", type="lineside.event.v1", limit=1000)
        found = [event for event in events if event["subject"] == rule]
        return [event["data"] for event in sorted(found, key=lambda one: str(one["time"]))]

    def _heard(self) -> list[Any]:
        """What the device said in the plant's own form, as the hub heard it."""
        events = self._hub.items("/events", type="lineside.plant.message.v1", limit=1000)
        return [event for event in events if event["subject"] == _SAID]

    @property
    def _taught(self) -> Path:
        return self._folder / "taught"

    @property
    def _tls(self) -> Path:
        return self._folder / "page-tls"
