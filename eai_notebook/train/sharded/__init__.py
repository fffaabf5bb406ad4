"""Embedding tables whose rows are spread over the ranks."""
