"""The rule of ``benchmarks/streams.py`` on Spark Structured Streaming, one machine, file source.

``python spark_job.py FOLDER OUT CHECKPOINT``: 25,000 lines a file, four files a batch, until
nothing is left. Its last line says how many seconds that took, without the start of Java.
"""

import sys
from time import perf_counter

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

folder, out, checkpoint = sys.argv[1:4]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.shuffle.partitions", "2")
    .config("spark.driver.memory", "1g")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
schema = "time TIMESTAMP, data STRUCT<image: STRING, probability: DOUBLE>"
seen = (
    spark.readStream.schema(schema)
    .option("maxFilesPerTrigger", 4)
    .json(folder)
    .select("time", f.col("data.image").alias("image"))
    .where("image <> 'Blank'")
)
counted = (
    seen.withWatermark("time", "0 seconds")
    .groupBy(f.window("time", "5 seconds"), "image")
    .count()
    .where("count > 3")
    .select(f.col("window.start").alias("begin"), "image", "count")
)
begun = perf_counter()
query = (
    counted.writeStream.format("json")
    .option("path", out)
    .option("checkpointLocation", checkpoint)
    .outputMode("append")
    .trigger(availableNow=True)
    .start()
)
query.awaitTermination()
print(0.0, perf_counter() - begun, flush=True)
spark.stop()
