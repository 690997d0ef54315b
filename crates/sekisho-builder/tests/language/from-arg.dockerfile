ARG B=base
FROM $B
COPY a.txt /
# row: FROM with ARG
# peers: buildah buildkit
