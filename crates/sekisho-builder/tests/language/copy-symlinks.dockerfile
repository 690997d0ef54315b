FROM base
COPY link /l1
COPY linked /l2/
# row: COPY of links
# peers: buildah buildkit
