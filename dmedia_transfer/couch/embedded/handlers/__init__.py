"""One request in, one answer out: each module has the handlers of one kind of resource."""
