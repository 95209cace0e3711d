"""The guard's metrics, made once in its process; names and meanings are in `services.shared.metrics`."""

from __future__ import annotations

from services.shared.metrics import counter, gauge, histogram

CHECKS = counter("desk_guard_checks_total")
ORDERS = counter("desk_guard_orders_total")
HALTS = counter("desk_guard_halts_total")
HALTED = gauge("desk_guard_halted")
CHECK_SECONDS = histogram("desk_guard_check_seconds")
STORE_SECONDS = histogram("desk_guard_store_seconds")
IGNORED = counter("desk_guard_ignored_total")
SERVICE_SILENT = gauge("desk_guard_service_silent")
