"""Making every stream, bucket and consumer that `subjects` names: for the one user who may, once at a start."""

from __future__ import annotations

from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from services.shared import subjects
from services.shared.bus import Bus


async def prepare(bus: Bus, *, nodes: int = 1) -> None:
    """Make every stream, bucket and durable consumer as `subjects` says. Idempotent; for the admin user.

    `nodes` is the size of the cluster; three of them at most hold each stream.
    """
    replicas = min(nodes, 3)
    for stream in subjects.STREAMS:
        await _ensure_stream(
            bus.js,
            api.StreamConfig(
                name=stream.name,
                subjects=list(stream.subjects),
                storage=api.StorageType.FILE,
                discard=api.DiscardPolicy.NEW if stream.refuse_when_full else api.DiscardPolicy.OLD,
                max_bytes=stream.max_bytes,
                max_msg_size=1024 * 1024,
                allow_direct=True,
                duplicate_window=120,
                num_replicas=replicas,
            ),
        )
    for bucket in subjects.BUCKETS:
        await _ensure_bucket(bus.js, bucket, replicas)
    for user in subjects.USERS:
        for name in user.streams:
            await bus.js.add_consumer(
                name,
                api.ConsumerConfig(
                    durable_name=user.name,
                    ack_policy=api.AckPolicy.EXPLICIT,
                    ack_wait=30,
                    max_ack_pending=50_000,
                    max_deliver=-1,
                ),
            )


async def _ensure_stream(js: JetStreamContext, config: api.StreamConfig) -> None:
    try:
        await js.stream_info(config.name or "")
        await js.update_stream(config)
    except NotFoundError:
        await js.add_stream(config)


async def _ensure_bucket(js: JetStreamContext, bucket: str, replicas: int) -> None:
    kept_for = subjects.FORGOTTEN_AFTER.get(bucket)
    try:
        config = (await js.stream_info(subjects.bucket_stream(bucket))).config
    except NotFoundError:
        await js.create_key_value(
            api.KeyValueConfig(bucket=bucket, history=1, direct=True, ttl=kept_for, replicas=replicas)
        )
        return
    if (config.max_age or None) != kept_for:  # made by a version of the desk that kept it otherwise
        config.max_age = kept_for or 0
        config.duplicate_window = min(kept_for or 120, 120)
        await js.update_stream(config)
