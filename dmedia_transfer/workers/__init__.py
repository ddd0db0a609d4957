"""Worker processes: `pool` has and watches them, `forker` makes them, and `worker` runs one job at a time in each."""
