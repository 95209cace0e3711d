#!/bin/sh
# Starts the desk, waits until it is healthy, and opens the console.
. "$(dirname "$0")/docker.sh"

echo "Starting the desk. The first start builds it, which takes some minutes."
docker compose up -d --wait "$@" ||
    fail "The desk is not healthy. 'docker compose ps' shows which part, 'docker compose logs PART' why."

url=$(docker compose exec -T proxy printenv DESK_URL) || fail "The proxy does not run."
echo
echo "The desk runs: $url"
echo "To log in you need the token. This shows it: docker compose exec api desk token"
if [ -z "${DESK_NO_BROWSER:-}" ]; then
    if command -v xdg-open >/dev/null 2>&1; then
        xdg-open "$url" >/dev/null 2>&1 || true
    elif command -v open >/dev/null 2>&1; then
        open "$url" || true
    fi
fi
leave 0
