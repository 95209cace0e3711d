#!/bin/sh
# Makes a backup now and copies it to the folder backups beside this file.
. "$(dirname "$0")/docker.sh"

name=$(docker compose exec -T backup python -m services.backup now) ||
    fail "No backup was made: see above. If the desk does not run, START it first."
mkdir -p deploy/desktop/backups
docker compose cp "backup:/backups/$name" "deploy/desktop/backups/$name" ||
    fail "The backup was made, but could not be copied: see above."
echo
echo "Copied to deploy/desktop/backups/$name. Keep it on another machine as well."
leave 0
