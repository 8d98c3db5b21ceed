"""A real Prometheus that scrapes a hub as ``deploy/compose`` has it, but each second."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from lineside.testing.links import LONG_S, wait_until
from tests.links.conftest import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"


@contextmanager
def scraping(hub: str, *, token: Path, folder: Path) -> Iterator[httpx2.Client]:
    """A client of the API of one that answers queries; ``hub``: host and port."""
    text = (DEPLOY / "compose" / "prometheus.yml").read_text()
    for deployed, here in (
        ("interval: 15s", "interval: 1s, evaluation_interval: 1s"),
        ("/run/secrets/prometheus.token", str(token)),
        ("    scheme: https\n    tls_config: {ca_file: /run/secrets/authority.crt}\n", ""),
        ("hub:8443", hub),
    ):  # fmt: skip
        assert deployed in text
        text = text.replace(deployed, here)
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", folder)
    port = free_port()
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}", "--log.level=warn",
        f"--storage.tsdb.path={folder / 'db'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=LONG_S) as client:
            wait_until(lambda: is_ready(client))
            yield client
    finally:
        process.terminate()
        process.wait()


def is_ready(prometheus: httpx2.Client) -> bool:
    """Whether a Prometheus that was started answers queries."""
    try:
        return prometheus.get("/query", params={"query": "1"}).is_success
    except httpx2.ConnectError:
        return False
