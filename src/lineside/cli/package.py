"""``lineside package``: show, verify, compare, quantize, wrap, bundle and apply packages."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.output import JsonFlag, add_commands, show
from lineside.core import decode_json

if TYPE_CHECKING:
    from lineside.models import Metric, Package
import platform
from typing import TYPE_CHECKING

from lineside.cli.dataset import BlobsOption, RecordsOption, StoreOption, stores
from lineside.cli.hub import ConfigOption
from lineside.core import SystemClock, to_plain

if TYPE_CHECKING:
    from lineside.models import Change, Comparison
    from lineside.training import Machine
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

from lineside.cli.output import read_file, say, writable
from lineside.core import InvalidError

if TYPE_CHECKING:
    from lineside.models import Parity
    from lineside.training import LabelledData, Variant
import hashlib
from typing import TYPE_CHECKING

from lineside.cli.config import load_edge
from lineside.cli.output import DeviceOption, EngineOption
from lineside.core import NotFoundError

if TYPE_CHECKING:
    from lineside.edge import Applied
    from lineside.fleet import Signers
    from lineside.fleet.trust.client import SignedFile

_BUNDLE_SUFFIX = ".lsbundle"
_MOST_WHEELS = 1000


TrustOption = Annotated[
    Path | None, typer.Option(help="Trust folder of a hub or a device: who signed it?")
]


def verify(
    package: Annotated[Path, typer.Argument(help="A .lspkg file.")],
    trust: TrustOption = None,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
    as_json: JsonFlag = False,
) -> None:
    """Check every digest and answer the golden pictures; exit code 5 when one differs."""
    from lineside.models import EngineDevice, EngineName, Package, Predictor

    opened, by = Package.open(package), vouched_by(package, trust)
    predictor = Predictor(
        opened, clock=SystemClock(), engine=EngineName(engine), device=EngineDevice(device)
    )
    found = predictor.check_golden()
    parity = {"max_abs_diff": found.max_abs_diff, "metric_loss": 0.0, "bound": found.bound}
    show(
        {
            "digest": opened.digest,
            "device": predictor.device,
            "signed_by": signed_by(by),
            "parity": parity,
        },
        as_json=as_json,
        text=lambda _: (
            f"{opened.digest}\n{found.pictures} golden pictures answered on {predictor.device} "
            f"within {found.max_abs_diff:.2e}, {found.bound:.0e} is allowed\n{signed_words(by)}"
        ),
    )


def vouched_by(package: Path, trust: Path | None) -> "SignedFile | None":
    """Who signed a file; None where nobody asked.

    Raises:
        RefusedError: nobody did.
    """
    from lineside.fleet.trust.client import find_signed_file

    if trust is None:
        return None
    sha256 = hashlib.sha256(package.read_bytes()).hexdigest()
    return find_signed_file(trust, sha256=sha256, clock=SystemClock())


def signed_by(by: "SignedFile | None") -> list[dict[str, object]]:
    """The key of every command: a role with its keys and what it signed; empty: not asked."""
    return [] if by is None else [_signer(by.signers, target=by.target.path)]


def _signer(signers: "Signers", *, target: str) -> dict[str, object]:
    return {"role": signers.role, "keys": list(signers.keys), "target": target}


def signed_words(by: "SignedFile | None") -> str:
    """The same in a line."""
    if by is None:
        return "who signed it was not asked (--trust)"
    keys = ", ".join(key[:12] for key in by.signers.keys)
    return f"signed by {by.signers.role} (key {keys}) as {by.target.path}"


def bundle(
    names: Annotated[
        list[str], typer.Argument(metavar="GROUP/VERSION|DIGEST|TARGET…", help="Signed packages.")
    ],
    *,
    out: Annotated[Path, typer.Option(help=f"Write here ({_BUNDLE_SUFFIX}).")],
    wheels: Annotated[
        Path | None, typer.Option(help="Folder of wheels of the runtime, signed with it.")
    ] = None,
    days: Annotated[
        float, typer.Option(help="How long it may be on its way; signs for that long.")
    ] = 0.0,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write signed packages with operating points and signatures into one file, for a USB stick."""
    from lineside.cli.trust import repository
    from lineside.fleet.trust.bundle import write_bundle

    writable(out)
    with repository(config) as opened:
        targets = [opened.find(name) for name in names]
        files = [] if wheels is None else _wheels(wheels)
        if days:
            opened.extend(days)
        listed = write_bundle(opened, [one.path for one in targets], to=out, wheels=files)
    told = {
        "bundle": str(out), "size_bytes": out.stat().st_size, "packages": listed.packages,
        "points": listed.points, "wheels": listed.wheels,
        "digest": [target.custom.get("digest") for target in targets],
    }  # fmt: skip
    lines = [f"written: {out}", *listed.packages, *listed.points]
    show(told, as_json=as_json, text=lambda _: "\n".join(lines))


