"""Machine vision for production lines.

    import lineside

    model = lineside.load("parts.lspkg")
    result = model.predict("part.jpg")
    print(result.verdict, result.reasons)

``load`` and ``train`` give a ``Model``, its answers are ``Result`` records, and ``connect`` gives
a ``Hub``. Each name is imported when it is first used, so that the import itself costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lineside.library.hub import Hub, connect
    from lineside.library.model import Model, Result, load
    from lineside.library.training import train

__all__ = ["Hub", "Model", "Result", "__version__", "connect", "load", "train"]

_MODULES = {
    "Hub": "hub", "Model": "model", "Result": "model", "connect": "hub", "load": "model",
    "train": "training",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("lineside")
    if name in _MODULES:
        return getattr(import_module(f"lineside.library.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'lineside' has no attribute {name!r}")
