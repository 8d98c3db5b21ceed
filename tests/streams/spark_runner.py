"""Programs of rules on one Spark session, each over its folder; a process of its own.

``python spark_runner.py FOLDER``: of each folder in it that has a ``program.py``, the lines in
``in`` go through the program's own stages; what stands in ``out`` then becomes ``told.jsonl``.
``conditions.json`` (rows, tests in SQL) becomes ``held.json``. ``kafka.json`` (records as JSON, of
the columns that Spark's source for Kafka has) becomes ``lines.json``.
"""

import argparse
import json
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pyspark.sql import SparkSession

from lineside.streams.spark.rule import SparkRule, spark_session


def run(spark: SparkSession, case: Path) -> None:
    program = runpy.run_path(str(case / "program.py"))
    rule, own = SparkRule(program["RULE"]), spark.newSession()  # views are a session's
    asked = argparse.Namespace(folder=str(case / "in"), files=1)
    lines = program["lines_of"](own, rule, asked)
    events = program["events_of"](rule.records(lines), rule)
    told = events.writeStream.format("text").option("path", str(case / "out"))
    told = told.option("checkpointLocation", str(case / "place")).trigger(availableNow=True)
    told.start().awaitTermination()
    said = [row.value for row in own.read.text(str(case / "out")).collect()]
    (case / "told.jsonl").write_text("\n".join(said))


def hold(spark: SparkSession, path: Path) -> None:
    told = json.loads(path.read_text())
    rows = spark.createDataFrame([tuple(row) for row in told["rows"]], told["schema"])
    held = rows.selectExpr(
        *(f"coalesce({test}, false) AS t{n}" for n, test in enumerate(told["tests"]))
    )
    path.with_name("held.json").write_text(json.dumps([list(row) for row in held.collect()]))


def read_kafka(spark: SparkSession, path: Path, rule: SparkRule) -> None:
    columns = (
        "CAST(k AS BINARY) AS key", "CAST(v AS BINARY) AS value", "topic", "partition", "offset",
        "timestamp_millis(ms) AS timestamp", "0 AS timestampType",
    )  # fmt: skip
    schema = "k STRING, v STRING, topic STRING, partition INT, offset LONG, ms LONG"
    records = [tuple(row) for row in json.loads(path.read_text())]
    lines = rule.of_kafka(spark.createDataFrame(records, schema).selectExpr(*columns))
    path.with_name("lines.json").write_text(json.dumps([row.asDict() for row in lines.collect()]))


def main() -> None:
    root = Path(sys.argv[1])
    spark = spark_session("cases", master="local[2]", partitions=2)
    hold(spark, root / "conditions.json")
    program = runpy.run_path(str(min(root.glob("*/program.py"))))
    read_kafka(spark, root / "kafka.json", SparkRule(program["RULE"]))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(partial(run, spark), sorted(one.parent for one in root.glob("*/program.py"))))
    spark.stop()


if __name__ == "__main__":
    main()
