"""The recorder's metrics, made once in its process; names and meanings are in `services.shared.metrics`."""

from __future__ import annotations

from services.shared.metrics import counter, gauge, histogram

RECORDED = counter("desk_recorder_recorded_total")
DUPLICATES = counter("desk_recorder_duplicates_total")
DEAD_LETTERS = counter("desk_recorder_dead_letters_total")
BATCH_SECONDS = histogram("desk_recorder_batch_seconds")
BATCH_MESSAGES = histogram("desk_recorder_batch_messages")
LAG = gauge("desk_recorder_lag")
DATABASE_UP = gauge("desk_recorder_database_up")
PURGED = counter("desk_recorder_purged_total")
PURGE_HELD = gauge("desk_recorder_purge_held")
