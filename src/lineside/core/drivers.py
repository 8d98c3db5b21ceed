"""Choose an adapter by URL scheme: the room's own table first, then installed entry points.

A backbone of somebody's own is such an entry point too, or an ONNX file. Beside it stand the
settings of each task's learner: a hub, which has none, refuses what the learner would refuse. The
clients of a hub, of devices and of people, send their requests by ``http_opener``.
"""

import importlib
import json
import math
import re
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from lineside.core.errors import InvalidError, MissingExtraError

if TYPE_CHECKING:
    import ssl
    import urllib.error
    import urllib.request

Opener = Callable[..., Any]

_EXTRA = re.compile(r"extra == [\"']([a-z0-9-]+)[\"']")
_NAME = re.compile(r"[a-z0-9_.-]*")
_MOST_PROBLEM_BYTES = 2_000_000
_DISTRIBUTIONS = {
    "PIL": "pillow", "argon2": "argon2-cffi", "basyx": "basyx-python-sdk",
    "cv2": "opencv-python-headless",
    "google": "protobuf", "grpc": "grpcio", "mlflow": "mlflow-skinny",
    "multipart": "python-multipart", "paho": "paho-mqtt", "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}  # fmt: skip
"""Modules whose distribution has another name."""


def find_driver(kind: str, url: str, *, table: Mapping[str, str]) -> Opener:
    """The opening function for a URL: ``table`` maps scheme → ``"module:function"``.

    Raises:
        InvalidError: no table and no entry point of group ``lineside.<kind>`` knows the scheme.
    """
    scheme = _scheme(url)
    if scheme in table:
        module, _, function = table[scheme].partition(":")
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]  # the table is ours
    points = installed(kind)
    if scheme in points:
        return points[scheme].load()  # type: ignore[no-any-return]  # an entry point is untyped
    raise InvalidError(
        f"no {kind} driver for {scheme or str(SecretUrl(url))!r}",
        where=str(SecretUrl(url)),
        fix=f"Known schemes: {', '.join(sorted({*table, *points}))}.",
    )


def installed(kind: str) -> dict[str, EntryPoint]:
    """Entry points of the group ``lineside.<kind>`` by name; of several by one name the first."""
    return {point.name: point for point in reversed(entry_points(group=f"lineside.{kind}"))}


def http_opener(
    tls: "ssl.SSLContext | None", *more: "urllib.request.BaseHandler"
) -> "urllib.request.OpenerDirector":
    """Sender of HTTP requests that follows no redirect: a token goes to the address given alone.

    It asks no proxy of the environment, unless a ``ProxyHandler`` is among the further handlers.
    """
    import urllib.request

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(context=tls),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(), *more,
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def problem_texts(error: "urllib.error.HTTPError") -> dict[str, str]:
    """Texts of the problem document (RFC 9457) of an answer, which is closed; none of another."""
    from http.client import HTTPException

    try:
        with error:
            problem = json.loads(error.read(_MOST_PROBLEM_BYTES))
    except (OSError, HTTPException, RecursionError, ValueError):
        return {}
    found = problem.items() if isinstance(problem, dict) else ()
    return {name: value for name, value in found if isinstance(value, str)}


_ENTRY_POINT = re.compile(r"[A-Za-z0-9_-]*")
FROZEN_TASKS = ("anomaly", "classify", "multilabel")
"""Tasks that can do with a backbone that stays frozen, as an ONNX file does."""


def backbone_file(named: str) -> Path | None:
    """Return the ONNX file that a backbone is; None for an entry point's name, or none."""
    return None if _ENTRY_POINT.fullmatch(named) else Path(named)


def resolve_backbone(named: str) -> str:
    """Return a backbone as a job names it: an entry point's name, or an absolute path."""
    file = Path(named)
    is_point = not named or named in installed("backbones")
    if backbone_file(named) is not None or (not is_point and file.is_file()):
        return str(file.absolute())
    return named


_ABOVE_0 = math.nextafter(0.0, 1.0)
_ANY = (0.0, math.inf, 0)
_COUNT = (1.0, math.inf, 0)
_RATE = (_ABOVE_0, 1.0, 0)
_SIDE = (0.0, 4096.0, 1)
_STEPS = {"batch_size": _COUNT, "epochs": _ANY, "learning_rate": _RATE, "steps": _COUNT}

