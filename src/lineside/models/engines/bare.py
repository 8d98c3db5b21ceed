"""A network as it stands: whatever tensors it takes and gives, without preparation or decisions.

For interfaces that carry raw tensors. Its outputs mean what the network's maker says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, need
from lineside.models.engines.onnx import open_session

ANY = -1
_DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSlot:
    """An input or output of a network.

    Attributes:
        dtype: uint8, int16, int32, int64, float16, float32 or float64.
        shape: -1 where any size is taken.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


class BareEngine:
    """A loaded network; safe from several threads."""

    def __init__(self, network: bytes, *, where: str) -> None:
        """Load it.

        Raises:
            InvalidError: it does not load, or takes or gives something that is no such tensor.
            MissingExtraError: onnxruntime is not installed.
        """
        self._session = open_session(need("onnxruntime", extra="edge"), network, where=where)
        self._where = where
        self.inputs = tuple(_slot(each, where=where) for each in self._session.get_inputs())
        self.outputs = tuple(_slot(each, where=where) for each in self._session.get_outputs())

    def run(self, given: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """All outputs in their order, for arrays by input name.

        Raises:
            InvalidError: the network fails on them.
        """
        try:
            return [np.asarray(each) for each in self._session.run(None, dict(given))]
        except Exception as error:  # boundary: the runtime's exceptions have no common class
            raise InvalidError(
                f"the network fails on these tensors: {str(error)[:300]}",
                where=self._where,
                fix="Send the shapes that it describes.",
            ) from error


def _slot(described: Any, *, where: str) -> TensorSlot:  # noqa: ANN401  untyped library
    dtype = _DTYPES.get(described.type)
    if dtype is None:
        raise InvalidError(
            f"{described.name!r} is a {described.type}",
            where=where,
            fix=f"Use a network of {', '.join(sorted(_DTYPES.values()))}.",
        )
    shape = tuple(side if isinstance(side, int) else ANY for side in described.shape or ())
    return TensorSlot(name=described.name, dtype=dtype, shape=shape)
