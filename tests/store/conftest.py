"""A private PostgreSQL server and a private bucket for the store tests."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest


def postgres_binaries() -> list[Path]:
    """The folders of the programs of PostgreSQL on this machine, newest first."""
    return sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@dataclass
class PostgresServer:
    """A server of one test session, reached through a socket in its own folder."""

    folder: Path
    binaries: Path
    made: list[str] = field(default_factory=list)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def fresh_database(self, *, template: str = "template0") -> str:
        """The URL of a new, empty database."""
        name = f"test_{len(self.made)}"
        self.made.append(name)
        self.tell(f'CREATE DATABASE {name} TEMPLATE {template} ENCODING "UTF8"')
        return self.url(name)

    def tell(self, statement: str) -> str:
        """Run one statement as the superuser."""
        command = [str(self.binaries / "psql"), "-XAtqh", str(self.folder), "-U", "postgres"]
        done = subprocess.run(
            [*command, "-c", statement, "postgres"], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def start(self) -> None:
        settings = "-c listen_addresses= -c fsync=off -c max_connections=200 -c lc_messages=C"
        log = self.folder / "log"
        self._control("start", "-w", "-l", str(log), "-o", f"{settings} -k {self.folder}")

    def stop(self, mode: str = "immediate") -> None:
        self._control("stop", "-m", mode)

    def make(self) -> None:
        self.folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self._run(
            str(self.binaries / "initdb"), "-A", "trust", "-U", "postgres", "-E", "UTF8",
            "--locale=C.UTF-8", "--no-sync", "-D", str(self.folder / "data"),
        )  # fmt: skip

    def _control(self, *words: str) -> None:
        self._run(str(self.binaries / "pg_ctl"), "-D", str(self.folder / "data"), *words)

    def _run(self, *command: str) -> None:
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        prefix = as_user if os.geteuid() == 0 else []  # the server refuses to run as root
        subprocess.run([*prefix, *command], check=True, cwd=self.folder, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def postgres_server(absent: Callable[[str, str], None]) -> Iterator[PostgresServer]:
    binaries = postgres_binaries()
    if not binaries:
        absent("service", "PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="lineside-postgres-"))
    server = PostgresServer(folder=folder, binaries=binaries[0])
    try:
        server.make()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """An empty database of this test alone."""
    return postgres_server.fresh_database()


@dataclass(frozen=True)
class BucketServer:
    """An S3 server in this process and the credentials it takes."""

    endpoint: str
    credentials: Path

    def url(self, bucket: str, prefix: str) -> str:
        query = f"endpoint={self.endpoint}&region=us-east-1&credentials={self.credentials}"
        return f"s3://{bucket}/{prefix}?{query}"


@pytest.fixture(scope="session")
def bucket_server(
    absent: Callable[[str, str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BucketServer]:
    if importlib.util.find_spec("moto") is None:
        absent("service", "moto is not installed")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    path = tmp_path_factory.mktemp("s3") / "credentials.toml"
    path.write_text('access_key_id = "line"\nsecret_access_key = "side"\n')
    yield BucketServer(endpoint=f"http://{host}:{port}", credentials=path)
    server.stop()