# Their meaning stands in docs/reference/tasks.md.
SETTINGS: Mapping[str, Mapping[str, tuple[float, float, int]]] = {
    "multilabel": {},
    "classify": {
        "batch_size": _COUNT,
        "epochs": _COUNT,
        "input_px": _SIDE,
        "input_scale": _ANY,
        "learning_rate": _RATE,
        "tune": (0.0, 2.0, 1),
    },
    "detect": _STEPS,
    "count": _STEPS,
    "segment": {
        **_STEPS,
        "bf16": (0.0, 1.0, 1),
        "input_px": _SIDE,
        "input_scale": _ANY,
        "side_px": (0.0, 1024.0, 32),
        "zoom": (_ABOVE_0, 16.0, 0),
    },
    "anomaly": {"power_pictures": (0.0, math.inf, 1)},
}
"""Settings of each task's learner: least, most, and the number that a value is a multiple of (0:
any number)."""


def check_learner(task: str, *, settings: Mapping[str, float], backbone: str = "") -> None:
    """Refuse what the learner of a task could not use.

    Args:
        task: that is trained.
        settings: of its learner.
        backbone: as in a job.

    Raises:
        InvalidError: it has no such setting, a value is out of its range, or the backbone stays
            frozen and would have to learn.
    """
    known = SETTINGS[task]
    allowed = ", ".join(f"{name} ({_range(*known[name])})" for name in sorted(known))
    for name, value in settings.items():
        if name not in known:
            raise InvalidError(
                f"the task {task} has no setting {name[:60]!r}",
                where="settings",
                fix=f"Known: {allowed}." if known else "Leave it out: it has none.",
            )
        least, most, multiple = known[name]
        if not least <= value <= most or value == math.inf or (multiple and value % multiple):
            raise InvalidError(
                f"{value:g} is not {_range(least, most, multiple)}",
                where=f"settings {name}",
                fix=f"Leave it out: the learner has a default. Known: {allowed}.",
            )
    _check_backbone(backbone, task=task, tune=settings.get("tune", 0.0))


def check_seed(seed: int) -> None:
    """Refuse a seed that a generator of random numbers would not take, with ``InvalidError``."""
    if not 0 <= seed < 2**32:
        raise InvalidError(
            f"{seed} is not a whole number of 0 or more, at most {2**32 - 1}",
            where="seed",
            fix="Write 7.",
        )


def _range(least: float, most: float, multiple: int) -> str:
    """The values of a setting in words."""
    kind = {0: "a number", 1: "a whole number"}.get(multiple, f"a multiple of {multiple}")
    low = "above 0" if least == _ABOVE_0 else f"of {least:g} or more"
    return f"{kind} {low}" if most == math.inf else f"{kind} {low}, at most {most:g}"


def _check_backbone(named: str, *, task: str, tune: float) -> None:
    if backbone_file(named) is None:
        return
    if task not in FROZEN_TASKS:
        raise InvalidError(
            f"the task {task} fine-tunes its backbone, and an ONNX file stays frozen",
            where="backbone",
            fix="Name an installed torch network (docs/how-to/backbone.md), leave it out, or"
            f" train one of {', '.join(FROZEN_TASKS)}.",
        )
    if tune:
        raise InvalidError(
            "an ONNX file stays frozen and cannot be fine-tuned",
            where="settings tune",
            fix="Leave the setting out, or name an installed torch network as the backbone.",
        )


