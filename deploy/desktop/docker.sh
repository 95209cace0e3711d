# Read by the scripts beside it: goes to the desk's folder and makes sure that Docker is there and runs.
# shellcheck shell=sh

# A window that was opened by a double click shows what went wrong until somebody has read it.
leave() {
    if [ -t 0 ] && [ -t 1 ]; then
        printf '\nPress Enter to close this window. '
        read -r _
    fi
    exit "$1"
}

fail() {
    printf '\n%s\n' "$*" >&2
    leave 1
}

cd "$(dirname "$0")/../.." || exit 1
# macOS gives a double-clicked script a short PATH.
[ "$(uname)" != Darwin ] || PATH="$PATH:/usr/local/bin:/opt/homebrew/bin:$HOME/.docker/bin"

command -v docker >/dev/null 2>&1 ||
    fail "Docker is not installed. Get it from https://docs.docker.com/get-started/get-docker/, start it, and try again."
docker compose version >/dev/null 2>&1 ||
    fail "Docker is here, but not its part 'compose'. Update Docker, or install docker-compose-plugin, and try again."
docker info >/dev/null 2>&1 ||
    fail "Docker does not answer. Start Docker Desktop (or: sudo systemctl start docker) and wait until it runs.
If it runs, your user may not use it: sudo usermod -aG docker \"\$USER\", then log out and in again."
