"""A private PostgreSQL server and a private bucket for the store tests."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

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

    def fresh_database(self, *, template: str = "template0", encoding: str = "UTF8") -> str:
        """The URL of a new, empty database."""
        name = f"test_{len(self.made)}"
        self.made.append(name)
        self.tell(f'CREATE DATABASE {name} TEMPLATE {template} ENCODING "{encoding}"')
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


@dataclass
class BucketServer:
    """An S3 server in this process that remembers what it was asked."""

    endpoint: str
    credentials: Path
    asked: list[tuple[str, str]] = field(default_factory=list)
    signed: list[bool] = field(default_factory=list)

    def url(self, bucket: str, prefix: str) -> str:
        query = f"endpoint={self.endpoint}&region=us-east-1&credentials={self.credentials}"
        return f"s3://{bucket}/{prefix}?{query}"

    @cached_property
    def client(self) -> Any:  # noqa: ANN401  boto3 has no types
        """boto3's own client, which tries once."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id="line", aws_secret_access_key="side",  # noqa: S106  of this process
            config=Config(retries={"max_attempts": 0}),
        )  # fmt: skip

    def fresh_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"b-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        return name

    def fetched(self) -> list[str]:
        """Names of the objects whose bytes were asked for."""
        return sorted(
            path.rpartition("/")[2]
            for method, path in self.asked
            if method == "GET" and "." in path
        )


@pytest.fixture(scope="session")
def bucket_server(
    absent: Callable[[str, str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BucketServer]:
    if importlib.util.find_spec("moto") is None:
        absent("service", "moto is not installed")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)
    path = tmp_path_factory.mktemp("s3") / "credentials.toml"
    path.write_text('access_key_id = "line"\nsecret_access_key = "side"\n')
    made = BucketServer(endpoint="", credentials=path)

    def counted(environ: dict[str, Any], start: object) -> object:
        made.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        made.signed.append("HTTP_AUTHORIZATION" in environ)
        return app(environ, start)

    running = make_server("127.0.0.1", 0, counted, threaded=True)  # type: ignore[arg-type]  # a WSGI app
    made.endpoint = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, name="bucket")
    thread.start()
    yield made
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def bucket(bucket_server: BucketServer) -> str:
    """The name of a new, empty bucket."""
    return bucket_server.fresh_bucket()