def need(module: str, *, extra: str = "", version: str = "") -> Any:  # noqa: ANN401  a module has no useful type
    """Import a driver's library, or name the command that installs it.

    Args:
        module: its name.
        extra: that brings it; "": none does.
        version: of a library that no extra brings, such as ``>=0.30``; "": any.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        wanted = f"lineside[{extra}]" if extra else f"{module}{version}"
        fix = f'pip install "{wanted}"'
        raise MissingExtraError(f"{module} is not installed", fix=fix) from error


def missing_extra(module: str) -> MissingExtraError | None:
    """Return the error that names the extra with this module; None where no extra brings it."""
    top = module.partition(".")[0]
    distribution = _DISTRIBUTIONS.get(top, top).lower().replace("_", "-")
    try:
        lines = requires("lineside") or []
    except PackageNotFoundError:
        return None
    for line in lines:
        name, _, marker = line.partition(";")
        extra = _EXTRA.search(marker)
        if extra is not None and _NAME.match(name.lower())[0].replace("_", "-") == distribution:  # type: ignore[index]  # a requirement has a name
            return MissingExtraError(
                f"{top} is not installed", fix=f'pip install "lineside[{extra[1]}]"'
            )
    return None


class SecretUrl(str):
    """An address that may hold a secret. As text, JSON or in a log it is without it.

    Its text lacks what stands before the host and behind ``?``, and the path of ``http`` and
    ``rtsp``: receivers and cameras have passwords there. Only ``reveal`` gives the whole address.
    Addresses are equal where the whole ones are.
    """

    __slots__ = ("_whole",)
    _whole: str

    def __new__(cls, url: str) -> Self:
        """Take the whole address; of a ``SecretUrl`` its whole one."""
        whole = url.reveal() if isinstance(url, SecretUrl) else url
        made = super().__new__(cls, _shown(whole))
        made._whole = whole
        return made

    def __eq__(self, other: object) -> bool:
        return self._whole == (other.reveal() if isinstance(other, SecretUrl) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._whole)

    def reveal(self) -> str:
        """Return the whole address: for what connects to it, or writes it where it is kept."""
        return self._whole


_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<user>.*@)?(?P<host>[^/?#]*)(?P<path>[^?#]*)",
                  re.IGNORECASE | re.DOTALL)  # fmt: skip
_SECRET_PATHS = frozenset({"http", "https", "rtsp", "rtsps"})


def _shown(url: str) -> str:
    found = _URL.match(url)
    if found is None:
        return url
    scheme, user, host, path = found.groups()
    rest = url[found.end() :]
    if scheme.lower() in _SECRET_PATHS:
        path, rest = path[:1], path[1:] + rest
    return f"{scheme}://{'…@' if user else ''}{host}{path}{'…' if rest else ''}"


_VALUE = r"""(?P<quote>\\"|["'])?(?(quote)(?:(?!(?P=quote))(?:\\.|.))*|[^\s&"'<>]+)"""
_SECRETS = (
    (r"(?<=://)[^\s\"'<>]*@", "…@"),
    # Words that ":" may follow too; "key: value" and "code: 1" stand in ordinary logs.
    (
        r"(?P<name>(?:token|secret|passw(?:or)?d|passw|passphrase|pwd|api[_-]?key|access[_-]?key"
        r"|private[_-]?key|signature|(?<![a-z])(?:sig|auth))\\?[\"']?\s*[=:]\s*)" + _VALUE,
        r"\g<name>\g<quote>…",
    ),
    (r"(?P<name>(?<![a-z])(?:code|key|pass)\s*=\s*)" + _VALUE, r"\g<name>\g<quote>…"),
    (r"(\b(?:authorization|cookie)\\?[\"']?\s*[=:]\s*[\"']?)[^\"'\n]+", r"\1…"),
    (r"(\bbearer\s+)[\w.~+/=-]+", r"\1…"),
    # Webhooks: addresses hold keys in their path, headers may be secrets under any name.
    (r"(\burl[\"']?\s*[=:]\s*[\"']https?://[^/?#\s\"']+)[/?#][^\s\"']*", r"\1/…"),
    (r"(\bheaders[\"']?\s*[=:]\s*)\{(?:\"[^\"]*\"|'[^']*'|[^}\"'])*\}?", r"\1{…}"),
    (r"(\bheaders\.[\w\"'-]+\s*=\s*).+", r"\1…"),
    (r"(\[\s*webhook\.headers\s*\][^\n]*\n)(?:(?!\s*\[)[^\n]*\n?)*", r"\1…\n"),
)
_SECRET_FORMS = tuple((re.compile(form, re.IGNORECASE), shown) for form, shown in _SECRETS)


def without_secrets(text: str) -> str:
    """Return a text, such as a log, without the secrets of its URLs, assignments and headers."""
    for form, shown in _SECRET_FORMS:
        text = form.sub(shown, text)
    return text


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError as error:
        raise InvalidError(
            "not a URL: its host cannot be read",
            where=str(SecretUrl(url)),
            fix="Write scheme://host:port/path.",
        ) from error
