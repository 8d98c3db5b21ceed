"""``lineside package quantize`` and ``wrap``: packages made from packages and from others' ONNX."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lineside.cli.asking import stores
from lineside.cli.dataset_place import BlobsOption, ConfigOption, RecordsOption, StoreOption
from lineside.cli.output import JsonFlag, say, show, writable
from lineside.core import InvalidError, SystemClock

if TYPE_CHECKING:
    from lineside.models import Parity
    from lineside.training import Opened, Variant

_SUFFIX = ".lspkg"


def register(group: typer.Typer) -> None:
    """Add the commands to those of ``lineside package``."""
    group.command("quantize")(quantize)
    group.command("wrap")(wrap)


def quantize(
    package: Annotated[Path, typer.Argument(help="A .lspkg file of fp32.")],
    *,
    data: Annotated[str, typer.Option(help="The data it was trained on, as train takes it.")],
    test: Annotated[str, typer.Option(help="Pictures it was not trained on, if not there.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Write the variant here; default: NAME.int8.lspkg.")
    ] = None,
    bound: Annotated[float, typer.Option(help="Loss of the metric that is allowed.")] = 0.05,
    calibrate: Annotated[int, typer.Option(help="Pictures that value ranges come from.")] = 64,
    weight_bits: Annotated[int, typer.Option(help="8, or 7 for processors without VNNI.")] = 8,
    report: Annotated[Path | None, typer.Option(help="Write the report page here.")] = None,
    images: Annotated[str, typer.Option(help="Where a list's pictures are.")] = "",
    group: Annotated[str, typer.Option(help="How pictures are grouped.")] = "",
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Make the int8 variant, with its certificate of parity; exit code 5 if it loses too much."""
    from lineside.models import Package
    from lineside.training import Labelled, Wanted, open_labelled, quantised_variant, together

    target = out or package.with_suffix(f".int8{_SUFFIX}")
    writable(target)
    writable(report)
    opened = Package.open(package)
    wanted = Wanted(bound=bound, bits=_bits(weight_bits), pictures=calibrate)
    places = dict(zip(("records_url", "blobs_url"), _stores(config, store, records, blobs),
                      strict=True))  # fmt: skip
    clock = SystemClock()
    with ExitStack() as stack:
        found: list[Opened] = []
        for source in filter(None, (data, test)):
            asked = Labelled(
                data=source, labels=opened.manifest.labels, images=images, group=group,
                task=opened.manifest.task,
            )  # fmt: skip
            found.append(stack.enter_context(open_labelled(asked, clock=clock, **places)))
        both = together(found)
        made = quantised_variant(
            opened, both.samples, files=both.files, clock=clock, wanted=wanted, tell=say
        )
    target.write_bytes(made.package)
    if report is not None:
        report.write_bytes(Package.read(made.package).file("evidence/report.html"))
    show(_told(made, target), as_json=as_json, text=lambda _: _words(made, target))


def _stores(config: Path | None, store: Path | None, records: str, blobs: str) -> tuple[str, str]:
    return stores(config, store=store, records=records, blobs=blobs)


def _bits(number: int) -> Literal[7, 8]:
    if number == 7:
        return 7
    if number == 8:
        return 8
    raise InvalidError(f"weights of {number} bits", where="--weight-bits", fix="Use 8 or 7.")


def _told(made: "Variant", target: Path) -> dict[str, Any]:
    return {
        "package": str(target),
        "digest": made.digest,
        "parity": parity_told(made.parity),
        "latency_ms": {
            "fp32": made.latency.original_ms,
            "int8": made.latency.variant_ms,
            "ratio": made.latency.ratio,
        },
    }


def parity_told(parity: "Parity") -> dict[str, Any]:
    """A certificate as commands print it."""
    loss = parity.loss
    return {
        "max_abs_diff": parity.max_abs_diff,
        "metric_loss": loss.value,
        "bound": parity.bound,
        "metric": loss.metric,
        "low": loss.low,
        "high": loss.high,
        "n": loss.n,
        "changed": loss.changed,
        "original": parity.original,
        "kept_in_fp32": parity.kept,
        "layers": {"int8": parity.quantised, "all": parity.layers},
        "warnings": list(parity.warnings),
    }


def parity_words(parity: "Parity") -> str:
    """A certificate's figures in a line, and a line for each warning."""
    return "\n".join([parity.words, *(f"warning: {each}" for each in parity.warnings)])


def _words(made: "Variant", target: Path) -> str:
    times = made.latency
    return (
        f"{target}\n{made.digest}\n{parity_words(made.parity)}\n"
        f"fp32 {times.original_ms:.2f} ms, int8 "
        f"{times.variant_ms:.2f} ms a picture on this machine: {times.ratio:.2f} of the time"
    )


def wrap(
    network: Annotated[Path, typer.Argument(help="An ONNX file.")],
    *,
    manifest: Annotated[Path, typer.Option(help="TOML that says what it takes and gives.")],
    out: Annotated[Path, typer.Option(help="Write the package here.")],
    golden: Annotated[
        Path | None, typer.Option(help="Folder of JPEG or PNG pictures for its proof.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a package of somebody else's ONNX network."""
    from lineside.models import Package, read_wrapping, wrapped

    writable(out)
    made = wrapped(
        _bytes(network),
        read_wrapping(_bytes(manifest), where=str(manifest)),
        pictures=_pictures(golden),
        clock=SystemClock(),
    )
    opened: Package = Package.read(made)
    out.write_bytes(made)
    told = {
        "package": str(out),
        "digest": opened.digest,
        "task": opened.manifest.task,
        "golden": len(opened.manifest.golden),
    }
    show(told, as_json=as_json, text=lambda _: f"{out}\n{opened.digest}")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidError(
            f"cannot be read: {error.strerror}", where=str(path), fix="Name a file."
        ) from error


def _pictures(folder: Path | None) -> list[bytes]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise InvalidError("no folder", where=str(folder), fix="Name a folder of pictures.")
    kinds = {".jpg", ".jpeg", ".png"}
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix.lower() in kinds]
