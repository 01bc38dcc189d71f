"""Triton kernels; `poolcore.ops` decides when they serve. Importing this package needs Triton."""
