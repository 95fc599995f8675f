"""The pool; see `executor` for it, and docs/journeys/task.md for the way of a task.

Nothing is imported here: a worker needs `worker` alone.
"""
