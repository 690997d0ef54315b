FROM base
ADD --chown=5:6 a.txt dir /d/
# row: ADD --chown
# peers: buildah buildkit
