# check=skip=all
FROM scratch as X
COPY a.txt /
# row: directive check
# peers: buildah buildkit
# want: tree a.txt f644 0:0 a
