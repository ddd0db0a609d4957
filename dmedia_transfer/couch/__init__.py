"""CouchDB: documents, the changes feed, and the built-in server."""
