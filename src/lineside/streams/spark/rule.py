"""A rule on Spark Structured Streaming: the same events as embedded, whatever the micro-batches.

``SparkRule`` has the stages between a source and a sink of Spark; ``spark_program`` writes them
down as a program that can be read, kept and submitted anywhere. It needs ``lineside[spark]`` where
it runs, driver and workers alike. docs/adr/0017 says why it is so.

1. ``of_files`` and ``of_kafka``: lines, or records of Kafka, with their place in the log.
2. ``records``: as entries, in order of place, through the embedded engine's own watermarks. One
   task, because time is that of all sources together; its memory is in Spark's state store.
3. ``windows_sql`` over the records: windows, figures and *having* are Spark's own, in parallel by
   key. Of other rules ``records`` gives the events already.
4. ``events``: rows become CloudEvents with the ids that the embedded engine gives them.

Places order the entries of one micro-batch, and batches follow one another. So files must come in
the order of their names, and a topic of Kafka should have one partition: of several, entries of
one batch follow their time stamps, and which come in a batch is in the checkpoint.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from lineside.core import InvalidError, Plant, Rule, decode, decode_json, encode, need, to_plain
from lineside.streams.event import written_time
from lineside.streams.rules.contract import moment
from lineside.streams.rules.records import Entry, read_entries
from lineside.streams.rules.replay import upstream
from lineside.streams.spark.ordering import COLUMNS, SQL_TYPES, UNREADABLE, Turn
from lineside.streams.spark.sql import WindowEvents, columns_of, quoted, why_not_sql

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyspark.sql import DataFrame, SparkSession
from string import Template

import msgspec

from lineside.streams.rules.explain import explain
from lineside.streams.spark.sql import allowance, windows_sql

_NAMES = ("one", "stamp", "part", "start", "row", "type", "subject", "arrived_us", "body")
_ENTRIES = (
    "one BIGINT, stamp BIGINT, part STRING, start BIGINT, row BIGINT, type STRING, "
    "subject STRING, arrived_us BIGINT, body STRING"
)
_PLACED = _NAMES[1:]
_ROCKS = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"


def spark_document(rule: Rule, *, plant: Plant) -> dict[str, Any]:
    """Return what a program needs of the plant file: the rule, those it reads, their sources."""
    chain = upstream(rule, plant)
    named = {name for one in chain for name in one.read.inspections}
    kept = replace(
        plant, name="", line=(), camera=(), twin=None, rule=tuple(chain),
        inspection=tuple(one for one in plant.inspection if one.id in named),
    )  # fmt: skip
    return {"rule": rule.id, "plant": _brief(kept)}


def _brief(value: object) -> Any:  # noqa: ANN401  plain JSON
    """Plain JSON of a record without what is as it is by default."""
    if isinstance(value, tuple):
        return [_brief(one) for one in value]
    if not is_dataclass(value) or isinstance(value, type):
        return to_plain(value)
    told = [(one, getattr(value, one.name)) for one in fields(value)]
    return {one.name: _brief(kept) for one, kept in told if kept != _default(one)}


def _default(of: "Field[Any]") -> object:
    return of.default if of.default_factory is MISSING else of.default_factory()


def spark_session(name: str, *, master: str = "", partitions: int = 0) -> "SparkSession":
    """A session as rules need it.

    Args:
        name: shown in Spark's pages.
        master: where it runs; "" where spark-submit says it.
        partitions: how many tasks count windows at a time; 0 for what Spark is set to.

    Raises:
        MissingExtraError: pyspark is not installed.
    """
    builder = need("pyspark.sql", extra="spark").SparkSession.builder
    settings = {
        "spark.sql.session.timeZone": "UTC", "spark.sql.caseSensitive": "true",
        "spark.sql.streaming.stateStore.providerClass": _ROCKS,
        "spark.sql.shuffle.partitions": str(partitions) if partitions else "",
        "spark.master": master, "spark.app.name": name, "spark.ui.showConsoleProgress": "false",
        "spark.ui.enabled": "false" if master.startswith("local") else "",
        "spark.driver.host": "localhost" if master.startswith("local") else "",
    }  # fmt: skip
    for key, value in settings.items():
        if value:
            builder = builder.config(key, value)
    session: SparkSession = builder.getOrCreate()
    return session


class SparkRule:
    """The stages of one rule.

    Args:
        document: ``spark_document`` as JSON.
    """

    def __init__(self, document: str) -> None:
        told = decode_json(document.encode(), where="the rule")
        self._plant = decode(Plant, told["plant"], where="the rule's plant")
        self._rule = next(one for one in self._plant.rule if one.id == told["rule"])
        self._columns = None if why_not_sql(self._rule) else columns_of(self._rule)

    def of_files(self, lines: "DataFrame") -> "DataFrame":
        """Lines of files that ``spark.readStream.text`` reads; docs/reference/rules.md has them."""
        return lines.selectExpr(
            "0L AS stamp", "_metadata.file_path AS part", "_metadata.file_block_start AS start",
            "CAST(NULL AS STRING) AS topic", "value AS line",
        )  # fmt: skip

    def of_kafka(self, records: "DataFrame") -> "DataFrame":
        """Records of Kafka: CloudEvents, or messages whose key is their MQTT topic."""
        return records.selectExpr(
            "unix_micros(timestamp) AS stamp",
            "format_string('%s/%09d', topic, partition) AS part",
            "offset AS start",
            "CAST(key AS STRING) AS topic",
            "CAST(value AS STRING) AS line",
        )

    def records(self, lines: "DataFrame") -> "DataFrame":
        """Lines through the engine's watermarks: records in order of time, or events.

        Columns: ``event`` (JSON: of what is late, and of rules that are no SQL); ``at``, ``id``,
        ``seq``, ``frame``, ``shown`` (the key) and the fields that the windows need.
        """
        names = [*COLUMNS, *(self._columns or ())]
        schema = ", ".join(f"{quoted(name)} {_type(name)}" for name in names)
        rows = (
            lines.mapInArrow(partial(_read, self._plant), _ENTRIES)
            .groupBy("one")
            .applyInPandasWithState(
                partial(_in_turn, self._turn, names), schema, "memory STRING", "append", "NoTimeout"
            )
        )
        return rows.selectExpr("timestamp_micros(at_us) AS at", "*")

    def _turn(self) -> Turn:
        return Turn(self._rule, plant=self._plant, columns=self._columns)

    def events(self, windows: "DataFrame") -> "DataFrame":
        """Return the rows of ``windows_sql`` as events; one column ``event``, JSON."""
        made = WindowEvents(self._rule, plant=self._plant)
        return windows.mapInArrow(partial(_written, made), "event STRING")


def _in_turn(  # noqa: PLR0917  Spark's face
    make: Callable[[], Turn], names: list[str], _key: object, frames: Iterator[Any],
    state: Any,  # noqa: ANN401  untyped library
) -> Iterator[Any]:  # fmt: skip
    """The engine's turn at a micro-batch; its memory is Spark's to keep."""
    from pandas import DataFrame

    turn = make()
    if state.exists:
        turn.load(state.get[0])
    rows = sorted(
        row for frame in frames for row in zip(*(frame[name] for name in _PLACED), strict=True)
    )
    entries = (
        Entry(type=row[4], subject=row[5], arrived_us=row[6], body=row[7].encode()) for row in rows
    )
    made = list(turn.take(entries))
    state.update((turn.dump(),))
    yield DataFrame(made, columns=names, dtype=object)


def _type(name: str) -> str:
    """The type of a column that ``Turn`` gives."""
    if name in COLUMNS:
        return "BIGINT" if name in {"at_us", "seq", "late", "keyless", "unreadable"} else "STRING"
    return SQL_TYPES.get(name.rpartition(" as ")[2], "STRING")


def _read(plant: Plant, batches: Iterable["RecordBatch"]) -> Iterator["RecordBatch"]:
    """Lines as entries, numbered as they come in their part of the log."""
    import pyarrow as pa

    numbers = count()
    for batch in batches:
        rows = [
            (1, line["stamp"], line["part"], line["start"], next(numbers), *_of_line(line, plant))
            for line in batch.to_pylist() if line["line"] and line["line"].strip()
        ]  # fmt: skip
        texts = {"part", "type", "subject", "body"}
        kinds = [pa.string() if name in texts else pa.int64() for name in _NAMES]
        columns = list(zip(*rows, strict=True)) or [()] * len(_NAMES)
        yield pa.RecordBatch.from_arrays(list(map(pa.array, columns, kinds)), names=list(_NAMES))


def _of_line(line: dict[str, Any], plant: Plant) -> tuple[str, str, int, str]:
    """An entry's columns; of a line that cannot be read, such as are counted."""
    try:
        (entry,) = read_entries([_line_bytes(line)], plant=plant, where=str(line["part"]))
    except InvalidError:
        return UNREADABLE, "", line["stamp"], ""
    # Kafka says when a record arrived; a file says it itself.
    arrived_us = line["stamp"] or entry.arrived_us
    return entry.type, entry.subject, arrived_us, entry.body.decode()


