"""Jobs: a notebook, or some of its cells, run from top to bottom without a browser."""
