FROM scratch
COPY a.txt /
# row: FROM scratch
# peers: buildah buildkit
