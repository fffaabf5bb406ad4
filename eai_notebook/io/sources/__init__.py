"""Storages: local and cluster file systems, HDFS, S3, OSS, Google Cloud Storage, HTTP.

`find` turns a pattern into files that all ranks agree on; a `File` (`file`) reads its ranges
wherever it lies, through one `Storage` a kind of URL (`storage`, `local`, `remote`). What is
passing is tried again in sight of the user (`retry`), the rest is told with a remedy (`faults`).
"""
