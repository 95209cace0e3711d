#!/bin/sh
# Gives the running desk new secrets.
. "$(dirname "$0")/docker.sh"

sh deploy/rotate.sh "$@" || fail "Not finished: see above, then run ROTATE.sh --continue."
leave 0
