"""Files for a mosquitto in place of the embedded broker, as the site stands now."""

from dataclasses import dataclass
from pathlib import Path

from lineside.core import Clock, load_plant
from lineside.hub.config import HubConfig
from lineside.hub.inventory import FleetBooks, open_fleet
from lineside.hub.tls import device_server_files
from lineside.links import MosquittoFiles, access_list, mosquitto_config


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFiles:
    """What was written, and for how many devices."""

    config: Path
    access: Path
    devices: int


def mosquitto_files(config: HubConfig, *, to: Path, port: int, clock: Clock) -> WrittenFiles:
    """Write ``mosquitto.conf`` and ``access.list``; the same again for the same site.

    Raises:
        NotFoundError: there is no authority yet.
    """
    server = device_server_files(config, clock=clock)
    with open_fleet(config, clock=clock) as books:
        books.enrolment.authority().crl()
        lines = _lines(books)
    folder = to.absolute()
    files = MosquittoFiles(
        authority=config.authority_folder / "authority.crt", certificate=server.certificate,
        key=server.key, revoked=config.authority_folder / "crl.pem",
        access=folder / "access.list",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    _put(files.access, access_list(load_plant(Path(config.plant)), devices=lines))
    _put(folder / "mosquitto.conf", mosquitto_config(files, port=port))
    return WrittenFiles(config=folder / "mosquitto.conf", access=files.access, devices=len(lines))


def _lines(books: FleetBooks) -> dict[str, tuple[str, ...]]:
    return {one.device: one.lines for one in books.enrolment.inventory.all() if one.active}


def _put(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)
