"""Person re-identification by query-adaptive convolution and temporal lifting, as a workflow."""

__version__ = "0.1.0"
