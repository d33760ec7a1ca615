#!/bin/sh
# Starts a program with the lines of the secrets file in its environment, for libraries that know no file: S3 clients, Ray. Not in `docker inspect`.
set -eu
set -a
. "$VOLCAST_SECRETS_FILE"
set +a
exec "$@"
