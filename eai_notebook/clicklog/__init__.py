"""Click logs: schema, text parser, readers of every format, conversion; equal features in all of them."""