def _wheels(folder: Path) -> list[tuple[str, bytes]]:
    found = sorted(folder.glob("*.whl"))
    if not 1 <= len(found) <= _MOST_WHEELS:
        raise InvalidError(
            f"{len(found)} wheels, 1 to {_MOST_WHEELS} are taken",
            where=str(folder),
            fix="Fill it: pip wheel --wheel-dir FOLDER 'lineside[edge]'.",
        )
    return [(path.name, path.read_bytes()) for path in found]


def apply(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help=f"A {_BUNDLE_SUFFIX} file.")],
    *,
    config: Annotated[Path | None, typer.Option(help="The edge agent's TOML file.")] = None,
    into: Annotated[Path | None, typer.Option(help="Or its data folder.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="The site's root (lineside trust root), the first time.")
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Going back is meant.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Verify a bundle as a device verifies its hub, and make its packages what the device runs."""
    from lineside.edge import apply_bundle

    applied = apply_bundle(
        path, folder=_folder(config, into), clock=SystemClock(), root=_root(root),
        rollback=rollback,
    )  # fmt: skip
    show(_applied(applied), as_json=as_json, text=lambda _: "\n".join(_lines(applied)))


def _folder(config: Path | None, into: Path | None) -> Path:
    if (config is None) == (into is None):
        raise InvalidError(
            "one of --config and --into", where="--into", fix="Name the agent's file or folder."
        )
    return load_edge(config).config.folder if into is None else into.absolute()


def _root(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError(
            "no root", where=str(path), fix="Write it on the hub: lineside trust root FILE."
        ) from error


def _applied(applied: "Applied") -> dict[str, object]:
    packages = [
        {
            "inspection": one.inspection, "group": one.group, "version": one.version,
            "digest": one.digest, "target": one.target,
            "signed_by": [_signer(signers, target=one.target)],
        }
        for one, signers in zip(applied.packages, applied.signed_by, strict=True)
    ]  # fmt: skip
    return {
        "packages": packages, "points": to_plain(applied.points),
        "wheels": [str(wheel) for wheel in applied.wheels],
    }  # fmt: skip


def _lines(applied: "Applied") -> list[str]:
    lines = [
        f"{one.inspection}: {one.group} {one.version} {one.digest}, signed by {signers.role}"
        for one, signers in zip(applied.packages, applied.signed_by, strict=True)
    ]
    lines += [f"{one.inspection}: {one.words}" for one in applied.points]
    if applied.wheels:
        folder = applied.wheels[0].parent
        lines.append(f"install the runtime: pip install --no-index --find-links {folder} lineside")
    return [*lines, "start the agent: lineside edge --config FILE"]


_PACKAGE_SUFFIX = ".lspkg"


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
    from lineside.training import (
        Labelled,
        VariantRequest,
        open_labelled,
        quantised_variant,
        together,
    )

    target = out or package.with_suffix(f".int8{_PACKAGE_SUFFIX}")
    writable(target)
    writable(report)
    opened = Package.open(package)
    wanted = VariantRequest(bound=bound, bits=_bits(weight_bits), pictures=calibrate)
    places = dict(zip(("records_url", "blobs_url"), _stores(config, store, records, blobs),
                      strict=True))  # fmt: skip
    clock = SystemClock()
    with ExitStack() as stack:
        found: list[LabelledData] = []
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
    show(_variant_facts(made, target), as_json=as_json, text=lambda _: _variant_text(made, target))


def _stores(config: Path | None, store: Path | None, records: str, blobs: str) -> tuple[str, str]:
    return stores(config, store=store, records=records, blobs=blobs)


def _bits(number: int) -> Literal[7, 8]:
    if number == 7:
        return 7
    if number == 8:
        return 8
    raise InvalidError(f"weights of {number} bits", where="--weight-bits", fix="Use 8 or 7.")


def _variant_facts(made: "Variant", target: Path) -> dict[str, Any]:
    return {
        "package": str(target),
        "digest": made.digest,
        "parity": parity_facts(made.parity),
        "latency_ms": {
            "fp32": made.latency.original_ms,
            "int8": made.latency.variant_ms,
            "ratio": made.latency.ratio,
        },
    }


def parity_facts(parity: "Parity") -> dict[str, Any]:
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


def _variant_text(made: "Variant", target: Path) -> str:
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
    from lineside.models import Package
    from lineside.models.wrap import read_wrapping, wrapped

    writable(out)
    made = wrapped(
        read_file(network),
        read_wrapping(read_file(manifest), where=str(manifest)),
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


def _pictures(folder: Path | None) -> list[bytes]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise InvalidError("no folder", where=str(folder), fix="Name a folder of pictures.")
    kinds = {".jpg", ".jpeg", ".png"}
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix.lower() in kinds]


_CPUS = Path("/proc/cpuinfo")


def compare(
    package: Annotated[Path, typer.Argument(help="A .lspkg file.")],
    in_use: Annotated[Path | None, typer.Argument(help="The one it would replace.")] = None,
    *,
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Hold a package against another on its own dataset version's held-out pictures."""
    from lineside.models import Package
    from lineside.training import compare as compared
    from lineside.training import unseen_of

    opened = Package.open(package)
    beside = None if in_use is None else Package.open(in_use)
    records, blobs = stores(config, store=store, records=records, blobs=blobs)
    clock = SystemClock()
    with unseen_of(opened, clock=clock, records_url=records, blobs_url=blobs) as pictures:
        found = compared(opened, beside, pictures=pictures, clock=clock, machine=this_machine())
    show(found, as_json=as_json, text=lambda _: "\n".join(words(found)))


def this_machine() -> "Machine":
    """Its name and processor."""
    from lineside.training import Machine

    return Machine(name=platform.node(), processor=_processor())


def _processor() -> str:
    """As Linux names it; elsewhere the architecture."""
    try:
        lines = _CPUS.read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def words(found: "Comparison") -> list[str]:
    """A comparison as lines."""
    told = [found.why_not] if found.why_not else _answers(found)
    if found.speed is not None:
        speed = found.speed
        beside = "" if speed.in_use_ms is None else f", in use {speed.in_use_ms:.1f} ms"
        told.append(
            f"speed: median {speed.median_ms:.1f} ms, 95 % {speed.p95_ms:.1f} ms{beside} "
            f"(n {speed.n}, {speed.pictures} pictures, {speed.machine}, {speed.processor})"
        )
    return told


def _answers(found: "Comparison") -> list[str]:
    from lineside.vision.metrics import metric_words

    right = f"{found.better_count} became right, {found.worse_count} became wrong"
    told = [f"{found.n} pictures of {found.dataset}: {right}, {found.otherwise} changed otherwise"]
    if found.left_out:
        told.append(f"{found.left_out} left out: the package in use was trained on them")
    for name, metric in sorted(found.this.items()):
        beside = found.beside.get(name)
        if "/" not in name and beside is not None:
            told.append(f"{metric_words(name)}: {metric.value:.3f}, in use {beside.value:.3f}")
    told += [f"better: {_change(one)}" for one in found.better]
    told += [f"worse: {_change(one)}" for one in found.worse]
    return [*told, *found.remarks]


def _change(one: "Change") -> str:
    return f"{one.picture}: {one.before} -> {one.after} (true: {one.truth or 'nobody said'})"


PackageFile = Annotated[Path, typer.Argument(help="A .lspkg file.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, "package", "Package files.", {
        "show": show_package, "quantize": quantize, "wrap": wrap, "compare": compare,
        "verify": verify, "bundle": bundle, "apply": apply,
    })  # fmt: skip


def show_package(
    package: PackageFile,
    trust: TrustOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the manifest: labels, preparation, metrics, lineage, licence, platforms, parity."""
    from lineside.models import Package

    opened = Package.open(package)
    by = vouched_by(package, trust)
    signed = [] if by is None else [signed_words(by)]
    show(
        {**_facts(opened), "signed_by": signed_by(by)},
        as_json=as_json,
        text=lambda _: "\n".join([*_text(opened), *signed]),
    )


def _facts(opened: "Package") -> dict[str, object]:
    manifest = opened.manifest
    return {
        "digest": opened.digest,
        "precision": manifest.engine.precision,
        "parity": None if manifest.parity is None else parity_facts(manifest.parity),
        "licence": {
            "weights": manifest.lineage.weights_licence,
            "data": manifest.lineage.data_licence,
        },
        "targets": manifest.targets,
        "sbom": _sbom(opened),
        "manifest": manifest,
    }


def _sbom(opened: "Package") -> list[dict[str, str]]:
    """Name, version and kind of what is inside; empty where the package does not say."""
    if not opened.manifest.sbom_file:
        return []
    document = decode_json(opened.file(opened.manifest.sbom_file), where=opened.manifest.sbom_file)
    return [
        {"name": each["name"], "version": each.get("version", ""), "type": each["type"]}
        for each in document.get("components", [])
    ]


def _text(opened: "Package") -> list[str]:
    manifest, lineage = opened.manifest, opened.manifest.lineage
    inside = [f"{one['name']} {one['version']}".strip() for one in _sbom(opened)]
    return [
        f"{manifest.name} {opened.digest}",
        f"task {manifest.task}, {manifest.engine.precision}, made by {lineage.code_version}",
        f"weights: {lineage.weights}; licence {lineage.weights_licence or 'unknown'}",
        f"data: {lineage.dataset}; licence {lineage.data_licence or 'unknown'}",
        f"runs on: {', '.join(manifest.targets) or 'not said'}",
        *([f"inside: {', '.join(inside)}"] if inside else []),
        *([f"parity: {parity_words(manifest.parity)}"] if manifest.parity else []),
        *metric_lines(manifest.metrics),
        *(f"warning: {warning}" for warning in lineage.warnings),
    ]


def report_of(package: bytes) -> bytes:
    """The page of evidence that a package carries."""
    from lineside.models import Package

    return Package.read(package).file("evidence/report.html")


def metric_lines(metrics: "dict[str, Metric]") -> list[str]:
    """One line a metric, never bare."""
    from lineside.vision.metrics import metric_words

    return [
        f"{metric_words(name)}: {metric.value:.3f} (95 % {metric.low:.3f}-{metric.high:.3f}, "
        f"n {metric.n}, baseline {metric.baseline:.3f})"
        for name, metric in metrics.items()
    ]
