"""Parquet files: row groups, page headers, and compiled decoding of numeric columns."""
