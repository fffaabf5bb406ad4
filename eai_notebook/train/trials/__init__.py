"""Trials: an advised remedy is switched on and off on real steps, and kept only if it helps."""
