"""Cut crops of people from video or frames by a tracker's file, for a dataset of layout `table` (crops.py)."""
