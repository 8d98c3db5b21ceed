"""What stands first of a package's figures, and how it decides, whatever its task."""

from collections.abc import Mapping
from typing import Any

from lineside.hub.pages.format import number

_FIRST = {
    "multilabel": ("accuracy",),
    "classify": ("accuracy", "macro_f1"),
    "detect": ("f1", "exact"),
    "count": ("exact", "mae"),
    "segment": ("pixel_f1", "auroc"),
    "anomaly": ("auroc", "accuracy"),
}
_RULES = ("classes", "detect", "count", "mask", "anomaly")


def first_metric(manifest: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The figure that a list shows: the first of its task that was measured, in that order."""
    metrics = manifest["metrics"]
    for wanted in _FIRST.get(manifest["task"], ("accuracy",)):
        for name, metric in metrics.items():
            if name == wanted or ("/" not in name and name.startswith(f"{wanted}_")):
                return name, metric
    return None


def decision_facts(manifest: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """The numbers of the rule of a whole-picture task: name, value, no link."""
    rule: Mapping[str, Any] = next((manifest[name] for name in _RULES if manifest.get(name)), {})
    found = []
    for name, value in rule.items():
        if isinstance(value, list) and value and not isinstance(value[0], Mapping | list):
            found.append((_words(name), ", ".join(_said(one) for one in value[:12]), ""))
        elif isinstance(value, bool | int | float | str) and value != "":
            found.append((_words(name), _said(value), ""))
    return tuple(found)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return number(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
