"""The rule of ``benchmarks/streams.py`` as lineside's own program of Spark, one machine, files.

``python spark_rule.py FOLDER OUT CHECKPOINT``: 25,000 lines a file, four files a batch, until
nothing is left. Its last line says how many seconds that took, without the start of Java.
"""

import argparse
import sys
from time import perf_counter

from stream_feed import plant_of

from lineside.streams.spark.rule import SparkRule, spark_program, spark_session

plant = plant_of()
folder, out, checkpoint = sys.argv[1:4]
program: dict[str, object] = {"__name__": "program"}
text = spark_program(plant.rule[0], plant=plant, spark="4")
exec(compile(text, "program.py", "exec"), program)  # noqa: S102  the text that is printed
spark = spark_session("bench", master="local[2]", partitions=2)
spark.sparkContext.setLogLevel("ERROR")
rule = SparkRule(str(program["RULE"]))
asked = argparse.Namespace(folder=folder, files=4)
lines = program["lines_of"](spark, rule, asked)  # type: ignore[operator]
events = program["events_of"](rule.records(lines), rule)  # type: ignore[operator]
begun = perf_counter()
told = events.writeStream.format("text").option("path", out).trigger(availableNow=True)
told.option("checkpointLocation", checkpoint).start().awaitTermination()
print(0.0, perf_counter() - begun, flush=True)
spark.stop()
