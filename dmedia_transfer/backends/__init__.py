"""Backends: the code for each kind of store, behind `ports.Backend`, and a table of names."""

from dmedia_transfer.backends.table import Factory, create, factory, names, preload

__all__ = ["Factory", "create", "factory", "names", "preload"]
