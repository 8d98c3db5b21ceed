"""A rule written down as a program of Spark, which can be read, kept and submitted anywhere.

The program is whole: where lines come from, the stages, the windows as SQL, where events go. It
needs ``lineside[spark]`` where it runs, driver and workers alike.
"""

from string import Template

import msgspec

from lineside.core import Plant, Rule, encode
from lineside.streams.explain import explain
from lineside.streams.spark import spark_document
from lineside.streams.spark_sql import allowance, why_not_sql, windows_sql


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

from lineside.streams.spark import SparkRule, spark_session

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
