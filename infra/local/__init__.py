"""Run the real servers on one machine, for people without a cluster and for the integration tests."""
