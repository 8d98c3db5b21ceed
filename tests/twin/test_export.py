"""What another program reads in an export is what the twin says."""

import io
import json
from datetime import datetime
from typing import Any

import pytest
from basyx.aas import model
from basyx.aas.adapter import aasx
from basyx.aas.adapter.json import read_aas_json_file

from lineside.core import InvalidError, decode_json, to_plain
from lineside.core.factory import SLOTS
from lineside.testing.events import (
    after,
    factory_event,
    picture_event,
    plant_event,
    small_plant,
    station_event,
    stock_event,
)
from lineside.twin import (
    ExportForm,
    TwinExport,
    export_bytes,
    export_form,
    order_event,
    replay,
    twin_export,
)
from lineside.twin.asset_shell import SEMANTICS, name_of

PLANT = small_plant()
LINE = PLANT.line[0].id
RED = dict.fromkeys(SLOTS, "red")
EVENTS = [
    picture_event(RED, at_s=1),
    order_event("ord_1", "placed", at=after(2), site="hall", colour="red", slot="A2"),
    order_event("ord_1", "sending", at=after(2), site="hall"),
    stock_event({**RED, "A3": "blue"}, at_s=3),
    factory_event("ORDERED", "red", at_s=4),
    station_event("hbw", active=True, at_s=5),
    plant_event("sensor", at_s=5, topic="i/ldr", br="34.0"),
]


@pytest.fixture
def export() -> TwinExport:
    state = replay(EVENTS, plant=PLANT)
    return twin_export(state, plant=PLANT, at=after(20), software="lineside 1.0")


def read_shells(content: bytes, form: ExportForm) -> dict[str, Any]:
    """Everything identifiable in an export, by its id, as the BaSyx SDK reads it."""
    found: Any = model.DictIdentifiableStore()
    if form is ExportForm.AASX:
        with aasx.AASXReader(io.BytesIO(content)) as reader:
            reader.read_into(found, aasx.DictSupplementaryFileContainer(), override_existing=False)
    else:
        found = read_aas_json_file(io.StringIO(content.decode()), failsafe=False)
    return {one.id: one for one in found}


def in_order(items: list[Any]) -> list[Any]:
    """Items of a table, whose order says nothing, in one order."""
    return sorted(items, key=lambda one: json.dumps(one, sort_keys=True))


def told(element: Any) -> Any:  # noqa: ANN401  JSON
    """A value of the model as plain JSON."""
    if isinstance(element, model.SubmodelElementCollection | model.Submodel):
        inside = element if isinstance(element, model.Submodel) else element.value
        return {one.id_short: told(one) for one in inside}
    if isinstance(element, model.SubmodelElementList):
        return in_order([told(one) for one in element.value])
    value = element.value
    return to_plain(value) if isinstance(value, datetime) else value


def known(value: Any) -> Any:  # noqa: ANN401  JSON
    """A document without what is not known, its keys as in a shell, tables as lists."""
    if isinstance(value, list):
        return in_order([known(one) for one in value])
    if not isinstance(value, dict):
        return value
    if value and all(isinstance(one, dict) and key in one.values() for key, one in value.items()):
        return known(list(value.values()))
    inside = {name_of(key): known(one) for key, one in value.items()}
    return {key: one for key, one in inside.items() if one not in (None, "", [], {})}


@pytest.mark.parametrize("form", [ExportForm.AAS, ExportForm.AASX])
def test_a_shell_is_read_back_as_the_twin_says_it(export: TwinExport, form: ExportForm) -> None:
    read = read_shells(export_bytes(export, form), form)
    plain: Any = to_plain(export)
    line = told(read[f"urn:lineside:hall:{LINE}:OperationalData"])
    state = known(plain["state"])
    names = ("Picture", "Slots", "Colours", "Stations", "Factory", "Orders")
    assert line == {
        "At": plain["at"], "StaleAfterS": 10.0, **{name: state[name] for name in names},
    }  # fmt: skip
    site = told(read["urn:lineside:hall:OperationalData"])
    assert site == {"At": plain["at"], "Sensors": state["Sensors"]}
    assert told(read["urn:lineside:hall:Topology"]) == {"Lines": known(plain["lines"])}
    shell = read[f"urn:lineside:hall:{LINE}:aas"]
    assert shell.asset_information.global_asset_id == f"urn:lineside:hall:{LINE}"
    parts = {reference.key[0].value.rpartition(":")[2] for reference in shell.submodel}
    assert parts == {"Nameplate", "Topology", "OperationalData"}


def test_a_value_of_a_shell_leads_back_to_its_image_and_its_model(export: TwinExport) -> None:
    read = read_shells(export_bytes(export, ExportForm.AAS), ExportForm.AAS)
    slots = read[f"urn:lineside:hall:{LINE}:OperationalData"].get_referable("Slots")
    first = next(iter(slots.value))
    of_state = export.state.slots["A1"].evidence
    evidence = first.get_referable("Evidence")
    assert evidence.get_referable("Frame").value == of_state.frame
    assert evidence.get_referable("Package").value == of_state.package
    assert evidence.get_referable("At").value == of_state.at
    meaning = evidence.get_referable("Frame").semantic_id.key[0].value
    assert meaning == f"{SEMANTICS}slots/evidence/frame"


def test_the_json_form_is_the_twin_with_the_plan_of_its_plant(export: TwinExport) -> None:
    read = decode_json(export_bytes(export, ExportForm.JSON), where="export")
    assert read == to_plain(export)
    assert read["schema"] == "lineside.twin-export/1"
    assert [place["id"] for place in read["lines"][0]["places"]] == list(SLOTS)
    assert "source" not in read["lines"][0]["cameras"][0]


def test_a_form_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidError, match="no form 'pdf'"):
        export_form("pdf", where="format")
