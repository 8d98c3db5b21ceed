"""The rule and the events of ``benchmarks/streams.py``."""

from datetime import UTC, datetime, timedelta

from lineside.core import Plant, parse_plant

LABELS = ("Confluent", "Databricks", "Github", "Google", "Mongo", "Streamsets", "Blank")
START = datetime(2026, 1, 1, tzinfo=UTC)
KIND, TOPIC, BATCH = "lineside.plant.message.v1", "sockfound", 5000
PLANT = """
schema = "lineside.plant/1"
site = "bench"
[[rule]]
id = "windows"
read = {{ topic = "sockfound" }}
where = [{{ field = "image", none_of = ["Blank"] }}]
key = ["image"]
window = {{ size_s = {size_s} }}
having = [{{ field = "count", above = {above} }}]
emit = "{emit}"
"""


def plant_of(*, emit: str = "final", size_s: int = 5, above: int = 3) -> Plant:
    """The plant with the one rule."""
    text = PLANT.format(emit=emit, size_s=size_s, above=above)
    return parse_plant(text.encode(), where="plant")


def line(number: int, label: str) -> bytes:
    """An event of the camera, a millisecond after the one before."""
    at = (START + timedelta(milliseconds=number)).isoformat(timespec="milliseconds")
    return (
        b'{"data":{"image":"%s","probability":97.314453125,"topic":"sockfound"},'
        b'"datacontenttype":"application/json","id":"evt_%026d","source":"/bench/plant",'
        b'"specversion":"1.0","subject":"sockfound","time":"%s",'
        b'"type":"lineside.plant.message.v1"}\n'
        % (label.encode(), number, at.replace("+00:00", "Z").encode())
    )
