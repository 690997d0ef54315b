FROM base
STOPSIGNAL SIGKILL
# row: STOPSIGNAL
# peers: buildah buildkit
