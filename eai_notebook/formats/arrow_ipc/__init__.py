"""Arrow IPC (Feather) files, one record batch at a time."""
