"""Dictionaries between interpreters."""

from __future__ import annotations

from collections.abc import MutableMapping

from atoll._atoll import SharedDict

__all__ = ["SharedDict"]

MutableMapping.register(SharedDict)
