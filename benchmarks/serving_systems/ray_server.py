"""Ray Serve, two replicas behind its HTTP proxy: ``NETWORK SIDE PORT``; a JPEG as the body."""

import asyncio
import sys

import ray
from answer import Answerer
from ray import serve
from starlette.requests import Request

QUIET = {"enable_access_log": False, "log_level": "ERROR"}


@serve.deployment(num_replicas=2)
class Classifier:
    def __init__(self, network: str, *, side: int) -> None:
        self.answerer = Answerer(network, side=side)

    async def __call__(self, request: Request) -> list[float]:
        return await asyncio.to_thread(self.answerer.scores, await request.body())


if __name__ == "__main__":
    network, side, port = sys.argv[1:]
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"port": int(port)}, logging_config=QUIET)
    served = Classifier.bind(network, side=int(side))  # type: ignore[attr-defined, unused-ignore]
    serve.run(served, route_prefix="/predict", logging_config=QUIET, blocking=True)
