"""The page: one file per tab, and what they share. Nothing here computes a pooling weight."""
