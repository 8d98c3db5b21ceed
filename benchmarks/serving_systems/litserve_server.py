"""LitServe, two workers: ``NETWORK SIDE PORT``; a JPEG in base64 as ``{"image": …}``."""

import base64
import sys
from typing import Any

import litserve
from answer import Answerer


class Api(litserve.LitAPI):  # type: ignore[misc, unused-ignore]  # installed in its environment
    def setup(self, device: str) -> None:
        del device
        self.answerer = Answerer(sys.argv[1], side=int(sys.argv[2]))

    def decode_request(self, request: dict[str, str]) -> bytes:
        return base64.b64decode(request["image"])

    def predict(self, x: bytes) -> list[float]:
        scores: list[float] = self.answerer.scores(x)
        return scores

    def encode_response(self, output: list[float]) -> Any:  # noqa: ANN401  the library's
        return {"scores": output}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=2)
    server.run(
        host="127.0.0.1", port=int(sys.argv[3]), log_level="error", generate_client_file=False
    )
