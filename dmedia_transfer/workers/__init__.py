"""Worker processes: `pool` starts, watches and ends them, `worker` runs one job at a time in one of them."""
