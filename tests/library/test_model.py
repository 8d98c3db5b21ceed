"""Models and results of the Python library, over a package of two classes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import lineside
from lineside.core import InvalidError, NotFoundError
from lineside.core.errors import MissingExtraError
from lineside.library.model import Model, load
from lineside.models import Package, build_package
from lineside.testing.objects import untrained, untrained_bytes
from lineside.vision import CountRule, decode_picture, encode_jpeg, encode_png
from tests.library.conftest import PAGE, python_example
from tests.models import test_mask_head as spots

NOISE = np.random.default_rng(5).integers(0, 255, (96, 96, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def package() -> Package:
    return untrained()


@pytest.fixture(scope="module")
def model(package: Package) -> Model:
    return load(package)


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    path = tmp_path / "part.png"
    path.write_bytes(encode_png(NOISE))
    return path


def test_every_form_of_an_image_gives_the_same_answer(model: Model, image_file: Path) -> None:
    forms: list[Any] = [
        image_file,
        str(image_file),
        image_file.read_bytes(),
        NOISE,
        Image.fromarray(NOISE),
    ]
    answers = [one.to_dict() for one in model.predict(forms)]
    for answer in answers:
        answer.pop("file")
        answer.pop("latency_ms")
    assert answers == [answers[0]] * len(forms)
    assert answers[0]["boxes"]


def test_a_list_gives_a_list_and_an_iterable_is_read_as_it_is_asked(model: Model) -> None:
    assert [one.task for one in model.predict([NOISE, NOISE])] == ["detect", "detect"]
    read = 0

    def camera() -> Iterator[NDArray[np.uint8]]:
        nonlocal read
        while True:
            read += 1
            yield NOISE

    stream = model.predict(camera())
    assert read == 0
    assert next(stream).boxes == next(stream).boxes
    assert read == 2


def test_labels_named_to_reject_decide_the_verdict(package: Package, model: Model) -> None:
    found = {box.label for box in model.predict(NOISE).boxes}
    assert model.predict(NOISE).verdict == "ok"
    result = load(package, reject=found).predict(NOISE)
    assert result.verdict in {"reject", "review"}
    assert result.reasons


def test_counts_are_compared_with_the_number_expected() -> None:
    counts = untrained(count=CountRule(most=50, reach=0.0, error_rate=0.1, calibration_pictures=40))
    result = load(counts, expected_count=10_000).predict(NOISE)
    assert result.count is not None
    assert result.verdict in {"reject", "review"}
    assert "10000 expected" in result.reasons[0]


def test_the_plot_is_of_the_images_size_and_can_be_saved(model: Model, tmp_path: Path) -> None:
    result = model.predict(NOISE)
    result.plot().save(tmp_path / "out.png")
    drawn = decode_picture((tmp_path / "out.png").read_bytes())
    assert drawn.shape == NOISE.shape
    assert (drawn != NOISE).any()


def test_heat_is_computed_when_asked_for(model: Model) -> None:
    (heat,) = model.predict(NOISE).heat.values()
    assert heat.shape == NOISE.shape[:2]
    assert 0.0 <= heat.min() <= heat.max() <= 1.0


def test_the_table_has_a_row_for_each_box(model: Model) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    result = model.predict(NOISE)
    table = result.to_pandas()
    assert list(table["kind"]) == ["box"] * len(result.boxes)
    assert list(table["x0_px"]) == [box.x0_px for box in result.boxes]


def test_boxes_are_detections_of_supervision(
    package: Package, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    result = model.predict(NOISE)
    found: Any = result.to_supervision()
    assert isinstance(found, sv.Detections)
    corners = [(one.x0_px, one.y0_px, one.x1_px, one.y1_px) for one in result.boxes]
    assert found.xyxy == pytest.approx(np.array(corners))
    assert found.confidence == pytest.approx([box.probability for box in result.boxes])
    labels = list(model.manifest.labels)
    assert [labels[one] for one in found.class_id] == [box.label for box in result.boxes]
    assert list(found["class_name"]) == [box.label for box in result.boxes]
    assert list(found["decision"]) == [box.decision for box in result.boxes]
    assert sv.BoxAnnotator().annotate(NOISE.copy(), found).shape == NOISE.shape
    none = replace(result, prediction=replace(result.prediction, boxes=()))
    assert none.to_supervision().xyxy.shape == (0, 4)
    manifest = replace(model.manifest, labels=("other",))
    files = {name: data for name, data in package.files.items() if name != "manifest.json"}
    renamed = load(Package.read(build_package(manifest, files)))
    found = renamed.predict(NOISE).to_supervision()
    assert set(found.class_id) <= {1, 2}
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r'not installed.*install "supervision>=0\.30"'):
        result.to_supervision()


def test_pieces_of_a_mask_are_detections_with_their_masks() -> None:
    pytest.importorskip("supervision", reason="supervision is not installed")
    image = spots.picture(spot=True)
    image[30:34, 4:8] = 220
    result = load(spots.package(spots.network())).predict(image)
    found: Any = result.to_supervision()
    assert result.mask is not None
    assert (found.mask.any(axis=0) == result.mask).all()
    assert found.mask.sum(axis=(1, 2)).tolist() == [48, 16]
    assert found.xyxy.tolist() == [[20, 10, 28, 16], [4, 30, 8, 34]]
    assert list(found["class_name"]) == ["spot", "spot"]
    assert found.confidence == pytest.approx([result.labels[0].probability] * 2)
    nothing = load(spots.package(spots.network())).predict(spots.picture(spot=False))
    assert (len(nothing.to_supervision()), nothing.verdict) == (0, "ok")


def test_the_dictionary_is_json(model: Model) -> None:
    answer = json.loads(json.dumps(model.predict(NOISE).to_dict()))
    assert (answer["task"], answer["state"], answer["verdict"]) == ("detect", "ok", "ok")


def test_the_callers_array_stays_his_own(model: Model) -> None:
    own = NOISE.copy()
    result = model.predict(own)
    own[:] = 0
    assert (result.image == NOISE).all()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4), np.uint8), "an array of shape (4, 4) and type uint8"),
        (np.zeros((4, 4, 3), np.float32), "an array of shape (4, 4, 3) and type float32"),
        (np.zeros((0, 4, 3), np.uint8), "an array of shape (0, 4, 3) and type uint8"),
        (7, "int is no image"),
        (b"no picture", "neither JPEG nor PNG"),
    ],
)
def test_what_is_no_image_is_refused(model: Model, image: object, said: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        model.predict(image)  # type: ignore[call-overload]
    assert said in str(refusal.value)


def test_a_missing_file_is_named(model: Model, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no-such\.jpg"):
        model.predict(tmp_path / "no-such.jpg")


def test_a_package_loads_from_a_path_and_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load(tmp_path / "none.lspkg")
    with pytest.raises(InvalidError, match="onnxruntime, openvino"):
        load(untrained(), engine="none")


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, lineside\n"
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'torch', 'msgspec'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert lineside.__version__ and callable(lineside.load)\n"
        "assert not {'torch', 'lineside.store'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_package_offers_its_names_and_no_others() -> None:
    assert lineside.load is load
    assert {"connect", "load", "train"} < set(lineside.__all__)
    page = (PAGE.parent / "python-api.md").read_text()
    for name in set(lineside.__all__) - {"__version__"}:
        assert f"::: {getattr(lineside, name).__module__}.{name}\n" in page
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        lineside.predict  # noqa: B018


def test_jpeg_bytes_are_named_by_their_digest(model: Model) -> None:
    assert model.predict(encode_jpeg(NOISE)).name.startswith("sha256:")


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("parts.lspkg").write_bytes(untrained_bytes())
    Path("part.jpg").write_bytes(encode_jpeg(NOISE))
    exec(python_example("Models"), {})  # noqa: S102  the example of our own page
    assert Path("out.png").is_file()
