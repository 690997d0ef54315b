FROM base
COPY a.txt /new
COPY a.txt /dir1/
COPY a.txt b.txt /dir2/
# row: COPY a file
# peers: buildah buildkit
