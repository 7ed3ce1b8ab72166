"""Flows: when and in what order the stages run, and what is done with their results."""
