#!/bin/sh
# Dumps Dagster's database and the lake's catalog into a folder, each whole or not at all, and keeps the newest 14 of each.
#   backup-databases.sh FOLDER          where PGHOST and PGPORT say; passwords from the files of $SECRETS
set -eu
folder=$1
: "${SECRETS:=/run/secrets}"
for name in dagster lake; do
    file="$folder/$name-$(date -u +%Y%m%dT%H%M%SZ).dump"
    PGPASSWORD=$(cat "$SECRETS/${name}_password") pg_dump --format=custom --no-owner --username "$name" --file "$file.part" "$name"
    pg_restore --list "$file.part" > /dev/null
    mv "$file.part" "$file"
    echo "$file"
    ls -1 "$folder/$name"-*.dump | sort -r | tail -n +15 | while read -r old; do rm -f "$old"; done
done
