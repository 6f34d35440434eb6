"""Pairs on disk become shards, and shards become batches."""

from __future__ import annotations
