"""From pictures to a version on devices, by the same commands and requests that people use."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lineside.cli.client import HubClient
from lineside.cli.demo.programs import Program, Programs
from lineside.cli.output import say

MAKER, APPROVER = "R. Novak", "M. Keller"
_PIPELINES = "lineside.training.pipeline"
_MINUTES_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One pipeline run: ``inspection`` is also the group's name."""

    module: str
    inspection: str
    pictures: Path
    parameters: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Releasing:
    """What trains, approves and rolls out; ``until`` waits for something of the hub."""

    hub: HubClient
    base: str
    folder: Path
    programs: Programs
    until: Callable[[Callable[[], Any], str, float], Any]

    def add_approver(self) -> None:
        """A second person, because nobody approves what is their own."""
        password = self.folder / "approver-password"
        password.write_text(secrets.token_urlsafe(12) + "\n")
        password.chmod(0o600)
        self._run(
            "approver",
            *("user", "add", APPROVER, "--role=approver", f"--password-file={password}"),
        )
        say(f"{APPROVER} may approve; the password is in {password}")

    def begin(self, name: str, recipe: Recipe) -> Program:
        """Start a pipeline run; ``end`` waits for it."""
        given = {
            "base_job_prefix": recipe.inspection,
            "parameters": {
                "InputData": str(recipe.pictures),
                "ModelPackageGroupName": recipe.inspection,
                **recipe.parameters,
            },
        }
        return self.programs.start(
            name,
            *("pipeline", "run", f"--module-name={_PIPELINES}.{recipe.module}"),
            *(f"--kwargs={given!r}", f"--folder={self.folder / 'pipelines'}", f"--by={MAKER}"),
            *("--description=lineside demo", f"--config={self._config}"),
        )

    def end(self, running: Program) -> None:
        """Until the run's gate has passed and the version is registered."""
        self.programs.wait(running)

    def approve(self, group: str, number: int, *, reason: str) -> None:
        """As the second person; says where the same is done by hand."""
        page = f"{self.base}/models/groups/{group}/{number}"
        say(f"{group}/{number} waits for approval; by hand, as {APPROVER}: {page}")
        self._run(
            f"approve-{group}-{number}",
            *("model", "approve", f"{group}/{number}", f"--by={APPROVER}", f"--reason={reason}"),
        )
        say(f"{group}/{number} is approved by {APPROVER}")

    def roll_out(self, group: str, number: int, *, plan: dict[str, object]) -> Any:  # noqa: ANN401  JSON
        """Begin a roll-out and wait until it goes no further by itself."""
        asked = {"group": group, "version": number, "plan": plan, "reason": "demo"}
        started = self.hub.post("/rollouts", asked)
        told: list[str] = []

        def ended() -> Any:  # noqa: ANN401  JSON
            now = self.hub.get(f"/rollouts/{started['id']}")
            words = f"{group}/{number} {now['state']}: {now['why']}"
            if words not in told:
                told.append(words)
                say(words)
            return now if now["state"] in {"done", "aborted", "rolled back"} else None

        return self.until(ended, f"the end of roll-out {started['id']}", _MINUTES_S)

    @property
    def _config(self) -> Path:
        return self.folder / "hub.toml"

    def _run(self, name: str, *words: str) -> None:
        self.programs.wait(self.programs.start(name, *words, f"--config={self._config}"))
