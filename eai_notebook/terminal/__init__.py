"""Text for a terminal: results, progress lines, long commands with a log."""
