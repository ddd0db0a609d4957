"""Fixtures of the page, which several modules look at."""

from tests.page import browser, films, page

__all__ = ["browser", "films", "page"]
