"""``models_config.json``: which models are loaded at start, in order, and what serves what.

1. It is replaced atomically on every change, not only when the device stops: what was deployed is
   there after a power cut.
2. A model that cannot be loaded at start stays in the list: its disk may be back next time.
3. Models of one identifier cannot stand in it, and an identifier is what name and version make.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from lineside.core import InvalidError, UnavailableError, decode, encode, replace_durably
from lineside.fleet import identifier_of
from lineside.fleet.contract import check_distinct

_MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model of the list.

    Attributes:
        identifier: what it is loaded as: name and version, dots as dashes.
        url: folder of its package; empty: ``<home>/model/dev/<name>/<version>``.
    """

    name: str
    version: str
    identifier: str
    url: str = ""

    def __post_init__(self) -> None:
        wanted = identifier_of(self.name, self.version)
        if self.identifier != wanted:
            raise InvalidError(
                f"the identifier of {self.name} {self.version}, {wanted!r}",
                where="identifier",
                fix=f'Write "identifier": "{wanted}".',
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsConfig:
    """The whole file.

    Attributes:
        mappings: of an application's name to a model's; its values are the models that may be
            deployed. Empty: any.
        models: loaded at start, in order.
    """

    mappings: dict[str, str] = field(default_factory=dict)
    models: tuple[ModelEntry, ...] = ()

    def __post_init__(self) -> None:
        try:
            check_distinct((each.name, each.version) for each in self.models)
        except InvalidError as error:
            raise InvalidError(
                f"models of different identifiers: {error.message}", where="models", fix=error.fix
            ) from error

    def allows(self, name: str) -> bool:
        """True where a model of that name may be deployed here."""
        return not self.mappings or name in self.mappings.values()

    def with_model(self, entry: ModelEntry) -> "ModelsConfig":
        """With a model at the end; one of that identifier goes."""
        kept = self.without(entry.identifier).models
        return replace(self, models=(*kept, entry))

    def without(self, identifier: str) -> "ModelsConfig":
        """Without a model."""
        kept = tuple(each for each in self.models if each.identifier != identifier)
        return replace(self, models=kept)


def folder_of(entry: ModelEntry, *, home: Path) -> Path:
    """Where a model's package lies."""
    return Path(entry.url) if entry.url else home / "model" / "dev" / entry.name / entry.version


def entry_of(identifier: str, *, url: str, version: str, home: Path) -> ModelEntry | None:
    """The entry of a model that was loaded from a folder; None where the name has no version.

    Loading by a name of the client's own choice is allowed; only ``name-version`` can be written
    in this file.
    """
    told = version.replace(".", "-")
    name = identifier.removesuffix(f"-{told}")
    if not told or name == identifier:
        return None
    entry = ModelEntry(name=name, version=version, identifier=identifier)
    usual = folder_of(entry, home=home)
    return entry if Path(url) == usual else replace(entry, url=url)


def read_models(path: Path) -> ModelsConfig:
    """The file; an empty list where there is none.

    Raises:
        InvalidError: it is not as documented; every fault is named.
        UnavailableError: it cannot be read.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return ModelsConfig()
    except OSError as error:
        raise UnavailableError(
            f"cannot be read: {error.strerror}", where=str(path), fix="Check path and rights."
        ) from error
    if len(raw) > _MOST_BYTES:
        raise InvalidError(f"{len(raw)} bytes of models", where=str(path), fix="Shorten it.")
    return decode(ModelsConfig, raw, where=str(path))


def write_models(config: ModelsConfig, *, path: Path) -> None:
    """Replace the file in one step; ``UnavailableError`` when that is not allowed."""
    models = [_plain(each) for each in config.models]
    replace_durably(path, encode({"mappings": config.mappings, "models": models}) + b"\n")


def _plain(entry: ModelEntry) -> dict[str, str]:
    """As others' applications know it; ``url`` only where the folder is not the usual one."""
    plain = {"name": entry.name, "version": entry.version, "identifier": entry.identifier}
    return plain | ({"url": entry.url} if entry.url else {})
