# Every image of the desk; docker-compose.yml says which target and, of `service`, which of the services.
# An image has its own service's requirements and no other's, runs as a user of its own, and writes nowhere
# but to its volumes and /tmp.
ARG PYTHON=python:3.13-slim

# --- the distribution, built once for all
FROM ${PYTHON} AS wheel
WORKDIR /src
COPY deploy/requirements/build.lock ./
RUN --mount=type=cache,target=/pip pip install --cache-dir /pip --require-hashes -r build.lock
COPY pyproject.toml README.md ./
COPY services services
COPY docs docs
RUN pip wheel --no-deps --no-build-isolation --no-index -w /wheel .

# --- one service's requirements and the distribution, compiled
FROM ${PYTHON} AS site
ARG SERVICE
RUN python -m venv --without-pip /opt/desk
COPY deploy/requirements/${SERVICE}.lock /requirements.lock
RUN --mount=type=cache,target=/pip \
    pip --python /opt/desk/bin/python install --cache-dir /pip --require-hashes -r /requirements.lock
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip --python /opt/desk/bin/python install --no-deps --no-index /wheel/*.whl
COPY --chmod=0555 deploy/images/healthy.py /opt/desk/bin/healthy

# --- a service: `SERVICE` is its name, `ID` its user's and group's number
FROM ${PYTHON} AS service
ARG SERVICE
ARG ID
LABEL org.opencontainers.image.title="tradedesk ${SERVICE}" \
      org.opencontainers.image.description="Part of a desk that runs a trading strategy unattended"
COPY --from=site /opt/desk /opt/desk
# A new volume takes its owner from here. A restore, which runs as the API, keeps archives for the backup's group.
RUN mkdir -p /data/secrets /data/strategies /data/rates /backups \
    && chown ${ID}:${ID} /data /data/strategies /data/rates && chown ${ID}:10005 /backups && chmod 2770 /backups
ENV PATH=/opt/desk/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 \
    HOME=/tmp DESK_DATA_DIR=/data DESK_HTTP_PORT=9100 DESK_STUCK_LIMIT=45
WORKDIR /data
USER ${ID}:${ID}
HEALTHCHECK --interval=3s --timeout=3s --retries=5 --start-period=60s CMD ["healthy"]

# --- what runs once before the services; its folders are the volumes of those who read them
FROM service AS setup
USER 0:0
RUN for of in setup:10000 trader:10001 risk:10002 recorder:10003 api:10004 backup:10005 nats:10006 \
              timescaledb:70 migrate:10003 grafana:472; do \
      mkdir -p "/secrets/${of%:*}" && chown "10000:${of#*:}" "/secrets/${of%:*}" && chmod 2750 "/secrets/${of%:*}" \
        || exit 1; \
    done
USER 10000:10000
HEALTHCHECK NONE

# --- NATS, with a place for its streams that its own user may write to
FROM nats:2.12-alpine AS nats
LABEL org.opencontainers.image.title="tradedesk nats"
RUN mkdir -p /data && chown 10006:10006 /data
USER 10006:10006
CMD ["-c", "/secrets/nats.conf"]
HEALTHCHECK --interval=2s --timeout=2s --retries=5 --start-period=120s \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8222/healthz"]

# --- the proxy, with its configuration and a place for certificates
FROM caddy:2-alpine AS proxy
LABEL org.opencontainers.image.title="tradedesk proxy"
COPY deploy/proxy/Caddyfile /etc/caddy/Caddyfile
COPY deploy/proxy/pages /srv/pages
# A clone may be readable by its owner alone, whom nobody is in here.
RUN mkdir -p /data /config && chown -R 10007:10007 /data /config && chmod -R go=rX /etc/caddy /srv/pages
USER 10007:10007
