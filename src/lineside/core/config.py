"""Settings of a program: one TOML file, then ``LINESIDE_<PROGRAM>__<KEY>``, then flags.

The three are laid over each other key by key and decoded once into a frozen record; ``origins``
says for each key which of them won, for ``lineside config show``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from lineside.core.codec import decode, decode_toml, read_part
from lineside.core.errors import NotFoundError

T = TypeVar("T")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names under which a machine reaches itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[T]):
    """A decoded configuration and where each of its keys came from."""

    config: T
    origins: dict[str, str]


def load_config(
    kind: type[T],
    *,
    program: str,
    path: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
) -> Loaded[T]:
    """Decode a program's configuration.

    Args:
        kind: the record to decode into.
        program: ``hub``, ``edge`` …; names the environment prefix.
        path: the TOML file, or None for defaults only.
        environ: the environment, handed in by ``main``.
        flags: dotted key → value; None values are passed over.

    Raises:
        NotFoundError: the file is not there.
        InvalidError: every fault of the merged document at once.
    """
    document = _read(path)
    origins = dict.fromkeys(_leaves(document), str(path))
    variables = _from_environ(program, environ)
    for key, value in variables.items():
        _set(document, key, value=_scalar(value))
        origins[key] = _variable(program, key)
    for key, flag in flags.items():
        if flag is not None:
            _set(document, key, value=flag)
            origins[key] = "--" + key.replace(".", "-").replace("_", "-")
    for key in _meant_as_text(kind, document):
        if origins.get(key) == _variable(program, key):
            _set(document, key, value=variables[key])
    where = str(path) if path else f"{program} settings"
    return Loaded(config=decode(kind, document, where=where), origins=origins)


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return decode_toml(path.read_bytes(), where=str(path))
    except OSError as error:
        raise NotFoundError(
            f"cannot read the settings: {error.strerror}", where=str(path), fix="Name a TOML file."
        ) from error


def _meant_as_text(kind: type[T], document: dict[str, Any]) -> set[str]:
    """Keys whose value was read as a number or list where the record wants text."""
    _, faults = read_part(kind, document, path="$")
    return {fault.path.removeprefix("$.") for fault in faults if "text" in fault.expected}


def _leaves(document: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in document.items():
        inner = _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else []
        found += inner or [f"{prefix}{key}"]
    return found


def _variable(program: str, key: str) -> str:
    return f"LINESIDE_{program.upper()}__{key.replace('.', '__').upper()}"


def _from_environ(program: str, environ: Mapping[str, str]) -> dict[str, str]:
    prefix = f"LINESIDE_{program.upper()}__"
    return {
        name[len(prefix) :].lower().replace("__", "."): value
        for name, value in environ.items()
        if name.startswith(prefix)
    }


def _scalar(text: str) -> object:
    """Environment values are text; what reads as a JSON number, boolean or list is one."""
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return text


def _set(document: dict[str, Any], key: str, *, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(document.get(parent), dict):
            document[parent] = {}
        document = document[parent]
    document[last] = value
