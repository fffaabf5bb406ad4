"""Memory for batches: buffer reuse, alignment, and zero-copy hand-over to TensorFlow."""
