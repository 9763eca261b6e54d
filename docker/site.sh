#!/bin/sh
# site.sh COMMAND...: runs pip or uv in a build stage with what this network needs to reach its package index.
# The Dockerfile's head says which secrets there may be; `python -m images` passes them.
set -eu
secrets=/run/secrets

if [ -s $secrets/certificates ]; then
    export SSL_CERT_FILE=$secrets/certificates PIP_CERT=$secrets/certificates
fi
if [ -s $secrets/environment ]; then
    set -a
    # shellcheck disable=SC1091
    . $secrets/environment
    set +a
fi
if [ -s $secrets/uv ]; then export UV_CONFIG_FILE=$secrets/uv; fi

# A copy, since the cache is another file system; the base's Python and no other.
export UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}"
export PATH="/opt/installer/bin:$PATH"
exec "$@"
