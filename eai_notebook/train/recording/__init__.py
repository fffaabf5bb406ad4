"""Timestamps of a training step, from the graph to the telemetry message."""
