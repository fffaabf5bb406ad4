"""TFRecord files of `tf.train.Example`: framing, checksums, compiled parsing, writing."""
