#!/bin/sh
# Gives a running desk new secrets: logins of NATS and of the database, and the tokens. Trading goes on: old and new
# NATS logins are both good until each service has the new ones, and one service restarts at a time.
# After an interruption: rotate.sh --continue
set -eu
cd "$(dirname "$0")/.."

setup() { docker compose run --rm --no-deps -T secrets python -m services.setup "$@"; }

# NATS reads who may log in again; whoever is connected stays, unless there is no such login any more.
reread() {
    for node in $(docker compose ps --services --status running | grep '^nats'); do
        docker compose kill -s SIGHUP "$node"
    done
}

[ "${1:-}" = --continue ] || setup rotate begin
reread
docker compose run --rm --no-deps -T prepare
for service in recorder risk trader api grafana backup; do
    [ -n "$(docker compose ps -q --status running "$service" 2>/dev/null)" ] || continue
    echo "restarting $service"
    docker compose restart -t 20 "$service"
    docker compose up -d --wait --wait-timeout 120 --no-deps --no-recreate "$service"
done
setup rotate end
reread
echo "Done. Everybody logs in again, with a new token: docker compose exec api desk token"
