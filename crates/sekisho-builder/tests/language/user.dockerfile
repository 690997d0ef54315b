FROM base
USER app:app
# row: USER
# peers: buildah buildkit
