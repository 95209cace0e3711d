#!/bin/sh
# For macOS: the same by a double click.
exec "$(dirname "$0")/BACKUP.sh"