def _line_bytes(line: dict[str, Any]) -> bytes:
    """A line as ``read_entries`` takes it; a plain message of Kafka gets its topic and time."""
    text: bytes = line["line"].encode()
    if not line["stamp"]:
        return text
    document = decode_json(text, where="a record")
    if isinstance(document, dict) and "specversion" in document:
        return text
    time = written_time(moment(line["stamp"]))
    return encode({"topic": line["topic"], "payload": document, "time": time})


def _written(made: WindowEvents, batches: Iterable["RecordBatch"]) -> Iterator["RecordBatch"]:
    import pyarrow as pa

    for batch in batches:
        events = [made.event(row) for row in batch.to_pylist()]
        yield pa.RecordBatch.from_pydict({"event": pa.array(events, pa.string())})


def spark_program(rule: Rule, *, plant: Plant, spark: str) -> str:
    """The text of the program; see docs/how-to/spark.md.

    Args:
        rule: what the program does.
        plant: the plant file it stands in.
        spark: version of Spark that is meant to run it.
    """
    why_not, select = why_not_sql(rule), _EVENTS
    if not why_not:
        select = _WINDOWS.format(sql=_block(windows_sql(rule)), behind=allowance(rule))
    reason = (
        f"Its step runs as the hub runs it, in Spark's state operator: {why_not}."
        if why_not else "Its windows are Spark SQL over the records that its where lets through."
    )  # fmt: skip
    document = msgspec.json.format(encode(spark_document(rule, plant=plant)), indent=1).decode()
    return _PROGRAM.substitute(
        words=_comment(f"{explain(rule)}\n{reason}"), name=repr(rule.id), select=select,
        document=_block(document), spark=spark,
    )  # fmt: skip


