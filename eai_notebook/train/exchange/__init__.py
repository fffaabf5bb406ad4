"""Average one step's gradients over all ranks: buckets, dense and sparse exchange, wire formats."""
