"""D-Bus objects, translation only.

The daemon builds a `service.BusService` and publishes it. Everything in here runs on the thread of the GLib main loop,
which is the manager's; nothing blocks.
"""
