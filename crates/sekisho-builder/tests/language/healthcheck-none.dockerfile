FROM base
HEALTHCHECK NONE
# row: HEALTHCHECK NONE
# peers: buildah buildkit
