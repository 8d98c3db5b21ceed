"""Every page by its HTML: headings, links that lead somewhere, nothing inline, nothing kept."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from html.parser import HTMLParser
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper

from lineside.core import FrameId, decode, digest_of, encode
from lineside.datasets import Marked, Sample
from lineside.hub import Services
from lineside.hub.learning.datasets import Teaching
from lineside.hub.pages.frames import frame_prediction, heat_href, learned_names
from lineside.hub.pages.site import FOLDER, NAV, STATIC, by_region, label_cells, release
from lineside.models import Package, build_package
from lineside.streams import Event, read_prediction
from lineside.web.answers import SHARED_STATIC
from tests.hub.conftest import Line, use_package

EMPTY = (
    "/", "/lines", "/lines?wall=1", "/lines/warehouse", "/lines/warehouse/rack",
    "/lines?line=warehouse&span=hour", "/lines?span=today&at=2026-01-01T12:00:00Z",
    "/review", "/pictures", "/pictures?verdict=reject&sort=doubt",
    "/twin", "/datasets", "/training", "/models", "/try", "/regions", "/regions?camera=rack",
    "/events", "/events/rules", "/events/rules/try", "/events/rules/rows", "/events/rules/sums",
    "/rejected-messages", "/alerts", "/devices", "/search", "/search?q=x", "/welcome",
)  # fmt: skip


@dataclass
class Found(HTMLParser):
    """What a page holds."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    inline: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    _inside: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append((tag, named))
        self._inside = tag
        if tag in ("h1", "h2"):
            self.headings.append("")
        if tag == "style" or (tag == "script" and "src" not in named):
            self.inline.append(tag)
        self.inline += [n for n in named if n == "style" or n.startswith(("on", "hx-on"))]

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._inside in ("h1", "h2"):
            self.headings[-1] += data.strip()

    def all(self, tag: str) -> list[dict[str, str]]:
        return [named for name, named in self.tags if name == tag]

    def links(self) -> Iterator[str]:
        for tag, named in self.tags:
            if tag == "form" and named.get("method") == "post":
                continue
            if tag in ("a", "img", "link", "script", "form"):
                found = named.get("href") or named.get("src") or named.get("action")
                if found and not found.startswith("#"):
                    yield found.partition("#")[0]


def read(text: str) -> Found:
    found = Found()
    found.feed(text)
    return found


def words(text: str) -> str:
    """The text of a page, one space between any two words."""
    return " ".join(" ".join(read(text).text).split())


@pytest.fixture
def furnished(
    hub: Services,
    line: Any,  # noqa: ANN401  the room's Line
    jpeg: Callable[..., bytes],
    archive: bytes,
) -> dict[str, str]:
    """A package, a frame with its answer, a refused message, a dataset; ids by name."""
    package = use_package(hub, archive)
    picture = jpeg("blue", "red")
    line.send(line.camera(picture), line.status())
    line.send(line.prediction("blue", "red", picture=picture, package=package))
    line.send(line.said("f/i/state/hbw", station="hbw", code=1, active=1, description="fetching"))
    line.send(line.said("i/ldr", ldr=2355, br="84.3"))
    frame = hub.frames.page(camera="rack", limit=1)[0].id
    teaching = Teaching(frames=(frame,), labels=("blue", "red"), known=("white",))
    hub.datasets.teach("rack", teaching, by="anna")
    hub.datasets.freeze("rack", by="anna")
    line.send(line.said("f/i/stock", stockItems="no list"))
    event = hub.events.page(kind="lineside.prediction.v1", newest_first=True, limit=1)[0].id
    return {"frame": frame, "event": event, "package": package}


