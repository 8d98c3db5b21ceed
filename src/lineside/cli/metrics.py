"""``lineside metrics``: figures of what another program predicted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.output import JsonFlag, add_commands, read_file, show, table
from lineside.cli.package import metric_lines

if TYPE_CHECKING:
    from lineside.training.evaluation.counts import CountFigures


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, "metrics", "Figures of predictions in a table.", {
        "counts": counts,
    })  # fmt: skip


def counts(
    file: Annotated[Path, typer.Argument(help="A CSV table with a header line.")],
    *,
    truth: Annotated[str, typer.Option(help="Column of what was there.")] = "count",
    predicted: Annotated[str, typer.Option(help="Column of what was said.")] = "predicted",
    as_json: JsonFlag = False,
) -> None:
    """Accuracy, RMSE and MAE of counts, per true count, with confusion and floors."""
    from lineside.training.evaluation.counts import count_figures, read_counts

    found = count_figures(
        read_counts(read_file(file), truth=truth, predicted=predicted, where=str(file))
    )
    show(found, as_json=as_json, text=_words)


def _words(found: "CountFigures") -> str:
    classes = [
        (value, str(one.n), f"{one.accuracy:.3f}", f"{one.rmse:.3f}", f"{one.mae:.3f}")
        for value, one in found.per_class.items()
    ]
    rows = [
        (str(value), *(str(cell) for cell in row))
        for value, row in zip(found.classes, found.confusion, strict=True)
    ]
    floors = [
        (f"always {value}", f"{floor.accuracy:.3f}", f"{floor.rmse:.3f}", f"{floor.mae:.3f}")
        for value, floor in found.floors.items()
    ]
    return "\n\n".join(
        [
            "\n".join(metric_lines(found.metrics)),
            table([("true", "n", "accuracy", "rmse", "mae"), *classes]),
            table([("true \\ said", *(str(value) for value in found.classes)), *rows]),
            table([("floor", "accuracy", "rmse", "mae"), *floors]),
        ]
    )
