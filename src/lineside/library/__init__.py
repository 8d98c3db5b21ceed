"""Python library: packages, trainings and a hub, for notebooks and own programs.

``lineside`` itself offers its names: ``lineside.load``, ``lineside.train``, ``lineside.connect``.

Not here: how an image is answered (``models``, ``vision``), how a package is trained
(``training``), what a hub does with a request (``hub``).
"""

__all__: list[str] = []
