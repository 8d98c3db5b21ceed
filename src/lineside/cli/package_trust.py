"""``lineside package verify``, ``bundle`` and ``apply``: who signed it, and carried on a stick."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.config import load_edge
from lineside.cli.engine import EngineOption
from lineside.cli.hub import ConfigOption
from lineside.cli.output import JsonFlag, show, writable
from lineside.core import InvalidError, NotFoundError, SystemClock

if TYPE_CHECKING:
    from lineside.edge import Applied
    from lineside.fleet import Signers
    from lineside.fleet.trust.client import Vouched

_SUFFIX = ".lsbundle"
_MOST_WHEELS = 1000


def register(group: typer.Typer) -> None:
    """Add the commands to those of ``lineside package``."""
    group.command("verify")(verify)
    group.command("bundle")(bundle)
    group.command("apply")(apply)


TrustOption = Annotated[
    Path | None, typer.Option(help="Trust folder of a hub or a device: who signed it?")
]


def verify(
    package: Annotated[Path, typer.Argument(help="A .lspkg file.")],
    trust: TrustOption = None,
    engine: EngineOption = "onnxruntime",
    as_json: JsonFlag = False,
) -> None:
    """Check every digest and answer the golden pictures; exit code 5 when one differs."""
    from lineside.models import EngineName, Package, Predictor

    opened, by = Package.open(package), vouched_by(package, trust)
    predictor = Predictor(opened, clock=SystemClock(), engine=EngineName(engine))
    found = predictor.check_golden()
    parity = {"max_abs_diff": found.max_abs_diff, "metric_loss": 0.0, "bound": found.bound}
    show(
        {"digest": opened.digest, "signed_by": signed_by(by), "parity": parity},
        as_json=as_json,
        text=lambda _: (
            f"{opened.digest}\n{found.pictures} golden pictures answered within "
            f"{found.max_abs_diff:.2e}, {found.bound:.0e} is allowed\n{signed_words(by)}"
        ),
    )


def vouched_by(package: Path, trust: Path | None) -> "Vouched | None":
    """Who signed a file; None where nobody asked.

    Raises:
        RefusedError: nobody did.
    """
    from lineside.fleet.trust.client import vouched

    if trust is None:
        return None
    sha256 = hashlib.sha256(package.read_bytes()).hexdigest()
    return vouched(trust, sha256=sha256, clock=SystemClock())


def signed_by(by: "Vouched | None") -> list[dict[str, object]]:
    """The key of every command: a role with its keys and what it signed; empty: not asked."""
    return [] if by is None else [_signer(by.signers, target=by.target.path)]


def _signer(signers: "Signers", *, target: str) -> dict[str, object]:
    return {"role": signers.role, "keys": list(signers.keys), "target": target}


def signed_words(by: "Vouched | None") -> str:
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
    out: Annotated[Path, typer.Option(help=f"Write here ({_SUFFIX}).")],
    wheels: Annotated[
        Path | None, typer.Option(help="Folder of wheels of the runtime, signed with it.")
    ] = None,
    days: Annotated[
        float, typer.Option(help="How long it may be on its way; signs for that long.")
    ] = 0.0,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write signed packages and all that vouches for them into one file, for a USB stick."""
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
        "wheels": listed.wheels, "digest": [target.custom.get("digest") for target in targets],
    }  # fmt: skip
    show(told, as_json=as_json, text=lambda _: "\n".join([f"written: {out}", *listed.packages]))


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
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help=f"A {_SUFFIX} file.")],
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
    return {"packages": packages, "wheels": [str(wheel) for wheel in applied.wheels]}


def _lines(applied: "Applied") -> list[str]:
    lines = [
        f"{one.inspection}: {one.group} {one.version} {one.digest}, signed by {signers.role}"
        for one, signers in zip(applied.packages, applied.signed_by, strict=True)
    ]
    if applied.wheels:
        folder = applied.wheels[0].parent
        lines.append(f"install the runtime: pip install --no-index --find-links {folder} lineside")
    return [*lines, "start the agent: lineside edge --config FILE"]
