"""Networks that differ only in their pooling, their weights, training and evaluation."""
