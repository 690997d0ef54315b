FROM base
COPY dir /d
COPY dir/ /e/
COPY dir /etc/
# row: COPY a folder's contents
# peers: buildah buildkit
