"""int8 networks: which layers, how near, always the same bytes, refused with figures."""

import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from lineside.core import InvalidError, RefusedError, digest_of
from lineside.models import Manifest, OnnxEngine, Package, Parity, Predictor, build_package
from lineside.models.manifest import Loss
from lineside.models.quantize import LADDER, Rung, quantise, rungs_of
from lineside.testing import FakeClock
from lineside.testing.engines import file_of, shades
from lineside.vision import decode_picture, prepare

Answer = Callable[[bytes, np.ndarray], np.ndarray]
CROPS = [np.random.default_rng(n).random((1, 3, 16, 16), np.float32) for n in range(8)]


def named(network: bytes) -> bytes:
    """The network with the input that packages have."""
    model = onnx.load_model_from_string(network)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == "pixels":
                node.input[place] = "crops"
    model.graph.input[0].name = "crops"
    return bytes(model.SerializeToString(deterministic=True))


NETWORK = named(shades())


def answer(network: bytes, crops: np.ndarray) -> np.ndarray:
    engine = OnnxEngine(network, crops=(0, 3, 16, 16), where="here", outputs=("scores",))
    return engine.run(crops, outputs=("scores",))[0]


def sums_are_exact() -> bool:
    """Return whether this processor adds products of two 8-bit numbers without saturation.

    Of x86 processors those with VNNI do; Arm's widen first.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    return any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_vnni", "avx_vnni"))


def exact_answer(network: bytes, crops: np.ndarray, *, output: str = "scores") -> np.ndarray:
    """The answer of a processor with exact sums: unfused, convolutions run in fp32."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: np.ndarray = onnxruntime.InferenceSession(network, options).run(
        [output], {"crops": crops}
    )[0]
    return found


def largest_difference(one: Answer, other: Answer, *, bits: Literal[7, 8] = 8) -> float:
    """Of the int8 network's answers by ``one`` from the fp32 network's by ``other``."""
    network = quantise(NETWORK, CROPS, rung=LADDER[0], bits=bits).network
    return max(float(np.abs(one(network, c) - other(NETWORK, c)).max()) for c in CROPS)


def test_an_int8_network_answers_nearly_what_the_fp32_one_does() -> None:
    made = quantise(NETWORK, CROPS, rung=LADDER[0])
    assert (made.layers, made.reduced) == (4, 4)
    kinds = [node.op_type for node in onnx.load_model_from_string(made.network).graph.node]
    assert kinds.count("QuantizeLinear") >= 4
    assert 0 < largest_difference(exact_answer, answer) < 0.2


def test_eight_bits_are_near_on_processors_with_exact_sums_only() -> None:
    assert (largest_difference(answer, answer) < 0.2) == sums_are_exact()


def test_seven_bits_are_near_on_every_processor() -> None:
    assert 0 < largest_difference(answer, answer, bits=7) < 0.2


@pytest.mark.parametrize("bits", [7, 8])
def test_golden_images_refuse_eight_bits_where_sums_saturate(
    parts: tuple[Manifest, dict[str, bytes]], bits: Literal[7, 8]
) -> None:
    manifest, files = parts
    image = decode_picture(files["golden/0.jpg"])
    crops = prepare(image, manifest.prepare)
    network = quantise(files["network.onnx"], [crops], rung=LADDER[0], bits=bits).network
    promised = exact_answer(network, crops, output="logits")
    golden = replace(
        manifest.golden[0], logits=tuple(tuple(float(x) for x in row) for row in promised)
    )
    engine = replace(manifest.engine, digest=digest_of(network), precision="int8")
    archive = build_package(
        replace(manifest, golden=(golden,), engine=engine, parity=parity(high=0.05)),
        {**files, "network.onnx": network},
    )
    predictor = Predictor(Package.read(archive), clock=FakeClock())
    if bits == 7 or sums_are_exact():
        assert predictor.check_golden().pictures == 1
    else:
        with pytest.raises(RefusedError, match="golden pictures' answers differ"):
            predictor.check_golden()


def test_weights_of_seven_bits_are_another_network() -> None:
    eight = quantise(NETWORK, CROPS, rung=LADDER[0], bits=8)
    seven = quantise(NETWORK, CROPS, rung=LADDER[0], bits=7)
    assert eight.network != seven.network


@pytest.mark.parametrize(("rung", "reduced"), [(LADDER[0], 4), (LADDER[1], 2), (LADDER[2], 1)])
def test_each_rung_leaves_more_layers_alone(rung: Rung, reduced: int) -> None:
    assert quantise(NETWORK, CROPS, rung=rung).reduced == reduced


