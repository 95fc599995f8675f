"""The server behind `atoll serve` and `atoll.Server`.

`supervisor` runs in the main interpreter: it listens, starts the workers, receives the
signals. `worker` runs in each worker's interpreter: it loads the application and gives
the C reactor (`_atoll.Worker`) to that interpreter's event loop.
"""
