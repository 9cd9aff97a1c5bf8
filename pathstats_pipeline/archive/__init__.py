"""The archive of raw events: JSONL, strategy, manifest, verification, and what to do next with a day."""
