"""The HTTPS server for peers, a process of its own."""
