"""BentoML, two threads: ``NETWORK SIDE PORT``; a JPEG as the body (a root input).

Of two workers one takes all connections that are opened at once, and they stay with it.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import bentoml
from answer import Answerer
from bentoml.validators import ContentType

given = bentoml.use_arguments()


@bentoml.service(threads=2, logging={"access": {"enabled": False}})
class Classifier:
    def __init__(self) -> None:
        self.answerer = Answerer(given.network, side=int(given.side))

    @bentoml.api  # type: ignore[untyped-decorator, unused-ignore]  # installed in its environment
    def predict(self, image: Annotated[Path, ContentType("image/jpeg")], /) -> list[float]:
        scores: list[float] = self.answerer.scores(image.read_bytes())
        return scores


if __name__ == "__main__":
    network, side, port = sys.argv[1:]
    words = [
        sys.executable, "-m", "bentoml", "serve", "bentoml_server:Classifier",
        "--working-dir", str(Path(__file__).parent), "--host", "127.0.0.1", "--port", port,
        "--arg", f"network={network}", "--arg", f"side={side}",
    ]  # fmt: skip
    os.execv(words[0], words)  # noqa: S606  so that this process is the server
