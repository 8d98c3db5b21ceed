"""By what a recorded span is answered and judged: the package that was named, the rules of a file.

A package is named by its digest or the beginning of it, as a version of a group (``tiles/3`` or
``tiles:3``), as a file, or as ``recorded``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lineside.core import (
    Clock,
    Digest,
    Habits,
    InvalidError,
    NotFoundError,
    Plant,
    Rule,
    check_references,
    decode,
    decode_toml,
    faults_error,
    parse_digest,
)
from lineside.hub.replay.answers import Answers, Kept
from lineside.hub.replay.records import AS_RECORDED, ReplayOrder, ReplayResult
from lineside.hub.replay.run import Replay, Tell, Tried
from lineside.models import EngineName, Manifest, ModelVersions, Package, Registry

_LEAST_DIGITS = 6
_NUMBER = re.compile(r"[0-9]{1,9}")
_SUFFIX = ".lspkg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wished:
    """A replay as it is asked.

    Attributes:
        order: its ``package`` is a digest, ``recorded`` or "".
        package: the file where it is none of the registry's; None else.
        rules: TOML with ``[[rule]]`` tables, a whole plant file or those alone; b"" for the
            plant's own. ``where`` says of what.
    """

    order: ReplayOrder
    package: Package | None = None
    rules: bytes = b""
    where: str = "rules"


def named_package(text: str, registry: Registry, *, versions: ModelVersions) -> Digest:
    """The digest of a package of the registry.

    Raises:
        NotFoundError: there is none of that name.
        InvalidError: several begin so, or it is no name.
    """
    group, _, number = text.replace(":", "/").rpartition("/")
    if text.startswith("sha256:"):
        return registry.get(parse_digest(text, where="package")).digest
    if group and _NUMBER.fullmatch(number):
        return versions.one(group, int(number)).digest
    found = [one.digest for one in registry.list() if one.digest[7:].startswith(text)]
    if len(text) < _LEAST_DIGITS or len(found) > 1:
        raise InvalidError(
            f"{text!r} names no one package", where="package",
            fix="Write its digest or the first digits of it, GROUP/NUMBER, or a .lspkg file.",
        )  # fmt: skip
    if not found:
        raise NotFoundError(
            f"no package {text!r}", where="registry", fix="List them: lineside model list."
        )
    return found[0]


def package_file(text: str) -> Package | None:
    """The package in a file; None where no file is named."""
    path = Path(text)
    return Package.open(path) if path.suffix == _SUFFIX or path.is_file() else None


def asked_inspections(
    order: ReplayOrder, plant: Plant, *, manifest: Manifest | None
) -> frozenset[str]:
    """Whose frames a package is asked about.

    Args:
        order: names the package, and the inspection where somebody chose it.
        plant: declares inspections.
        manifest: of the package; None for ``recorded`` and for none.

    Raises:
        NotFoundError: the plant has no such inspection.
        InvalidError: the package was made for another inspection or task.
    """
    if order.inspection:
        plant.find_inspection(order.inspection)
    if not order.package:
        return frozenset()
    if manifest is None:
        return frozenset({order.inspection} if order.inspection else _all(plant))
    name = order.inspection or manifest.inspection
    if not name:
        fits = [one.id for one in plant.inspection if str(one.task) == manifest.task]
        if len(fits) != 1:
            raise InvalidError(
                "the package fits any inspection", where="inspection",
                fix=f"Name one: {', '.join(_all(plant)) or 'the plant has none'}.",
            )  # fmt: skip
        name = fits[0]
    _check_fits(manifest, name, plant=plant)
    return frozenset({name})


def _check_fits(manifest: Manifest, name: str, *, plant: Plant) -> None:
    if manifest.inspection not in ("", name):
        raise InvalidError(
            f"the package was trained for inspection {manifest.inspection!r}, not {name!r}",
            where="inspection", fix=f"Replay {manifest.inspection!r}, or name another package.",
        )  # fmt: skip
    task = str(plant.find_inspection(name).task)
    if manifest.task != task:
        raise InvalidError(
            f"the package answers {manifest.task}, and {name!r} asks {task}", where="inspection",
            fix="Name a package of that task.",
        )  # fmt: skip


def _all(plant: Plant) -> list[str]:
    return [one.id for one in plant.inspection]


def with_rules(plant: Plant, raw: bytes, *, where: str) -> Plant:
    """The plant with the rules of a text in place of its own.

    What a sighting rule learned is known of the files that the plant file names.

    Raises:
        InvalidError: there are none, or every fault of form, then of reference.
    """
    if not raw:
        return plant
    tables = decode_toml(raw, where=where).get("rule")
    if not isinstance(tables, list):
        raise InvalidError(
            "no [[rule]] tables", where=where, fix="Write a plant file's rules, or all of it."
        )
    rules = decode(tuple[Rule, ...], tables, where=where)
    known = {
        one.sighting.learned: one.sighting.habits for one in plant.rule if one.sighting is not None
    }
    ruled = replace(plant, rule=tuple(_learned(rule, known, where=where) for rule in rules))
    before = set(check_references(plant))
    faults = tuple(one for one in check_references(ruled) if one not in before)
    if faults:
        raise faults_error(faults, where=where)
    return ruled


def _learned(rule: Rule, known: Mapping[str, Habits | None], *, where: str) -> Rule:
    step = rule.sighting
    if step is None or not step.learned:
        return rule
    if step.learned not in known:
        raise InvalidError(
            f"rule {rule.id} learned from {step.learned!r}, which the plant file does not name",
            where=where, fix="Write dwell_s and gap_s, or name the file in the plant file first.",
        )  # fmt: skip
    return replace(rule, sighting=replace(step, habits=known[step.learned]))


def check_wish(wished: Wished, registry: Registry, *, plant: Plant) -> Tried:
    """What is tried beside the record; refuses what cannot be, before anything is read.

    Raises:
        InvalidError, NotFoundError: what the functions above say.
    """
    order, manifest, name = wished.order, None, ""
    if wished.package is not None:
        manifest, name = wished.package.manifest, wished.package.manifest.name
    elif order.package not in ("", AS_RECORDED):
        record = registry.get(order.package)
        manifest, name = record.manifest, record.name
    ruled = with_rules(plant, wished.rules, where=wished.where)
    if not order.package and not wished.rules:
        raise InvalidError(
            "nothing is tried", where="package",
            fix="Name a package (recorded: the one that answered then), or rules.",
        )  # fmt: skip
    asked = asked_inspections(order, plant, manifest=manifest)
    return Tried(inspections=asked, name=name, plant=ruled)


def replay(
    wished: Wished, kept: Kept, *, plant: Plant, clock: Clock, tell: Tell,
    engine: EngineName = EngineName.ONNX_RUNTIME,
) -> ReplayResult:  # fmt: skip
    """Replay a span here and now; see ``replaying``. Nothing is written."""
    registry = Registry(kept.records, kept.blobs, clock=clock)
    tried = check_wish(wished, registry, plant=plant)

    def find(digest: Digest) -> Package:
        if wished.package is not None and wished.package.digest == digest:
            return wished.package
        return Package.read(registry.content(digest), where=digest)

    answers = Answers(kept, find=find, clock=clock, engine=engine)
    if wished.order.package not in ("", AS_RECORDED):
        answers.load(Digest(wished.order.package))
    run = Replay(kept, plant=plant, tried=tried, answers=answers, clock=clock)
    found = run.run(wished.order, tell=tell)
    return replace(found, engine=engine.value if tried.inspections else "")
