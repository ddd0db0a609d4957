"""The built-in document server: CouchDB's HTTP protocol on loopback, over SQLite, in its own process.

It is for one device, or for trying things. Nothing imports the server; everyone reaches it over HTTP, as any
CouchDB. What a program needs to start, find and stop one is in `launch`, which imports none of the server.

    launch      start, find and stop a server                     (for other programs)
    lock        one server per file; where that one listens
    __main__    the process: command line, signals, the end
    app         the aiohttp application: routes, who may ask, errors
    handlers/   one request in, one answer out
    hub         who waits for changes
    changes     the rows of a feed
    edits       documents that came in: validated, and how they change a revision tree
    reading     documents that go out
    databases   create, delete, inform, compact
    attachments bytes that belong to revisions
    sqlite      the file: schema, threads, transactions
    revtree     revision trees                                    (pure)
    incoming    documents as they arrive                          (pure)
    selector    which documents a Mango selector means            (pure)
    narrowing   what of a selector SQLite can look up         (pure)
    collation   in which order JSON values come                   (pure)
    jsontext    JSON in and out                                   (pure)
    problems    errors as CouchDB words them                      (pure)
"""
