"""Elastic training: ranks come and go, and every step's loss stays what it would have been."""
