FROM base
COPY di* /d/
# row: COPY wildcard that matches folders
# peers: buildah buildkit
