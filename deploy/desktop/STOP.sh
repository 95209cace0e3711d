#!/bin/sh
# Stops the desk and keeps everything.
. "$(dirname "$0")/docker.sh"

echo "Stopping the desk. This does not stop a deployment: the next START continues it. An open position stays open"
echo "meanwhile, and nobody manages it. To end trading press Stop in the console first,"
echo "or: docker compose exec api desk stop"
docker compose down || fail "The desk could not be stopped: see above."
echo
echo "The desk is stopped. Nothing was lost."
leave 0
