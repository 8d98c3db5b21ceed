"""``evaluation_report.json`` in the form that readers of the AWS sample expect.

Every number is a number: the deviation is that of the 95 % interval (a quarter of its width is one
standard deviation, to a close approximation), never the text "NaN".
"""

from collections.abc import Mapping

from lineside.core import encode
from lineside.training.measures import Confusion
from lineside.training.pipeline.gate import Evidence

_DEVIATIONS = 2 * 1.959963984540054
_NAMES = {"normal": "good", "anomalous": "bad"}

Scores = dict[str, float]


def published_report(found: Evidence) -> bytes:
    """Accuracy, weighted recall, precision and F1, and a row per class."""
    table = next(iter(found.confusion.values()), Confusion(classes=(), rows=()))
    classes = _classes(table)
    total = sum(row["support"] for row in classes.values()) or 1.0
    weighted = {
        name: sum(row[name] * row["support"] for row in classes.values()) / total
        for name in ("precision", "recall", "f1-score")
    }
    macro = {
        name: sum(row[name] for row in classes.values()) / (len(classes) or 1) for name in weighted
    }
    accuracy = found.metrics.get("accuracy")
    right = accuracy.value if accuracy else weighted["recall"]
    deviation = (accuracy.high - accuracy.low) / _DEVIATIONS if accuracy else 0.0
    named: Mapping[str, float] = {
        "accuracy": right,
        "weighted_recall": weighted["recall"],
        "weighted_precision": weighted["precision"],
        "weighted_f1": weighted["f1-score"],
    }
    return encode(
        {
            "multiclass_classification_metrics": {
                name: {"value": value, "standard_deviation": deviation}
                for name, value in named.items()
            },
            "classification_report": {
                **classes,
                "accuracy": right,
                "macro avg": {**macro, "support": total},
                "weighted avg": {**weighted, "support": total},
            },
        }
    )


def _classes(table: Confusion) -> dict[str, Scores]:
    found = {}
    for place, label in enumerate(table.classes):
        hit = table.rows[place][place]
        support = sum(table.rows[place])
        said = sum(row[place] for row in table.rows)
        precision = hit / said if said else 0.0
        recall = hit / support if support else 0.0
        both = precision + recall
        found[_NAMES.get(label, label)] = {
            "precision": precision,
            "recall": recall,
            "f1-score": 2 * precision * recall / both if both else 0.0,
            "support": float(support),
        }
    return found
