"""Small programs around other people's libraries, each run by the Python that has the library."""
