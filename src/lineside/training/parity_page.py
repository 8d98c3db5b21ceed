"""The page of a variant: its certificate, its figures, what was tried before."""

from lineside.models import Manifest
from lineside.training.page_parts import metrics_table, page, section, table, warnings


def parity_page(manifest: Manifest) -> bytes:
    """UTF-8 HTML of a manifest that carries a certificate."""
    parity = manifest.parity
    if parity is None:
        return page(manifest.name, ["<p>An original: there is nothing to hold it against.</p>"])
    loss = parity.loss
    facts = [
        ("made from", str(parity.original)),
        ("precision", f"{manifest.engine.precision}, {parity.quantised} of {parity.layers} layers"),
        ("in fp32", parity.kept),
        (loss.metric, f"{loss.original:.4f} before, {loss.variant:.4f} now"),
        ("lost", f"{loss.value:.4f} (95 % {loss.low:.4f} to {loss.high:.4f}), n {loss.n}"),
        ("bound", f"{parity.bound:g}, kept by the interval's upper end"),
        ("answered otherwise", f"{loss.changed} of {loss.n} pictures"),
        ("golden pictures", f"{parity.pictures}, differ by at most {parity.max_abs_diff:.3g}"),
        ("value ranges from", f"{parity.calibrated_on} training pictures"),
    ]
    return page(
        f"{manifest.name}: certificate of parity",
        [
            warnings(manifest.lineage.warnings),
            section("Certificate", table((), facts)),
            section("Figures of this variant", metrics_table(manifest.metrics)),
            section("Tried before", table(("rung",), [(line,) for line in parity.opinion])),
        ],
    )
