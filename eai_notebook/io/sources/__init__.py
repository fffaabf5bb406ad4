"""Storages: local and cluster file systems, HDFS, S3, OSS, Google Cloud Storage, HTTP.

`find` turns a pattern into files, in an order that all ranks agree on. A `File` (`file`) reads byte
ranges through the `Storage` of its URL (`storage`, `local_storage`, `remote_storage`). Transient
errors are retried and printed (`retry`); others become errors with a remedy (`storage_errors`).
"""
