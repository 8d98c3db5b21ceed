"""Job documents read and checked against a device, and what may replace what. Pure.

What is refused here is answered REJECTED: the device will not be able to tomorrow either.

1. A newer version of the same group of models may replace the one in use, and so may the same one.
2. An older version may do so only when a rollback was asked for and the target's signed metadata
   allow it from the version in use (``rollback_from``). A signature alone never leads back.
3. A package that names platforms runs on those only.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from lineside.core import Digest, InvalidError, RefusedError, parse_digest
from lineside.fleet.contract import JobDocument, Target, newer, version_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A package that was put into use, as the repository named it."""

    inspection: str
    group: str
    version: str
    digest: Digest
    target: str


def installed_of(target: Target) -> Installed:
    """Return a target as the installed package that it would be."""
    custom = target.custom
    return Installed(
        inspection=str(custom["inspection"]), group=str(custom["group"]),
        version=str(custom["version"]), digest=Digest(str(custom["digest"])), target=target.path,
    )  # fmt: skip


def check_may_replace(
    target: Target, *, installed: Installed | None, rollback: bool, platform: str
) -> None:
    """Refuse a package that must not come here.

    Args:
        target: a verified package.
        installed: what runs now, None where nothing does.
        rollback: whether going back is what was asked for.
        platform: of this machine, such as "linux/x86_64".

    Raises:
        RefusedError: older than what is in use, and no signed way back.
        InvalidError: made for another platform.
    """
    asked = installed_of(target)
    platforms = _words(target.custom.get("platforms"))
    if platforms and platform not in platforms:
        raise InvalidError(
            f"made for {', '.join(platforms)}; this is {platform}",
            where=target.path,
            fix="Publish a package for this platform.",
        )
    if installed is None or installed.group != asked.group or installed.digest == asked.digest:
        return
    if newer(asked.version, than=installed.version):
        return
    place = f"version {asked.version} of {asked.group!r} is not newer than {installed.version}"
    if not rollback:
        raise RefusedError(
            f"{place}, which is in use", where=target.path, fix="Ask for a rollback (--rollback)."
        )
    if installed.version not in _words(target.custom.get("rollback_from")):
        raise RefusedError(
            f"{place}, and no way back from there is signed",
            where=target.path,
            fix=f"On the hub: lineside trust allow-rollback {target.path} "
            f"--from-version {installed.version}.",
        )


def _words(value: object) -> Collection[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


_LONGEST = 1024
_MOST_TRIAL = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePolicy:
    """Limits on what a job may ask of a device.

    Attributes:
        inspections: it has a camera for.
        allows: whether a model of that name may be deployed.
        signed: whether only signed packages are taken.
    """

    inspections: frozenset[str]
    allows: Callable[[str], bool]
    signed: bool


def read_order(document: Mapping[str, object], *, policy: DevicePolicy) -> JobDocument:
    """The document as a record; fields of others are passed over.

    Raises:
        InvalidError: not a document that this device understands, or of something it has not.
        RefusedError: unsigned, and the policy asks for signatures.
    """
    if document.get("type") != "new_model":
        raise InvalidError(
            f"type {str(document.get('type'))[:60]!r} is not known here",
            where="type",
            fix='Send a document of type "new_model".',
        )
    size = document.get("size_bytes", 0)
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InvalidError("not a number of bytes", where="size_bytes", fix="Leave it out.")
    trial = document.get("trial_frames", 0)
    if isinstance(trial, bool) or not isinstance(trial, int) or not 0 <= trial <= _MOST_TRIAL:
        raise InvalidError(
            f"not a number of 0 to {_MOST_TRIAL}", where="trial_frames", fix="Leave it out."
        )
    rollback = document.get("rollback", False)
    if not isinstance(rollback, bool):
        raise InvalidError("neither true nor false", where="rollback", fix="Leave it out.")
    order = JobDocument(
        model_name=_text(document, "model_name"),
        model_version=_text(document, "model_version"),
        model_package_bucket=_text(document, "model_package_bucket"),
        model_package_key=_text(document, "model_package_key"),
        inspection=_text(document, "inspection"),
        target=_text(document, "target"),
        digest=_text(document, "digest"),
        sha256=_text(document, "sha256"),
        size_bytes=size,
        rollback=rollback,
        rollout=_text(document, "rollout"),
        trial_frames=trial,
    )
    _check(order, policy)
    return order


def check_signed(order: JobDocument, target: Target) -> None:
    """A document that contradicts what is signed is refused.

    Raises:
        RefusedError: with the first contradiction.
    """
    signed = installed_of(target)
    pairs = (
        ("model_name", order.model_name, signed.group),
        ("model_version", order.model_version, signed.version),
        ("inspection", order.inspection, signed.inspection),
        ("digest", order.digest, signed.digest),
        ("sha256", order.sha256, target.sha256),
    )
    for name, said, holds in pairs:
        if said and said != holds:
            raise RefusedError(
                f"the job says {said[:80]!r}, signed is {holds!r}",
                where=name,
                fix="Make the job from the release.",
            )


def _check(order: JobDocument, policy: DevicePolicy) -> None:
    version_key(order.model_version)
    if not policy.allows(order.model_name):
        raise InvalidError(
            f"model {order.model_name[:60]!r} is not among those this device takes",
            where="model_name",
            fix="Name it in the mappings of models_config.json.",
        )
    if order.inspection and order.inspection not in policy.inspections:
        raise InvalidError(
            f"this device has no inspection {order.inspection[:60]!r}",
            where="inspection",
            fix=f"It has {', '.join(sorted(policy.inspections)) or 'none'}.",
        )
    if order.digest:
        parse_digest(order.digest, where="digest")
    if policy.signed and not (order.target and order.digest):
        raise RefusedError(
            "the document names no signed package, and this device runs nothing else",
            where="target, digest",
            fix="Make the job from an approved release.",
        )


def _text(document: Mapping[str, object], name: str) -> str:
    value = document.get(name, "")
    needed = name in ("model_name", "model_version")
    good = isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST
    if not good or (needed and not value):
        raise InvalidError(
            f"not text of {int(needed)} to {_LONGEST} characters", where=name, fix="Correct it."
        )
    return str(value)
