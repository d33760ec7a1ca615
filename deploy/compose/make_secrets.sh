#!/bin/sh
# Makes every secret of the compose file, once, in ./secrets, which git and the images leave out. What is there is kept: delete a file to have it
# made anew (deploy/README.md says what to restart then).
#
# The folder is its owner's alone. The files in it can be read by all, for each container gets single ones, mounted read-only, whatever user it runs as.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets

word() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
made() { # made NAME: whether secrets/NAME has to be written
    [ ! -e "secrets/$1" ] || return 1
    echo "secrets/$1"
}

for name in postgres_password dagster_password lake_password ray_token; do
    if made "$name"; then word > "secrets/$name"; fi
done

if made s3_keys; then
    printf 'AWS_ACCESS_KEY_ID=volcast-%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$(word | cut -c1-12)" "$(word)" > secrets/s3_keys
fi
. secrets/s3_keys

# the same keys for who reads AWS's file of profiles
printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" > secrets/s3_credentials.part
mv -f secrets/s3_credentials.part secrets/s3_credentials

# the object store's list of who may do what
cat > secrets/s3_identities.part <<END
{"identities": [{"name": "volcast", "credentials": [{"accessKey": "$AWS_ACCESS_KEY_ID", "secretKey": "$AWS_SECRET_ACCESS_KEY"}],
  "actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}
END
mv -f secrets/s3_identities.part secrets/s3_identities.json

# keys of providers, mail and webhooks: yours, a NAME=VALUE a line
if made own.env; then
    echo '# VOLCAST_COINMETRICS_API_KEY=' > secrets/own.env
fi

# what volcast's processes get (VOLCAST_SECRETS_FILE)
{
    echo "VOLCAST_DAGSTER_DATABASE_PASSWORD=$(cat secrets/dagster_password)"
    echo "VOLCAST_WAREHOUSE_PASSWORD=$(cat secrets/lake_password)"
    echo "RAY_AUTH_TOKEN=$(cat secrets/ray_token)"
    cat secrets/s3_keys secrets/own.env
} > secrets/volcast.part
mv -f secrets/volcast.part secrets/volcast.env

# the login of the proxy: docker run --rm -it caddy:2.11.4-alpine caddy hash-password. In single quotes, or compose takes its $ for variables
if made proxy.env; then
    echo "VOLCAST_UI_HASH=''" > secrets/proxy.env
fi
chmod 444 secrets/*
chmod 644 secrets/own.env secrets/proxy.env
