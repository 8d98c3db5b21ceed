"""The certificate of a variant: what it lost against the package it was made from.

1. A variant (int8) is held against its original twice: the answers to the golden pictures, and the
   metric of its task on pictures that neither was trained nor calibrated on, picture by picture.
2. The loss is a figure with an interval. The interval's upper end has to keep the declared bound:
   what cannot be shown to be within it is not within it.
3. A package of reduced precision without a certificate, or with one whose bound is broken, is
   neither written nor read; hence it cannot be approved or signed.
4. What is measured in time is not in the certificate: the same inputs give the same package, and
   times differ. The report beside the package holds them.
"""

from dataclasses import dataclass

from lineside.core import Digest, RefusedError

FEW_PICTURES = 30
"""Below so many, figures on pictures say little, and a warning stands beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A metric of both packages on the same pictures, and their paired difference.

    Attributes:
        metric: whose; larger is better.
        original, variant: values.
        value: original - variant.
        low, high: of ``value``, 95 %, pictures (or their groups) drawn again for both at once.
        n: pictures.
        changed: of these, how many are answered otherwise; right or wrong does not matter.
    """

    metric: str
    original: float
    variant: float
    value: float
    low: float
    high: float
    n: int
    changed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The certificate.

    Attributes:
        original: digest of the package that the variant was made from.
        max_abs_diff: largest difference of any raw output (logits, distances) on golden pictures.
        pictures: golden pictures compared.
        loss: of the task's metric.
        bound: that ``loss.high`` must not exceed.
        calibration: digest over the digests of the pictures that value ranges were taken from.
        calibrated_on: how many these were.
        kept: which layers stay in fp32: a rung of the ladder, in words.
        quantised: layers whose weights are 8 bits wide, of how many.
        layers: that have weights.
        opinion: why the rungs before were not taken, in words; empty for the first.
    """

    original: Digest
    max_abs_diff: float
    pictures: int
    loss: Loss
    bound: float
    calibration: Digest
    calibrated_on: int
    kept: str
    quantised: int
    layers: int
    opinion: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the loss is within its bound, interval included."""
        return self.loss.high <= self.bound

    @property
    def words(self) -> str:
        """The figures in one line."""
        loss = self.loss
        return (
            f"{loss.metric} {loss.original:.4f} -> {loss.variant:.4f}, lost {loss.value:.4f} "
            f"(95 % {loss.low:.4f} to {loss.high:.4f}, n {loss.n}), bound {self.bound:g}; "
            f"{loss.changed} of {loss.n} answered otherwise; golden answers differ by at most "
            f"{self.max_abs_diff:.3g}, in raw outputs (logits, distances)"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to bear in mind beside the figures, a sentence each."""
        if self.loss.n >= FEW_PICTURES:
            return ()
        pictures = "1 picture says" if self.loss.n == 1 else f"{self.loss.n} pictures say"
        return (f"{pictures} little; name more with --test",)


def check_certificate(parity: Parity | None, *, precision: str, where: str) -> None:
    """Refuse a reduced precision that proves nothing.

    Raises:
        RefusedError: there is no certificate, or its bound is broken; with the figures.
    """
    if precision == "fp32":
        return
    if parity is None:
        raise RefusedError(
            f"a network of precision {precision} without a certificate of parity",
            where=where,
            fix="Make it with: lineside package quantize PACKAGE --data SRC.",
        )
    if not parity.holds:
        raise RefusedError(
            f"the variant breaks its bound: {parity.words}",
            where=where,
            fix="Use the fp32 package, test on more pictures, or declare another --bound.",
        )
