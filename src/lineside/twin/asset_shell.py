"""The twin as Asset Administration Shells (IDTA 01001, metamodel 3), written by the BaSyx SDK.

1. One shell for the site and one for each line. Each has the submodels ``Nameplate``, ``Topology``
   and ``OperationalData``.
2. A record is a collection, a field a property named in CamelCase, several of a kind a list. What
   is not known has no element: nothing is invented.
3. Each value stands beside its ``Evidence``: capture time, event, frame and package, by which it
   leads back to its image and its model.
4. Semantic ids are ``urn:lineside:twin:1:<path>``. Those of the nameplate are of IDTA 02006-2-0,
   field by field; the template as a whole needs facts that no plant file has.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any

from lineside.core import encode, need
from lineside.twin.export import ExportForm, LinePlan, TwinExport

SEMANTICS = "urn:lineside:twin:1:"

_DESIGNATION = "0173-1#02-AAW338#001"
_SOFTWARE = "0173-1#02-AAM737#002"
_OF_SITE = ("sensors", "alerts")
_OF_TWIN = ("picture", "slots", "colours", "stations", "factory", "orders", "discrepancies")


def export_bytes(export: TwinExport, form: ExportForm) -> bytes:
    """Return an export in a form.

    Raises:
        MissingExtraError: an AAS form, and the library that writes it is not installed.
    """
    if form is ExportForm.JSON:
        return encode(export)
    model = need("basyx.aas.model", extra="aas")
    shells = model.DictIdentifiableStore(_Shells(model, export).all())
    packed = io.BytesIO()
    if form is ExportForm.AASX:
        aasx = need("basyx.aas.adapter.aasx", extra="aas")
        with aasx.AASXWriter(packed) as writer:
            files = aasx.DictSupplementaryFileContainer()
            writer.write_all_aas_objects("/aasx/twin.xml", shells, files)
        return packed.getvalue()
    json = need("basyx.aas.adapter.json", extra="aas")
    text = io.TextIOWrapper(packed, encoding="utf-8")
    json.write_aas_json_file(text, shells)
    text.flush()
    return packed.getvalue()


def name_of(field: str) -> str:
    """Return a field's name as an ``idShort``: ``differs_since`` is ``DiffersSince``."""
    return "".join(part[:1].upper() + part[1:] for part in field.split("_"))


@dataclass(frozen=True, slots=True)
class _Shells:
    """Makes the shells of an export from the library's model."""

    model: Any
    export: TwinExport

    def all(self) -> Iterator[Any]:
        export, state = self.export, self.export.state
        plain = {"at": export.at, **{name: getattr(state, name) for name in _OF_SITE}}
        topology = {"lines": export.lines}
        yield from self._shell(export.name, "", topology=topology, operational=plain)
        for line in export.lines:
            plan = {field.name: getattr(line, field.name) for field in fields(line)}
            operational = self._operational(line)
            yield from self._shell(line.name, line.id, topology=plan, operational=operational)

    def _operational(self, line: LinePlan) -> Mapping[str, object]:
        state = self.export.state
        verdict = state.verdicts.get(line.id)
        found: dict[str, object] = {"at": self.export.at, "verdict": verdict}
        if line.places or line.stations:
            found["stale_after_s"] = self.export.stale_after_s
            found |= {name: getattr(state, name) for name in _OF_TWIN}
        return found

    def _shell(
        self, name: str, line: str, *, topology: Mapping[str, object],
        operational: Mapping[str, object],
    ) -> Iterator[Any]:  # fmt: skip
        """A shell and its submodels; ``line`` "": that of the site."""
        model = self.model
        asset = ":".join(filter(None, ("urn:lineside", self.export.site, line)))
        plate = (
            model.MultiLanguageProperty(
                "ManufacturerProductDesignation",
                model.MultiLanguageTextType({"en": name}),
                semantic_id=self._external(_DESIGNATION),
            ),
            model.Property(
                "SoftwareVersion", str, self.export.software, semantic_id=self._external(_SOFTWARE)
            ),
            *self._elements({"site": self.export.site, "line": line}, path="nameplate"),
        )
        submodels = [
            self._submodel(asset, "Nameplate", plate),
            self._submodel(asset, "Topology", self._elements(topology, path="topology")),
            self._submodel(asset, "OperationalData", self._elements(operational, path="")),
        ]
        yield from submodels
        yield model.AssetAdministrationShell(
            model.AssetInformation(model.AssetKind.INSTANCE, global_asset_id=asset),
            id_=f"{asset}:aas", id_short=f"Line_{_short(line)}" if line else "Site",
            submodel={model.ModelReference.from_referable(one) for one in submodels},
        )  # fmt: skip

    def _submodel(self, asset: str, name: str, elements: Iterable[Any]) -> Any:  # noqa: ANN401  of the library
        return self.model.Submodel(
            f"{asset}:{name}", elements, id_short=name, semantic_id=self._external(SEMANTICS + name)
        )

    def _elements(self, values: Mapping[str, object], *, path: str) -> Iterator[Any]:
        for name, value in values.items():
            below = f"{path}/{name}" if path else name
            element = self._element(name_of(name), value, path=below)
            if element is not None:
                yield element

    def _element(self, name: str | None, value: object, *, path: str) -> Any:  # noqa: ANN401  of the library
        """An element of the model; None where there is no value."""
        model, meaning = self.model, self._external(SEMANTICS + path)
        if value is None or value == "":
            return None
        if is_dataclass(value):
            own = {field.name: getattr(value, field.name) for field in fields(value)}
            inside = list(self._elements(own, path=path))
            if not inside:
                return None
            return model.SubmodelElementCollection(name, inside, semantic_id=meaning)
        if isinstance(value, Mapping | tuple):
            given = value.values() if isinstance(value, Mapping) else value
            items = [self._element(None, one, path=path) for one in given]
            if not items:
                return None
            kind, typed = type(items[0]), getattr(items[0], "value_type", None)
            return model.SubmodelElementList(
                name, kind, items, value_type_list_element=typed,
                semantic_id_list_element=meaning, semantic_id=meaning,
            )  # fmt: skip
        kind, plain = _typed(value)
        return model.Property(name, kind, plain, semantic_id=meaning)

    def _external(self, value: str) -> Any:  # noqa: ANN401  of the library
        key = self.model.Key(self.model.KeyTypes.GLOBAL_REFERENCE, value)
        return self.model.ExternalReference((key,))


def _typed(value: object) -> tuple[type, object]:
    """XSD type, as the library names it, and value."""
    for kind in (bool, int, float, datetime):
        if isinstance(value, kind):
            return kind, value
    return str, str(value)


def _short(line: str) -> str:
    """An id as part of an ``idShort``: letters, digits and ``_``."""
    return "".join(one if one.isascii() and one.isalnum() else "_" for one in line)
