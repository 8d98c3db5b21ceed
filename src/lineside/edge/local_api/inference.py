"""The packages that are loaded by name, behind the Open Inference Protocol on the device's socket.

Each has the one version it was loaded as. Calls are answered one after the other, as all calls of
the socket are; nothing is put together.
"""

from collections.abc import Sequence

from lineside.core import Clock
from lineside.edge.local_api.named import NamedPackages
from lineside.models import InferRequest, InferResponse, ModelMeta, ServedModel, choose_version


class NamedInference:
    """``InferenceModels`` of a device."""

    def __init__(self, packages: NamedPackages, *, clock: Clock) -> None:
        self._packages = packages
        self._since = clock.now()

    def names(self) -> Sequence[str]:
        """Those that are loaded."""
        return tuple(each.name for each in self._packages.all())

    def ready(self, name: str, *, version: str) -> bool:
        """A loaded package answers."""
        self._version(name, version)
        return True

    def metadata(self, name: str, *, version: str) -> ModelMeta:
        known = self._version(name, version)
        return self._served(name).metadata(name, versions=(known,))

    def infer(self, name: str, *, version: str, request: InferRequest) -> InferResponse:
        known = self._version(name, version)
        outputs = self._served(name).infer(request)
        return InferResponse(model=name, version=known, outputs=outputs, id=request.id)

    def _version(self, name: str, wanted: str) -> str:
        versions = tuple(each.version for each in self._packages.all() if each.name == name)
        return choose_version(versions, wanted, name=name)

    def _served(self, name: str) -> ServedModel:
        """Made for each call: predictor and network are those that are loaded."""
        judge, bare = self._packages.judge(name), self._packages.bare(name)
        return ServedModel(judge, since=self._since, bare=bare)
