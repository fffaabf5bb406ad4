"""Row-wise updates: a step changes only those rows of embedding tables that it has gradients of."""
