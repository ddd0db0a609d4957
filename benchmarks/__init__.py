"""Measurements beside other tools, in the same run, on the same machine."""
