#!/bin/sh
# Makes an empty desk what it was when a backup was made: RESTORE.sh ARCHIVE
case "${1:-}" in
    '' | /*) archive=${1:-} ;;
    *) archive=$PWD/$1 ;;
esac
. "$(dirname "$0")/docker.sh"

[ -f "$archive" ] || fail "Which backup? RESTORE.sh deploy/desktop/backups/desk-....tar"
docker compose run --rm -T restore - <"$archive" ||
    fail "Nothing was restored: see above. docs/backup.md says how to have an empty desk."
echo
echo "Restored. START continues it."
leave 0
