"""The REST API, the event stream and the page.

The contract: one thread of its own runs an event loop with aiohttp; the manager stays with the main loop and is only
ever called there, through a `Bridge`. What the manager does comes over as frozen values through a `Mirror`, so that a
list of ten thousand transfers costs the main loop nothing. What blocks (documents, disks, the journal) is done in
threads of a small pool. Everything may be cut at any moment: whoever asks asks again.

Edges are handed in by the daemon; this room imports none of them.
"""
