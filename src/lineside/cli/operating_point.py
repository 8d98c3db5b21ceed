"""``lineside operating-point``: limits of an inspection, apart from its package."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.hub import ConfigOption, settings
from lineside.cli.model import By, Reason, check_person
from lineside.cli.output import JsonFlag, add_commands, show, table
from lineside.core import InvalidError, SystemClock, load_plant, short

if TYPE_CHECKING:
    from lineside.hub.models.operating_points import OperatingPoints, Preview
    from lineside.models.operating_point import Costs, Limits, PointVersion


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, "operating-point", "Limits of an inspection, apart from its package.", {
        "list": list_points, "preview": preview, "propose": propose, "approve": approve,
        "reject": reject, "rollback": roll_back,
    })  # fmt: skip


@contextmanager
def points(config: Path | None) -> "Iterator[OperatingPoints]":
    """Operating points with their events, opened for one command."""
    from lineside.hub import open_points

    hub = settings(config)
    plant = load_plant(Path(hub.plant))
    with open_points(hub, plant=plant, clock=SystemClock()) as opened:
        yield opened


InspectionName = Annotated[str, typer.Argument(metavar="INSPECTION", help="Of the plant file.")]
Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Which version.")]
LimitOption = Annotated[
    list[str],
    typer.Option("--limit", metavar="NAME=LOW:HIGH", help="Review from LOW, decided above HIGH."),
]
CostsOption = Annotated[
    str,
    typer.Option(metavar="REJECT,ESCAPE,REVIEW", help="Cost of each mistake, and of a review."),
]


def list_points(
    inspection: InspectionName, config: ConfigOption = None, as_json: JsonFlag = False
) -> None:
    """List the versions with their limits, who proposed them and who decided."""
    with points(config) as opened:
        found = opened.versions(inspection)
    rows = [(str(one.number), str(one.status), short(one.package), _limits(one.limits), one.by,
             one.verdicts[-1].by if one.verdicts else "nobody") for one in found]  # fmt: skip
    head = ("version", "status", "package", "limits", "proposed by", "decided by")
    show({"versions": found}, as_json=as_json, text=lambda _: table([head, *rows]))


def preview(
    inspection: InspectionName,
    limit: LimitOption,
    *,
    package: Annotated[str, typer.Option(help="Digest; the one in use by default.")] = "",
    frames: Annotated[int, typer.Option(help="Newest recorded frames to look at.")] = 2000,
    costs: CostsOption = "1,10,0.2",
    bad_share: Annotated[float, typer.Option(help="Share of bad parts, 0 to 1.")] = 0.02,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what limits do on held-out parts and on recorded frames; nothing is written."""
    from lineside.hub.models.operating_points import PreviewRequest

    asked = PreviewRequest(
        limits=_read_limits(limit), package=package, frames=frames, costs=_read_costs(costs),
        bad_share=bad_share,
    )  # fmt: skip
    with points(config) as opened:
        found = opened.preview(inspection, asked)
    show(found, as_json=as_json, text=lambda _: "\n".join(_preview_lines(found)))


def propose(
    inspection: InspectionName,
    limit: LimitOption,
    *,
    by: Annotated[str, typer.Option(help="Who proposes it; somebody else approves.")],
    reason: Reason,
    package: Annotated[str, typer.Option(help="Digest; the one in use by default.")] = "",
    costs: CostsOption = "1,10,0.2",
    waves: Annotated[
        bool, typer.Option("--waves", help="A rollout brings them; else all have them at once.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Propose limits as the next version; another person approves it."""
    from lineside.hub.models.operating_points import PointProposal

    proposal = PointProposal(
        limits=_read_limits(limit), reason=reason, package=package, costs=_read_costs(costs),
        waves=waves,
    )  # fmt: skip
    with points(config) as opened:
        made = opened.propose(inspection, proposal, by=by)
    show(made, as_json=as_json, text=_line)


def approve(
    inspection: InspectionName, number: Number, *, by: By, reason: Reason,
    config: ConfigOption = None, as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Approve a version; a running hub signs it and tells the devices."""
    _decide(
        lambda opened: opened.approve(inspection, number, by=by, reason=reason),
        by=by, config=config, as_json=as_json,
    )  # fmt: skip


def reject(
    inspection: InspectionName, number: Number, *, by: By, reason: Reason,
    config: ConfigOption = None, as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Reject a version that waits."""
    _decide(
        lambda opened: opened.reject(inspection, number, by=by, reason=reason),
        by=by, config=config, as_json=as_json,
    )  # fmt: skip


def roll_back(
    inspection: InspectionName, number: Number, *, by: By, reason: Reason,
    config: ConfigOption = None, as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Take the limits of an earlier approved version into force again, as a new version."""
    _decide(
        lambda opened: opened.roll_back(inspection, number, by=by, reason=reason),
        by=by, config=config, as_json=as_json,
    )  # fmt: skip


def _decide(
    decide: "Callable[[OperatingPoints], PointVersion]", *, by: str, config: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    check_person(by, config=config)
    with points(config) as opened:
        made = decide(opened)
    show(made, as_json=as_json, text=_line)


def _read_limits(given: list[str]) -> "tuple[Limits, ...]":
    from lineside.models.operating_point import Limits

    found = []
    for text in given:
        name, _, pair = text.rpartition("=")
        low, _, high = pair.partition(":")
        try:
            found.append(Limits(name=name, low=float(low), high=float(high or low)))
        except ValueError:
            raise InvalidError(
                f"{text!r} is no limit", where="--limit", fix="Write NAME=LOW:HIGH."
            ) from None
    return tuple(found)


def _read_costs(text: str) -> "Costs":
    from lineside.models.operating_point import Costs

    try:
        rejected, passed, review = map(float, text.split(","))
    except ValueError:
        raise InvalidError(
            f"{text!r} are no costs", where="--costs", fix="Write REJECT,ESCAPE,REVIEW."
        ) from None
    return Costs(good_rejected=rejected, bad_passed=passed, review=review)


def _limits(limits: "tuple[Limits, ...]") -> str:
    return ", ".join(f"{one.name} {one.low:g} / {one.high:g}" for one in limits)


def _line(found: "PointVersion") -> str:
    last = found.verdicts[-1].by if found.verdicts else "nobody"
    return f"{found.name} {found.status} (decided by {last}): {_limits(found.limits)}"


def _preview_lines(found: "Preview") -> list[str]:
    lines = []
    for one in found.unseen:
        was, now = one.before, one.after
        if found.task == "count":
            lines.append(
                f"{one.name}: of {now.bad} unseen parts {now.escapes} are counted too low (were "
                f"{was.escapes}), {now.false_rejects} too high (were {was.false_rejects})"
            )
            continue
        lines.append(
            f"{one.name}: of {now.bad} bad unseen parts {now.escapes} pass (were {was.escapes}), "
            f"of {now.good} good {now.false_rejects} are rejected (were {was.false_rejects}), "
            f"{now.bad_review + now.good_review} go to review "
            f"(were {was.bad_review + was.good_review}); "
            f"{one.cost_after:.2f} per 1000 parts (was {one.cost_before:.2f})"
        )
    recorded = found.recorded
    lines.append(f"{recorded.changed} of {recorded.frames} recorded frames change")
    lines += [f"  {one.count} from {one.before} to {one.after}" for one in recorded.changes]
    return [*lines, recorded.note] if recorded.note else lines