def _comment(text: str) -> str:
    return "\n".join(f"# {line}" for line in text.splitlines())


def _block(text: str) -> str:
    """Text as a literal of Python, over several lines where it can be."""
    return repr(text) if '"""' in text or "\r" in text else f'r"""\n{text}\n"""'


_EVENTS = """

def events_of(records: DataFrame, rule: SparkRule) -> DataFrame:
    return records.where("event IS NOT NULL").select("event")
"""
_WINDOWS = """
WINDOWS = {sql}


def events_of(records: DataFrame, rule: SparkRule) -> DataFrame:
    # Records come in order of time: Spark's watermark needs no allowance for late ones.
    records.withWatermark("at", "{behind}").createOrReplaceTempView("records")
    return rule.events(records.sparkSession.sql(WINDOWS))
"""
_PROGRAM = Template("""\
$words
#
# From Kafka, where the hub sends its log (docs/how-to/spark.md), to Kafka:
#
#   spark-submit --packages org.apache.spark:spark-sql-kafka-0-10_2.13:$spark this.py \\
#       --kafka kafka-1:9092 --topic lineside.log --to lineside.rules --checkpoint PLACE
#
# From files of recorded events, in the order of their names, to files: --folder IN --out OUT.

import argparse

from pyspark.sql import DataFrame, SparkSession

from lineside.streams.spark.rule import SparkRule, spark_session

RULE = $document
$select

def lines_of(spark: SparkSession, rule: SparkRule, asked: argparse.Namespace) -> DataFrame:
    if asked.folder:
        files = spark.readStream.option("maxFilesPerTrigger", asked.files)
        return rule.of_files(files.text(asked.folder))
    kafka = spark.readStream.format("kafka").option("startingOffsets", "earliest")
    kafka = kafka.option("kafka.bootstrap.servers", asked.kafka).option("subscribe", asked.topic)
    return rule.of_kafka(kafka.option("maxOffsetsPerTrigger", asked.records).load())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kafka", default="", help="brokers, host:port,host:port")
    parser.add_argument("--topic", default="", help="read from")
    parser.add_argument("--to", default="", help="topic that events are written to")
    parser.add_argument("--folder", default="", help="files of recorded events, instead of Kafka")
    parser.add_argument("--out", default="", help="folder that events are written to")
    parser.add_argument("--checkpoint", required=True, help="where Spark keeps place and memory")
    parser.add_argument("--once", action="store_true", help="what is there now, then end")
    parser.add_argument("--show", action="store_true", help="print what stands in OUT at the end")
    parser.add_argument("--master", default="", help="else what spark-submit says")
    parser.add_argument("--partitions", type=int, default=0, help="tasks that count windows")
    parser.add_argument("--files", type=int, default=1, help="files a batch, at most")
    parser.add_argument("--records", type=int, default=100000, help="records a batch, at most")
    asked = parser.parse_args()

    spark = spark_session($name, master=asked.master, partitions=asked.partitions)
    rule = SparkRule(RULE)
    events = events_of(rule.records(lines_of(spark, rule, asked)), rule)
    if asked.out:
        told = events.writeStream.format("text").option("path", asked.out)
    else:
        told = events.selectExpr("event AS value").writeStream.format("kafka")
        told = told.option("kafka.bootstrap.servers", asked.kafka).option("topic", asked.to)
    if asked.once:
        told = told.trigger(availableNow=True)
    told.option("checkpointLocation", asked.checkpoint).start().awaitTermination()
    if asked.show:
        for row in spark.read.text(asked.out).toLocalIterator():
            print(row.value)


if __name__ == "__main__":
    main()
""")
