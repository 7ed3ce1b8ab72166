"""Training: the trainer, its schedule, held-out people, several processes, and the recipes."""
