"""The server behind `atoll serve` and `atoll.Server`.

`supervisor` watches over the workers. `plan` says what they are, `hosts` runs them in
this process, `processes` in others, whose side is `child`. `worker` runs in each
worker's interpreter: it loads the application and gives the C reactor (`_atoll.Worker`)
to that interpreter's event loop, or several, on threads (`crew`).
"""
