"""The other long jobs: import and verify."""
