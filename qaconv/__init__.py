"""Person re-identification by query-adaptive convolution and temporal lifting, as a workflow."""
