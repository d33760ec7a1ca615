#!/bin/sh
# Run by PostgreSQL's image when its volume is empty: a database and a login of its own for Dagster, and for the lake's catalog. Neither can read the other.
set -eu
: "${SECRETS:=/run/secrets}"
for name in dagster lake; do
    PASSWORD_FILE="$SECRETS/${name}_password" psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set name="$name" \
        --username "$POSTGRES_USER" --dbname postgres <<'END'
\set password `cat "$PASSWORD_FILE"`
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" ENCODING 'UTF8' TEMPLATE template0 LOCALE 'C';
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
END
done