def pages_of(ids: dict[str, str]) -> tuple[str, ...]:
    return (
        *EMPTY, f"/frames/{ids['frame']}", f"/regions?frame={ids['frame']}", "/datasets/rack",
        "/datasets/rack/label", "/datasets/rack/label?state=checked", "/datasets/rack?label=blue",
        "/datasets/rack/versions/1", f"/events/{ids['event']}",
        f"/models/{ids['package']}", f"/try?package={ids['package']}",
        "/events?type=lineside.prediction.v1", f"/trace/{ids['event']}",
    )  # fmt: skip


def is_fragment(path: str) -> bool:
    parts = (
        "/events/rules/rows",
        "/events/rules/sums",
    )
    return path in parts or path.startswith("/trace/")


@pytest.mark.parametrize("path", EMPTY)
def test_a_page_of_an_empty_hub_says_the_next_step(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 200
    shown = (
        "/datasets",
        "/training",
        "/models",
        "/try",
        "/events",
        "/rejected-messages",
        "/devices",
    )
    if path in shown:
        assert "empty" in answer.text


def test_every_page_answers_with_one_heading_and_nothing_inline(
    browser: TestClient, furnished: dict[str, str]
) -> None:
    for path in pages_of(furnished):
        answer = browser.get(path)
        assert answer.status_code == 200, path
        found = read(answer.text)
        assert not found.inline, path
        if not is_fragment(path):
            assert len(found.all("h1")) == 1, path
            assert found.all("html")[0]["lang"] == "en"
            assert found.all("main"), path


def test_every_page_has_the_strict_policy_and_is_never_kept(
    browser: TestClient, furnished: dict[str, str]
) -> None:
    for path in pages_of(furnished):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["cache-control"] == "no-store", path


def test_every_link_of_every_page_leads_somewhere(
    browser: TestClient, furnished: dict[str, str]
) -> None:
    seen: set[str] = set()
    waiting = list(pages_of(furnished))
    while waiting:
        path = waiting.pop()
        if path in seen or len(seen) > 400:
            continue
        seen.add(path)
        answer = browser.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        if "text/html" in answer.headers["content-type"]:
            assert "http://" not in "".join(read(answer.text).links())
            waiting += [found for found in read(answer.text).links() if found.startswith("/")]
    assert f"/frames/{furnished['frame']}" in seen


def test_navigation_names_every_place_and_marks_the_one_shown(browser: TestClient) -> None:
    for entry in NAV:
        found = read(browser.get(entry.href).text)
        current = [a for a in found.all("a") if a.get("aria-current") == "page"]
        assert [a["href"] for a in current] == [entry.href]
        assert {one.href for one in NAV} <= {a.get("href") for a in found.all("a")}


def test_the_header_says_plant_devices_and_who_is_signed_in(
    browser: TestClient, furnished: dict[str, str]
) -> None:
    assert furnished
    text = words(browser.get("/twin").text)
    for part in (
        "Plant Training hall",
        "1 of 1 reporting",
        "Signed in anna",
    ):
        assert part in text


def test_a_frame_shows_answers_figures_and_the_way_back(
    browser: TestClient, furnished: dict[str, str]
) -> None:
    answer = browser.get(f"/frames/{furnished['frame']}")
    text = words(answer.text)
    for said in ("blue", "present", "0.970", "white", "absent", "Registration", "Sharpness"):
        assert said in text
    assert "stock answered on edge-1" in text
    assert "approved by eve: good" in text
    assert f"/events/{furnished['event']}" in answer.text
    assert "/datasets/rack/versions/1" in answer.text


def test_a_frame_asks_each_package_for_its_own_maps(
    browser: TestClient, furnished: dict[str, str]
) -> None:
    found = read(browser.get(f"/frames/{furnished['frame']}").text)
    offered = [one for one in found.all("option") if "data-package" in one]
    assert [one["value"] for one in offered] == ["blue", "red", "white"]
    assert {one["data-package"] for one in offered} == {furnished["package"]}
    for one in offered:
        query = {"label": one["value"], "package": one["data-package"]}
        address = f"/api/v1/frames/{furnished['frame']}/activation"
        assert browser.get(address, params=query).status_code == 200


def test_a_reject_is_explained_at_once_by_its_own_map(
    hub: Services, furnished: dict[str, str]
) -> None:
    package = hub.packages.one(furnished["package"])
    event = hub.events.one(furnished["event"]).event
    said = read_prediction(decode(Event, event, where="log"))
    stock = hub.plant.find_inspection("stock")
    rejects = replace(stock, reject=("red",))
    shown = frame_prediction(said, package=package, inspection=rejects)
    assert (shown.mark.word, shown.why) == ("reject", "red")
    assert "label=red" in heat_href(said, rejects)
    assert heat_href(said, stock) == ""
    deep = replace(said.labels[1], name="red deep", label="red deep")
    of_depth = replace(stock, region=(), labels=("red", "red deep"), reject=("red deep",))
    assert "label=red+deep" in heat_href(replace(said, labels=(*said.labels, deep)), of_depth)
    assert frame_prediction(said, package=None, inspection=rejects).why == ""
    assert frame_prediction(said, package=package, inspection=stock).why == ""


def test_a_frame_draws_the_answers_of_any_package_and_proves_each_in_five_steps(
    browser: TestClient,
    hub: Services,
    line: Any,  # noqa: ANN401  the room's Line
    *,
    furnished: dict[str, str],
    jpeg: Callable[..., bytes],
    archive: bytes,
) -> None:
    frame = furnished["frame"]
    other = hub.packages.add(remembering(archive, ("sha256:" + "3" * 64,)), by="trainer").digest
    line.send(line.prediction("white", picture=jpeg("blue", "red"), package=other))
    text = browser.get(f"/frames/{frame}").text
    drawn = [json.loads(one["data-drawn"]) for one in read(text).all("optgroup")]
    assert len(drawn) == 2
    assert drawn[0] != drawn[1]
    assert "approved by eve: good" in words(text)
    assert "approved by nobody yet" in words(text)
    assert words(text).count("trained on 16 pictures") == 2


def remembering(archive: bytes, pictures: tuple[str, ...]) -> bytes:
    """The package with distances from these pictures, each farther than the one before."""
    package = Package.read(archive)
    model = onnx.load_from_string(package.file("network.onnx"))
    factors = np.arange(1, len(pictures) + 1, dtype=np.float32)[None]
    model.graph.initializer.extend([
        numpy_helper.from_array(factors, "factors"),
        numpy_helper.from_array(np.array([1], np.int64), "column"),
    ])  # fmt: skip
    model.graph.node.extend([
        helper.make_node("Unsqueeze", ["distance", "column"], ["single"]),
        helper.make_node("Mul", ["single", "factors"], ["bank_distances"]),
    ])  # fmt: skip
    given = helper.make_tensor_value_info("bank_distances", TensorProto.FLOAT, [3, len(pictures)])
    model.graph.output.append(given)
    network = model.SerializeToString()
    files = {name: raw for name, raw in package.files.items() if name != "manifest.json"}
    files["network.onnx"] = network
    files["evidence/nearest.json"] = encode({
        "pictures": (pictures,) * 3, "schema": "lineside.remembered-pictures/1",
    })  # fmt: skip
    engine = replace(package.manifest.engine, digest=digest_of(network))
    return build_package(replace(package.manifest, name="recalls", engine=engine), files)


def test_a_frame_shows_its_nearest_training_pictures_or_why_there_are_none(
    browser: TestClient, hub: Services, furnished: dict[str, str], archive: bytes
) -> None:
    address = f"/frames/{furnished['frame']}/nearest"
    page = browser.get(f"/frames/{furnished['frame']}").text
    (folded,) = [one for one in read(page).all("details") if "hx-get" in one]
    assert folded["hx-get"] == f"{address}?package={furnished['package']}"
    assert folded["hx-trigger"] == "toggle once"  # no network is loaded before somebody looks
    assert "open" not in folded
    none = browser.get(address, params={"package": furnished["package"]}).text
    assert "does not name those it remembers" in none
    away = browser.get(address, params={"package": "sha256:" + "9" * 64})
    assert (away.status_code, "No nearest training pictures" in away.text) == (200, True)
    known = hub.frames.row(FrameId(furnished["frame"])).digest
    changed = Teaching(frames=(furnished["frame"],), labels=("red",), known=("blue", "white"))
    hub.datasets.teach("rack", changed, by="bob")  # the draft says otherwise by now
    made = remembering(archive, (known, "sha256:" + "3" * 64))
    digest = hub.packages.add(made, by="trainer").digest
    part = browser.get(address, params={"package": digest}).text
    assert f'src="/datasets/rack/pictures/{known}/drawn"' in part
    assert browser.get(f"/datasets/rack/pictures/{known}/drawn").status_code == 200
    assert part.count("not on this hub") == 3
    assert [words(part).count(label) for label in ("blue", "red", "no label")] == [1, 1, 1]
    assert read(part).all("h4")
    assert "1 further region" in words(part)


def test_a_training_picture_is_named_by_its_labels_or_by_its_objects() -> None:
    box = Marked(label="disc", x0_px=0, y0_px=0, x1_px=9, y1_px=9)
    made = partial(Sample, name="1.png", digest=digest_of(b"1"))
    given = (
        made(labels=("ok",), marked=(box,)), made(marked=(box, replace(box, label="bolt"), box)),
        made(marked=()), made(count=1), made(),
    )  # fmt: skip
    named = [("ok",), ("1 bolt", "2 disc"), ("no object",), ("1 object",), ()]
    assert [learned_names(each) for each in given] == named


@pytest.mark.parametrize("pictures", [(), ((), (), ()), ((digest_of(b""),), (), ())])
def test_a_package_that_names_its_pictures_wrongly_is_told(
    browser: TestClient, hub: Services, furnished: dict[str, str], archive: bytes,
    pictures: tuple[tuple[str, ...], ...],
) -> None:  # fmt: skip
    package = Package.read(remembering(archive, (digest_of(b""),)))
    files = {name: raw for name, raw in package.files.items() if name != "manifest.json"}
    files["evidence/nearest.json"] = encode({
        "pictures": pictures, "schema": "lineside.remembered-pictures/1",
    })  # fmt: skip
    digest = hub.packages.add(build_package(package.manifest, files), by="trainer").digest
    part = browser.get(f"/frames/{furnished['frame']}/nearest", params={"package": digest})
    assert part.status_code == 200
    assert "distances from" in part.text


def test_a_frame_without_a_result_says_why(
    browser: TestClient,
    hub: Services,
    line: Any,  # noqa: ANN401  the room's Line
    jpeg: Callable[..., bytes],
    archive: bytes,
) -> None:
    line.send(line.camera(jpeg("red", seed=5)))
    address = f"/frames/{hub.frames.page(camera='rack', limit=1)[0].id}"
    assert "No package is in use for stock." in words(browser.get(address).text)
    use_package(hub, archive)
    early = browser.get(address).text
    assert "The answer of stock appears here" in words(early)
    assert "data-awaited" in early
    line.wait(80)
    late = browser.get(address).text
    assert "The trigger passed this picture over, no device was there" in words(late)
    assert "data-awaited" not in late


def test_a_frame_offers_to_be_taught_with_its_own_answer_chosen(
    browser: TestClient, furnished: dict[str, str]
) -> None:
    found = read(browser.get(f"/frames/{furnished['frame']}").text)
    form = next(one for one in found.all("form") if "samples" in one.get("data-json", ""))
    assert form["data-json"] == "/api/v1/datasets/{name}/samples"
    chosen = [one["value"] for one in found.all("option") if "selected" in one]
    assert chosen == ["blue", "red", "-"]


def test_a_trace_verifies_the_chains_and_says_so(
    browser: TestClient, furnished: dict[str, str]
) -> None:
    text = browser.get(f"/trace/{furnished['event']}").text
    assert "entries of /hall/device/edge-1 hold" in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/frames/frm_NOTHERE", 404), ("/events/evt_NOTHERE", 404), ("/models/sha256:1", 400),
        ("/training/run_NOTHERE", 404), ("/datasets/nothere", 404),
        ("/datasets/nothere/versions/1", 404), ("/lines/nothere", 404),
        ("/lines/warehouse/nothere", 404), ("/nothere", 404),
        ("/datasets/x/versions/many", 400),
    ],
)  # fmt: skip
def test_an_address_that_leads_nowhere_is_a_page_that_says_what_to_do(
    browser: TestClient, path: str, status: int
) -> None:
    answer = browser.get(path, headers={"accept": "text/html"})
    assert answer.status_code == status
    assert "text/html" in answer.headers["content-type"]
    found = read(answer.text)
    assert len(found.all("h1")) == 1
    assert any(named.get("role") == "alert" for _, named in found.tags)


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("/data", "/datasets"), ("/data/x/label?state=open", "/datasets/x/label?state=open"),
        ("/fleet?group=a%20b", "/devices?group=a%20b"), ("/runs/run_1", "/training/run_1"),
        ("/dead-letters?before=5", "/rejected-messages?before=5"),
        ("/data//e.test", "/datasets//e.test"),
    ],
)  # fmt: skip
def test_a_former_address_leads_on_for_browsers_only(
    browser: TestClient, former: str, now: str
) -> None:
    answer = browser.get(former, headers={"accept": "text/html"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (301, now)
    program = browser.get(former, headers={"accept": "*/*"}, follow_redirects=False)
    assert program.status_code == 404


def test_what_a_person_typed_is_shown_as_text(browser: TestClient) -> None:
    attack = "<script>alert(1)</script>"
    for path in ("/search", "/events", "/regions", "/try"):
        keys = {"/search": "q", "/events": "source", "/regions": "camera", "/try": "package"}
        answer = browser.get(path, params={keys[path]: attack})
        assert attack not in answer.text
        assert not read(answer.text).inline


def test_what_the_plant_says_is_shown_as_text(
    browser: TestClient,
    line: Any,  # noqa: ANN401  the room's Line
) -> None:
    attack = "</td><script>alert(1)</script>"
    line.send(line.said("f/i/state/hbw", station="hbw", code=1, active=1, description=attack))
    for path in ("/twin", "/events"):
        answer = browser.get(path)
        assert "alert(1)" in answer.text
        assert "<script>alert" not in answer.text
        assert not read(answer.text).inline


def test_filters_stand_in_the_address_and_come_back(
    browser: TestClient, furnished: dict[str, str]
) -> None:
    assert furnished
    found = read(browser.get("/events?type=lineside.prediction.v1&subject=stock").text)
    values = {one["name"]: one.get("value") for one in found.all("input") if "name" in one}
    assert values["subject"] == "stock"
    rows = "".join(found.text)
    assert "prediction" in rows
    assert "no list" not in rows
    none = browser.get("/events?subject=nothing").text
    assert "No event matches" in none


@pytest.mark.parametrize(
    ("asked", "address"),
    [
        ("edge-1", "/devices/edge-1"), ("gate", "/lines/warehouse/gate"),
    ],
)  # fmt: skip
def test_the_search_goes_straight_to_what_is_called_so(
    browser: TestClient, furnished: dict[str, str], *, asked: str, address: str
) -> None:
    assert furnished
    answer = browser.get("/search", params={"q": asked}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, address)


def test_the_search_takes_whole_ids(browser: TestClient, furnished: dict[str, str]) -> None:
    for kind in ("frame", "event"):
        answer = browser.get("/search", params={"q": furnished[kind]}, follow_redirects=False)
        assert answer.headers["location"] == f"/{kind}s/{furnished[kind]}"


def test_nobody_sees_the_way_to_sign_in_and_nothing_else(nobody: TestClient) -> None:
    answer = nobody.get("/", headers={"accept": "text/html"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/welcome")
    welcome = nobody.get("/welcome")
    assert "printed" in welcome.text
    assert "Training hall" not in welcome.text


def test_who_is_not_signed_in_sees_no_navigation(nobody: TestClient) -> None:
    found = read(nobody.get("/welcome").text)
    assert not found.all("nav")
    assert not {one.href for one in NAV if one.href != "/"} & {
        a.get("href") for a in found.all("a")
    }


def test_a_cell_carries_the_name_of_its_column() -> None:
    head = (
        '<thead><tr><th scope="col">Device</th><th class="number">Size <b>&amp;</b> age</th></tr>'
    )
    body = '<tr><th scope="row">a</th><td class="number">2</td></tr><tr><td colspan="2">-</td></tr>'
    told = label_cells(f"<p><table>{head}</thead><tbody>{body}</tbody></table>")
    assert '<td data-label="Size &amp; age" class="number">2</td>' in told
    assert '<th scope="row">a</th>' in told
    assert '<td colspan="2">-</td>' in told
    assert label_cells(f"<table>{body}</table>") == f"<table>{body}</table>"


def test_many_labels_are_a_menu_in_groups_by_region(browser: TestClient) -> None:
    found = read(browser.get("/pictures?label=B2/red").text)
    labels = [one for one in found.all("input") if one.get("name") == "label"]
    assert {one["type"] for one in labels} == {"radio"}
    assert [one["value"] for one in labels if "checked" in one] == ["B2/red"]
    groups = by_region(["A1/red", "scratch", "A1/blue"])
    assert groups == {"A1": [("A1/red", "red"), ("A1/blue", "blue")], "": [("scratch", "scratch")]}
    kept = read(browser.get("/pictures?label=gone").text)
    assert [one["value"] for one in kept.all("input") if "checked" in one] == ["gone"]


def test_files_are_kept_for_ever_under_their_release_and_nowhere_else(nobody: TestClient) -> None:
    answer = nobody.get(f"/static/{release()}/js/live.js")
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    assert nobody.get("/static/0.0.0/js/live.js").status_code == 404
    assert answer.headers["content-encoding"] == "gzip"
    plain = nobody.get(f"/static/{release()}/js/live.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert (plain.text, plain.headers["content-type"]) == (
        answer.text, answer.headers["content-type"],
    )  # fmt: skip
    assert nobody.get(f"/static/{release()}/%2e%2e/%2e%2e/site.py").status_code in (401, 404)


def test_every_module_is_short_and_says_what_its_types_are() -> None:
    for path in [*(STATIC / "js").glob("*.js"), *(SHARED_STATIC / "js").glob("*.js")]:
        lines = path.read_text().splitlines()
        assert len(lines) < 150, path.name
        assert lines[0] == "// @ts-check", path.name


def test_times_in_the_sentence_of_a_problem_are_those_of_the_readers_clock(
    browser: TestClient, line: Line, jpeg: Callable[..., bytes]
) -> None:
    line.send(line.camera(jpeg()))
    address, wanted = "/twin?at=2001-01-01T00:00:00Z", {"accept": "text/html"}
    page = browser.get(address, headers=wanted)
    assert page.status_code == 404
    told = [one["datetime"] for one in read(page.text).all("time")]
    assert told[0] == "2001-01-01T00:00:00.000Z"
    assert len(told) == 3  # asked for, and from when to when there is one


def test_every_input_of_a_certain_form_names_it() -> None:
    for template in (FOLDER / "templates").glob("*.html"):
        for one in re.findall(r"<input[^>]* pattern=[^>]*>", template.read_text()):
            assert " title=" in one, (template.name, one)
