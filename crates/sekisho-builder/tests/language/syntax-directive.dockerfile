# syntax=docker/dockerfile:1
FROM scratch
COPY a.txt /
# row: directive syntax
# peers: buildah
# want: tree a.txt f644 0:0 a