def test_rungs_that_take_nothing_or_the_same_are_left_out() -> None:
    assert rungs_of(NETWORK) == LADDER
    single = file_of(
        [helper.make_node("Conv", ["crops", "w"], ["scores"])],
        shape=("crops", (1, 3, 4, 4)),
        given={"scores": (1, 1, 4, 4)},
        constants={"w": np.ones((1, 3, 1, 1), np.float32)},
    )
    assert rungs_of(single) == LADDER[:1]


def test_the_same_inputs_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    here = quantise(NETWORK, CROPS, rung=LADDER[0]).network
    assert quantise(NETWORK, CROPS, rung=LADDER[0]).network == here
    (tmp_path / "network.onnx").write_bytes(NETWORK)
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from lineside.models.quantize import LADDER, quantise\n"
        "crops = [np.random.default_rng(n).random((1, 3, 16, 16), np.float32) for n in range(8)]\n"
        "made = quantise(Path(sys.argv[1]).read_bytes(), crops, rung=LADDER[0])\n"
        "print(__import__('hashlib').sha256(made.network).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "network.onnx")],
        capture_output=True, text=True, check=True, timeout=60,
        env={"PYTHONHASHSEED": "77", "PATH": ""},
    )  # fmt: skip
    assert f"sha256:{done.stdout.strip()}" == digest_of(here)


def test_what_cannot_be_quantised_is_named() -> None:
    with pytest.raises(InvalidError, match="no ONNX network"):
        quantise(b"nothing", CROPS, rung=LADDER[0])
    with pytest.raises(InvalidError, match="no calibration picture"):
        quantise(NETWORK, [], rung=LADDER[0])
    with pytest.raises(InvalidError, match="nothing to quantise"):
        quantise(NETWORK, CROPS, rung=Rung(unquantized="everything", takes=lambda *_: False))
    old = file_of(
        [helper.make_node("Conv", ["crops", "w"], ["scores"])],
        shape=("crops", (1, 3, 4, 4)),
        given={"scores": (1, 1, 4, 4)},
        constants={"w": np.ones((1, 3, 1, 1), np.float32)},
        opset=12,
    )
    with pytest.raises(InvalidError, match="opset 12"):
        quantise(old, CROPS, rung=LADDER[0])


# ---- the certificate in the manifest


def parity(*, high: float, bound: float = 0.05) -> Parity:
    return Parity(
        original=digest_of(b"original"),
        max_abs_diff=0.1,
        pictures=1,
        loss=Loss(
            metric="accuracy", original=0.9, variant=0.88, value=0.02, low=0.0, high=high, n=50,
            changed=1,
        ),
        bound=bound,
        calibration=digest_of(b"pictures"),
        calibrated_on=8,
        kept="no convolution",
        quantised=4,
        layers=4,
    )  # fmt: skip


def reduced(parts: tuple[Manifest, dict[str, bytes]], certificate: Parity | None) -> bytes:
    manifest, files = parts
    engine = replace(manifest.engine, precision="int8")
    return build_package(replace(manifest, engine=engine, parity=certificate), files)


def test_a_variant_with_a_kept_bound_is_a_package(
    parts: tuple[Manifest, dict[str, bytes]],
) -> None:
    opened = Package.read(reduced(parts, parity(high=0.05)))
    assert opened.manifest.parity is not None
    assert opened.manifest.parity.holds


def test_a_variant_that_breaks_its_bound_is_refused_with_the_figures(
    parts: tuple[Manifest, dict[str, bytes]],
) -> None:
    with pytest.raises(RefusedError, match=r"accuracy 0\.9000 -> 0\.8800.*0\.0600.*bound 0\.05"):
        reduced(parts, parity(high=0.06))


@pytest.mark.parametrize(
    ("pictures", "warned"),
    [(1, ("1 picture says little; name more with --test",)),
     (29, ("29 pictures say little; name more with --test",)), (30, ())],
)  # fmt: skip
def test_few_pictures_are_warned_of(pictures: int, warned: tuple[str, ...]) -> None:
    certificate = parity(high=0.05)
    assert replace(certificate, loss=replace(certificate.loss, n=pictures)).warnings == warned


def test_a_variant_without_a_certificate_is_refused(
    parts: tuple[Manifest, dict[str, bytes]],
) -> None:
    with pytest.raises(RefusedError, match="without a certificate"):
        reduced(parts, None)
